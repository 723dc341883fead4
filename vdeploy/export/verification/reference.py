"""The reference of every export: the run's Keras models in float32, whatever precision it was trained in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdeploy.artifacts.bundle.manifest import Stage, TensorSpec
from vdeploy.artifacts.run import Run
from vdeploy.core.lazy_imports import load_keras
from vdeploy.export.memory import give_back
from vdeploy.features.prediction import predict
from vdeploy.models.dtype_policy import dtype_policy
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt

    from vdeploy.models.extractor import FeatureExtractor

__all__ = ["Reference", "in_float32"]


class Reference:
    """Both stages of a run in Keras.

    Args:
        run: The run.
        weights: The backbone's weights.

    Attributes:
        run: The run.
        weights: The backbone's weights.
        spec: The frames of a clip.
        classifier: The classifier, rebuilt under a float32 policy with the run's weights.
        tensors: Input and output of each stage; the buffers of a streaming form come besides.
    """

    def __init__(self, run: Run, weights: Weights) -> None:
        self.run = run
        self.weights = weights
        self.spec: ClipSpec = run.spec
        self._extractor: FeatureExtractor | None = None
        self.classifier: keras.Model = in_float32(run.classifier())
        self.tensors: dict[Stage, tuple[TensorSpec, TensorSpec]] = _tensors(self.spec, run)

    @property
    def extractor(self) -> FeatureExtractor:
        """The backbone; loaded when it is asked for and kept until `release_extractor`."""
        if self._extractor is None:
            with dtype_policy("float32"):
                self._extractor = self.run.extractor(self.weights)
        return self._extractor

    def release_extractor(self) -> None:
        """Frees the memory of the backbone until it is asked for again."""
        was_loaded, self._extractor = self._extractor is not None, None
        give_back(circles=was_loaded)

    def compute(self, stage: Stage, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Runs a stage, or both.

        Args:
            stage: The stage; ``"pipeline"`` for both.
            inputs: ``uint8[B, T, H, W, 3]`` frames, for the classifier ``float32[B, T, F]`` features.

        Returns:
            ``float32[B, T, F]`` features of the extractor, else ``float32[B, 2]`` probabilities.
        """
        if stage == "extractor":
            return self.extractor.extract(inputs)
        features = inputs if stage == "classifier" else self.extractor.extract(inputs)
        return predict(self.classifier, features)


def in_float32(model: keras.Model) -> keras.Model:
    """The same model, every layer of which computes in float32.

    A layer brings the policy along that it was trained under; TensorFlow's converters then see casts where the LSTM
    kernel was, and half the precision.
    """
    keras: Any = load_keras()
    twin = keras.Model.from_config(_with_float32(model.get_config()))
    twin.set_weights(model.get_weights())
    return twin


def _with_float32(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: "float32" if key == "dtype" else _with_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float32(value) for value in config)
    return config


def _tensors(spec: ClipSpec, run: Run) -> dict[Stage, tuple[TensorSpec, TensorSpec]]:
    pixels = (spec.size, spec.size, 3)
    steps, dim = run.feature_shape
    by_frame = run.backbone.granularity == "frame"
    frames = TensorSpec(name="frames", dtype="uint8", shape=("batch", "time" if by_frame else spec.frames, *pixels))
    features = TensorSpec(name="features", dtype="float32", shape=("batch", "time" if by_frame else steps, dim))
    clips = TensorSpec(name="frames", dtype="uint8", shape=("batch", spec.frames, *pixels))
    probabilities = TensorSpec(name="probabilities", dtype="float32", shape=("batch", 2))
    return {
        "extractor": (frames, features),
        "classifier": (
            TensorSpec(name="features", dtype="float32", shape=("batch", steps, dim)),
            probabilities,
        ),
        "pipeline": (clips, probabilities),
        "stream": (
            TensorSpec(name="frames", dtype="uint8", shape=(1, "time", *pixels)),
            TensorSpec(name="features", dtype="float32", shape=(1, "time", dim)),
        ),
    }
