"""What the motion crop costs, and where it looks in scenes of which the answer is known.

    python -m benchmarks.motion_crop [--frames 32] [--seconds 3] [--no-scenes | --no-cost] [--json] [--out FILE]

Scenes are painted backdrops, some with a textured square of a sixth of the frame that moves about, under noise of the
camera, flicker of the light, shake and pans. Of each kind there are several, and of each the side of the square that
the crop takes, as a share of the frame, and how much of where the mover was lies within it.

The cost is that of I3D with random weights as ONNX: the whole frame, the crop, and both, in turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.output import add_output_options, report_result
from vdeploy.core.errors import UserError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.export.onnx.convert import extractor_to_onnx
from vdeploy.export.onnx.file import dump_onnx
from vdeploy.export.onnx.flops import count_flops
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.region import motion_square
from vdeploy.models.registry import backbone_of
from vdeploy.synthetic.backdrop import paint_backdrop
from vdeploy.video.clips import ClipSpec

SIZE = 224
MOVER = SIZE // 6
MARGIN = 64
SCENES = 12
REGIONS = ("full", "motion", "both")


@dataclasses.dataclass(frozen=True)
class Scene:
    """What happens in a clip.

    Attributes:
        mover: Whether something moves.
        noise: Standard deviation of the noise, in grey levels.
        flicker: Largest change of the light between frames, in grey levels.
        shake: Largest displacement of the camera between frames, in pixels.
        pan: Pixels a frame by which the camera turns.
    """

    mover: bool = True
    noise: float = 2.0
    flicker: float = 0.0
    shake: int = 0
    pan: float = 0.0


KINDS = {
    "nothing moves": Scene(mover=False),
    "nothing moves, strong noise": Scene(mover=False, noise=12.0),
    "nothing moves, flicker": Scene(mover=False, flicker=10.0),
    "something moves": Scene(),
    "something moves, strong noise": Scene(noise=12.0),
    "something moves, flicker": Scene(flicker=10.0),
    "something moves, the camera shakes by a pixel": Scene(shake=1),
    "something moves, the camera shakes by 4 pixels": Scene(shake=4),
    "something moves, a slow pan": Scene(pan=0.5),
    "something moves, a pan": Scene(pan=2.0),
    "a pan, nothing moves": Scene(mover=False, pan=2.0),
}


def draw(scene: Scene, frames: int, seed: int) -> tuple[npt.NDArray[np.float32], tuple[float, float, float, float]]:
    """Draws a clip of 224 pixels.

    Returns:
        ``float32[T, S, S, 3]``, and left, top, right and bottom of where the mover was, as shares of the frame.
    """
    rng = np.random.default_rng(seed)
    side = SIZE + 2 * MARGIN
    backdrop = paint_backdrop(rng, side, side, side // 2)
    patch = rng.integers(0, 256, (6, 6, 3)).repeat(MOVER // 6 + 1, 0).repeat(MOVER // 6 + 1, 1)[:MOVER, :MOVER]
    start = rng.integers(0, SIZE - 2 * MOVER, 2)
    angle, places, clip = rng.uniform(0, 2 * np.pi), [], []
    for number in range(frames):
        offset = int(scene.pan * (number - frames / 2))
        row, column = MARGIN + rng.integers(-scene.shake, scene.shake + 1, 2)
        column = int(np.clip(column + offset, 0, 2 * MARGIN))
        picture = backdrop[row : row + SIZE, column : column + SIZE].astype(np.float32)
        if scene.mover:
            turn = angle + 4 * np.pi * number / frames
            top, left = (start + MOVER / 2 * (1 + np.array([np.sin(turn), np.cos(turn)]))).astype(int)
            picture[top : top + MOVER, left : left + MOVER] = patch
            places.append((left, top, left + MOVER, top + MOVER))
        picture += rng.normal(0, scene.noise, picture.shape) + rng.uniform(-scene.flicker, scene.flicker)
        clip.append(np.clip(picture, 0, 255).astype(np.float32))
    corners = np.array(places or [(0, 0, SIZE, SIZE)]) / SIZE
    left, top, right, bottom = (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
    return np.stack(clip), (float(left), float(top), float(right), float(bottom))


def look(scene: Scene, frames: int) -> dict[str, float]:
    """Where the crop looks in scenes of a kind: medians of the side and of the share of the mover's place inside."""
    tf = load_tensorflow()
    sides, inside = [], []
    for seed in range(SCENES):
        clip, (left, top, right, bottom) = draw(scene, frames, seed)
        x, y, side = (float(value.numpy()[0, 0]) for value in motion_square(tf.constant(clip[np.newaxis])))
        width = max(0.0, min(right, x + side) - max(left, x))
        height = max(0.0, min(bottom, y + side) - max(top, y))
        sides.append(side)
        inside.append(width * height / ((right - left) * (bottom - top)))
    found = {"side": statistics.median(sides), "least_side": min(sides), "largest_side": max(sides)}
    return {**found, "mover_inside": statistics.median(inside) if scene.mover else 1.0}


def cost(frames: int, seconds: float) -> list[dict[str, Any]]:
    """Milliseconds and operations a clip of I3D on the whole frame, on the crop, and on both, in turns."""
    spec = ClipSpec(frames=frames, size=SIZE)
    clip = {"frames": np.random.default_rng(0).integers(0, 256, (1, frames, SIZE, SIZE, 3), dtype=np.uint8)}
    runtimes, flops, times = {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="vdeploy-motion-crop-") as folder:
        for region in REGIONS:
            backbone = backbone_of({"name": "i3d", "weights": "random"}, region)
            model = extractor_to_onnx(FeatureExtractor(backbone, backbone.find_weights(), spec))
            file = Path(folder) / f"{region}.onnx"
            with file.open("wb") as handle:
                dump_onnx(model, handle)
            flops[region] = count_flops(file, {"frames": clip["frames"].shape})
            runtimes[region] = OnnxRuntime(file)
            runtimes[region].infer(clip)
            times[region] = [0.0][:0]
        deadline = time.perf_counter() + len(REGIONS) * seconds
        while time.perf_counter() < deadline or len(times["both"]) < 3:
            for region, runtime in runtimes.items():
                started = time.perf_counter()
                runtime.infer(clip)
                times[region].append(1000 * (time.perf_counter() - started))
    ms = {region: statistics.median(taken) for region, taken in times.items()}
    return [
        {
            "region": region,
            "gflop": round(flops[region] / 1e9, 2),
            "ms": round(ms[region], 1),
            "times_full": round(ms[region] / ms["full"], 3),
        }
        for region in REGIONS
    ]


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if it could not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=32, help="frames of a clip (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="to time each (%(default)s)")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--no-scenes", action="store_true", help="measure the cost only")
    parts.add_argument("--no-cost", action="store_true", help="look at the scenes only")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    try:
        kinds = {} if options.no_scenes else KINDS
        scenes = {name: look(scene, options.frames) for name, scene in kinds.items()}
        rows = [] if options.no_cost else cost(options.frames, options.seconds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = [
        f"{name:48} side {each['side']:.2f}, mover inside {each['mover_inside']:.0%}" for name, each in scenes.items()
    ]
    lines += [f"{row['region']:8} {row['gflop']} GFLOP {row['ms']} ms, {row['times_full']} times" for row in rows]
    given = {"frames": options.frames, "scenes_each": SCENES, "mover": round(MOVER / SIZE, 3)}
    report_result(options, {**given, "scenes": scenes, "cost": rows}, "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
