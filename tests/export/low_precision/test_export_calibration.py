"""Calibration clips are the run's own: stratified, seeded, unchanged, or refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from vdeploy.artifacts.run import CLIPS, Run
from vdeploy.core.errors import ExportError
from vdeploy.dataset import Dataset
from vdeploy.export.calibration import CALIBRATION_CLIPS, calibration_clips, held_out_clips


@pytest.fixture
def moved(tiny_run, clips_dir, tmp_path) -> tuple[Run, Path]:
    """The run, whose clips are no longer where they were, and where they are now."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(clips_dir, folder)
    return dataclasses.replace(tiny_run, info=dataclasses.replace(tiny_run.info, source=str(tmp_path / "gone"))), folder


def test_all_training_clips_where_they_are_few(tiny_run):
    found = calibration_clips(tiny_run)
    expected = Dataset.read_csv(tiny_run.root / CLIPS).of("train")
    assert 0 < len(found) == len(expected) < CALIBRATION_CLIPS
    assert found.hashes == {clip.path: clip.sha256 for clip in expected}
    assert found.labels.tolist() == [clip.label for clip in expected]


def test_held_out_clips_are_the_validation_split(tiny_run):
    found = held_out_clips(tiny_run)
    assert len(found) > 0
    assert {clip.split for clip in found.dataset.clips} == {"valid"}
    assert not set(found.hashes) & set(calibration_clips(tiny_run).hashes)


def test_a_choice_is_stratified_seeded_and_without_repetition(tiny_run):
    chosen = calibration_clips(tiny_run, count=6)
    assert len(set(chosen.hashes)) == 6
    assert chosen.labels.sum() == 3
    assert chosen.hashes == calibration_clips(tiny_run, count=6).hashes
    assert any(chosen.hashes != calibration_clips(tiny_run, count=6, seed=seed).hashes for seed in (1, 2, 3))


def test_frames_are_those_of_the_clip_spec(tiny_run):
    clips = calibration_clips(tiny_run, count=2)
    whole = list(clips.frames())
    assert [(frames.shape, frames.dtype) for frames in whole] == [((1, 4, 32, 32, 3), np.uint8)] * 2
    for frames, some in zip(whole, clips.frames(2), strict=True):
        np.testing.assert_array_equal(some, frames[:, [1, 3]])


def test_frames_are_decoded_only_as_they_are_taken(tiny_run):
    frames = calibration_clips(tiny_run).frames(1)
    assert next(frames).shape == (1, 1, 32, 32, 3)
    frames.close()


@pytest.mark.slow
def test_features_are_those_of_the_store(tiny_run, tmp_path):
    clips = calibration_clips(tiny_run, count=2)
    weights = tiny_run.weights()
    extracted = clips.features(tiny_run, weights, tmp_path)
    assert (extracted.shape, extracted.dtype) == ((2, 4, 512), np.float32)
    direct = np.concatenate([tiny_run.extractor(weights).extract(frames) for frames in clips.frames()])
    np.testing.assert_allclose(extracted, direct, rtol=2e-3, atol=1e-4)
    np.testing.assert_array_equal(clips.features(tiny_run, weights, tmp_path), extracted)


def test_clips_that_have_moved_are_found_where_the_user_says(moved):
    run, folder = moved
    assert len(calibration_clips(run, data=folder)) == len(calibration_clips(run, data=folder, count=1000))


@pytest.mark.parametrize("choose", [calibration_clips, held_out_clips])
def test_a_source_that_is_gone_is_refused(moved, choose):
    run, _ = moved
    with pytest.raises(ExportError, match=r"the clips of .*/run are not at .*/gone; .*--data DIR"):
        choose(run)


def test_a_missing_clip_is_named(moved):
    run, folder = moved
    clip = calibration_clips(run, data=folder).dataset.clips[0]
    (folder / clip.path).unlink()
    with pytest.raises(ExportError, match=rf"the clip .*{clip.path} of .* is missing; .*--data DIR"):
        calibration_clips(run, data=folder)


def test_a_clip_that_has_changed_is_named(moved):
    run, folder = moved
    clip = held_out_clips(run, data=folder).dataset.clips[0]
    with (folder / clip.path).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ExportError, match=rf"{clip.path} is not the clip that .* was trained with"):
        held_out_clips(run, data=folder)


def test_a_clip_that_cannot_be_decoded_any_more_is_named(moved):
    run, folder = moved
    clips = calibration_clips(run, data=folder)
    (folder / clips.dataset.clips[0].path).write_text("no video")
    with pytest.raises(ExportError, match=r"the clip .*; .*--data DIR"):
        list(clips.frames())
