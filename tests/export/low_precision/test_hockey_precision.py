"""Real clips: what FP16 and INT8 cost a detector that was trained on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pytest

from vdeploy.core.files import cache_dir
from vdeploy.export.calibration import ClipSet, calibration_clips, held_out_clips
from vdeploy.export.onnx.convert import classifier_to_onnx, extractor_to_onnx
from vdeploy.export.onnx.float16 import find_wide_tensors, to_float16
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.export.quantization import HeldOut, cpu_flavour, quantize
from vdeploy.features.prediction import predict

STORE = cache_dir() / "features"


@pytest.fixture(scope="module")
def held_out(hockey_run) -> HeldOut:
    clips, classifier = held_out_clips(hockey_run), hockey_run.classifier()
    features = clips.features(hockey_run, hockey_run.weights(), STORE)
    return HeldOut(clips, features, lambda values: predict(classifier, values), hockey_run.info.threshold)


@pytest.fixture(scope="module")
def extractor(hockey_run):
    return extractor_to_onnx(hockey_run.extractor())


def every_fourth(clips: ClipSet) -> Iterator[Mapping[str, npt.NDArray[np.uint8]]]:
    """Of some clips, the input of an extractor."""
    return ({"frames": frames} for frames in itertools.islice(clips.frames(1), None, None, 4))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_int8_keeps_the_verdicts(hockey_run, held_out, extractor, saved):
    clips = calibration_clips(hockey_run)
    assert len(clips) == 60
    found = quantize(extractor, cpu_flavour(), lambda: every_fourth(clips), held_out.judge_extractor)
    assert found.agreement.clips == 40
    assert found.agreement.top1 >= 0.99
    assert found.agreement.reference_accuracy - found.agreement.accuracy <= 0.005
    assert found.agreement.cosine > 0.999
    assert (found.kept, inspect_onnx(saved(found.model)).precision) == ((), "int8")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_activation_of_real_frames_is_near_the_end_of_float16(hockey_run, extractor):
    assert find_wide_tensors(extractor, every_fourth(calibration_clips(hockey_run))) == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_the_classifier_keeps_the_verdicts(hockey_run, held_out, kind):
    model = classifier_to_onnx(hockey_run.classifier())
    features = calibration_clips(hockey_run).features(hockey_run, hockey_run.weights(), STORE)
    if kind == "fp16":
        agreement = held_out.judge_classifier(to_float16(model), False)
    else:
        found = quantize(
            model, cpu_flavour(), lambda: ({"features": row[None]} for row in features), held_out.judge_classifier
        )
        assert found.float_only == ("lstm",)
        agreement = found.agreement
    assert agreement.is_good
    assert agreement.drift_max < 0.02
