"""Feature extraction on several machines: Ray actors that each hold VGG19 and write shards into one shared store."""

from __future__ import annotations

import collections
import dataclasses
import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdeploy.core.errors import ClipError, FeatureStoreError, StudyError, UserError, WeightsError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.core.progress import say, track
from vdeploy.dataset import Dataset
from vdeploy.features.extraction import feature_key, missing_tasks
from vdeploy.features.filling import SHARD_CLIPS, SHARD_SECONDS, Task, fill_store
from vdeploy.features.ray_cluster import connected, import_ray
from vdeploy.features.store import FeatureStore
from vdeploy.models.base import Backbone
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec
from vdeploy.video.views import Views

__all__ = ["cpus_per_worker", "fill_on_cluster", "portion_size"]

_FIRST_PORTION = 4
"""Clips that a worker begins with, until it is known how fast they go."""


def fill_on_cluster(
    dataset: Dataset,
    spec: ClipSpec,
    backbone: Backbone[Any],
    weights: Weights,
    store_root: Path,
    *,
    views: Views,
    address: str,
    workers: int,
) -> int:
    """Makes workers of a Ray cluster extract what the store lacks; `extract_dataset` then finds all of it there.

    The clips and the store must lie on a file system that all machines share, under the same paths, and vdeploy must be
    installed on each. A worker that dies hands its clips to the others; an interruption loses what no shard holds yet.

    Args:
        dataset: The clips.
        spec: How a clip becomes frames.
        backbone: The backbone.
        weights: Its weights; each machine finds them by itself, and their hash is compared.
        store_root: Folder of all feature stores.
        views: Views of each clip of the training split.
        address: Of the cluster, as ``ray.init`` takes it, or `vdeploy.features.ray_cluster.LOCAL`.
        workers: Actors, each with an equal share of the CPUs and GPUs.

    Returns:
        How many clips were extracted. Those that cannot be read are left to `extract_dataset` to tell of.

    Raises:
        MissingExtraError: Ray is not installed.
        StudyError: There is no such cluster, it is too small, or all workers died.
        FeatureStoreError: The store cannot be written, or is not shared.
        WeightsError: A machine has no or other weights.
    """
    ray = import_ray(address)
    job = _Job(store_root.absolute(), spec, backbone, weights, views, threads=1)
    missing = missing_tasks(dataset, job.store(), views)
    if not missing:
        return 0
    dataset = dataclasses.replace(dataset, root=dataset.root.absolute(), problems=())
    with connected(ray, address):
        bare = dataclasses.replace(dataset, clips=())
        reported = _Extraction(ray, bare, _start(ray, job, workers)).run(missing)
    store = job.store()
    left = {task.clip.sha256 for task in missing_tasks(dataset, store, views)}
    arrived = sum(task.clip.sha256 not in left for task in missing)
    if arrived < reported:
        raise FeatureStoreError(
            f"workers extracted {reported} clips, but only {arrived} of them are in the store {store.folder} here",
            "choose a folder that all machines share: --store DIR",
        )
    return arrived


def cpus_per_worker(nodes: Sequence[int], workers: int) -> int:
    """The most CPUs that each of some workers can have, where none can have CPUs of two machines.

    Args:
        nodes: CPUs of each machine.
        workers: How many workers there are to be.

    Raises:
        StudyError: There are fewer CPUs than workers.

    Example:
        >>> cpus_per_worker([8, 8, 4], workers=4)
        4
    """
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return cpus
    raise StudyError(
        f"the Ray cluster has {sum(nodes)} CPUs, too few for {workers} workers", "ask for fewer: --workers"
    )


def portion_size(left: int, workers: int, clips_per_second: float | None) -> int:
    """How many clips to give to a worker: a shard's worth of time, but no more than its share of what is left.

    Args:
        left: Clips that no worker has yet.
        workers: Workers that are alive.
        clips_per_second: How fast the worker was; ``None`` if it has not begun.
    """
    wanted = _FIRST_PORTION if clips_per_second is None else round(clips_per_second * SHARD_SECONDS)
    return max(1, min(wanted, SHARD_CLIPS, math.ceil(left / workers)))


@dataclasses.dataclass(frozen=True)
class _Job:
    """What every worker needs to know; it travels to the workers."""

    store_root: Path
    spec: ClipSpec
    backbone: Backbone[Any]
    weights: Weights
    views: Views
    threads: int

    def store(self) -> FeatureStore:
        return FeatureStore(self.store_root, feature_key(self.spec, self.backbone, self.weights))

    def extractor(self) -> FeatureExtractor:
        found = self.backbone.find_weights(self.weights.source)
        if found.sha256 != self.weights.sha256:
            raise WeightsError(
                f"the {self.backbone.title} weights {found.path} on {platform.node()} are not those of the machine "
                "that asks for them",
                "give every machine the same file",
            )
        load_tensorflow().config.threading.set_intra_op_parallelism_threads(self.threads)
        return FeatureExtractor(self.backbone, found, self.spec)


class _Worker:
    """Lives in a process of its own, perhaps on another machine, and holds the backbone."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._tools: tuple[FeatureStore, FeatureExtractor] | None = None

    def extract(self, dataset: Dataset, tasks: Sequence[Task]) -> int:
        """Extracts clips and writes them to the store; returns how many could be read."""
        self._tools = self._tools or (self._job.store(), self._job.extractor())
        spec = dataclasses.replace(self._job.spec, views=self._job.views.decoded)
        outcomes = fill_store(dataset, tasks, spec, self._job.views, *self._tools)
        return sum(not isinstance(outcome, ClipError) for _, outcome in outcomes)


@dataclasses.dataclass(frozen=True)
class _Portion:
    worker: Any
    tasks: tuple[Task, ...]
    started: float


class _Extraction:
    """Deals portions of clips to workers until all are done.

    Args:
        ray: The module.
        dataset: Where the clips belong.
        workers: Actors of `_Worker`.
    """

    def __init__(self, ray: Any, dataset: Dataset, workers: Sequence[Any]) -> None:
        self._ray = ray
        self._dataset = dataset
        self._free: list[tuple[Any, float | None]] = [(worker, None) for worker in workers]
        self._running: dict[Any, _Portion] = {}
        self._queue: collections.deque[Task] = collections.deque()

    def run(self, tasks: Sequence[Task]) -> int:
        """Extracts clips; returns how many could be read."""
        self._queue.extend(tasks)
        extracted = 0
        with track("extract features", len(tasks), "clips") as step:
            while self._queue or self._running:
                self._deal()
                (reference, *_), _ = self._ray.wait(list(self._running), num_returns=1)
                portion = self._running.pop(reference)
                try:
                    extracted += self._ray.get(reference)
                except self._ray.exceptions.RayActorError as error:
                    self._hand_back(portion, error)
                except self._ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, UserError) else error) from None
                else:
                    speed = len(portion.tasks) / (time.monotonic() - portion.started)
                    self._free.append((portion.worker, speed))
                    step.advance(len(portion.tasks))
        return extracted

    def _deal(self) -> None:
        while self._free and self._queue:
            worker, speed = self._free.pop()
            size = portion_size(len(self._queue), len(self._free) + len(self._running) + 1, speed)
            tasks = tuple(self._queue.popleft() for _ in range(size))
            reference = worker.extract.remote(self._dataset, tasks)
            self._running[reference] = _Portion(worker, tasks, time.monotonic())

    def _hand_back(self, portion: _Portion, error: Exception) -> None:
        self._queue.extendleft(reversed(portion.tasks))
        left = len(self._free) + len(self._running)
        if not left:
            raise StudyError(
                f"all workers died, the last one at {portion.tasks[0].clip.path}",
                "look for want of memory on its machine; the same command goes on from the last shard",
            ) from error
        say(f"a worker died; its {len(portion.tasks)} clips go to the other {left}")


def _start(ray: Any, job: _Job, workers: int) -> list[Any]:
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = cpus_per_worker([int(node.get("CPU", 0)) for node in resources], workers)
    gpus = min(1.0, sum(node.get("GPU", 0) for node in resources) / workers)
    actor = ray.remote(num_cpus=cpus, num_gpus=gpus)(_Worker)
    say(f"features: {workers} workers on {len(resources)} machines, {cpus} CPUs and {gpus:g} GPUs each")
    return [actor.remote(dataclasses.replace(job, threads=cpus)) for _ in range(workers)]
