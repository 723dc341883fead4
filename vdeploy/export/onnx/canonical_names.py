"""Names that depend on nothing but the graph, so that converting the same model twice gives the same bytes.

A converter numbers what it makes as it goes, and goes on counting from one model to the next.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["rename_canonically"]


def rename_canonically(model: onnx.ModelProto) -> None:
    """Orders the nodes of a model by how its outputs need them, and names everything inside after that, in place.

    The first LSTM becomes ``lstm``, the second ``lstm_2``; a tensor is called as the node that makes it, and a weight
    as the node that uses it first and the position at which it does: ``lstm/1``. Inputs and outputs of the graph keep
    their names; what no output needs is dropped.

    Args:
        model: The model; its nodes hold no graphs of their own.
    """
    graph = model.graph
    nodes = _needed(graph)
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    used: list[onnx.TensorProto] = []
    count: collections.Counter[str] = collections.Counter()
    for node in nodes:
        kind = node.op_type.lower()
        count[kind] += 1
        node.name = kind if count[kind] == 1 else f"{kind}_{count[kind]}"
        for position, name in enumerate(node.input):
            if name not in names:
                names[name] = f"{node.name}/{position}"
                used.append(stored[name])
        for position, name in enumerate(node.output):
            names.setdefault(name, node.name if position == 0 else f"{node.name}:{position}")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        node.doc_string = ""
    for tensor in used:
        tensor.name = names[tensor.name]
    renamed = type(graph)(name=graph.name, input=graph.input, output=graph.output, node=nodes, initializer=used)
    graph.CopyFrom(renamed)


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes in the order in which a walk from the outputs towards the inputs finishes them."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    order: dict[int, None] = {}

    def unvisited(names: Iterable[str]) -> Iterator[int]:
        return (makers[name] for name in names if name in makers and makers[name] not in order)

    # By a stack of its own: a recurrence over many steps is deeper than Python's.
    roots = unvisited(output.name for output in graph.output)
    path: list[tuple[int, Iterator[int]]] = []
    while (index := next(path[-1][1] if path else roots, None)) is not None or path:
        if index is None:
            order[path.pop()[0]] = None
        else:
            path.append((index, unvisited(graph.node[index].input)))
    return [graph.node[index] for index in order]
