"""TFLite at full size: real clips through a trained classifier, and every layer that features can come from."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from testing.models import build_lstm, vgg19_extractor
from vdeploy.core.files import cache_dir
from vdeploy.dataset import scan
from vdeploy.export.tflite import (
    Metadata,
    classifier_to_tflite,
    extractor_to_tflite,
    found_precision,
)
from vdeploy.features.extraction import extract_dataset, feature_key
from vdeploy.features.prediction import predict
from vdeploy.features.store import FeatureStore
from vdeploy.inference.runtimes.litert import LiteRtRuntime
from vdeploy.models.backbones.vgg19.weights import find_weights
from vdeploy.models.heads.lstm.model import LSTMSettings
from vdeploy.video.clips import ClipSpec, read_clip

pytestmark = pytest.mark.slow

METADATA = Metadata(("non-violent", "violent"), ClipSpec())


@pytest.mark.parametrize("quantized", [False, True])
def test_another_export_gives_the_same_bytes(tmp_path, quantized):
    model = build_lstm(4, 512, LSTMSettings(units=8))
    features = np.random.default_rng(0).gamma(0.5, size=(8, 4, 512)).astype(np.float32)
    for name in ("one", "other"):
        classifier_to_tflite(model, tmp_path / name, METADATA, [features] if quantized else None)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.fixture(scope="module")
def hockey_features(hockey, hockey_run):
    """Features of the training and of the validation clips."""
    store = FeatureStore(
        cache_dir() / "features", feature_key(hockey_run.spec, hockey_run.backbone, hockey_run.weights())
    )
    extraction = extract_dataset(scan(hockey), hockey_run.spec, store, hockey_run.extractor)
    return extraction.of("train").astype(np.float32), extraction.of("valid").astype(np.float32)


@pytest.mark.timeout(1200)
def test_the_int8_classifier_gives_the_verdicts_of_keras_on_real_clips(hockey_run, hockey_features, tmp_path):
    train, valid = hockey_features
    classifier = hockey_run.classifier()
    classifier_to_tflite(classifier, tmp_path / "model.tflite", METADATA, iter(train))
    assert found_precision(tmp_path / "model.tflite") == "int8"
    expected = predict(classifier, valid)
    found = LiteRtRuntime(tmp_path / "model.tflite").infer({"features": valid})["probabilities"]
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.timeout(2400)
def test_the_int8_extractor_keeps_real_features_and_verdicts(hockey, hockey_run, tmp_path):
    dataset, spec = scan(hockey), hockey_run.spec
    clips = {
        split: np.stack([read_clip(dataset.absolute(clip), spec).frames for clip in dataset.of(split)[::step]])
        for split, step in (("train", 3), ("valid", 4))
    }
    extractor = hockey_run.extractor()
    calibration = (clip[::8] for clip in clips["train"])
    extractor_to_tflite(extractor, tmp_path / "model.tflite", METADATA, calibration)
    expected = extractor.extract(clips["valid"])
    found = LiteRtRuntime(tmp_path / "model.tflite").infer({"frames": clips["valid"]})["features"]
    norms = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    assert ((expected * found).sum(-1) / norms).min() > 0.995
    answers = [predict(hockey_run.classifier(), features).argmax(1) for features in (expected, found)]
    assert (answers[0] == answers[1]).mean() >= 0.9


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("quantized", [False, True])
def test_two_averaged_blocks_convert(tmp_path, quantized):
    extractor = vgg19_extractor("avg45", find_weights("random", "avg45"), size=64)
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3)).astype(np.uint8)
    file = tmp_path / "model.tflite"
    extractor_to_tflite(extractor, file, METADATA, [frames] if quantized else None)
    assert found_precision(file) == ("int8" if quantized else "fp32")
    expected = extractor.extract(frames)
    found = LiteRtRuntime(file).infer({"frames": frames})["features"]
    assert np.abs(found - expected).max() <= (0.15 if quantized else 1e-5) * expected.max()


FC2 = """
    import json, resource, sys
    from pathlib import Path

    import numpy as np

    from vdeploy.video.clips import ClipSpec
    from testing.models import vgg19_extractor
    from vdeploy.models.backbones.vgg19.weights import find_weights
    from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
    from vdeploy.export.tflite import Metadata, extractor_to_tflite, found_precision
    from vdeploy.inference.runtimes.litert import LiteRtRuntime

    file = Path(sys.argv[1])
    extractor = vgg19_extractor("fc2", find_weights("random", "fc2"))
    frames = synthetic_frames(2, 2, 224)
    expected = extractor.extract(frames)
    extractor_to_tflite(extractor, file, Metadata(("no", "yes"), ClipSpec()), [frames])
    found = LiteRtRuntime(file).infer({"frames": frames})["features"]
    norms = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    json.dump(
        {
            "bytes": file.stat().st_size,
            "precision": found_precision(file),
            "cosine": float(((expected * found).sum(-1) / norms).min()),
            "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        },
        sys.stdout,
    )
"""


@pytest.mark.timeout(2400)
def test_fc2_converts_in_bounded_memory(tmp_path):
    """To eight bits, which takes the float model and more."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FC2), str(tmp_path / "model.tflite")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["precision"] == "int8"
    assert found["bytes"] < 150e6
    assert found["cosine"] > 0.99
    assert found["peak"] < 8e9
