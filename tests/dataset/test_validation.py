"""Looking at every clip of a data set: what cannot be used, and what is odd, is named."""

from __future__ import annotations

import pytest

from vdeploy.core.errors import DatasetError
from vdeploy.dataset.validation import inspect_dataset

BROKEN = {
    "non_violent/empty.mp4": "is empty",
    "violent/corrupt.avi": "is not a readable video",
    "violent/text.mp4": "is not a readable video",
}
SINGLE = "non_violent/single.mp4"


@pytest.fixture(scope="module")
def inspection(broken_clips_dir):
    return inspect_dataset(broken_clips_dir)


def test_files_that_cannot_be_used_are_named_with_the_reason(inspection):
    assert {problem.path: problem.reason for problem in inspection.dataset.problems} == BROKEN


def test_a_clip_of_a_single_frame_is_used_and_noted(inspection):
    notes = {note.path: note.reason for note in inspection.notes}
    assert "a single frame" in notes[SINGLE]
    assert SINGLE in {clip.path for clip in inspection.dataset.clips}


def test_good_clips_are_counted(inspection):
    assert len(inspection.dataset.clips) == 21
    counts = inspection.dataset.counts()
    assert sum(classes["violent"] for classes in counts.values()) == 10
    assert sum(classes["non_violent"] for classes in counts.values()) == 11


def test_a_good_data_set_has_no_problems(clips_dir):
    result = inspect_dataset(clips_dir)
    assert len(result.dataset.clips) == 20
    assert result.dataset.problems == ()
    assert {note.reason for note in result.notes} <= {
        f"it holds only {frames} frames for the 16 asked for, so frames are repeated" for frames in range(16)
    }


def test_the_json_says_the_same(inspection, broken_clips_dir):
    values = inspection.to_dict()
    assert values["root"] == str(broken_clips_dir)
    assert values["clips"] == 21
    assert values["classes"] == {"non-violent": "non_violent", "violent": "violent"}
    assert values["given_splits"] is False
    assert {entry["path"]: entry["reason"] for entry in values["left_out"]} == BROKEN
    assert SINGLE in {entry["path"] for entry in values["notes"]}
    assert values["counts"] == inspection.dataset.counts()


def test_without_decoding_only_what_shows_from_outside_is_found(broken_clips_dir):
    result = inspect_dataset(broken_clips_dir, decode=False)
    assert [problem.path for problem in result.dataset.problems] == ["non_violent/empty.mp4"]
    assert len(result.dataset.clips) == 23
    assert result.notes == ()


def test_strict_refuses_and_names_the_first(broken_clips_dir):
    with pytest.raises(DatasetError) as caught:
        inspect_dataset(broken_clips_dir, strict=True)
    line = str(caught.value)
    assert line.startswith("3 clips cannot be used, the first: non_violent/empty.mp4: is empty")
    assert "--strict" in line


def test_strict_takes_a_good_data_set(clips_dir):
    assert len(inspect_dataset(clips_dir, strict=True).dataset.clips) == 20
