"""A run, the same run pruned, and a student of it: exported, served by a Triton, and compared on one page.

    python -m benchmarks.variants RUN [--keep 0.35] [--student edge] [--format onnx-fp32] [--clips 50] [--work DIR]
        [--json] [--out FILE]

`vdeploy prune` and `vdeploy distill` make the two from the run's clips and splits. Each of the three is exported and
timed in process and through a Triton of its own on this machine, one after the other, so that load that changes in
between affects them differently. Accuracies are those of the exports' proofs, on the same clips of the validation
split. The page is `WORK/models.html`. Finished runs and bundles in the work folder are used again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.output import add_output_options, report_result
from training.methods.distillation.student import student_recipe
from training.methods.pruning.prune_run import prune_run
from training.pipeline import train
from vdeploy.artifacts.bundle import MANIFEST
from vdeploy.artifacts.run import MANIFEST as RUN_MANIFEST
from vdeploy.artifacts.run import Run
from vdeploy.benchmark.bundle_benchmark import benchmark_bundle
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import IN_PROCESS, Row
from vdeploy.benchmark.report.page import write_page
from vdeploy.benchmark.report.several_models import join_benchmarks
from vdeploy.core.errors import UserError
from vdeploy.core.files import cache_dir
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats


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
        roots = {"original": options.run, "pruned": _pruned(options), "student": _student(options)}
        bundles = [_export(name, root, options) for name, root in roots.items()]
        plan = Plan(("pipeline",), serve=True, seconds=options.seconds)
        models = join_benchmarks([(bundle, benchmark_bundle(bundle, plan)) for bundle in bundles])
        write_page(options.work / "models.html", models)
    except UserError as error:
        parser.error(str(error))
    names = dict(zip(models.models, roots, strict=True))
    rows = [_row(names[model], row) for row, model in models.model_of.items() if row.transport != "shared memory"]
    given = {"run": options.run.name, "keep": options.keep, "student": options.student, "clips": options.clips}
    report_result(options, {**given, "rows": rows}, "\n".join(map(_line, rows)))


def _pruned(options: argparse.Namespace) -> Path:
    out: Path = options.work / "pruned"
    if not (out / RUN_MANIFEST).is_file():
        prune_run(options.run, out, keep=options.keep, store_root=options.store)
    return out


def _student(options: argparse.Namespace) -> Path:
    out: Path = options.work / "student"
    if not (out / RUN_MANIFEST).is_file():
        recipe, clips = student_recipe(options.run, options.student, None, None, ())
        train(clips, out, recipe, store_root=options.store)
    return out


def _export(name: str, root: Path, options: argparse.Namespace) -> Path:
    out: Path = options.work / f"{name}-bundle"
    if not (out / MANIFEST).is_file():
        chosen = ExportOptions(store_root=options.store, clips=options.clips)
        export_run(Run.load(root), parse_formats(options.format), out, options=chosen)
    return out


def _row(model: str, row: Row) -> dict[str, Any]:
    """What is kept of a row, with the name of its model."""
    fields = ("format", "status", "reason", "settled", "p50_ms", "clips_per_s", "size_bytes", "accuracy", "auc")
    return {"model": model, "served": row.where != IN_PROCESS, **{name: getattr(row, name) for name in fields}}


def _line(row: dict[str, Any]) -> str:
    name = f"{row['model']:<10} {row['format']:<14} {'served' if row['served'] else 'in process':<12}"
    if row["status"] != "ok":
        return f"{name} {row['status']}: {row['reason']}"
    settled = "" if row["settled"] else " (did not settle)"
    return (
        f"{name} {row['p50_ms']:8.1f} ms a clip{settled}  {row['size_bytes'] / 1e6:6.1f} MB  "
        f"accuracy {row['accuracy']:.1%}  AUC {row['auc']:.4f}"
    )


if __name__ == "__main__":
    main()
