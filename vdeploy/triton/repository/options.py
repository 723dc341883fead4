"""Options of how models are served, independent of the bundle."""

from __future__ import annotations

import dataclasses

from vdeploy.core.errors import RepositoryError

__all__ = ["DEFAULT_STREAMS", "LONGEST_WAIT_MS", "ServingOptions", "StreamOptions", "parse_numbers"]

DEFAULT_STREAMS = 64
"""Streams whose windows a server keeps by default."""

EXTRACTOR_DELAY_MICROSECONDS = 5_000
"""How long the extractor waits for a fuller batch where there is no budget; nothing beside a second of VGG19."""
CLASSIFIER_DELAY_MICROSECONDS = 500

EXTRACTOR_SHARE = 0.09
"""Part of a latency budget that the extractor may spend waiting; most of the budget is for computing."""
CLASSIFIER_SHARE = 0.01

LONGEST_WAIT_MS = 600_000.0
"""How long a request may wait in a bounded queue where there is no budget."""

_LARGEST = 2**31 - 1
"""Largest number in a configuration of Triton."""


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """How a server keeps the windows of streams.

    Attributes:
        limit: Live streams at most; 0 keeps none.
        idle_seconds: How long a stream is kept after its last frame.

    Raises:
        RepositoryError: A value is out of its range.
    """

    limit: int = DEFAULT_STREAMS
    idle_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise RepositoryError(f"--streams is {self.limit}", "give a number above 0, or 0 for none")
        if not self.idle_seconds > 0:
            raise RepositoryError(f"streams are kept for {self.idle_seconds:g} s", "give a number above 0")


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """Everything about serving that a bundle does not say.

    Attributes:
        instances: Copies of each stage; on GPUs, on each of them.
        threads: Cores for the extractor, divided among its instances; `None` leaves it to the server's environment.
        gpus: Numbers of the GPUs that both stages are placed on; empty for the CPU, or for the first GPU where a stage
            is a TensorRT engine.
        max_batch: Clips in one request at most; `None` for 8, or what an engine takes if that is less.
        latency_budget_ms: What a request may take; a tenth of it may be spent waiting for a fuller batch.
        max_queue: Requests that may wait for a stage, each no longer than the budget if there is one; `None` does not
            bound the queue. With any bound, Triton 2.51 misses that a model has become idle and lets what waits sit for
            up to half a second per batch: bound the load in front of such a server instead.
        loaded_versions: Versions that stay in memory. With 2, the way back to the version before loads nothing.
        warmup_batches: Batch sizes that each stage is tried with before it counts as ready; `None` for 1, and on GPUs
            the largest too, because kernels are chosen for a shape.
        accelerate: Whether ONNX Runtime hands its graph to TensorRT, which builds an engine at the first start.
        memory_gb: Gigabytes (10^9 bytes) that the server may take; `None` for what its machine or container has.
        arena: Whether Triton's own ONNX Runtime keeps memory in an arena, which is faster and takes more.
        streams: How the server keeps the windows of streams; `None` leaves that as it is in the repository, and in a
            new one keeps none.

    Raises:
        RepositoryError: A value is out of its range.
    """

    instances: int = 1
    threads: int | None = None
    gpus: tuple[int, ...] = ()
    max_batch: int | None = None
    latency_budget_ms: float | None = None
    max_queue: int | None = None
    loaded_versions: int = 1
    warmup_batches: tuple[int, ...] | None = None
    accelerate: bool = False
    memory_gb: float | None = None
    arena: bool = True
    streams: StreamOptions | None = None

    def __post_init__(self) -> None:
        for name in (
            "instances",
            "threads",
            "max_batch",
            "latency_budget_ms",
            "max_queue",
            "loaded_versions",
            "memory_gb",
        ):
            value = getattr(self, name)
            if value is not None and not 0 < value <= _LARGEST:
                hint = f"give a number up to {_LARGEST}" if value > 0 else "give a number above 0"
                raise RepositoryError(f"--{name.replace('_', '-')} is {value}", hint)
        if len(set(self.gpus)) < len(self.gpus) or any(gpu < 0 for gpu in self.gpus):
            raise RepositoryError(
                f"--gpus {','.join(map(str, self.gpus))} does not name GPUs", "give each number once: --gpus 0,1"
            )
        if any(batch < 1 for batch in self.warmup_batches or ()):
            raise RepositoryError(f"a warm-up with {min(self.warmup_batches or ())} clips is none", "give 1 or more")

    @property
    def threads_of_instance(self) -> int:
        """Threads of one instance of the extractor; 0 leaves it to the server's environment."""
        return max(1, self.threads // self.instances) if self.threads else 0

    @property
    def extractor_delay_microseconds(self) -> int:
        """How long the extractor waits for a fuller batch."""
        return self._share(EXTRACTOR_SHARE, EXTRACTOR_DELAY_MICROSECONDS)

    @property
    def classifier_delay_microseconds(self) -> int:
        """How long the classifier waits for a fuller batch."""
        return self._share(CLASSIFIER_SHARE, CLASSIFIER_DELAY_MICROSECONDS)

    def _share(self, part: float, otherwise: int) -> int:
        return otherwise if self.latency_budget_ms is None else round(self.latency_budget_ms * 1000 * part)


def parse_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Reads whole numbers that are separated by commas.

    Args:
        text: `"0,1"`, or `None` for none.
        option: What the user typed them after.

    Raises:
        RepositoryError: A part of the text is no number.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < len(str(_LARGEST)) for part in parts):
        raise RepositoryError(f"{option} {text!r} is no list of numbers", f"separate them by commas: {option} 1,2")
    return tuple(int(part) for part in parts)
