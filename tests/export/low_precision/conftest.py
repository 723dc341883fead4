"""Both stages of the tiny run as float ONNX graphs, what they compute on clips, and how to run a changed graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.export.calibration import calibration_clips
from vdeploy.export.onnx.activations import observe
from vdeploy.export.onnx.convert import classifier_to_onnx, extractor_to_onnx
from vdeploy.export.onnx.file import write_onnx
from vdeploy.export.quantization import SATURATING_CPU, Flavour
from vdeploy.export.quantization.saturation import sums_saturate
from vdeploy.features.prediction import predict

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.artifacts.run import Run


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage in float ONNX; read only.

    Attributes:
        name: Of the stage.
        model: The graph.
        source: Name of its input.
        target: Name of its output.
        inputs: Of three clips.
        expected: What Keras gives for them.
        calibration: Inputs of the training clips.
    """

    name: str
    model: onnx.ModelProto
    source: str
    target: str
    inputs: npt.NDArray[np.generic]
    expected: npt.NDArray[np.float32]
    calibration: list[npt.NDArray[np.generic]]

    def feeds(self) -> list[dict[str, npt.NDArray[np.generic]]]:
        return [{self.source: values} for values in self.calibration]

    def run(self, model: onnx.ModelProto) -> npt.NDArray[np.float32]:
        return next(observe(model, [self.target], [{self.source: self.inputs}]))[self.target]

    def relative_error(self, model: onnx.ModelProto) -> float:
        actual = self.run(model)
        assert actual.dtype == np.float32
        return float(np.abs(actual - self.expected).max() / np.abs(self.expected).max())


@pytest.fixture(scope="session")
def extractor_stage(tiny_run) -> Stage:
    return _extractor_stage(tiny_run)


@pytest.fixture(scope="session")
def narrow_stage(narrow_run) -> Stage:
    """An extractor with an eighth of the channels, for what runs all clips several times."""
    return _extractor_stage(narrow_run)


def _extractor_stage(run: Run) -> Stage:
    extractor = run.extractor()
    frames = synthetic_frames(3, 4, 32)
    clips = list(calibration_clips(run).frames())
    return Stage(
        "extractor", extractor_to_onnx(extractor), "frames", "features", frames, extractor.extract(frames), clips
    )


@pytest.fixture(scope="session")
def classifier_stage(tiny_run, extractor_stage) -> Stage:
    classifier = tiny_run.classifier()
    features = extractor_stage.expected
    calibration = [tiny_run.extractor().extract(frames) for frames in extractor_stage.calibration[:4]]
    return Stage(
        "classifier",
        classifier_to_onnx(classifier),
        "features",
        "probabilities",
        features,
        predict(classifier, features),
        calibration,
    )


@pytest.fixture(params=["extractor", "classifier"])
def stage(request) -> Stage:
    return request.getfixturevalue(f"{request.param}_stage")


@pytest.fixture
def saved(tmp_path) -> Callable[[onnx.ModelProto], object]:
    def save(model: onnx.ModelProto) -> object:
        write_onnx(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return save


def skip_where_sums_are_cut_off(flavour: Flavour) -> None:
    """Skips a test whose model has 8-bit weights where this CPU cuts off sums of their products."""
    if flavour is not SATURATING_CPU and sums_saturate():
        pytest.skip("this CPU cuts off sums of 8-bit products")


@pytest.fixture
def computed_here(flavour: Flavour) -> None:
    skip_where_sums_are_cut_off(flavour)


@pytest.fixture
def unchanged():
    """Fails a test that changes a model which others read."""
    watched = []

    def watch(model: onnx.ModelProto) -> onnx.ModelProto:
        watched.append((model, model.SerializeToString(deterministic=True)))
        return model

    yield watch
    assert all(model.SerializeToString(deterministic=True) == before for model, before in watched)
