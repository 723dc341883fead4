"""`vdeploy mine` and `vdeploy data add`, as a user types them."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.tiny_bundle import make_tiny_bundle
from testing.videos import solid_frame, write_numbered, write_video
from testing.waiting import eventually
from tests.conftest import TINY, Done

Verb = Callable[..., Done]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle")).root


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Three seconds of red and three of green, and a file that is no video."""
    colours = ((250, 10, 10), (10, 250, 10))
    frames = [solid_frame(colour) for colour in colours for _ in range(75)]
    (tmp_path / "footage").mkdir()
    write_video(tmp_path / "footage" / "door.mp4", frames)
    (tmp_path / "footage" / "text.mp4").write_text("no video\n" * 40)
    return tmp_path / "footage"


def label(table: Path, *labels: str) -> None:
    rows = list(csv.reader(table.read_text().splitlines()))
    for row, text in zip(rows[1:], labels, strict=True):
        row[4] = text
    table.write_text("".join(",".join(row) + "\n" for row in rows))


def test_from_footage_to_a_data_set(vdeploy: Verb, bundle: Path, footage: Path, clips_dir: Path) -> None:
    options = ("--out", "my mined", "--window", 1, "--stride", 1, "--count", 2)
    code, out, err = vdeploy("mine", bundle, footage, *options)
    assert code == 0
    assert "mine: 6/6 seconds of video" in err
    assert f"left out: {Path('footage') / 'text.mp4'}: is not a readable video" in out.replace(f"{footage.parent}/", "")
    assert (
        "false alarms at the threshold of 0.5: 1 in 0:06 of video, 600.00 an hour, if the videos hold no violence"
        in out
    )
    assert "2 candidates in my mined/candidates.csv; look at my mined/candidates.html" in out
    assert out.splitlines()[-1].endswith("then: vdeploy data add DATA 'my mined/candidates.csv' --out NEW.csv")

    label(Path("my mined/candidates.csv"), "non_violent", "")
    code, out, _ = vdeploy("data", "add", clips_dir, "my mined/candidates.csv", "--out", "new.csv")
    assert code == 0
    assert out.splitlines() == [
        "added: 1 non_violent, in my mined/confirmed; without a label and left out: 1",
        "21 clips in new.csv",
        "next: vdeploy train new.csv",
    ]
    assert "left out" not in vdeploy("data", "scan", "new.csv")[1]
    named = ("data", "add", clips_dir, "my mined/candidates.csv", "--positive", "violent", "--out", "new.csv")
    assert vdeploy(*named)[1].splitlines()[-1] == "next: vdeploy train new.csv --positive violent"
    assert json.loads(vdeploy(*named, "--json")[1])["unlabelled"] == 1


def test_the_search_as_json(vdeploy: Verb, bundle: Path, footage: Path) -> None:
    (footage / "film.xyz").touch()
    code, out, _ = vdeploy("mine", bundle, footage, "--out", "mined", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["false_alarms"] == found["videos"][0]["false_alarms"]
    assert found["false_alarms_per_hour"] == pytest.approx(found["false_alarms"] * 600)
    assert list(found["failed"]) == [str(footage / "text.mp4")]
    assert list(found["left_out"]) == [str(footage / "film.xyz")]
    assert found["candidates"][0]["label"] == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("mine", "nowhere", "footage", "--out", "mined"), "nowhere is no bundle"),
        (("mine", "bundle", "nowhere.mp4", "--out", "mined"), "there is no file, folder or match for nowhere.mp4"),
        (("mine", "bundle", "footage", "--out", "/proc/mined"), "/proc/mined cannot be written"),
        (("data", "add", "nowhere", "c.csv", "--out", "new.csv"), "nowhere does not exist; give a folder of clips"),
        (("data", "add", "clips", "c.csv", "--out", "new.csv"), "c.csv cannot be read (No such file or directory)"),
        (("data", "add", "clips", "c.csv", "--out", "clips"), "clips cannot be written (Is a directory)"),
    ],
)
def test_wrong_calls_are_one_line(
    vdeploy: Verb, bundle: Path, footage: Path, clips_dir: Path, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    (tmp_path / "bundle").symlink_to(bundle)
    (tmp_path / "clips").symlink_to(clips_dir)
    code, out, err = vdeploy(*arguments)
    assert (code, out) == (1, "")
    assert line in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "clips", "footage"]


def test_nothing_but_unreadable_videos_has_failed(vdeploy: Verb, bundle: Path, footage: Path) -> None:
    code, out, _ = vdeploy("mine", bundle, footage / "text.mp4", "--out", "mined")
    assert code == 1
    assert "0 candidates in mined/candidates.csv" in out


def test_ctrl_c_keeps_what_is_finished(bundle: Path, tmp_path: Path) -> None:
    videos = [write_numbered(tmp_path / "0.mp4", 400)]
    for number in range(1, 40):
        videos.append(tmp_path / f"{number}.mp4")
        videos[-1].symlink_to(videos[0])
    command = [sys.executable, "-m", "vdeploy", "mine", bundle, "--out", tmp_path / "mined", *videos]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert eventually(lambda: list((tmp_path / "mined").rglob("*.npz")), 60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "error: interrupted; what was finished is kept, the same command resumes"
    assert [path.name for path in (tmp_path / "mined").iterdir()] == ["videos"]
    done = subprocess.run(list(map(str, command[:-38])), capture_output=True, text=True, check=True, timeout=60)
    assert "of 2 videos were searched before" in done.stderr or "mine: 0/0 seconds of video" in done.stderr


@pytest.mark.slow
def test_a_training_takes_the_data_set(vdeploy: Verb, bundle: Path, footage: Path, clips_dir: Path) -> None:
    vdeploy("mine", bundle, footage, "--out", "mined", "--window", 1, "--stride", 1)
    table = Path("mined/candidates.csv")
    label(table, *["0"] * (len(table.read_text().splitlines()) - 1))
    vdeploy("data", "add", clips_dir, table, "--out", "new.csv")
    sets = [word for override in TINY for word in ("--set", override)]
    code, _, err = vdeploy("train", "new.csv", "--out", "run", "--store", "store", *sets)
    assert code == 0, err
    clips = list(csv.DictReader(next(Path("run").rglob("*.csv")).read_text().splitlines()))
    added = [clip for clip in clips if "mined/confirmed/door-" in clip["path"]]
    assert len(added) == len(table.read_text().splitlines()) - 1
    assert {clip["group"] for clip in added} == {str(footage / "door.mp4")}
    assert len({clip["split"] for clip in added}) == 1
