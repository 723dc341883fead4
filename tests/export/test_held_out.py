"""Verdicts on held-out clips: what is counted, and from where on an artifact is refused."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.artifacts.bundle import HeldOut
from vdeploy.core.errors import ParityError
from vdeploy.export.verification.held_out import HeldOutClips, check_verdicts, find_clips
from vdeploy.export.verification.reference import Reference
from vdeploy.formats import FORMATS

KIND = FORMATS["onnx-int8"]


@pytest.fixture(scope="module")
def held_out(tiny_run, tmp_path_factory):
    reference = Reference(tiny_run, tiny_run.weights())
    return HeldOutClips(find_clips(tiny_run, None), reference, tmp_path_factory.mktemp("store"), None)


def verdicts(clips: int, *, flips: int = 0, lost: int = 0) -> HeldOut:
    return HeldOut(
        split="test",
        clips=clips,
        threshold=0.5,
        agreement=1 - flips / clips,
        drift_mean=0,
        drift_p99=0,
        drift_max=0,
        accuracy=0.9 - lost / clips,
        accuracy_interval=(0.8, 1),
        reference_accuracy=0.9,
        roc_auc=None,
        roc_auc_interval=None,
        reference_roc_auc=None,
        probabilities=(),
        reference=(),
    )


def test_the_reference_agrees_with_itself(held_out):
    found = held_out.judge(held_out.probabilities)
    assert (found.agreement, found.drift_max, found.clips) == (1, 0, len(held_out))
    assert found.accuracy == found.reference_accuracy
    assert found.roc_auc == found.reference_roc_auc
    assert found.accuracy_interval[0] <= found.accuracy <= found.accuracy_interval[1]


def test_a_flipped_verdict_is_counted(held_out):
    flipped = held_out.probabilities.copy()
    flipped[0] = 1 - flipped[0] if abs(flipped[0] - 0.5) > 0.1 else float(flipped[0] < held_out.threshold)
    found = held_out.judge(flipped)
    assert found.agreement == pytest.approx(1 - 1 / len(held_out))
    assert found.drift_max == pytest.approx(abs(flipped[0] - held_out.probabilities[0]), abs=1e-6)
    assert found.probabilities[1:] == found.reference[1:]


@pytest.mark.slow
def test_classes_alternate_so_that_few_clips_are_a_fair_choice(held_out):
    shorter = min(np.bincount(held_out.labels, minlength=2))
    assert shorter > 0
    assert (held_out.labels[: 2 * shorter].reshape(-1, 2) == [0, 1]).all()


def test_frames_are_those_of_the_features(held_out, tiny_run):
    frames = np.stack(list(held_out.frames(2)))
    assert frames.shape == (2, 4, 32, 32, 3)
    features = tiny_run.extractor().extract(frames)
    np.testing.assert_allclose(features, held_out.features[:2], rtol=2e-3, atol=1e-3 * features.max())


@pytest.mark.parametrize(("clips", "flips"), [(100, 1), (400, 4), (8, 1), (99, 1)])
def test_a_flip_in_a_hundred_is_let_pass(clips, flips):
    check_verdicts(KIND, "the whole", verdicts(clips, flips=flips))


@pytest.mark.parametrize(("clips", "flips"), [(100, 2), (400, 5), (8, 2), (99, 2)])
def test_more_flips_are_refused(clips, flips):
    with pytest.raises(
        ParityError, match=f"the whole gives {flips} of {clips} held-out clips another verdict"
    ) as caught:
        check_verdicts(KIND, "the whole", verdicts(clips, flips=flips))
    assert caught.value.evidence["held_out"]["clips"] == clips


@pytest.mark.parametrize(("clips", "lost"), [(100, 0), (200, 1), (8, 1)])
def test_half_a_point_of_accuracy_may_be_lost(clips, lost):
    check_verdicts(KIND, "the whole", verdicts(clips, lost=lost))


@pytest.mark.parametrize(("clips", "lost"), [(100, 1), (200, 2), (8, 2)])
def test_more_accuracy_may_not_be_lost(clips, lost):
    with pytest.raises(ParityError, match=r"the extractor has accuracy .* 0\.5% may be lost"):
        check_verdicts(KIND, "the extractor", verdicts(clips, lost=lost))
