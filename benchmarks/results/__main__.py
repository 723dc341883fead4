"""Writes RESULTS.md from the records, measures again, or adds results of another machine.

    python -m benchmarks.results                                        # RESULTS.md from benchmarks/records/*.json
    python -m benchmarks.results run --bundle BUNDLE --data CLIPS --run RUN
    python -m benchmarks.results run training features --missing
    python -m benchmarks.results add gpu-inference FILE.json            # measured elsewhere

The record of a step is written when the step ends; a step that cannot run on this machine is skipped with the reason,
and its record stays.
"""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results.catalogue import STUDIES
from benchmarks.results.document import write_results
from benchmarks.results.record import make_measurement, save_measurement
from benchmarks.results.runner import due_tasks, run_tasks
from benchmarks.results.study import Inputs, Study
from vdeploy.core.errors import BenchmarkError, UserError
from vdeploy.core.progress import say

FOLDER = Path(__file__).parents[1]
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None, studies: Sequence[Study] = STUDIES, folder: Path = FOLDER) -> int:
    """Runs the command line.

    Args:
        arguments: The command line; left out, that of the process.
        studies: The studies.
        folder: Folder of RESULTS.md and records.

    Returns:
        0; 1 if a study failed, 2 for an error of the user, 130 after Ctrl-C.
    """
    options = _parser(studies).parse_args(arguments)
    code = 0
    try:
        if options.verb == "run":
            code = _run(options, studies, folder)
        elif options.verb == "add":
            _add(options, studies, folder)
        say(f"written: {write_results(folder, studies)}")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return code


def _run(options: argparse.Namespace, studies: Sequence[Study], folder: Path) -> int:
    inputs = Inputs(options.bundle, options.data, options.run)
    for path in filter(None, (inputs.bundle, inputs.data, inputs.run)):
        if not path.exists():
            raise BenchmarkError(f"{path} is not there", "check the path")
    chosen = [_find(name, studies) for name in options.studies] or studies
    before = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc) if options.missing else options.before
    tasks = due_tasks(chosen, inputs, folder / "records", before)
    began = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        return 1 if run_tasks(tasks, inputs, folder / "records") else 0
    except KeyboardInterrupt:
        known = options.missing or options.before
        since = "the same command" if known else f"the same command with --before {began}"
        say(f"interrupted; completed steps are kept, {since} continues from there")
        return INTERRUPTED


def _add(options: argparse.Namespace, studies: Sequence[Study], folder: Path) -> None:
    name, _, step_name = options.step.partition(":")
    study = _find(name, studies)
    names = {step.name: step for step in study.steps}
    step = names.get(step_name or name) or (study.steps[0] if len(names) == 1 and not step_name else None)
    if step is None:
        steps = ", ".join(f"{name}:{each}" for each in names)
        raise BenchmarkError(f"{options.step!r} is no step", f"choose one of: {steps}")
    try:
        output = step.keep(json.loads(options.file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{options.file} is no output of {step.command!r} ({error})", "check the path") from error
    measurement = make_measurement(options.command or step.shown(), output, note=options.note)
    save_measurement(folder / "records", study.name, step.name, measurement)


def _find(name: str, studies: Sequence[Study]) -> Study:
    for study in studies:
        if study.name == name:
            return study
    raise BenchmarkError(f"there is no study {name!r}", f"choose from: {', '.join(study.name for study in studies)}")


def _parser(studies: Sequence[Study]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results",
        description=__doc__,
        epilog=f"studies: {', '.join(study.name for study in studies)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="run | add")
    run = verbs.add_parser("run", help="measure, keep the results, and write RESULTS.md")
    run.add_argument("studies", nargs="*", metavar="STUDY", help="which studies (default: all)")
    run.add_argument("--bundle", type=Path, help="a bundle, for studies that measure one")
    run.add_argument("--data", type=Path, help="labelled clips, for studies that train or evaluate")
    run.add_argument("--run", type=Path, help="a trained run, for studies that export one")
    due = run.add_mutually_exclusive_group()
    due.add_argument("--missing", action="store_true", help="only steps without a record")
    due.add_argument("--before", type=_moment, metavar="DATE", help="only steps without a record since then (ISO 8601)")
    add = verbs.add_parser("add", help="add a result of another machine, and write RESULTS.md")
    add.add_argument("step", metavar="STUDY[:STEP]", help="the step that was measured")
    add.add_argument("file", type=Path, help="JSON output of the command")
    add.add_argument("--command", help="the command, where it differs from that of the study")
    add.add_argument("--note", default="", help="remark for readers of the figures")
    return parser


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).astimezone()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
