"""Lowerings of an ensemble: each member by the lowering of its own head, and the mean."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_keras
from vdeploy.export.lowering.choose import head_graph
from vdeploy.export.lowering.generic_onnx import head_by_tf2onnx
from vdeploy.export.lowering.graphs import HeadGraph
from vdeploy.models.heads.ensemble import member_inputs, member_models

if TYPE_CHECKING:
    import keras
    import onnx

__all__ = ["EnsembleGraph", "ensemble_to_onnx"]


class EnsembleGraph(HeadGraph):
    """An ensemble as plain TensorFlow: the members side by side, and the mean of their probabilities.

    See `vdeploy.models.heads.ensemble.Ensemble`.

    Args:
        model: The Keras model of the ensemble.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model)
        keras: Any = load_keras()
        named = [keras.Model(member.input, member.output, name=_kind(member)) for member in member_models(model)]
        self._members = [head_graph(member) for member in named]
        self._inputs: list[Any] = list(member_inputs(model))
        self.variables = [variable for member in self._members for variable in member.variables]

    def __call__(self, features: Any) -> Any:
        """Compute probabilities of clips; see `HeadGraph`."""
        taken = [features if pick is None else pick(features, training=False) for pick in self._inputs]
        # Sums of two: a sum of several at once stays float in INT8 files.
        total = functools.reduce(
            operator.add, (member(part) for member, part in zip(self._members, taken, strict=True))
        )
        return total * (1 / len(self._members))


def ensemble_to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Lower an ensemble to ONNX.

    Members of one kind are converted from Keras. Members of several kinds are converted from their graphs in
    TensorFlow, where an LSTM is unrolled: OpenVINO 2026.4 computes the first of two LSTM operators wrongly where a
    third operator reads the transposed features that both take.

    Args:
        model: The Keras model of the ensemble.
    """
    kinds = {_kind(member) for member in member_models(model)}
    return head_by_tf2onnx(model, EnsembleGraph(model) if len(kinds) > 1 else None)


def _kind(member: keras.Model) -> str:
    """The name of a head's model, from which an ensemble sets its members apart by a number."""
    return str(member.name.rpartition("_")[0])
