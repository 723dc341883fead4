"""An ensemble as plain TensorFlow: each member by the lowering of its own head."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_keras
from vdeploy.export.lowering.choose import head_graph
from vdeploy.export.lowering.graphs import HeadGraph
from vdeploy.models.heads.ensemble import member_models

if TYPE_CHECKING:
    import keras

__all__ = ["EnsembleGraph"]


class EnsembleGraph(HeadGraph):
    """The members side by side, and the mean of their probabilities.

    See `vdeploy.models.heads.ensemble.Ensemble`.

    Args:
        model: The Keras model of the ensemble.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model)
        keras: Any = load_keras()
        # A lowering is chosen by the name of a model, from which the ensemble sets members apart by a number.
        named = [
            keras.Model(member.input, member.output, name=member.name.rpartition("_")[0])
            for member in member_models(model)
        ]
        self._members = [head_graph(member) for member in named]
        self.variables = [variable for member in self._members for variable in member.variables]

    def __call__(self, features: Any) -> Any:
        """Compute probabilities of clips; see `HeadGraph`."""
        # Sums of two: a sum of several at once stays float in INT8 files.
        total = functools.reduce(operator.add, (member(features) for member in self._members))
        return total * (1 / len(self._members))
