"""Cameras that `watch` keeps up with, a core: simulated RTSP cameras, more and more of them until frames are dropped.

    python -m benchmarks.cameras_per_core [--recipes default,edge,accurate] [--format F,...] [--seconds 8] [--out FILE]

Each camera is a connection to an RTSP server of another process that sends H.264 of 640 x 360 pixels at 25 frames a
second. `watch` decodes all of it and samples 8 frames a second; its windows hold as many frames as the model takes,
and begin every half window. A number of cameras is kept up with if no sampled frame is dropped and no more than one in
a hundred is missing because its camera was read too late, in one of two attempts. The number is doubled until it is too
large, then halved in. Figures are of the largest number that was kept up with.

The share of decoding is that of the decoder processes, which read, decode and resize, in the processor time of the
whole program. The server's own time is given as well: it takes part of the same cores. Other programs take cameras
away; the processor time of a camera hardly depends on them.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.camera_trials import FPS, SAMPLED_FPS, SIZE, CameraServer, Trial, watch_cameras, write_camera_video
from benchmarks.compared_models import REFERENCE, add_model_options, compared_models
from benchmarks.output import add_output_options, report_result
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import UserError
from vdeploy.core.progress import say
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.runtimes.base import available_cores

ATTEMPTS = 2
MOST_CAMERAS = 256


def most_cameras(attempt: Callable[[int], Trial], most: int = MOST_CAMERAS) -> Trial | None:
    """The largest number of cameras that is kept up with: doubled until it is too large, then halved in.

    Args:
        attempt: Tries a number; tried once more where it fails.
        most: Cameras to try at most.

    Returns:
        The trial of that number; ``None`` if one camera is too many.
    """

    def kept_up(cameras: int) -> Trial | None:
        return next((trial for trial in (attempt(cameras) for _ in range(ATTEMPTS)) if trial.kept_up), None)

    best, low, high = None, 0, most + 1
    while high - low > 1:
        cameras = min(max(1, 2 * low), high - 1) if high > most and 2 * low < high else (low + high) // 2
        trial = kept_up(cameras)
        if trial is None:
            high = cameras
        else:
            best, low = trial, cameras
    return best


def measure(
    bundles: dict[str, Bundle], formats: list[str], seconds: float, most: int = MOST_CAMERAS
) -> Iterator[dict[str, Any]]:
    """Finds the most cameras of each format of each bundle.

    Args:
        bundles: Bundles by recipe.
        formats: Formats; those that a bundle lacks are left out.
        seconds: Time to watch each number of cameras.
        most: Cameras to try at most.

    Yields:
        A row each.
    """
    with (
        tempfile.TemporaryDirectory(prefix="vdeploy-cameras-") as folder,
        CameraServer(write_camera_video(Path(folder) / "camera.ts")) as server,
    ):
        for recipe, bundle in bundles.items():
            for name in (name for name in formats if name in bundle.manifest.formats):
                scorer = LocalScorer(bundle, name)
                spec = scorer.spec
                scorer.score(np.zeros((1, spec.frames, spec.size, spec.size, 3), np.uint8))

                def attempt(cameras: int, scorer: LocalScorer = scorer, label: str = f"{recipe}, {name}") -> Trial:
                    trial = watch_cameras(scorer, server, cameras, seconds)
                    say(f"{label}: {cameras} cameras, {'kept up' if trial.kept_up else 'too many'}: {trial}")
                    return trial

                trial = most_cameras(attempt, most)
                found = dataclasses.asdict(trial) if trial else {"cameras": 0}
                extractor = bundle.manifest.extractor
                yield {
                    "recipe": recipe,
                    "backbone": extractor.architecture,
                    "region": extractor.settings.get("region", "full"),
                    "frames": spec.frames,
                    "format": name,
                    **found,
                    "cameras_per_core": round(found["cameras"] / available_cores(), 2),
                    "cores_per_camera": round(trial.busy_cores / trial.cameras, 4) if trial else None,
                }


def best_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best format of each recipe, with how many times as many cameras as the reference it serves."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["recipe"] not in best or row["cameras"] > best[row["recipe"]]["cameras"]:
            best[row["recipe"]] = row
    reference = best.get(REFERENCE, {}).get("cameras")
    return [
        {**row, "times_reference": round(row["cameras"] / reference, 2) if reference else None} for row in best.values()
    ]


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if it could not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser, "onnx-int8,openvino-int8")
    parser.add_argument("--bundle", type=Path, help="measure this bundle instead of the recipes")
    parser.add_argument("--seconds", type=float, default=8.0, help="to watch each number of cameras (%(default)s)")
    parser.add_argument("--most", type=int, default=MOST_CAMERAS, help="cameras to try at most (%(default)s)")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    try:
        bundles = {options.bundle.name: Bundle(options.bundle)} if options.bundle else compared_models(options)
        rows = list(measure(bundles, options.format.split(","), options.seconds, options.most))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    best = best_rows(rows)
    lines = [
        f"{row['recipe']:10} {row['format']:14} {row['cameras']:4} cameras, {row['cameras_per_core']:6.2f} a core, "
        f"decoding {row.get('decoding_share', 0):.0%}, {row.get('latency_ms', 0):.0f} ms to a score"
        for row in rows
    ]
    lines += [f"best: {row['recipe']:10} {row['times_reference']} times the cameras of {REFERENCE}" for row in best]
    picture = {"sampled_fps": SAMPLED_FPS, "fps": FPS, "width": SIZE[0], "height": SIZE[1], "codec": "H.264"}
    given = {"cores": available_cores(), "seconds": options.seconds, "camera": picture}
    report_result(options, {**given, "rows": rows, "best": best}, "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
