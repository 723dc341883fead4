"""Synthetic clips: seeded, gone on with, and labelled by nothing but how the people move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vdeploy.core.errors import DatasetError
from vdeploy.synthetic import CLASS_FOLDERS, MANIFEST, synthesize
from vdeploy.synthetic.clip import choreograph, frames_of
from vdeploy.synthetic.figure import skeleton
from vdeploy.synthetic.poses import Pose, gait, in_between

SMALL: dict[str, Any] = {"size": (96, 72), "fps": 12.5}
STAGE: dict[str, Any] = {"fps": 25.0, "reach": 0.8}


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.mp4")}


def frames(index: int, *, is_violent: bool, seed: int = 7) -> np.ndarray:
    return np.array(list(frames_of(seed, index, is_violent=is_violent, **SMALL)))


def separation(violent: np.ndarray, calm: np.ndarray) -> float:
    """Area under the ROC curve: 0.5 tells nothing, 1 tells everything."""
    return float((violent[:, None] > calm).mean() + 0.5 * (violent[:, None] == calm).mean())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synth") / "clips"
    synthesize(root, clips=4, seed=3, workers=2, **SMALL)
    return root


def test_names_folders_and_numbers(tmp_path: Path) -> None:
    paths = synthesize(tmp_path, clips=5, violent_share=0.4, **SMALL)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "non_violent/non_violent_0000.mp4",
        "violent/violent_0001.mp4",
        "non_violent/non_violent_0002.mp4",
        "violent/violent_0003.mp4",
        "non_violent/non_violent_0004.mp4",
    ]
    assert sorted(contents(tmp_path)) == sorted(path.relative_to(tmp_path).as_posix() for path in paths)


def test_default_clips_are_about_two_seconds_of_320_by_240_video(tmp_path: Path) -> None:
    lengths = []
    for path in synthesize(tmp_path, clips=2):
        capture = cv2.VideoCapture(str(path))
        assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (320, 240)
        assert capture.get(cv2.CAP_PROP_FPS) == 25
        decoded = []
        while (answer := capture.read())[0]:
            decoded.append(answer[1])
        lengths.append(len(decoded))
        assert float(np.std(decoded)) > 15, "the picture is all but uniform"
    assert all(40 <= length <= 60 for length in lengths)


def test_clips_are_the_same_bytes_whatever_the_workers_and_the_number_of_clips(made: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "a", clips=4, seed=3, workers=1, **SMALL)
    alone = contents(tmp_path / "a")
    assert alone == contents(made)
    synthesize(tmp_path / "b", clips=2, seed=3, **SMALL)
    fewer = contents(tmp_path / "b")
    assert len(fewer) == 2
    assert fewer.items() <= alone.items()
    assert len(set(alone.values())) == 4


def test_another_seed_gives_other_clips(made: Path, tmp_path: Path) -> None:
    synthesize(tmp_path, clips=2, seed=4, **SMALL)
    assert not set(contents(tmp_path).values()) & set(contents(made).values())


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    class PulledPlug(BaseException):
        """What a killed process looks like from the inside."""

    def pull() -> None:
        raise PulledPlug

    with pytest.raises(PulledPlug):
        synthesize(tmp_path, clips=4, seed=3, workers=1, on_clip=pull, **SMALL)
    begun = contents(tmp_path)
    assert 0 < len(begun) < 4
    (tmp_path / "violent" / ".violent_0002.mp4.x.tmp").write_bytes(b"half a clip")
    stamps = {name: (tmp_path / name).stat().st_mtime_ns for name in begun}

    calls: list[None] = []
    paths = synthesize(tmp_path, clips=4, seed=3, on_clip=lambda: calls.append(None), **SMALL)

    assert len(calls) == len(paths) == len(contents(tmp_path)) == 4
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in begun} == stamps


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"clips": 1}, "cannot make 1 clips; ask for at least 2"),
        ({"seed": -1}, "cannot use the seed -1"),
        ({"violent_share": 0.0}, "a share of 0 of the clips"),
        ({"violent_share": 1.0}, "a share of 1 of the clips"),
        ({"violent_share": float("nan")}, "a share of nan of the clips"),
        ({"clips": 3, "violent_share": 0.05}, "leaves one class without any"),
        ({"size": (321, 240)}, "321x240 pixels"),
        ({"size": (320, 32)}, "320x32 pixels"),
        ({"fps": 0.0}, "0 frames a second"),
        ({"workers": -2}, "cannot draw -2 clips at a time"),
    ],
)
def test_refuses_what_it_cannot_make(tmp_path: Path, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        synthesize(tmp_path / "clips", **arguments)
    assert not (tmp_path / "clips").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 4}, "was made with seed 3, not 4"),
        ({"clips": 6}, "was made with clips 4, not 6"),
        ({"size": (128, 96)}, r"was made with size \[96, 72\], not \[128, 96\]"),
    ],
)
def test_refuses_a_folder_made_with_other_parameters(made: Path, changed: dict[str, Any], told: str) -> None:
    before = contents(made)
    with pytest.raises(DatasetError, match=told):
        synthesize(made, **{"clips": 4, "seed": 3, **SMALL, **changed})
    assert contents(made) == before


def test_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"precious")
    with pytest.raises(DatasetError, match=rf"not empty: it holds holiday.mp4, but no {MANIFEST}; name another folder"):
        synthesize(tmp_path, clips=2, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]


def test_refuses_a_clip_that_it_did_not_make(tmp_path: Path) -> None:
    synthesize(tmp_path, clips=2, **SMALL)
    (tmp_path / "violent" / "mine.mp4").write_bytes(b"precious")
    with pytest.raises(DatasetError, match=r"holds violent/mine.mp4, which is none of its clips"):
        synthesize(tmp_path, clips=2, **SMALL)


@pytest.mark.parametrize("text", ["{", "3", '["a"]'])
def test_refuses_a_damaged_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DatasetError, match=f"{MANIFEST} cannot be read"):
        synthesize(tmp_path, clips=2, **SMALL)


def test_refuses_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("no folder")
    with pytest.raises(DatasetError, match="is not a folder; name another one"):
        synthesize(tmp_path / "clips", clips=2)


def test_says_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"cannot write .*file.*; name another folder"):
        synthesize(tmp_path / "file" / "clips", clips=2)


def test_says_when_opencv_has_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.VideoWriter, "isOpened", lambda _: False)
    with pytest.raises(DatasetError, match="cannot encode mp4v video here; install"):
        synthesize(tmp_path, clips=2, **SMALL)
    assert contents(tmp_path) == {}


def test_the_manifest_says_how_the_clips_were_made(made: Path) -> None:
    assert json.loads((made / MANIFEST).read_text()) == {
        "generator": 1,
        "clips": 4,
        "seed": 3,
        "violent_share": 0.5,
        "size": [96, 72],
        "fps": 12.5,
        "codec": "mp4v",
    }


@pytest.mark.parametrize("index", range(3))
def test_the_class_changes_nothing_but_the_people(index: int) -> None:
    calm, violent = frames(index, is_violent=False), frames(index, is_violent=True)
    assert calm.shape == violent.shape
    same = (calm == violent).all(axis=-1)
    assert same[:, :2].mean() > 0.99, "above the heads there is nothing but backdrop, camera and noise"
    assert 0.3 < same.mean() < 0.98, "people take up a part of the picture"
    assert len(choreograph(7, index, is_violent=True, fps=12.5, reach=0.8)) == len(
        choreograph(7, index, is_violent=False, fps=12.5, reach=0.8)
    )


@pytest.mark.slow
def test_motion_tells_the_classes_apart_and_colour_and_length_do_not() -> None:
    labels = np.arange(48) % 2 == 0
    still, moving = [], []
    for index, is_violent in enumerate(labels):
        clip = frames(index, is_violent=bool(is_violent)).astype(np.float32)
        still.append([*clip.mean((0, 1, 2)), *clip.std((0, 1, 2)), clip.min(), clip.max(), len(clip)])
        changes = np.abs(np.diff(clip.mean(axis=3), n=2, axis=0)).mean(axis=(1, 2))
        tracks = choreograph(7, index, is_violent=bool(is_violent), fps=12.5, reach=0.8)
        turned = [np.percentile(np.abs(np.diff(track.poses, axis=0)), 90) for track in tracks]
        moving.append([np.max(changes), np.mean(turned)])
    still_cues = [separation(cue[labels], cue[~labels]) for cue in np.array(still).T]
    pixels, joints = (separation(cue[labels], cue[~labels]) for cue in np.array(moving).T)
    assert all(0.25 < cue < 0.75 for cue in still_cues), still_cues
    assert pixels > 0.68
    assert joints > 0.9


def test_most_fights_end_on_the_ground_and_nothing_else_does() -> None:
    tilt = Pose._fields.index("tilt")
    lowest = {
        is_violent: [
            max(np.abs(track.poses[:, tilt]).max() for track in choreograph(1, index, is_violent=is_violent, **STAGE))
            for index in range(40)
        ]
        for is_violent in (False, True)
    }
    assert max(lowest[False]) == 0
    assert 0.5 < np.mean(np.array(lowest[True]) > 80) < 1.0


def test_fighters_stay_in_the_picture() -> None:
    places = [track.place for index in range(40) for track in choreograph(1, index, is_violent=True, **STAGE)[:2]]
    assert np.mean(np.abs(np.concatenate(places)) < 1.0) > 0.95


def test_limbs_keep_their_length_and_lean_the_way_they_say() -> None:
    upright, bent = skeleton(Pose(lean=0)), skeleton(Pose(lean=60, near_knee=90, near_elbow=120, tilt=-40))

    def length(joints: dict[str, tuple[float, float]], first: str, last: str) -> float:
        return float(np.hypot(*np.subtract(joints[first], joints[last])))

    for bone in (
        ("near_hip", "near_knee"),
        ("near_knee", "near_ankle"),
        ("near_elbow", "near_wrist"),
        ("hips", "chest"),
    ):
        assert length(bent, *bone) == pytest.approx(length(upright, *bone))
    assert skeleton(Pose(lean=45))["head"][0] > 0.2
    lying = np.array(list(skeleton(Pose(tilt=-90)).values()))
    assert np.ptp(lying[:, 0]) > 4 * np.ptp(lying[:, 1])
    assert skeleton(Pose(tilt=-90))["head"][0] < 0, "falls on the back, away from where it looks"


def test_moving_in_between_passes_the_keys_and_stops_after_the_last() -> None:
    keys = np.array([[0.0, 0.0], [10.0, -4.0]])
    moved = in_between(np.array([0.0, 1.0, 1.5, 2.0, 9.0]), [1.0, 2.0], keys)
    np.testing.assert_allclose(moved, [[0, 0], [0, 0], [5, -2], [10, -4], [10, -4]])


def test_a_gait_stands_at_no_speed_and_swings_the_legs_in_turn_at_some() -> None:
    still = gait(np.zeros(3), np.zeros(3), phase=1.0)
    np.testing.assert_array_equal(still, np.tile(np.array(Pose()), (3, 1)))
    walked = gait(np.linspace(0, 0.8, 21), np.full(21, 0.8), phase=0.0)
    near, far = (walked[:, Pose._fields.index(hip)] for hip in ("near_hip", "far_hip"))
    assert np.corrcoef(near, far)[0, 1] == pytest.approx(-1)
    assert near[0] == pytest.approx(near[-1])
    assert np.ptp(near) == pytest.approx(48, abs=0.5)


def test_class_folders_are_named_for_the_classes() -> None:
    assert CLASS_FOLDERS == ("non_violent", "violent")
