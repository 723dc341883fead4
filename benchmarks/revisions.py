"""Compares two revisions of vdeploy: what they compute, and how fast they are.

    python -m benchmarks.revisions BEFORE AFTER [--demo FOLDER] [--only CHECK ...] [--rounds 5] [--seconds 2]
                                   [--json] [--out FILE]

BEFORE and AFTER are checkouts. Both run in this interpreter with the same installed packages, in turns. The checks:

- `help`: seconds of ``vdeploy --help``, the fastest call; the limit is 0.3 s.
- `demo`: probabilities of the held-out clips after training and export, to 1e-6. ``--demo`` names a finished demo
  folder of BEFORE; without it, BEFORE makes one.
- `artifacts`: ONNX, TFLite and SavedModel of one run, byte by byte, or else their outputs, to 1e-7.
- `training`: seconds per epoch. - `served`: seconds per clip of a Triton that serves the run.

The last two are slower only where the whole 90 % interval of the ratio is above the limit of 3 %; an interval that
contains the limit decides nothing. Exit code 1: a limit is broken, or a command failed.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.checkouts import FORMATS, Comparison, Revision
from benchmarks.output import add_output_options, report_result
from vdeploy.artifacts.bundle import Bundle, Stage
from vdeploy.benchmark.compare.statistics import LEAST_WINDOWS, log_ratio
from vdeploy.benchmark.measure.subjects import distinct_inputs
from vdeploy.core.errors import BenchmarkError, UserError
from vdeploy.core.processor import cpu_name
from vdeploy.core.progress import say
from vdeploy.inference.runtimes.base import available_cores
from vdeploy.inference.runtimes.registry import open_artifact

HELP_SECONDS = 0.3
SLOWDOWN = 0.03
PROBABILITY_DIFFERENCE = 1e-6
OUTPUT_DIFFERENCE = 1e-7
LEVEL = 0.05
CLIPS = 80
Verdict = Literal["met", "broken", "undecided", "failed"]


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of a comparison.

    Attributes:
        name: What was compared.
        verdict: Whether the limit was met.
        before: Figure of the first revision.
        after: Figure of the second one.
        ratio: The second over the first.
        interval: Bounds of the ratio.
        text: The outcome in words.
    """

    name: str
    verdict: Verdict
    before: float | None = None
    after: float | None = None
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    text: str = ""

    def __str__(self) -> str:
        figures = "" if self.ratio is None else f"{self.before:.4g} -> {self.after:.4g}, ratio {self.ratio:.3f} "
        bounds = "" if self.interval is None else "({:.3f} to {:.3f}) ".format(*self.interval)
        return f"{self.verdict:10}{self.name:24}{figures}{bounds}{self.text}"


def check_help(comparison: Comparison) -> Check:
    """Times ``vdeploy --help``; noise only adds to it, so the fastest call counts."""
    before, after = map(min, comparison.in_turns(lambda revision: revision.seconds("--help")))
    verdict: Verdict = "met" if after < HELP_SECONDS else "broken"
    return Check("help", verdict, before, after, after / before, text=f"seconds, limit {HELP_SECONDS}")


def check_demo(comparison: Comparison) -> Check:
    """Trains, exports and scores the clips of the demo."""
    demo = (comparison.demo or comparison.folder / "demo").absolute()
    clips = demo / "clips"
    if not (demo / "bundle").is_dir():
        comparison.before.run("data", "synth", clips, "--clips", CLIPS)
        comparison.before.run("train", clips, "--out", demo / "run")
        comparison.before.run("export", demo / "run", "--out", demo / "bundle")
    with (demo / "run" / "clips.csv").open(newline="", encoding="utf-8") as file:
        videos = [clips / row["path"] for row in csv.DictReader(file) if row["split"] == "test"]
    again = comparison.after.work / "demo"
    store = ("--store", again / "store")
    comparison.after.run("train", clips, "--out", again / "run", *store)
    comparison.after.run("export", again / "run", "--out", again / "bundle", *store)
    before = _probabilities(comparison.before, videos, demo / "bundle")
    after = _probabilities(comparison.after, videos, again / "bundle")
    difference = max(abs(before[path] - after[path]) for path in before)
    verdict: Verdict = "met" if difference <= PROBABILITY_DIFFERENCE + 1e-12 else "broken"
    return Check("demo", verdict, text=f"{len(videos)} clips, largest difference {difference:.1e}")


def check_artifacts(comparison: Comparison) -> Iterator[Check]:
    """Exports one run with both revisions and compares the artifacts."""
    before, after = (Bundle(comparison.bundle(revision)) for revision in comparison.revisions)
    for artifact in after.manifest.artifacts:
        name, stage, format_name = f"{artifact.stage} {artifact.format}", artifact.stage, artifact.format
        digests = [bundle.artifact(stage, format_name).sha256 for bundle in (before, after)]
        if digests[0] == digests[1]:
            yield Check(name, "met", text="same hash")
            continue
        one, other = (_outputs(bundle, stage, format_name) for bundle in (before, after))
        difference = max(float(np.abs(one[key] - other[key]).max()) for key in one)
        verdict: Verdict = "met" if difference <= OUTPUT_DIFFERENCE else "broken"
        yield Check(name, verdict, text=f"other hash, largest difference of outputs {difference:.1e}")


def check_training(comparison: Comparison) -> Check:
    """Times epochs of training on synthetic features."""
    run = comparison.run()

    def epoch_seconds(revision: Revision) -> float:
        words = ("benchmark", "scale", run, "--batch", 64, "--seconds", comparison.time, "--json")
        return float(json.loads(revision.run(*words))["studies"][0]["points"][0]["seconds"])

    return _judge("training", "seconds per epoch", *comparison.in_turns(epoch_seconds))


def check_served(comparison: Comparison) -> Check:
    """Times clips on a Triton that each revision starts on its own export."""

    def clip_seconds(revision: Revision) -> float:
        words = ("--serve", "--what", "pipeline", "--format", FORMATS[0], "--seconds", comparison.time, "--json")
        rows = json.loads(revision.run("benchmark", comparison.bundle(revision), *words))["rows"]
        for row in rows:
            if row["runtime"] == "triton" and row["clips_per_s"]:
                return 1 / float(row["clips_per_s"])
        raise BenchmarkError(f"{revision.root}: {next((row['reason'] for row in rows if row['reason']), 'no row')}")

    return _judge("served", "seconds per clip", *comparison.in_turns(clip_seconds))


CHECKS: Mapping[str, Callable[[Comparison], Check | Iterator[Check]]] = {
    "help": check_help,
    "artifacts": check_artifacts,
    "training": check_training,
    "served": check_served,
    "demo": check_demo,
}


def run_checks(comparison: Comparison, names: list[str]) -> Iterator[Check]:
    """Runs checks; one whose command fails does not stop the others.

    Args:
        comparison: The two revisions.
        names: Keys of `CHECKS`.

    Yields:
        The outcomes.
    """
    for name in names:
        say(f"revisions: {name}")
        try:
            found = CHECKS[name](comparison)
            yield from [found] if isinstance(found, Check) else found
        except UserError as error:
            yield Check(name, "failed", text=str(error))


def _judge(name: str, unit: str, before: list[float], after: list[float]) -> Check:
    ratio = log_ratio(before, after)
    low, high = ratio.interval(LEVEL)
    verdict: Verdict = "broken" if low > 1 + SLOWDOWN else "met" if high <= 1 + SLOWDOWN else "undecided"
    medians = float(np.median(before)), float(np.median(after))
    return Check(name, verdict, *medians, float(np.exp(ratio.estimate)), (low, high), f"{unit}, limit +{SLOWDOWN:.0%}")


def _probabilities(revision: Revision, videos: list[Path], bundle: Path) -> dict[str, float]:
    answer = json.loads(revision.run("predict", *videos, "--bundle", bundle, "--json"))
    return {item["path"]: float(item["probability"]) for item in answer["predictions"]}


def _outputs(bundle: Bundle, stage: Stage, format_name: str) -> Mapping[str, np.ndarray[Any, Any]]:
    tensor = bundle.artifact(stage, format_name).inputs[0].name
    inputs = distinct_inputs(bundle.manifest, stage, 1)
    return open_artifact(bundle, stage, format_name, 1, None).infer({tensor: inputs[0]})


def as_text(checks: list[Check], machine: str) -> str:
    """The outcomes as lines.

    Args:
        checks: The outcomes.
        machine: What they were measured on.
    """
    return "\n".join([machine, *map(str, checks)])


def main() -> None:
    """Compares and prints; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", type=Path, metavar="BEFORE")
    parser.add_argument("after", type=Path, metavar="AFTER")
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="finished demo of BEFORE (default: make one)")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), help="checks to run (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help=f"measurements of each revision, from {LEAST_WINDOWS} on")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a measurement (%(default)s)")
    add_output_options(parser)
    options = parser.parse_args()
    if options.rounds < LEAST_WINDOWS:
        parser.error(f"--rounds must be at least {LEAST_WINDOWS}")
    with tempfile.TemporaryDirectory(prefix="vdeploy-revisions-") as name:
        folder = Path(name)
        try:
            before = Revision(options.before, folder / "before")
            after = Revision(options.after, folder / "after")
        except UserError as error:
            parser.error(str(error))
        comparison = Comparison(before, after, folder, options.demo, options.rounds, options.seconds)
        checks = []
        for check in run_checks(comparison, options.only):
            say(str(check))
            checks.append(check)
    machine = f"{available_cores()} cores of {cpu_name()}, load average {os.getloadavg()[0]:.1f}"
    report_result(options, {"checks": [dataclasses.asdict(check) for check in checks]}, as_text(checks, machine))
    if any(check.verdict in {"broken", "failed"} for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    main()
