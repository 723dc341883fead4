"""SavedModels: Keras' numbers in float32 whatever the training's policy was, free axes, and JPEG files as frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from testing.models import build_lstm
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.core.errors import BundleError, ExportError
from vdeploy.core.files import sha256_of
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.export.savedmodel.convert import (
    classifier_to_savedmodel,
    extractor_to_savedmodel,
    found_precision,
    pipeline_to_savedmodel,
)
from vdeploy.export.savedmodel.jpeg_graph import decode_jpegs
from vdeploy.features.prediction import predict
from vdeploy.inference.runtimes.tensorflow import TensorFlowRuntime
from vdeploy.models.heads.lstm.model import LSTMSettings
from vdeploy.video.pictures import resize


def some_features(clips: int, frames: int = 4, dim: int = 512) -> np.ndarray:
    return np.random.default_rng(clips).gamma(0.5, size=(clips, frames, dim)).astype(np.float32)


@pytest.fixture(scope="module")
def extractor(tiny_run):
    return tiny_run.extractor()


@pytest.fixture(scope="module")
def classifier(tiny_run):
    return tiny_run.classifier()


@pytest.fixture(scope="module")
def extractor_folder(extractor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "extractor"
    extractor_to_savedmodel(extractor, folder)
    return folder


@pytest.fixture(scope="module")
def pipeline_folder(extractor, classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    pipeline_to_savedmodel(extractor, classifier, folder)
    return folder


@pytest.mark.parametrize(("batch", "time"), [(1, 4), (3, 2), (2, 1)])
def test_the_extractor_agrees_with_keras(extractor, extractor_folder, batch, time):
    frames = synthetic_frames(batch, time, 32, seed=batch)
    expected = extractor.extract(frames)
    found = TensorFlowRuntime(extractor_folder).infer({"frames": frames})
    assert list(found) == ["features"]
    np.testing.assert_allclose(found["features"], expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_the_classifier_agrees_with_keras(tmp_path, pooling):
    model = build_lstm(4, 512, LSTMSettings(pooling=pooling))
    classifier_to_savedmodel(model, tmp_path / "model")
    runtime = TensorFlowRuntime(tmp_path / "model")
    for batch in (1, 3, 16):
        given = some_features(batch)
        found = runtime.infer({"features": given})["probabilities"]
        np.testing.assert_allclose(found, predict(model, given), rtol=0, atol=1e-6)
    assert found_precision(tmp_path / "model") == "fp32"


def test_the_policy_of_the_training_does_not_leak(tmp_path):
    keras = load_keras()
    reference = build_lstm(4, 512, LSTMSettings())
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_lstm(4, 512, LSTMSettings())
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(reference.get_weights())
    given = some_features(16)
    expected = predict(reference, given)
    assert np.abs(predict(mixed, given) - expected).max() > 1e-4
    classifier_to_savedmodel(mixed, tmp_path / "model")
    assert found_precision(tmp_path / "model") == "fp32"
    found = TensorFlowRuntime(tmp_path / "model").infer({"features": given})["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_weights_that_export_does_not_know_are_refused(tmp_path):
    keras = load_keras()
    inputs = keras.Input((4, 8), name="features")
    x = keras.layers.LayerNormalization(name="normalize")(inputs)
    model = keras.Model(inputs, keras.layers.LSTM(4, name="lstm")(x), name="lstm_classifier")
    with pytest.raises(ExportError, match="the classifier has weights in normalize that export does not know"):
        classifier_to_savedmodel(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_pipeline_is_both_stages(extractor, classifier, pipeline_folder):
    frames = synthetic_frames(3, 4, 32)
    expected = predict(classifier, extractor.extract(frames))
    runtime = TensorFlowRuntime(pipeline_folder)
    for batch in (1, 3):
        found = runtime.infer({"frames": frames[:batch]})["probabilities"]
        np.testing.assert_allclose(found, expected[:batch], rtol=0, atol=1e-5)
    assert found_precision(pipeline_folder) == "fp32"


def encode(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def decode(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.slow
def test_the_pipeline_takes_jpeg_files(pipeline_folder):
    jpegs = [[encode(frame) for frame in clip] for clip in synthetic_frames(2, 4, 32)]
    frames = np.array([[decode(jpeg) for jpeg in clip] for clip in jpegs])
    expected = TensorFlowRuntime(pipeline_folder).infer({"frames": frames})["probabilities"]
    found = TensorFlowRuntime(pipeline_folder, signature="jpeg").infer({"frames": np.array(jpegs, object)})
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-6)


def test_bytes_that_are_no_jpeg_file_are_refused(pipeline_folder):
    runtime = TensorFlowRuntime(pipeline_folder, signature="jpeg")
    with pytest.raises(BundleError, match="TensorFlow cannot run"):
        runtime.infer({"frames": np.full((1, 4), b"dear diary", object)})


@pytest.mark.parametrize("shape", [(64, 64), (120, 90), (101, 47), (20, 50), (48, 30), (720, 576)])
def test_jpeg_files_of_any_size_are_resized_as_videos_are(shape):
    height, width = shape
    image = cv2.resize(synthetic_frames(1, 1, 256)[0, 0], (width, height), interpolation=cv2.INTER_CUBIC)
    jpeg = encode(image)
    expected = decode(jpeg)
    if max(shape) > 48:
        expected = cv2.resize(expected, (min(width, 48), min(height, 48)), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(expected, (48, 48), interpolation=cv2.INTER_LINEAR)
    found = decode_jpegs(load_tensorflow().constant([jpeg]), 48).numpy()[0]
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1


@pytest.mark.parametrize("shape", [(64, 64), (120, 90), (47, 101), (20, 50), (720, 576)])
def test_jpeg_files_are_letterboxed_as_videos_are(shape):
    image = cv2.resize(synthetic_frames(1, 1, 256)[0, 0], shape[::-1], interpolation=cv2.INTER_CUBIC)
    jpeg = encode(image)
    found = decode_jpegs(load_tensorflow().constant([jpeg]), 48, "letterbox").numpy()[0]
    difference = np.abs(found.astype(int) - resize(decode(jpeg), 48, "letterbox"))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1


def test_another_export_has_the_same_weights_and_takes_the_place_of_the_first(classifier, tmp_path):
    folder = tmp_path / "model"
    hashes = []
    for _ in range(2):
        classifier_to_savedmodel(classifier, folder)
        hashes.append(sha256_of(folder / "variables" / "variables.data-00000-of-00001"))
        assert sorted(file.name for file in folder.iterdir()) == ["assets", "saved_model.pb", "variables"]
    assert hashes[0] == hashes[1]
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_one_clear_line(classifier, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"cannot write the SavedModel .*model \("):
        classifier_to_savedmodel(classifier, tmp_path / "file" / "model")


def test_a_disk_that_is_full_leaves_what_was_there(classifier, tmp_path, monkeypatch):
    tf = load_tensorflow()
    classifier_to_savedmodel(classifier, tmp_path / "model")
    before = sha256_of(tmp_path / "model" / "saved_model.pb")

    def full(_root, folder, **_):
        raise tf.errors.ResourceExhaustedError(None, None, f"{folder}; No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(ExportError, match="No space left on device"):
        classifier_to_savedmodel(classifier, tmp_path / "model")
    assert sha256_of(tmp_path / "model" / "saved_model.pb") == before
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_another_precision_is_found(tmp_path, kind):
    tf = load_tensorflow()
    root = tf.Module()
    root.kernel = tf.Variable(tf.ones((2, 2), kind))

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="features")])
    def function(features):
        return {"probabilities": tf.cast(tf.cast(features, kind) @ root.kernel, tf.float32)}

    tf.saved_model.save(root, str(tmp_path / "model"), signatures={"serving_default": function})
    assert found_precision(tmp_path / "model") == {"float16": "fp16", "bfloat16": "bf16"}[kind]


def test_float_weights_that_compute_in_half_precision_are_mixed(tmp_path):
    tf = load_tensorflow()
    root = tf.Module()
    root.kernel = tf.Variable(tf.ones((2, 2)))

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="features")])
    def function(features):
        return {"probabilities": tf.cast(features, tf.bfloat16) @ tf.cast(root.kernel, tf.bfloat16)}

    tf.saved_model.save(root, str(tmp_path / "model"), signatures={"serving_default": function})
    assert found_precision(tmp_path / "model") == "mixed (variables DT_FLOAT, operators DT_BFLOAT16)"


def test_a_folder_that_is_no_savedmodel_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"dear diary, this is no model")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="holds no SavedModel"):
            found_precision(folder)
