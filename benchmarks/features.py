"""Speed of feature extraction: frames per second of the whole path and of VGG19 alone, in one run.

Each round extracts all clips into an empty store (decode, VGG19, write), runs VGG19 alone on the same frames in memory,
and reads all features from the filled store. The ratio is taken within a round, so that other load on the machine slows
down both sides; the result is the median of the rounds.

    python -m benchmarks.features [CLIPS] [--clips 16] [--rounds 3] [--json] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import open_clips
from benchmarks.decoding import compare_decoders
from benchmarks.output import add_output_options, report_result
from testing.models import vgg19_extractor
from vdeploy.core.errors import UserError
from vdeploy.dataset import Dataset
from vdeploy.features.extraction import extract_dataset, feature_key
from vdeploy.features.store import FeatureStore
from vdeploy.models.backbones.vgg19.feature_layers import DIMENSIONS
from vdeploy.models.backbones.vgg19.weights import find_weights
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec
from vdeploy.video.workers.clips import decode_clips

GOAL = 0.9
"""Share of the speed of VGG19 alone that the whole extraction has to reach."""


@dataclasses.dataclass(frozen=True)
class Round:
    """Seconds that the same clips took: extracted into an empty store, by VGG19 alone, and read from the store."""

    cold: float
    network: float
    warm: float

    @property
    def ratio(self) -> float:
        """Speed of the whole extraction as a share of the speed of VGG19 alone."""
        return self.network / self.cold


def measure(dataset: Dataset, spec: ClipSpec, extractor: FeatureExtractor, weights: Weights) -> Round:
    """Runs one round."""
    key = feature_key(spec, extractor.backbone, weights)
    portion = extractor.batch_clips
    clips = [outcome.frames for _, outcome in decode_clips(map(dataset.absolute, dataset.clips), spec)]
    batches = [np.stack(clips[start : start + portion]) for start in range(0, len(clips), portion)]
    extractor.extract(batches[0])
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)

        def extract() -> None:
            extract_dataset(dataset, spec, FeatureStore(store, key), lambda: extractor, strict=True)

        return Round(cold=_seconds(extract), network=_seconds(lambda: _run(extractor, batches)), warm=_seconds(extract))


def summarise(rounds: list[Round], frames: int) -> dict[str, Any]:
    """Medians over the rounds, in frames per second."""
    ratios = [one.ratio for one in rounds]

    def speed(part: str) -> float:
        return round(statistics.median(frames / getattr(one, part) for one in rounds), 1)

    return {
        "extraction_frames_per_s": speed("cold"),
        "vgg19_frames_per_s": speed("network"),
        "warm_store_frames_per_s": speed("warm"),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "warm_speedup": round(statistics.median(one.cold / one.warm for one in rounds), 1),
        "goal": GOAL,
        "goal_met": statistics.median(ratios) >= GOAL,
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 1 if the goal was missed, 2 if it could not run."""
    options = _parse(arguments)
    spec = ClipSpec(frames=options.frames, size=options.size)
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(open_clips(options.source, options.clips))
            dataset = dataclasses.replace(found, clips=found.clips[: options.clips])
            weights = find_weights(options.weights, options.layer)
            extractor = vgg19_extractor(options.layer, weights, size=spec.size)
            rounds = [measure(dataset, spec, extractor, weights) for _ in range(options.rounds)]
            decoding = compare_decoders([dataset.absolute(clip) for clip in dataset.clips], spec, options.rounds)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    result = {
        "clips": len(dataset.clips),
        "source": "generated" if options.source is None else options.source.name,
        "frames_per_clip": spec.frames,
        "size": spec.size,
        "layer": options.layer,
        "device": "GPU" if extractor.tf.config.list_physical_devices("GPU") else platform.machine(),
        **summarise(rounds, len(dataset.clips) * spec.frames),
        **decoding,
    }
    report_result(options, result, _table(result))
    return 0 if result["goal_met"] else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", nargs="?", type=Path, metavar="CLIPS", help="folder of clips; generated if left out")
    parser.add_argument("--clips", type=int, default=16, help="how many clips to use (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure (%(default)s)")
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="pixels of a frame's side (%(default)s)")
    parser.add_argument("--layer", choices=sorted(DIMENSIONS), default="avg", help="layer of VGG19 (%(default)s)")
    parser.add_argument("--weights", default="random", help="imagenet, random or a path; no matter for speed")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    if min(options.clips - 1, options.rounds, options.frames) < 1 or options.size < 32:
        parser.error("at least 2 clips, 1 round, 1 frame and 32 pixels are needed")
    return options


def _run(extractor: FeatureExtractor, batches: list[np.ndarray]) -> None:
    for batch in batches:
        extractor.extract(batch)


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _table(result: dict[str, Any]) -> str:
    verdict = "met" if result["goal_met"] else "missed"
    rounds = ", ".join(f"{ratio:.3f}" for ratio in result["ratios"])
    return "\n".join(
        [
            f"{result['clips']} clips ({result['source']}) of {result['frames_per_clip']} frames, {result['layer']}",
            f"whole extraction, empty store  {result['extraction_frames_per_s']:>12,.1f} frames/s",
            f"VGG19 alone, frames ready      {result['vgg19_frames_per_s']:>12,.1f} frames/s",
            f"filled store, no VGG19         {result['warm_store_frames_per_s']:>12,.1f} frames/s",
            f"ratio of the first two         {result['ratio']:>12.3f} (rounds: {rounds}); goal {GOAL}: {verdict}",
            f"decoding and resizing, a core  {result['decode_frames_per_s']:>12,.1f} frames/s",
            f"the same by OpenCV             {result['opencv_frames_per_s']:>12,.1f} frames/s",
            f"ratio of these two             {result['decode_ratio']:>12.3f}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
