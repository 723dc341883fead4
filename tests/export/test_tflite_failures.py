"""TFLite exports that cannot be made: no data, wrong data, a converter that dies, a place that cannot be written."""

from __future__ import annotations

import numpy as np
import pytest

from testing.models import build_lstm
from vdeploy.core.errors import ExportError
from vdeploy.export.tflite import (
    Metadata,
    classifier_to_tflite,
    conversion,
    extractor_to_tflite,
)
from vdeploy.models.heads.lstm.model import LSTMSettings
from vdeploy.video.clips import ClipSpec

SIZE, FRAMES, DIM = 32, 4, 512
METADATA = Metadata(("non-violent", "violent"), ClipSpec(frames=FRAMES, size=SIZE))


@pytest.fixture(scope="module")
def classifier():
    return build_lstm(FRAMES, DIM, LSTMSettings(units=8))


@pytest.fixture(scope="module")
def extractor(tiny_run):
    return tiny_run.extractor()


def test_quantization_without_data_is_refused(classifier, extractor, tmp_path):
    (tmp_path / "model.tflite").write_text("the old file")
    for write, model in ((classifier_to_tflite, classifier), (extractor_to_tflite, extractor)):
        with pytest.raises(ExportError, match="INT8 quantization has no calibration data"):
            write(model, tmp_path / "model.tflite", METADATA, iter(()))
    assert [file.read_text() for file in tmp_path.iterdir()] == ["the old file"]


def test_calibration_data_of_another_shape_are_refused(classifier, extractor, tmp_path):
    wrong = [np.zeros((1, 3, DIM), np.float32)]
    with pytest.raises(ExportError, match=r"calibration data has shape \[1, 3, 512\], not \[\.\.\., 4, 512\]"):
        classifier_to_tflite(classifier, tmp_path / "model.tflite", METADATA, wrong)
    wrong = [np.zeros((4, 48, 48, 3), np.uint8)]
    with pytest.raises(ExportError, match=r"not \[\.\.\., 32, 32, 3\]"):
        extractor_to_tflite(extractor, tmp_path / "model.tflite", METADATA, wrong)
    assert not list(tmp_path.iterdir())


def test_calibration_data_that_are_no_numbers_are_refused(classifier, tmp_path):
    wrong = [np.full((1, FRAMES, DIM), np.nan, np.float32)]
    with pytest.raises(ExportError, match="calibration data holds NaN or infinity"):
        classifier_to_tflite(classifier, tmp_path / "model.tflite", METADATA, wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("import os; os.kill(os.getpid(), 9)", "was killed"),
        (
            "import pathlib, sys; pathlib.Path(sys.argv[1], 'model.tflite').touch(); sys.exit(3)",
            r"failed \(exit code 3\)",
        ),
        ("raise ValueError('no such operator')", r"failed \(ValueError: no such operator\)"),
        ("pass", "wrote nothing"),
    ],
)
def test_a_converter_that_dies_is_one_clear_line(classifier, tmp_path, monkeypatch, script, words):
    out, dying = tmp_path / "out" / "model.tflite", tmp_path / "child.py"
    out.parent.mkdir()
    out.write_text("the old file")
    dying.write_text(script)
    monkeypatch.setattr(conversion, "_CHILD", dying)
    with pytest.raises(ExportError, match=f"the TFLite converter {words}; ") as caught:
        classifier_to_tflite(classifier, out, METADATA)
    assert "\n" not in str(caught.value)
    assert [file.read_text() for file in out.parent.iterdir()] == ["the old file"]


@pytest.mark.slow
def test_a_graph_that_needs_other_operators_than_builtin_ones_is_refused(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="features")])
    def function(features):
        return {"probabilities": tf.math.erfinv(features)}

    with pytest.raises(ExportError, match=r"^TFLite has no operator tf\.Erfinv; export another format"):
        conversion.convert(tmp_path, function, [], "float32")


def test_a_place_that_cannot_be_written_is_one_clear_line(classifier, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"cannot write .*model\.tflite \("):
        classifier_to_tflite(classifier, tmp_path / "file" / "model.tflite", METADATA)
