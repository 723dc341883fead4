"""A run, the same run pruned, and a student of it: exported, served by a Triton, and compared on one page.

    python -m benchmarks.variants RUN [--keep 0.35] [--student edge] [--format onnx-fp32] [--clips 50] [--work DIR]
        [--json] [--out FILE]

`vdeploy prune` and `vdeploy distill` make the two from the run's clips and splits. Each of the three is exported and
timed in process and through a Triton of its own on this machine, one after the other, so that load that changes in
between affects them differently. The page is `WORK/models.html`. Its accuracies are those of the exports' proofs, on
the same clips of the validation split; they flatter where these clips have chosen the epochs, and are not printed.
Finished runs and bundles in the work folder are used again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.made_models import made_bundle, made_run
from benchmarks.output import add_output_options, report_result
from training.methods.distillation.student import student_recipe
from training.methods.pruning.prune_run import prune_run
from training.pipeline import train
from vdeploy.artifacts.run import Run
from vdeploy.benchmark.bundle_benchmark import benchmark_bundle
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import IN_PROCESS, Row
from vdeploy.benchmark.report.page import write_page
from vdeploy.benchmark.report.several_models import join_benchmarks
from vdeploy.core.errors import UserError
from vdeploy.core.files import cache_dir
from vdeploy.export.options import ExportOptions


def main() -> None:
    """Reads options, makes the models, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--keep", type=float, default=0.35, help="share of the operations that the pruned run keeps")
    parser.add_argument("--student", default="edge", help="recipe of the student")
    parser.add_argument("--format", default="onnx-fp32", help="formats, separated by commas")
    parser.add_argument("--clips", type=int, default=50, help="clips of the validation split to judge exports on")
    parser.add_argument("--seconds", type=float, default=5, help="time for each row")
    parser.add_argument("--work", type=Path, default=Path("runs/variants"))
    parser.add_argument("--store", type=Path, default=cache_dir() / "features")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        roots, chosen = _roots(options), ExportOptions(store_root=options.store, clips=options.clips)
        bundles = [
            made_bundle(options.work / f"{name}-bundle", root, options.format, chosen).root
            for name, root in roots.items()
        ]
        plan = Plan(("pipeline",), serve=True, seconds=options.seconds)
        models = join_benchmarks([(bundle, benchmark_bundle(bundle, plan)) for bundle in bundles])
        write_page(options.work / "models.html", models)
    except UserError as error:
        parser.error(str(error))
    names = dict(zip(models.models, roots, strict=True))
    rows = [_row(names[model], row) for row, model in models.model_of.items() if row.transport != "shared memory"]
    given = {"run": options.run.name, "keep": options.keep, "student": options.student}
    report_result(options, {**given, "rows": rows}, "\n".join(map(_line, rows)))


def _roots(options: argparse.Namespace) -> dict[str, Path]:
    """Folders of the three runs, two of which are made."""

    def prune(out: Path) -> Run:
        return prune_run(options.run, out, keep=options.keep, store_root=options.store)

    def distill(out: Path) -> Run:
        recipe, clips = student_recipe(options.run, options.student, None, None, ())
        return train(clips, out, recipe, store_root=options.store)

    return {
        "original": options.run,
        "pruned": made_run(options.work / "pruned", prune),
        "student": made_run(options.work / "student", distill),
    }


def _row(model: str, row: Row) -> dict[str, Any]:
    """What is kept of a row, with the name of its model."""
    fields = ("format", "status", "reason", "settled", "p50_ms", "clips_per_s", "size_bytes")
    return {"model": model, "served": row.where != IN_PROCESS, **{name: getattr(row, name) for name in fields}}


def _line(row: dict[str, Any]) -> str:
    name = f"{row['model']:<10} {row['format']:<14} {'served' if row['served'] else 'in process':<12}"
    if row["status"] != "ok":
        return f"{name} {row['status']}: {row['reason']}"
    settled = "" if row["settled"] else " (did not settle)"
    return f"{name} {row['p50_ms']:8.1f} ms a clip{settled}  {row['size_bytes'] / 1e6:6.1f} MB"


if __name__ == "__main__":
    main()
