"""What a backbone and a head are: the two contracts that every model in the registry fulfils."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from vdeploy.core.lazy_imports import load_keras
from vdeploy.core.settings import Settings
from vdeploy.models.normalization import normalization_layer
from vdeploy.models.splitting import Split, split_network
from vdeploy.models.stage_names import stage_model
from vdeploy.models.training_step import KerasStep, TrainingStep
from vdeploy.models.weights.find import Weights, find_weights
from vdeploy.models.weights.fine_tuned import load_fine_tuned
from vdeploy.models.weights.published import WeightsFile

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["Backbone", "BackboneSettings", "Granularity", "Head", "HeadSettings", "Model"]

Granularity = Literal["frame", "clip"]
"""What a backbone looks at as one: a frame by itself, or all frames of a clip together."""


class BackboneSettings(Settings):
    """Settings that every backbone has.

    Attributes:
        name: Name in the registry.
        weights: Where the weights come from: the name of published ones, ``"random"``, or a path.
    """

    name: str
    weights: str


class HeadSettings(Settings):
    """Settings that every head has.

    Attributes:
        name: Name in the registry.
    """

    name: str


S = TypeVar("S", bound=Settings)
B = TypeVar("B", bound=BackboneSettings)
H = TypeVar("H", bound=HeadSettings)


class Model(abc.ABC, Generic[S]):
    """What a backbone and a head have in common: each is one entry of `vdeploy.models.registry`, and becomes one stage.

    Args:
        settings: Its section of a recipe or of a manifest.

    Attributes:
        name: Name in the registry, of lower-case letters, digits and hyphens; Triton's model is named after it.
        title: Its name in prose.
        settings_type: The class of its settings.
        lowerings: Faster or exact special cases of an export, as ``"module:function"`` by kind: ``"onnx"`` and
            ``"tensorflow"``; see `vdeploy.export.lowering`. Kinds that are absent use the generic lowering.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    lowerings: ClassVar[Mapping[str, str]] = {}
    _stage: ClassVar[str]

    def __init__(self, settings: S) -> None:
        self.settings: S = settings

    @property
    def stage_settings(self) -> dict[str, Any]:
        """What a manifest holds of it beside its name, JSON-ready; `vdeploy.models.registry` reads it."""
        return self.settings.model_dump(mode="json", exclude={"name"})

    @property
    def model_name(self) -> str:
        """Name of its Triton model."""
        return stage_model(self._stage, self.name)


class Backbone(Model[B]):
    """Turns frames into features: ``frames uint8[B, T, H, W, 3]`` (RGB) to ``features float32[B, t, F]``.

    Colour order, scaling and layout are inside the graph.

    Attributes:
        granularity: ``"frame"``: features of a frame do not depend on the other frames, t = T, and sliding windows and
            streams reuse them. ``"clip"``: the frames of a clip are looked at together.
    """

    settings_type: ClassVar[type[BackboneSettings]]
    granularity: ClassVar[Granularity] = "frame"
    _stage = "extractor"

    @abc.abstractmethod
    def feature_shape(self, frames: int) -> tuple[int, int]:
        """Return the shape of a clip's features, (t, F).

        Args:
            frames: Frames of the clip, T.
        """

    @property
    def published_weights(self) -> Mapping[str, WeightsFile]:
        """Published files by the name that the settings give them."""
        return {}

    def find_weights(self, source: str | None = None) -> Weights:
        """Find the weights, and fetch published ones that are not in the cache.

        Args:
            source: Where to look; the settings' place if left out.

        Raises:
            WeightsError: They cannot be had, or are not what they claim to be.
        """
        return find_weights(source or self.settings.weights, self.published_weights)

    @abc.abstractmethod
    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network with its weights.

        Args:
            spec: The clips that it will see.
            weights: What `find_weights` returned.

        Returns:
            For granularity ``"frame"``, a model ``pixels float32[N, H, W, 3]`` to ``features float32[N, F]``; for
            ``"clip"``, ``pixels float32[B, T, H, W, 3]`` to ``features float32[B, t, F]``. Pixels are RGB, 0 to 255.

        Raises:
            WeightsError: The weights do not fit.
        """

    @property
    def blocks(self) -> tuple[str, ...]:
        """Blocks that fine-tuning can train, from the first to the last, as names that their layers begin with.

        All of a network goes through the output of each block, and every layer with weights has a fixed name.
        """
        return ()

    @property
    def residual_blocks(self) -> tuple[str, ...]:
        """Those of `blocks` that add their input to what their other layers, one behind the other, make of it."""
        return ()

    def load(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network with its weights, fine-tuned ones as well; see `build`.

        Raises:
            WeightsError: The weights do not fit.
        """
        if not weights.fine_tuned or weights.path is None:
            return self.build(spec, weights)
        network = self.build(spec, dataclasses.replace(weights, path=None))
        load_fine_tuned(network, weights.path)
        return network

    def split(self, spec: ClipSpec, weights: Weights, count: int) -> Split:
        """Build the network in two parts, the second of which is the last blocks.

        Args:
            spec: The clips that it will see.
            weights: What `find_weights` returned.
            count: How many of `blocks`.
        """
        return split_network(self.load(spec, weights), self.blocks[-count])

    def check(self, spec: ClipSpec) -> None:
        """Refuse clips that the backbone cannot take.

        Raises:
            RecipeError: The number of frames or their size does not fit.
        """

    @property
    def cache_key(self) -> str:
        """What features depend on besides the clip and the weights: the settings, as text."""
        values = self.settings.model_dump(mode="json", exclude={"name", "weights"})
        return " ".join([self.name, *(f"{key}={value}" for key, value in sorted(values.items()))])


class Head(Model[H]):
    """Turns features into class probabilities: ``features float32[B, t, F]`` to ``probabilities float32[B, 2]``.

    Its Keras model begins with the normalisation of `vdeploy.models.normalization`, if `normalized`, and ends with a
    dense layer ``logits`` and a softmax; between the two is `body`.
    """

    settings_type: ClassVar[type[HeadSettings]]
    _stage = "classifier"

    @abc.abstractmethod
    def body(self, features: Any) -> Any:
        """Add the layers between features and logits.

        Args:
            features: A Keras tensor ``[B, t, F]``, normalised if the head is `normalized`.

        Returns:
            A Keras tensor ``[B, D]``.
        """

    def build(self, shape: tuple[int, int]) -> keras.Model:
        """Build the model, named after `model_name`.

        Args:
            shape: Shape of a clip's features, (t, F).
        """
        return self._model(shape, normalizes=self.normalized)

    def training_step(self, shape: tuple[int, int], dtype: str, *, compiled: bool = False) -> TrainingStep:
        """Return how the head is computed while it is trained; a head may have a faster way than its Keras model.

        Args:
            shape: Shape of a clip's features, (t, F).
            dtype: Compute type.
            compiled: Whether XLA may compile parts of the step.
        """
        del compiled
        return KerasStep(lambda: self._model(shape, normalizes=False), dtype, normalized=self.normalized)

    @property
    def normalized(self) -> bool:
        """Whether `body` takes features that `vdeploy.models.normalization` has normalised."""
        return True

    @property
    def linear(self) -> bool:
        """Whether the layer ``logits`` holds all the weights, so that the head can be fitted exactly."""
        return False

    def _model(self, shape: tuple[int, int], *, normalizes: bool) -> keras.Model:
        keras: Any = load_keras()
        features = keras.Input(shape, name="features", dtype="float32")
        x = self.body(normalization_layer()(features) if normalizes else features)
        probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")
        return keras.Model(features, probabilities(keras.layers.Dense(2, name="logits")(x)), name=self.model_name)
