"""Hard negatives: the highest windows are found, alike ones left out, work is kept, and labelled ones become clips."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from killed_training import kill_when_written

from testing.tiny_bundle import make_tiny_bundle
from testing.videos import read_number, solid_frame, write_numbered, write_video
from training.methods.hard_negatives import selection
from training.methods.hard_negatives.adding import add_candidates
from training.methods.hard_negatives.candidates import read_candidates
from training.methods.hard_negatives.mining import Mining, MiningRequest, mine
from training.methods.hard_negatives.selection import MinedWindow, WindowPool, select_diverse
from vdeploy.artifacts.bundle import MANIFEST
from vdeploy.core.errors import BundleError, ClipError, DatasetError, LockedError, MissingExtraError, UserError
from vdeploy.core.locks import folder_lock
from vdeploy.dataset import scan
from vdeploy.detector import detect
from vdeploy.inference.in_process import LocalScorer

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 240), "yellow": (220, 220, 10)}
FPS = 25


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle")).root


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two videos of one colour a second; red and green come twice."""
    folder = tmp_path_factory.mktemp("videos")
    scenes = {"a.mp4": ("red", "green", "red", "blue"), "b.mp4": ("green", "yellow")}
    return [
        write_video(folder / name, [solid_frame(COLOURS[colour]) for colour in colours for _ in range(FPS)])
        for name, colours in scenes.items()
    ]


def write_colours(file: Path, seconds: int, seed: int = 0) -> Path:
    """A video with four colours a second."""
    colours = np.random.default_rng(seed).integers(0, 256, (4 * seconds, 3))
    return write_video(file, (solid_frame(tuple(colours[number * 4 // FPS])) for number in range(seconds * FPS)))


def window(score: float, start_s: float = 0.0, path: str = "a", features: tuple[float, ...] = (1, 0)) -> MinedWindow:
    return MinedWindow(path, start_s, start_s + 2, score, np.array(features, np.float32))


def search(bundle: Path, videos: list[Path], folder: Path, **options: float) -> Mining:
    return mine(
        MiningRequest(bundle, videos, folder, **{"window_s": 1.0, "stride_s": 1.0, "distance": 1e-3, **options})
    )


def lines(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text().splitlines()))


def fill_labels(table: Path, *labels: str) -> None:
    """What a person does in a spreadsheet, line by line."""
    rows = lines(table)
    for row, label in zip(rows, labels, strict=False):
        row["label"] = label
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_the_highest_score_comes_first_and_windows_that_overlap_are_left_out() -> None:
    windows = [
        window(0.5, 10, features=(0, 1, 0)),
        window(0.9, 4, features=(1, 0, 0)),
        window(0.8, 5.9, features=(0, 0, 1)),
        window(0.7, 4.5, "b", features=(0, 0, 1)),
        window(0.6, 6.0, features=(1, 1, 0)),
    ]
    kept = select_diverse(windows, 9, 0.1)
    assert [(one.path, one.start_s) for one in kept] == [("a", 4), ("b", 4.5), ("a", 6.0), ("a", 10)]
    assert [one.score for one in select_diverse(windows, 2, 0.1)] == [0.9, 0.7]


def test_windows_within_the_cosine_distance_of_one_that_was_kept_are_left_out() -> None:
    slanted = (np.cos(0.4), np.sin(0.4))  # a cosine distance of 0.079 from (1, 0)
    windows = [window(0.9), window(0.8, 10, features=(5, 0)), window(0.7, 20, "b", features=slanted)]
    assert [one.score for one in select_diverse(windows, 9, 0.0)] == [0.9, 0.7]
    assert [one.score for one in select_diverse(windows, 9, 0.078)] == [0.9, 0.7]
    assert [one.score for one in select_diverse(windows, 9, 0.080)] == [0.9]


def test_features_that_are_all_zero_are_like_no_others() -> None:
    assert len(select_diverse([window(0.9, features=(0, 0)), window(0.8, 5, features=(0, 0))], 9, 0.5)) == 2


def test_equal_scores_are_in_the_order_of_video_and_time() -> None:
    windows = [window(0.5, 9, "b", (0, 1, 0)), window(0.5, 3, "b", (1, 0, 0)), window(0.5, 6, "a", (0, 0, 1))]
    expected = [("a", 6), ("b", 3), ("b", 9)]
    assert [(one.path, one.start_s) for one in select_diverse(windows, 9, 0.1)] == expected
    assert [(one.path, one.start_s) for one in select_diverse(windows[::-1], 9, 0.1)] == expected


def test_a_pool_keeps_the_highest_windows_of_a_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MOST_COMPARED", 3)
    pool = WindowPool()
    for start_s, score in enumerate((0.2, 0.9, 0.1, 0.5, 0.5, 0.5, 0.3)):
        pool.add(window(score, start_s))
    assert sorted((one.score, one.start_s) for one in pool.windows) == [(0.5, 3), (0.5, 4), (0.9, 1)]


@pytest.mark.parametrize("granularity", ["frame", "clip"])
def test_each_scene_is_found_once_by_its_score(
    bundle: Path, videos: list[Path], tmp_path: Path, granularity: str
) -> None:
    whole = tmp_path / "bundle"
    shutil.copytree(bundle, whole)
    manifest = json.loads((whole / MANIFEST).read_text())
    manifest["stages"][0]["granularity"] = granularity
    (whole / MANIFEST).write_text(json.dumps(manifest))
    mining = search(whole, videos, tmp_path / "mined")

    scorer = LocalScorer(make_tiny_bundle(tmp_path / "same"))
    timelines = {video: detect(video, scorer, window_s=1.0, stride_s=1.0) for video in videos}
    scored = [(-one.probability, str(video), one.start_s) for video in videos for one in timelines[video].windows]
    first_red, second_red, first_green, second_green = (scored[index] for index in (0, 2, 1, 4))
    alike = {max(first_red, second_red), max(first_green, second_green)}
    expected = sorted(set(scored) - alike)
    found = [(-(row.score or 0), row.path, row.start_s) for row in mining.candidates]
    assert [row[1:] for row in found] == [row[1:] for row in expected]
    assert [row[0] for row in found] == pytest.approx([row[0] for row in expected], abs=2e-6)
    assert len(found) == len(COLOURS)

    alarms = sum(len(timeline.events) for timeline in timelines.values())
    assert alarms >= 1
    assert mining.hours == pytest.approx(6 / 3600)
    assert mining.false_alarms_per_hour == pytest.approx(alarms * 600)
    rows = lines(tmp_path / "mined" / "candidates.csv")
    assert [(row["path"], row["label"], row["group"]) for row in rows] == [(one[1], "", one[1]) for one in found]
    page = (tmp_path / "mined" / "candidates.html").read_text()
    assert page.count("data:image/jpeg") == len(found)
    assert page.index("Line 2") < page.index("Line 5")


def test_no_more_than_the_count(bundle: Path, videos: list[Path], tmp_path: Path) -> None:
    every, two = search(bundle, videos, tmp_path / "every"), search(bundle, videos, tmp_path / "two", count=2)
    assert two.candidates == every.candidates[:2]
    assert two.false_alarms == every.false_alarms


def many(folder: Path) -> list[Path]:
    return [folder / f"v{number}.mp4" for number in range(4)]


def mined(folder: Path) -> None:
    """A search that `kill_when_written` runs."""
    mine(MiningRequest(folder / "bundle", many(folder), folder / "mined", distance=1e-4))


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_files(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "bundle")
    for number, video in enumerate(many(tmp_path)):
        write_colours(video, 16 + 4 * number, number)
    kill_when_written("mined/videos/*.npz", "test_hard_negatives", tmp_path, function="mined")
    assert not (tmp_path / "mined" / "candidates.csv").exists()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "mined" / "videos").glob("*.npz")}
    assert 1 <= len(kept) < 4
    mined(tmp_path)
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    assert len(list((tmp_path / "mined" / "videos").iterdir())) == 4

    (tmp_path / "mined").rename(tmp_path / "resumed")
    mined(tmp_path)
    for name in ("candidates.csv", "candidates.html"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "mined" / name).read_bytes()
    assert len(read_candidates(tmp_path / "mined" / "candidates.csv")) > 10


def test_results_are_computed_again_for_other_settings_and_where_they_are_damaged(
    bundle: Path, videos: list[Path], tmp_path: Path
) -> None:
    first = search(bundle, videos, tmp_path)
    files = sorted((tmp_path / "videos").iterdir())
    for file, damage in zip(files, (b"", b"PK\x03\x04 half"), strict=True):
        file.write_bytes(damage)
    assert search(bundle, videos, tmp_path).candidates == first.candidates
    assert all(file.stat().st_size > 100 for file in files)
    assert search(bundle, videos, tmp_path, stride_s=0.5).videos[0].windows == 7
    assert len(list((tmp_path / "videos").iterdir())) == 4
    other = make_tiny_bundle(tmp_path / "other", seed=1).root
    assert search(other, videos, tmp_path).candidates[0].score != first.candidates[0].score


def test_a_video_that_has_changed_is_searched_again(bundle: Path, videos: list[Path], tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    shutil.copy(videos[0], video)
    assert search(bundle, [video], tmp_path / "mined").videos[0].windows == 4
    shutil.copy(videos[1], video)
    assert search(bundle, [video], tmp_path / "mined").videos[0].windows == 2


def test_labels_survive_another_search(bundle: Path, videos: list[Path], tmp_path: Path) -> None:
    search(bundle, videos, tmp_path)
    table = tmp_path / "candidates.csv"
    fill_labels(table, "", "normal", "", "fight")
    before = read_candidates(table)
    mining = search(bundle, videos[:1], tmp_path, count=1)
    assert {row.window: row.label for row in mining.candidates if row.label} == {
        before[1].window: "normal",
        before[3].window: "fight",
    }
    assert tuple(read_candidates(table)) == mining.candidates


def test_videos_that_cannot_be_read_are_named(bundle: Path, videos: list[Path], tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video\n" * 40)
    absent, unnameable = tmp_path / "absent.mp4", tmp_path / "\udcff.mp4"
    mining = search(bundle, [text, videos[0], absent, unnameable], tmp_path / "mined")
    assert len(mining.videos) == 1
    assert mining.failed[str(text)] == "is not a readable video"
    assert mining.failed[str(absent)] == "cannot be read (No such file or directory)"
    assert "not UTF-8" in mining.failed[ascii(str(unnameable))]
    nothing = search(bundle, [text], tmp_path / "nothing")
    assert nothing.false_alarms_per_hour is None
    assert (tmp_path / "nothing" / "candidates.csv").read_text() == "path,start_s,end_s,score,label,group\n"


def test_a_search_is_refused_before_it_begins(
    bundle: Path, videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        search(tmp_path / "nowhere", videos, tmp_path / "mined")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file cannot be written \(Not a directory\); choose another place"):
        search(bundle, videos, tmp_path / "file")
    with folder_lock(tmp_path / "mined"), pytest.raises(LockedError, match="is being written by process"):
        search(bundle, videos, tmp_path / "mined")
    (tmp_path / "mined").mkdir()
    (tmp_path / "mined" / "candidates.csv").write_text("path;label\n")
    with pytest.raises(DatasetError, match="has no column path; its first line is: path;label"):
        search(bundle, videos, tmp_path / "mined")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match="the page of candidates needs"):
        search(bundle, videos, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """A table of windows of a numbered video."""
    video = write_numbered(tmp_path / "footage.mp4", 250, g=40, bf=2)
    table = tmp_path / "mined" / "candidates.csv"
    table.parent.mkdir()
    table.write_text(
        "path,start_s,end_s,score,label,group\n"
        f"{video},2.0,4.0,0.9,,camera 1\n"
        f"{video},0.0,1.0,0.8,,\n"
        f"{video},8.0,10.0,0.7,,camera 1\n"
        f"{video},5.0,6.0,0.6,,camera 1\n"
    )
    return table


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two clips of each class in a CSV."""
    table = ["path,label,split,group"]
    for number, (name, split) in enumerate(
        (("fight", "train"), ("normal", "train"), ("fight", "test"), ("normal", ""))
    ):
        file = write_video(tmp_path / "old" / f"{number}.mp4", [solid_frame((number * 50, 9, 9))] * 5)
        table.append(f"old/{file.name},{name},{split or 'valid'},g{number}")
    (tmp_path / "clips.csv").write_text("\n".join(table) + "\n")
    return tmp_path / "clips.csv"


@pytest.fixture(autouse=True)
def _old(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()


def numbers(file: Path) -> list[int]:
    capture, found = cv2.VideoCapture(str(file)), []
    while (picture := capture.read()) and picture[0]:
        found.append(read_number(picture[1]))
    return found


def test_labelled_windows_enter_the_data_set_with_their_group(footage: Path, data: Path, tmp_path: Path) -> None:
    fill_labels(footage, "Normal", "1", "", "?")
    out = tmp_path / "new" / "new.csv"
    addition = add_candidates(data, footage, out)
    assert (addition.added, addition.unlabelled, addition.clips) == ({"normal": 1, "fight": 1}, 2, 6)
    files = sorted((footage.parent / "confirmed").iterdir())
    assert [numbers(file) for file in files] == [list(range(25)), list(range(50, 100))]

    rows = {Path(row["path"]).name: row for row in lines(out)}
    early, late = (rows[file.name] for file in files)
    assert (late["label"], late["split"], late["group"]) == ("normal", "train", "camera 1")
    assert (early["label"], early["split"], early["group"]) == ("fight", "train", str(tmp_path / "footage.mp4"))
    dataset = scan(out)
    assert not dataset.problems
    assert dataset.classes == ("normal", "fight")
    assert sorted(clip.split for clip in dataset.clips) == ["test", "train", "train", "train", "train", "valid"]
    assert all(dataset.absolute(clip).is_file() for clip in dataset.clips)


def test_adding_again_changes_nothing(footage: Path, data: Path, tmp_path: Path) -> None:
    fill_labels(footage, "normal", "normal")
    out = tmp_path / "new.csv"
    add_candidates(data, footage, out)
    text = out.read_bytes()
    times = {file: file.stat().st_mtime_ns for file in (footage.parent / "confirmed").iterdir()}
    assert "mined/confirmed/footage-00002000ms-" in text.decode()
    assert add_candidates(out, footage, out).clips == 6
    assert out.read_bytes() == text
    assert times == {file: file.stat().st_mtime_ns for file in (footage.parent / "confirmed").iterdir()}


def test_clips_join_the_split_of_their_group(footage: Path, data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text().replace("test,g2", "test,camera 1"))
    fill_labels(footage, "normal", "normal")
    add_candidates(data, footage, tmp_path / "new.csv")
    splits = sorted((row["group"], row["split"]) for row in lines(tmp_path / "new.csv"))
    assert [split for group, split in splits if group == "camera 1"] == ["test", "test"]
    assert (str(tmp_path / "footage.mp4"), "train") in splits


def test_splits_are_drawn_later_where_the_data_has_none(footage: Path, data: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("fight", "normal")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for copy in range(6):
            colour = (40 * copy, 90 * number, 9)
            write_video(tmp_path / "set" / name / f"{copy}.mp4", [solid_frame(colour)] * 5)
    fill_labels(footage, "normal", "", "0", "0")
    add_candidates(tmp_path / "set", footage, tmp_path / "new.csv")
    dataset = scan(tmp_path / "new.csv")
    assert len({clip.split for clip in dataset.clips if clip.group == "camera 1"}) == 1
    assert {clip.split for clip in dataset.clips} == {"train", "valid", "test"}


def test_an_added_window_looks_as_it_did_to_the_bundle(bundle: Path, tmp_path: Path, data: Path) -> None:
    """The clip of a window has the window's score, but for the compression."""
    video = write_colours(tmp_path / "v.mp4", 10)
    mining = search(bundle, [video], tmp_path / "mined", stride_s=0.25, distance=0.0)
    fill_labels(tmp_path / "mined" / "candidates.csv", *["normal"] * len(mining.candidates))
    add_candidates(data, tmp_path / "mined" / "candidates.csv", tmp_path / "new.csv")
    scorer = LocalScorer(make_tiny_bundle(tmp_path / "same"))
    clips = sorted((tmp_path / "mined" / "confirmed").iterdir())
    by_time = sorted(mining.candidates, key=lambda row: row.start_s)
    assert len(clips) == len(by_time) >= 5
    scores = [detect(clip, scorer, window_s=1.0, stride_s=1.0).windows[0].probability for clip in clips]
    assert scores == pytest.approx([row.score for row in by_time], abs=0.02)
    assert max(scores) - min(scores) > 0.1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",,camera 1", ",calm,camera 1", r"line 2: unknown label calm; enter fight, normal, or 0 \(non-violent\) or 1"),
        ("2.0,4.0", "2.0,x", r"line 2: end_s is x, no number; correct the line"),
        ("2.0,4.0", "2.0,", r"line 2: end_s is empty, no number"),
        ("2.0,4.0", "4.0,2.0", r"line 2: 4 to 2 s is no window"),
        ("2.0,4.0", "nan,4.0", r"line 2: start_s is nan, no number"),
        ("0.0,1.0,0.8", "2.0,4.0,0.8", r"line 3: its window is on line 2 already; delete one of the lines"),
        ("label", "lable", r"has no column label; its first line is: path,"),
        ("0.9,,camera 1", "0.9,,camera 1,5", r"line 2: 7 values for 6 columns"),
        ("", "", r"none of the 4 lines of .* has a label; enter fight, normal in the column label"),
    ],
)
def test_a_wrong_table_is_one_line(footage: Path, data: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    footage.write_text(footage.read_text().replace(old, new, 1))
    with pytest.raises(DatasetError, match=message) as caught:
        add_candidates(data, footage, tmp_path / "new.csv")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new.csv").exists()
    assert not (footage.parent / "confirmed").exists()


def test_a_source_that_is_gone_and_a_window_beyond_its_end(footage: Path, data: Path, tmp_path: Path) -> None:
    footage.write_text(footage.read_text().replace("8.0,10.0", "80.0,90.0"))
    fill_labels(footage, "normal", "", "normal")
    with pytest.raises(UserError, match=r"no frame of .*footage\.mp4 lies between 80\.0 and 90\.0 s"):
        add_candidates(data, footage, tmp_path / "new.csv")
    (tmp_path / "footage.mp4").unlink()
    with pytest.raises(ClipError, match=r"footage\.mp4: cannot be read \(No such file or directory\)"):
        add_candidates(data, footage, tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists()
