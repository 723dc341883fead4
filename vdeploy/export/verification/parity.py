"""Parity: does an exported file compute what the reference computes? Names, axes, types, shapes, then values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.bundle.manifest import Parity, Stage, TensorSpec
from vdeploy.core.errors import BundleError, ParityError
from vdeploy.export.cosines import row_cosines
from vdeploy.formats import Format
from vdeploy.video.clips import ClipSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.runtimes.base import Runtime

__all__ = ["BATCHES", "batches_of", "check_parity"]

BATCHES = (1, 3, 16)
"""Batch sizes to try: the smallest, an odd one, and one that a server gathers."""

_PIPELINE_PIXELS = 3 * 16 * 224**2
"""The most that a pipeline is given at once: 3 clips of the usual size."""


def batches_of(stage: Stage, spec: ClipSpec) -> tuple[int, ...]:
    """The batch sizes to try on a stage.

    Args:
        stage: The stage.
        spec: The frames of a clip.

    Returns:
        `BATCHES`; of a pipeline, which takes whole clips and sends all their frames through the backbone at once, only
        those that the memory of a workstation holds.
    """
    if stage != "pipeline":
        return BATCHES
    return tuple(batch for batch in BATCHES if batch * spec.frames * spec.size**2 <= _PIPELINE_PIXELS) or BATCHES[:1]


def check_parity(
    kind: Format,
    runtime: Runtime,
    reference: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]],
    inputs: npt.NDArray[Any],
    *,
    tensors: tuple[TensorSpec, TensorSpec],
    batches: Sequence[int] = BATCHES,
) -> Parity:
    """Compares an exported file with the reference.

    Where the time axis is dynamic, no call gets more frames than one clip has, or one a row: the smallest batch goes
    through all inputs, and larger ones are the same frames, dealt to more and shorter clips. So the memory of a check
    is that of a clip. Else a batch beyond the inputs is made of the same clips again.

    Args:
        kind: The format, whose measure and tolerance apply.
        runtime: The exported file, loaded from disk.
        reference: The same stage in Keras; runs once, on all inputs.
        inputs: Input of the stage.
        tensors: The stage's input and output.
        batches: Batch sizes to try, rising.

    Returns:
        The differences that were found.

    Raises:
        ParityError: A name, axis, type or shape is wrong, a value is not a number, or the difference is beyond the
            tolerance.
    """
    source, target = tensors
    expected = reference(inputs)
    cases = list(_cases(inputs, expected, batches, regroup=isinstance(source.shape[1], str)))
    found = [_run(kind, runtime, source, target, given) for given, _ in cases]
    for actual, (_, wanted) in zip(found, cases, strict=True):
        if actual.dtype != np.float32:
            raise _refusal(kind, f"{target.name} is {actual.dtype}, not float32")
        if actual.shape != wanted.shape:
            shapes = f"{list(actual.shape)}, not {list(wanted.shape)}"
            raise _refusal(kind, f"{target.name} has shape {shapes} at batch {len(wanted)}")
        if not np.isfinite(actual).all():
            raise _refusal(kind, f"{target.name} holds NaN or infinity at batch {len(wanted)}")
    differences = [float(np.abs(actual - wanted).max()) for actual, (_, wanted) in zip(found, cases, strict=True)]
    scale = max(float(np.abs(wanted).max()) for _, wanted in cases)
    parity = Parity(
        reference="keras",
        batches=tuple(batches),
        max_abs=max(differences),
        max_rel=max(differences) / scale if scale else max(differences),
        tolerance=kind.tolerance,
        measure=kind.measure,
        cosine=min(float(row_cosines(actual, wanted).min()) for actual, (_, wanted) in zip(found, cases, strict=True)),
    )
    _judge(kind, target.name, parity)
    return parity


def _cases(
    inputs: npt.NDArray[Any], expected: npt.NDArray[np.float32], batches: Sequence[int], *, regroup: bool
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.float32]]]:
    """What the file is given, call by call, and what it has to answer."""
    if not regroup:
        for batch in batches:
            rows = np.arange(batch) % len(inputs)
            yield inputs[rows], expected[rows]
        return
    smallest, *larger = batches
    for start in range(0, len(inputs) - smallest + 1, smallest):
        yield inputs[start : start + smallest], expected[start : start + smallest]
    frames, features = (array.reshape(-1, *array.shape[2:]) for array in (inputs, expected))
    for batch in larger:
        time = max(1, inputs.shape[1] // batch)
        chosen = np.arange(batch * time).reshape(batch, time) % len(frames)
        yield frames[chosen], features[chosen]


def _run(
    kind: Format, runtime: Runtime, source: TensorSpec, target: TensorSpec, inputs: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    try:
        outputs = runtime.infer({source.name: inputs})
    except BundleError as error:
        shape = list(inputs.shape)
        raise _refusal(kind, f"the input {source.name} of shape {shape} is not taken ({error.message})") from error
    if target.name not in outputs:
        raise _refusal(kind, f"the output is called {', '.join(outputs)}, not {target.name}")
    return outputs[target.name]


def _judge(kind: Format, name: str, parity: Parity) -> None:
    if kind.measure == "values" and parity.max_rel > kind.tolerance:
        off = f"by {parity.max_rel:.2g} of its largest value, more than {kind.tolerance:g}"
        raise _refusal(kind, f"{name} differs from Keras {off}", parity)
    if kind.measure == "direction" and parity.cosine is not None and 1 - parity.cosine > kind.tolerance:
        off = f"the cosine of the worst row is {parity.cosine:.4g}, less than {1 - kind.tolerance:g}"
        raise _refusal(kind, f"{name} differs from Keras: {off}", parity)


def _refusal(kind: Format, what: str, parity: Parity | None = None) -> ParityError:
    evidence = {} if parity is None else {"parity": parity.model_dump(mode="json")}
    return ParityError(
        f"{kind.name}: {what}",
        "the artifact does not count; report this with the versions of vdeploy doctor",
        evidence=evidence,
    )
