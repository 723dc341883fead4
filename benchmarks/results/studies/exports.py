"""What exports compute, how large they are, and what memory they take."""

from __future__ import annotations

from typing import Any

from benchmarks.results.markdown import between, percent, table
from benchmarks.results.study import Blocks, Found, Step, Study, single

__all__ = ["EXPORTS", "EXPORT_MEMORY"]

_VERDICTS = (
    *("split", "clips", "agreement", "drift_mean", "accuracy", "reference_accuracy", "roc_auc", "reference_roc_auc"),
)


def _without_bulk(output: dict[str, Any]) -> dict[str, Any]:
    """Verdicts of both stages together and sizes, out of a whole manifest."""
    return {
        "left_out": output["left_out"],
        "rejected": output["rejected"],
        "end_to_end": {
            name: {key: verdicts[key] for key in _VERDICTS} for name, verdicts in output["end_to_end"].items()
        },
        "extractor_bytes": {
            each["format"]: each["bytes"] for each in output["artifacts"] if each["stage"] == "extractor"
        },
        "executed": {
            each["format"]: each["parity"]["executed"] for each in output["artifacts"] if each["stage"] == "extractor"
        },
    }


def _exports(found: dict[str, Any]) -> Blocks:
    indirect = [name for name, executed in found["executed"].items() if executed != "artifact"]
    yield "Verdicts of both stages together on held-out clips, against Keras on the same clips."
    if indirect:
        yield f"Those of {between(f'`{name}`' for name in indirect)} are of the ONNX file that each was built from."
    yield table(
        (
            *("format", "clips", "same verdict", "mean drift of the probability", "accuracy (Keras)", "AUC (Keras)"),
            "extractor, MB",
        ),
        [
            (
                name,
                verdicts["clips"],
                percent(verdicts["agreement"]),
                f"{verdicts['drift_mean']:.2g}",
                f"{verdicts['accuracy']:.3f} ({verdicts['reference_accuracy']:.3f})",
                f"{verdicts['roc_auc']:.3f} ({verdicts['reference_roc_auc']:.3f})",
                f"{found['extractor_bytes'][name] / 1e6:.1f}",
            )
            for name, verdicts in found["end_to_end"].items()
        ],
    )
    for name, reason in (found["rejected"] | found["left_out"]).items():
        yield f"`{name}` is missing: {reason}."


def _memory(found: Found) -> Blocks:
    yield (
        "The whole of `vdeploy export` with all processes that it starts, seen from outside: the most that they held "
        "of memory of their own, also as a multiple of the extractor's FP32 weights, and the most that was resident, "
        "in which pages of libraries count that the kernel can drop."
    )
    yield table(
        (
            "layer",
            "formats",
            "weights, MB",
            "their own, GB",
            "of weights",
            "resident, GB",
            "limit, GB",
        ),
        [
            (
                each["layer"],
                each["formats"],
                f"{each['weights_bytes'] / 1e6:.0f}",
                f"{each['own_bytes'] / 1e9:.2f}",
                f"{each['own_bytes'] / each['weights_bytes']:.2f}x",
                f"{max(each['process_bytes'], each['tree_bytes']) / 1e9:.2f}",
                f"{each['limit_bytes'] / 1e9:.2f}",
            )
            for each in found.values()
        ],
    )


EXPORTS = single(
    "exports",
    "Exports",
    "vdeploy export {run} --format all --target-sm 89,86 --clips 100 --report",
    _exports,
    keep=_without_bulk,
)
EXPORT_MEMORY = Study(
    "export-memory",
    "Memory of an export",
    (
        *(
            Step(name, f"python -m benchmarks.export_memory --format {name}")
            for name in ("onnx-fp32", "onnx-fp16", "onnx-int8")
        ),
        Step(
            "all",
            "python -m benchmarks.export_memory {run} --format all --limit-gb 5",
        ),
    ),
    _memory,
)
