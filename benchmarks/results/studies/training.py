"""How fast features are extracted and epochs go by."""

from __future__ import annotations

from typing import Any

from benchmarks.results.markdown import between, percent, table
from benchmarks.results.study import Blocks, single

__all__ = ["FEATURES", "TRAINING", "TRAINING_ON_GPU"]

_PRECISIONS = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def _features(found: dict[str, Any]) -> Blocks:
    yield (
        f"{found['clips']} {found['source']} clips of {found['frames_per_clip']} frames of {found['size']} px, layer "
        f"{found['layer']}:"
    )
    yield table(
        ("", "frames/s"),
        [
            ("whole path, empty store: decode, VGG19, write", found["extraction_frames_per_s"]),
            ("VGG19 alone, frames ready in memory", found["vgg19_frames_per_s"]),
        ],
    )
    ratios = ", ".join(f"{ratio:.3f}" for ratio in found["ratios"])
    yield (
        f"Ratio of the two within a round, median of {len(found['ratios'])}: {found['ratio']:.3f} ({ratios}); goal: at "
        f"least {found['goal']}."
    )


def _training(found: dict[str, Any]) -> Blocks:
    frames, dim = found["shape"]
    peaks = between(f"{peak:.3f} TFLOP/s in {dtype}" for dtype, peak in found["peak_tflops"].items())
    yield (
        f"{found['clips']:,} clips x {frames} x {dim} features on {between(found['gpus'] or ['the CPU'])}, all rows in "
        f"one run; the measured peak of a matrix product was {peaks}. What dropout leaves out is not multiplied, so "
        "that an epoch with it is less arithmetic; the share of the peak counts what is done."
    )
    yield table(
        ("", "batch", "s/epoch", "TFLOP", "of peak", "speed-up"),
        [
            (
                f"{row['name'].replace('ours', 'vdeploy')}, {_PRECISIONS.get(row['precision'], row['precision'])}",
                row["batch"],
                f"{row['seconds_per_epoch']:.2f}",
                f"{row['tflop']:.2f}",
                percent(row["share_of_peak"]),
                f"{row['times_baseline']:.2f}x",
            )
            for row in found["rows"]
        ],
    )


FEATURES = single("features", "Feature extraction", "python -m benchmarks.features --clips 24", _features)
TRAINING = single("training", "Training", "python -m benchmarks.training --epochs 3", _training)
TRAINING_ON_GPU = single(
    "gpu-training", "Training on a GPU", "python -m benchmarks.training --epochs 3", _training, gpu=True
)
