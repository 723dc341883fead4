"""How many channels each convolution keeps, so that a given share of the operations stays."""

from __future__ import annotations

from collections.abc import Mapping

from training.methods.pruning.channel_graph import ChannelGraph
from training.methods.pruning.stages import STAGES, stage_of

__all__ = ["LEAST_KEEP", "STEP", "choose_widths", "flops_share"]

STEP = 8
"""Widths are multiples of this: what vector units and INT8 kernels work on at once."""

LEAST_KEEP = 0.05
"""The least share; below it, every convolution is at a few channels."""


def flops_share(widths: Mapping[str, int], graph: ChannelGraph) -> float:
    """The operations of a network with other widths, as a share of its own.

    Args:
        widths: Output channels of each convolution.
        graph: The network.
    """
    return graph.operations(widths) / graph.operations(graph.widths)


def choose_widths(keep: float, graph: ChannelGraph) -> dict[str, int]:
    """Choose the widths with the largest share of the operations up to a given one.

    The stages' shares grow together; what is left by rounding goes to single convolutions, the last ones first. The
    convolutions that features come from keep all channels.

    Args:
        keep: Share of the network's operations that may stay, from `LEAST_KEEP` to 1.
        graph: The network.
    """
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if flops_share(_widths(middle, graph), graph) <= keep else (low, middle)
    widths = _widths(high if flops_share(_widths(high, graph), graph) <= keep else low, graph)
    for name, width in reversed(graph.widths.items()):
        wider = {**widths, name: min(widths[name] + STEP, width)}
        if flops_share(wider, graph) <= keep:
            widths = wider
    return widths


def _widths(ratio: float, graph: ChannelGraph) -> dict[str, int]:
    kept = {name: min(ratio * STAGES[stage_of(name)].ratio, 1.0) for name in graph.widths}
    return {
        name: width if name in graph.features else max(int(kept[name] * width) // STEP * STEP, STEP)
        for name, width in graph.widths.items()
    }
