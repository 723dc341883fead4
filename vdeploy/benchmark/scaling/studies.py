"""The scaling studies of a bundle and of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.devices import open_strategy
from training.engine.epoch_plan import FeatureSplit
from training.engine.precision import choose_precision
from training.engine.step_benchmark import EpochTimer, synthetic_split
from training.recipe import Recipe, recipe_of_run
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.artifacts.run import Run
from vdeploy.benchmark.scaling.measurements import Probe, Study, run_study
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.inference.in_process import LocalScorer

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["bundle_studies", "run_studies"]

_LEAST_CLIPS = 768
"""Least number of clips in an epoch of the studies of batches and devices, so that its start is negligible."""


def bundle_studies(
    root: Path,
    batches: Sequence[int],
    *,
    format_name: str | None = None,
    pipeline: bool = False,
    threads: int | None = None,
    seconds: float = 3.0,
) -> list[Study]:
    """Times inference in this process by the number of clips per call.

    Args:
        root: Folder of a bundle.
        batches: Clips per call.
        format_name: The format to run; left out, the first format of the bundle.
        pipeline: Whether to time frames to probabilities as well, which takes long.
        threads: Threads per call; all available cores if left out.
        seconds: Time for each batch.

    Returns:
        A study of the classifier, and one of the pipeline if it was requested.

    Raises:
        BundleError: The bundle is damaged or does not hold the format.
    """
    bundle = Bundle(root)
    scorer = LocalScorer(bundle, format_name, threads)
    clip = scorer.spec
    features = np.maximum(
        np.random.default_rng(0).standard_normal((max(batches), *bundle.manifest.feature_shape), np.float32),
        0,
    )
    name = scorer.format_name
    probes = [_probe(batch, scorer.classify, features) for batch in batches]
    studies = [run_study(f"classifier, {name}", "batch", probes, seconds)]
    if pipeline:
        frames = synthetic_frames(max(batches), clip.frames, clip.size)
        probes = [_probe(batch, scorer.score, frames) for batch in batches]
        studies.append(run_study(f"pipeline, {name}", "batch", probes, seconds))
    return studies


def run_studies(
    root: Path,
    *,
    batches: Sequence[int] = (),
    devices: Sequence[int] = (),
    clips: Sequence[int] = (),
    logical_cpus: bool = False,
    seconds: float = 3.0,
) -> list[Study]:
    """Times epochs of training on synthetic features, with the recipe and the shapes of a run.

    The times exclude validation, checkpoints and the extraction of features.

    Args:
        root: Folder of a run.
        batches: Clips of a global batch.
        devices: How many devices share the recipe's batch.
        clips: Clips per epoch.
        logical_cpus: Whether parts of one CPU count as devices where there are not enough GPUs: this shows the cost of
            several devices, not their gain.
        seconds: Time for each position of an axis.

    Returns:
        A study for each requested axis.

    Raises:
        BenchmarkError: There are too few GPUs.
        RecipeError: A batch cannot be divided among the devices.
        RunError: The run is missing or damaged.
    """
    run = Run.load(root)
    load_tensorflow().get_logger().setLevel("ERROR")  # it warns of similar graphs; every probe has one
    names = {count: _names(count, logical_cpus) for count in sorted({1, *devices}, reverse=True)}
    for each in names.values():
        open_strategy(each)
    recipe = recipe_of_run(root)
    own = recipe.training.batch
    bench = _TrainingBench(recipe, run.feature_shape, max(_LEAST_CLIPS + max([own, *batches]), *clips, 0))
    studies = []
    if batches:
        probes = [bench.probe(batch, _whole(batch), batch, names[1]) for batch in batches]
        studies.append(run_study(f"training in {bench.precision}", "batch", probes, seconds))
    if devices:
        probes = [bench.probe(count, _whole(own), own, names[count]) for count in devices]
        parts = " that are parts of one CPU" if max(devices) > 1 and names[max(devices)][0].startswith("cpu") else ""
        studies.append(run_study(f"training, batch {own}, on devices{parts}", "devices", probes, seconds))
    if clips:
        probes = [bench.probe(count, count, own, names[1]) for count in clips]
        studies.append(run_study(f"epoch of training, batch {own}", "clips", probes, seconds))
    return studies


class _TrainingBench:
    """Makes probes that train on parts of one synthetic data set."""

    def __init__(self, recipe: Recipe, shape: tuple[int, int], clips: int) -> None:
        self._recipe = recipe
        self._split = synthetic_split(clips, *shape)
        self.precision = choose_precision(recipe.training)

    def probe(self, value: int, clips: int, batch: int, devices: tuple[str, ...]) -> Probe:
        training = self._recipe.training.model_copy(update={"batch": batch})
        recipe = self._recipe.model_copy(update={"training": training})
        part = FeatureSplit(self._split.features[:clips], self._split.labels[:clips])
        return Probe(value, clips, EpochTimer(part, recipe, self.precision, devices).run)


def _probe(batch: int, call: Callable[[Any], object], inputs: npt.NDArray[Any]) -> Probe:
    portion = inputs[:batch]
    return Probe(batch, batch, lambda: call(portion))


def _whole(batch: int) -> int:
    """Computes the clips of an epoch in which every batch is full."""
    return math.ceil(_LEAST_CLIPS / batch) * batch


def _names(count: int, logical_cpus: bool) -> tuple[str, ...]:
    """Lists TensorFlow's names of devices: GPUs, the CPU or, where allowed, parts of the CPU."""
    tf: Any = load_tensorflow()
    gpus = len(tf.config.list_physical_devices("GPU"))
    if count <= gpus:
        return tuple(f"gpu:{index}" for index in range(count))
    if count == 1 or logical_cpus:
        return tuple(f"cpu:{index}" for index in range(count))
    raise BenchmarkError(
        f"--devices asks for {count}, this machine has {gpus} GPUs",
        "ask for fewer, or try the parts of one CPU, which share its speed: --logical-cpus",
    )
