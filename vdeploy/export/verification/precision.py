"""The precision of a network out of the precisions of its layers, whatever kind of file holds them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable

from vdeploy.core.errors import ExportError

__all__ = ["LayerPrecision", "precision_of", "refuse_forgotten_layers", "shares_of"]


@dataclasses.dataclass(frozen=True)
class LayerPrecision:
    """A layer with weights.

    Attributes:
        name: The node's name.
        operator: Its operator.
        precision: What it computes in: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        flops: Floating-point operations of one row of the batch, a multiply-add counted as two.
    """

    name: str
    operator: str
    precision: str
    flops: float


def shares_of(layers: Collection[LayerPrecision]) -> dict[str, float]:
    """The share of the layers' operations in each precision, the largest first; they add up to 1."""
    total = sum(layer.flops for layer in layers)
    found: collections.Counter[str] = collections.Counter()
    for layer in layers:
        found[layer.precision] += layer.flops / total  # type: ignore[assignment]  # a Counter holds any number
    return dict(found.most_common())


def precision_of(layers: Collection[LayerPrecision]) -> str:
    """``"fp32"``, ``"fp16"``, ``"int8"``, or for example ``"mixed: int8 98.9 %, fp32 1.1 % of the operations"``."""
    shares = shares_of(layers)
    if len(shares) == 1:
        return next(iter(shares))
    return f"mixed: {', '.join(f'{name} {100 * share:.3g} %' for name, share in shares.items())} of the operations"


def refuse_forgotten_layers(
    format_name: str, stage: str, layers: Iterable[LayerPrecision], meant: Collection[str]
) -> None:
    """Refuses a network that was to be INT8 and has layers in floating point that nobody has put there.

    Args:
        format_name: The format that was asked for.
        stage: The stage.
        layers: The layers as they were found in the file.
        meant: Names of those that are to stay in floating point.

    Raises:
        ExportError: There are others.
    """
    forgotten = [layer.name for layer in layers if layer.precision != "int8" and layer.name not in meant]
    if forgotten:
        raise ExportError(
            f"{format_name}: {', '.join(forgotten)} of the {stage} stayed in floating point unasked",
            "report this with the versions of vdeploy doctor",
        )
