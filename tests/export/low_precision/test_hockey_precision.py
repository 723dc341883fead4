"""Real clips: what FP16 and INT8 cost a detector that was trained on them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from training.pipeline import train
from training.recipe import load_recipe
from vdeploy.core.files import cache_dir
from vdeploy.export.calibration import calibration_clips, held_out_clips
from vdeploy.export.onnx.convert import classifier_to_onnx, extractor_to_onnx
from vdeploy.export.onnx.float16 import find_wide_tensors, to_float16
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.export.quantization import CPU, HeldOut, quantize
from vdeploy.features.prediction import predict

STORE = cache_dir() / "features"


@pytest.fixture(scope="module")
def run(hockey: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run on the Hockey Fight clips; their features are looked for where a user's training keeps them."""
    recipe = load_recipe("default", ["clip.frames=8"])
    return train(hockey, tmp_path_factory.mktemp("hockey") / "run", recipe, store_root=STORE)


@pytest.fixture(scope="module")
def held_out(run) -> HeldOut:
    clips, classifier = held_out_clips(run), run.classifier()
    features = clips.features(run, run.weights(), STORE)
    return HeldOut(clips, features, lambda values: predict(classifier, values), run.info.threshold)


@pytest.fixture(scope="module")
def extractor(run):
    return extractor_to_onnx(run.extractor())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_int8_keeps_the_verdicts(run, held_out, extractor, saved):
    clips = calibration_clips(run)
    assert len(clips) == 80
    found = quantize(
        extractor, CPU, lambda: ({"frames": frames} for frames in clips.frames(1)), held_out.judge_extractor
    )
    assert found.agreement.clips == 60
    assert found.agreement.top1 >= 0.99
    assert found.agreement.reference_accuracy - found.agreement.accuracy <= 0.005
    assert found.agreement.cosine > 0.999
    assert (found.kept, inspect_onnx(saved(found.model)).precision) == ((), "int8")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_activation_of_real_frames_is_near_the_end_of_float16(run, extractor):
    frames = itertools.islice(calibration_clips(run).frames(1), None, None, 4)
    assert find_wide_tensors(extractor, ({"frames": clip} for clip in frames)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_the_classifier_keeps_the_verdicts(run, held_out, kind):
    model = classifier_to_onnx(run.classifier())
    features = calibration_clips(run).features(run, run.weights(), STORE)
    if kind == "fp16":
        agreement = held_out.judge_classifier(to_float16(model), False)
    else:
        found = quantize(model, CPU, lambda: ({"features": row[None]} for row in features), held_out.judge_classifier)
        assert found.float_only == ("lstm",)
        agreement = found.agreement
    assert agreement.is_good
    assert agreement.drift_max < 0.02
