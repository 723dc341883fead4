"""Milliseconds a clip of VGG19, EfficientNet-Lite0 and I3D in each precision and runtime, in turns in one run.

    python -m benchmarks.models [--recipes default,edge,accurate] [--format F,...] [--seconds 5] [--json] [--out FILE]

Every row is frames to probabilities, one clip a call, in a separate process. All rows take turns, so that a drift of
the machine meets them all. The best of a model in a precision is its fastest format, and the ratio is to that of the
reference, VGG19, in the same precision. The classifiers have learned from generated clips: accuracy is measured by
`python -m benchmarks.cross_validation` and, on clips of one's own, by `vdeploy choose`.

The exit code is 1 if EfficientNet-Lite0 or I3D misses its goal in INT8.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.compared_models import REFERENCE, add_model_options, compared_models
from benchmarks.output import add_output_options, report_result
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.interleaving import Measurement, measure_interleaved
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.core.errors import UserError
from vdeploy.formats import FORMATS
from vdeploy.inference.runtimes.base import available_cores

GOALS = {"edge": 7.0, "accurate": 3.5}
"""How many times as fast as VGG19 a recipe is to be in INT8."""


def measure(bundles: dict[str, Bundle], formats: list[str], seconds: float) -> list[dict[str, Any]]:
    """Measures the formats of all bundles in turns.

    Args:
        bundles: Bundles by recipe.
        formats: Formats; those that a bundle lacks are left out.
        seconds: Time for each.
    """
    rows = []
    for recipe, bundle in bundles.items():
        for name in (name for name in formats if name in bundle.manifest.formats):
            job = Job("pipeline", str(bundle.root), name, None, 1, available_cores())
            rows.append((recipe, name, Measurement(f"{recipe} {name}", job)))
    measure_interleaved([measurement for *_, measurement in rows], seconds)
    return [_row(recipe, name, measurement, bundles[recipe]) for recipe, name, measurement in rows]


def _row(recipe: str, name: str, measurement: Measurement, bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    row = {
        "recipe": recipe,
        "backbone": manifest.extractor.architecture,
        "region": manifest.extractor.settings.get("region", "full"),
        "frames": manifest.clip_spec.frames,
        "gflop": round(sum(stage.flops or 0 for stage in (manifest.extractor, manifest.classifier)) / 1e9, 1),
        "format": name,
        "precision": FORMATS[name].precision,
        "status": measurement.status,
        "reason": measurement.reason,
    }
    if measurement.status != "ok":
        return row
    figures = measurement.series.figures(1, manifest.clip_spec.frames)
    return {**row, "ms": round(figures["p50_ms"], 2), "settled": figures["settled"]}


def best_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fastest row of each recipe in each precision, with how many times as fast as the reference it is."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = row["precision"], row["recipe"]
        if "ms" in row and (key not in best or row["ms"] < best[key]["ms"]):
            best[key] = row
    result = []
    for (precision, recipe), row in sorted(best.items()):
        reference = best.get((precision, REFERENCE))
        times = round(reference["ms"] / row["ms"], 2) if reference else None
        goal = GOALS.get(recipe) if precision == "int8" else None
        result.append({**row, "times_reference": times, "goal": goal})
    return result


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints.

    Returns:
        0 if the goals are reached, 1 if one is missed, 2 for an error of the user.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser, "onnx-fp32,openvino-fp32,onnx-int8,openvino-int8")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row (%(default)s)")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    try:
        rows = measure(compared_models(options), options.format.split(","), options.seconds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    best = best_rows(rows)
    lines = [f"{row['recipe']:10} {row['format']:14} {_told(row)}" for row in rows]
    lines += [
        f"best {row['precision']}: {row['recipe']:10} {row['ms']:8.1f} ms in {row['format']}, "
        f"{row['times_reference']} times as fast as {REFERENCE}"
        for row in best
    ]
    report_result(options, {"threads": available_cores(), "rows": rows, "best": best}, "\n".join(lines))
    return 1 if any(row["goal"] and (row["times_reference"] or 0) < row["goal"] for row in best) else 0


def _told(row: dict[str, Any]) -> str:
    return f"{row['ms']:8.1f} ms" if "ms" in row else f"{row['status']}: {row['reason']}"


if __name__ == "__main__":
    sys.exit(main())
