"""TFLite: Keras' numbers in float32, full-integer INT8 from real inputs only, and a converter that may crash."""

from __future__ import annotations

import numpy as np
import pytest

from training.classifier import build_classifier
from training.clips import ClipSpec
from training.recipe import ModelSection
from training.trainer import predict
from vdeploy.errors import ExportError
from vdeploy.export.parity import synthetic_frames
from vdeploy.export.tflite import (
    Metadata,
    Quantization,
    classifier_to_tflite,
    conversion,
    extractor_to_tflite,
    found_precision,
    read_metadata,
)
from vdeploy.export.tflite.flatbuffer import load_schema, open_model
from vdeploy.runtimes.litert import LiteRtRuntime

SIZE, FRAMES, DIM = 32, 4, 512
METADATA = Metadata(("non-violent", "violent"), ClipSpec(frames=FRAMES, size=SIZE))


def some_features(clips: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.5, size=(clips, FRAMES, DIM)).astype(np.float32)


def tensors(path) -> dict[str, tuple[str, tuple[int, ...], float, int]]:
    """Type, shape, scale and zero point of the inputs and outputs."""
    details = LiteRtRuntime(path)._runner
    found = {**details.get_input_details(), **details.get_output_details()}
    return {
        name: (np.dtype(value["dtype"]).name, tuple(map(int, value["shape"])), *value["quantization"])
        for name, value in found.items()
    }


def operators(path) -> set[str]:
    names = {number: name for name, number in vars(load_schema().BuiltinOperator).items() if isinstance(number, int)}
    model = open_model(path)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    return {names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes}


@pytest.fixture(scope="module")
def classifier():
    return build_classifier(FRAMES, DIM, ModelSection(pooling="mean", units=32))


@pytest.fixture(scope="module")
def extractor(tiny_run):
    return tiny_run.extractor()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tflite")


@pytest.fixture(scope="module")
def classifier_fp32(classifier, folder):
    classifier_to_tflite(classifier, folder / "classifier-fp32.tflite", METADATA)
    return folder / "classifier-fp32.tflite"


@pytest.fixture(scope="module")
def classifier_int8(classifier, folder):
    calibration = (some_features(4, seed) for seed in range(10))
    path = folder / "classifier-int8.tflite"
    classifier_to_tflite(classifier, path, METADATA, Quantization(calibration, io="int8"))
    return path


@pytest.fixture(scope="module")
def extractor_fp32(extractor, folder):
    extractor_to_tflite(extractor, folder / "extractor-fp32.tflite", METADATA)
    return folder / "extractor-fp32.tflite"


@pytest.fixture(scope="module")
def extractor_int8(extractor, folder):
    calibration = iter(synthetic_frames(8, FRAMES, SIZE) // 2)
    extractor_to_tflite(extractor, folder / "extractor-int8.tflite", METADATA, Quantization(calibration))
    return folder / "extractor-int8.tflite"


@pytest.mark.parametrize("batch", [1, 3])
def test_the_classifier_agrees_with_keras(classifier, classifier_fp32, batch):
    found = LiteRtRuntime(classifier_fp32).infer({"features": some_features(batch)})["probabilities"]
    np.testing.assert_allclose(found, predict(classifier, some_features(batch)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("batch", "time"), [(1, 4), (3, 2)])
def test_the_extractor_agrees_with_keras(extractor, extractor_fp32, batch, time):
    frames = synthetic_frames(batch, time, SIZE)
    expected = extractor.extract(frames)
    found = LiteRtRuntime(extractor_fp32).infer({"frames": frames})["features"]
    assert found.shape == (batch, time, DIM)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


def test_the_int8_classifier_agrees_with_keras(classifier, classifier_int8):
    given = some_features(64, seed=99)
    expected = predict(classifier, given)
    found = LiteRtRuntime(classifier_int8).infer({"features": given})["probabilities"]
    assert np.abs(found - expected).max() < 0.05


def test_the_int8_extractor_agrees_with_keras(extractor, extractor_int8):
    frames = synthetic_frames(3, FRAMES, SIZE, seed=7) // 2
    expected = extractor.extract(frames).reshape(-1, DIM)
    found = LiteRtRuntime(extractor_int8).infer({"frames": frames})["features"].reshape(-1, DIM)
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.99


def test_precision_is_what_the_file_computes_in(classifier_fp32, classifier_int8, extractor_fp32, extractor_int8):
    assert [found_precision(path) for path in (classifier_fp32, extractor_fp32)] == ["fp32", "fp32"]
    assert [found_precision(path) for path in (classifier_int8, extractor_int8)] == ["int8", "int8"]
    assert classifier_int8.stat().st_size < 0.4 * classifier_fp32.stat().st_size
    assert extractor_int8.stat().st_size < 0.3 * extractor_fp32.stat().st_size


def test_types_are_those_that_were_asked_for(classifier_fp32, classifier_int8, extractor_fp32, extractor_int8):
    assert tensors(classifier_fp32) == {
        "features": ("float32", (1, FRAMES, DIM), 0.0, 0),
        "probabilities": ("float32", (1, 2), 0.0, 0),
    }
    assert tensors(extractor_fp32)["frames"] == ("uint8", (1, 1, SIZE, SIZE, 3), 0.0, 0)
    assert [kind for kind, *_ in tensors(classifier_int8).values()] == ["int8", "int8"]
    assert tensors(extractor_int8)["features"] == ("float32", (1, 1, DIM), 0.0, 0)


def test_the_int8_extractor_takes_the_bytes_themselves_even_if_calibrated_on_dark_frames(extractor_int8):
    assert tensors(extractor_int8)["frames"] == ("uint8", (1, 1, SIZE, SIZE, 3), 1.0, 0)


def test_no_loop_and_no_operator_of_tensorflow(classifier_fp32, classifier_int8, extractor_fp32, extractor_int8):
    paths = (classifier_fp32, classifier_int8, extractor_fp32, extractor_int8)
    assert not {"WHILE", "IF", "CALL", "CUSTOM"} & set.union(*map(operators, paths))
    assert {open_model(path).SubgraphsLength() for path in paths} == {1}


def test_the_metadata_are_inside(classifier_fp32, extractor_int8):
    assert read_metadata(classifier_fp32) == read_metadata(extractor_int8) == METADATA


def test_nothing_else_is_left_in_the_folder(classifier_fp32, classifier_int8, extractor_fp32, extractor_int8, folder):
    assert len(list(folder.iterdir())) == 4


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [False, True])
def test_another_export_gives_the_same_bytes(classifier, tmp_path, quantized):
    for name in ("one", "other"):
        quantization = Quantization([some_features(8)]) if quantized else None
        classifier_to_tflite(classifier, tmp_path / name, METADATA, quantization)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_quantization_without_data_is_refused(classifier, extractor, tmp_path):
    (tmp_path / "model.tflite").write_text("the old file")
    for write, model in ((classifier_to_tflite, classifier), (extractor_to_tflite, extractor)):
        with pytest.raises(ExportError, match="INT8 quantization has no calibration data"):
            write(model, tmp_path / "model.tflite", METADATA, Quantization(iter(())))
    assert [file.read_text() for file in tmp_path.iterdir()] == ["the old file"]


def test_calibration_data_of_another_shape_are_refused(classifier, extractor, tmp_path):
    with pytest.raises(ExportError, match=r"calibration data has shape \[1, 3, 512\], not \[\.\.\., 4, 512\]"):
        wrong = Quantization([np.zeros((1, 3, DIM), np.float32)])
        classifier_to_tflite(classifier, tmp_path / "model.tflite", METADATA, wrong)
    with pytest.raises(ExportError, match=r"not \[\.\.\., 32, 32, 3\]"):
        wrong = Quantization([np.zeros((4, 48, 48, 3), np.uint8)])
        extractor_to_tflite(extractor, tmp_path / "model.tflite", METADATA, wrong)
    assert not list(tmp_path.iterdir())


def test_calibration_data_that_are_no_numbers_are_refused(classifier, tmp_path):
    with pytest.raises(ExportError, match="calibration data holds NaN or infinity"):
        wrong = Quantization([np.full((1, FRAMES, DIM), np.nan, np.float32)])
        classifier_to_tflite(classifier, tmp_path / "model.tflite", METADATA, wrong)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("import os; os.kill(os.getpid(), 9)", r"crashed \(SIGKILL\)"),
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


def test_a_graph_that_needs_other_operators_than_builtin_ones_is_refused(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="features")])
    def function(features):
        return {"probabilities": tf.math.erfinv(features)}

    with pytest.raises(ExportError, match=r"the TFLite converter failed \(.*Erfinv"):
        conversion.convert(tmp_path, function, [])


def test_a_place_that_cannot_be_written_is_one_clear_line(classifier, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"cannot write .*model\.tflite \("):
        classifier_to_tflite(classifier, tmp_path / "file" / "model.tflite", METADATA)
