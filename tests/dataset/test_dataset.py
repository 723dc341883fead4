"""Reading labelled clips from folders and CSVs, naming what is wrong with them, and drawing splits."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
from pathlib import Path

import pytest

from vdeploy.core.errors import DatasetError
from vdeploy.core.files import sha256_of
from vdeploy.dataset import Dataset, LabelledClip, Problem, scan
from vdeploy.dataset.splits import draw_splits

SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}


def put(root: Path, *names: str) -> None:
    """Writes files whose bytes are their names, so that no two are the same."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())


def put_classes(root: Path, count: int = 20, names: tuple[str, str] = ("normal", "fight")) -> None:
    put(root, *(f"{name}/{index:03}.avi" for name in names for index in range(count)))


def by_path(data: Dataset) -> dict[str, LabelledClip]:
    return {clip.path: clip for clip in data.clips}


def refusal(source: Path, **options: object) -> str:
    with pytest.raises(DatasetError) as caught:
        scan(source, **options)
    return str(caught.value)


def test_class_folders(tmp_path):
    put_classes(tmp_path)
    data = scan(tmp_path)
    assert data.root == tmp_path
    assert data.classes == ("normal", "fight")
    assert not data.given_splits
    assert data.problems == ()
    assert data.counts() == {
        "train": {"normal": 14, "fight": 14},
        "valid": {"normal": 3, "fight": 3},
        "test": {"normal": 3, "fight": 3},
    }
    clip = data.clips[0]
    assert (clip.path, clip.label, clip.group) == ("fight/000.avi", 1, "")
    assert clip.sha256 == sha256_of(tmp_path / "fight/000.avi")
    assert data.absolute(clip) == tmp_path / "fight/000.avi"
    assert list(by_path(data)) == sorted(by_path(data))
    assert [len(data.of(split)) for split in ("train", "valid", "test", "")] == [28, 6, 6, 0]


def test_nested_folders_unicode_spaces_and_suffixes(tmp_path):
    put(tmp_path, "Fight/cam 1/día/клип 1.MP4", "Fight/b.WebM", "No-Fight/c.mkv", "No-Fight/格闘/d.3gp")
    put(tmp_path, "Fight/notes.txt", "Fight/.hidden.avi", ".git/x.avi", "No-Fight/._c.mkv", "README", "docs/readme.md")
    data = scan(tmp_path)
    assert {path: clip.label for path, clip in by_path(data).items()} == {
        "Fight/b.WebM": 1,
        "Fight/cam 1/día/клип 1.MP4": 1,
        "No-Fight/c.mkv": 0,
        "No-Fight/格闘/d.3gp": 0,
    }
    assert data.classes == ("No-Fight", "Fight")
    assert data.problems == ()


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("NonFight", "Fight"),
        ("no_fights", "fights"),
        ("normal", "assault"),
        ("NonViolence", "Violence"),
        ("non-violent", "violent"),
        ("nonviolentclips", "violent clips"),
        ("noViolence", "fighting"),
        ("normal_videos", "Fight videos"),
        ("peaceful", "violence"),
        ("neutral", "fight"),
        ("0", "1"),
    ],
)
def test_usual_class_names(tmp_path, negative, positive):
    put(tmp_path, f"{negative}/a.avi", f"{positive}/b.avi")
    data = scan(tmp_path)
    assert data.classes == (negative, positive)
    assert {clip.path: clip.label for clip in data.clips} == {f"{negative}/a.avi": 0, f"{positive}/b.avi": 1}


def test_positive_names_the_violent_classes(tmp_path):
    put(tmp_path, "punch/a.avi", "kick/b.avi", "walk/c.avi", "talk/d.avi", "Cafe\u0301/e.avi")
    data = scan(tmp_path, positive=["Punch", "kick", "caf\u00e9"])
    assert data.classes == ("talk+walk", "Cafe\u0301+kick+punch")
    assert [clip.path for clip in data.clips if clip.label] == ["Cafe\u0301/e.avi", "kick/b.avi", "punch/a.avi"]


def test_split_folders_are_kept(tmp_path):
    put(tmp_path, *(f"Training/{c}/{i}.avi" for c in ("Fight", "NonFight") for i in range(4)))
    put(tmp_path, "VAL/fight/v.avi", "VAL/nonfight/deep/v.avi", "testing/Fight/t.avi")
    data = scan(tmp_path)
    assert data.given_splits
    assert data.classes == ("NonFight", "Fight")
    assert data.counts() == {
        "train": {"NonFight": 4, "Fight": 4},
        "valid": {"NonFight": 1, "Fight": 1},
        "test": {"NonFight": 0, "Fight": 1},
    }
    assert by_path(data)["VAL/fight/v.avi"].split == "valid"


def test_train_and_valid_are_enough(tmp_path):
    put(tmp_path, "train/fight/a.avi", "train/normal/b.avi", "valid/fight/c.avi", "valid/normal/d.avi")
    data = scan(tmp_path)
    assert data.given_splits
    assert list(data.counts()) == ["train", "valid"]


def test_a_missing_validation_split_is_drawn_from_training(tmp_path):
    put(tmp_path, *(f"train/{c}/{i}.avi" for c in ("fight", "normal") for i in range(17)))
    put(tmp_path, "test/fight/t.avi", "test/normal/t.avi")
    data = scan(tmp_path)
    assert data.given_splits
    assert data.counts() == {
        "train": {"normal": 14, "fight": 14},
        "valid": {"normal": 3, "fight": 3},
        "test": {"normal": 1, "fight": 1},
    }
    assert all(clip.path.startswith("train/") for clip in data.of("train") + data.of("valid"))
    assert scan(tmp_path, seed=1).of("valid") != data.of("valid")


def test_a_training_folder_alone_is_undivided_data(tmp_path):
    put(tmp_path, *(f"train/{c}/{i}.avi" for c in ("fight", "normal") for i in range(20)))
    data = scan(tmp_path)
    assert not data.given_splits
    assert [len(data.of(split)) for split in SHARES] == [28, 6, 6]


def test_held_out_data_alone_is_kept(tmp_path):
    put(tmp_path, "test/fight/a.avi", "test/normal/b.avi")
    assert scan(tmp_path).counts() == {"test": {"normal": 1, "fight": 1}}


def test_loose_videos_are_problems(tmp_path):
    put_classes(tmp_path, 3)
    put(tmp_path, "demo.mp4")
    assert scan(tmp_path).problems == (Problem("demo.mp4", "lies outside the class folders"),)


def test_files_that_cannot_be_used_are_problems(tmp_path):
    put_classes(tmp_path, 3)
    (tmp_path / "fight/dangling.avi").symlink_to(tmp_path / "nowhere")
    (tmp_path / "fight/self.avi").symlink_to("self.avi")
    (tmp_path / "fight/empty.avi").touch()
    os.mkfifo(tmp_path / "fight/pipe.avi")
    Path(os.fsdecode(bytes(tmp_path / "fight") + b"/caf\xe9.avi")).write_bytes(b"latin-1")
    data = scan(tmp_path)
    assert len(data.clips) == 6
    assert data.problems == (
        Problem("fight/caf\\xe9.avi", "has a name that is not UTF-8, rename it"),
        Problem("fight/dangling.avi", "does not exist"),
        Problem("fight/empty.avi", "is empty"),
        Problem("fight/pipe.avi", "is not a regular file"),
        Problem("fight/self.avi", "does not exist"),
    )


def test_what_must_not_be_read_is_a_problem(tmp_path, monkeypatch):
    put_classes(tmp_path, 3)

    def forbid(path: Path) -> str:
        if path.name == "000.avi":
            raise PermissionError(13, "Permission denied")
        return sha256_of(path)

    monkeypatch.setattr("vdeploy.dataset.scanning.sha256_of", forbid)
    problems = scan(tmp_path).problems
    assert [problem.path for problem in problems] == ["fight/000.avi", "normal/000.avi"]
    assert problems[0].reason == "cannot be read (Permission denied)"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_a_problem(tmp_path):
    put_classes(tmp_path, 3)
    locked = tmp_path / "fight/locked"
    locked.mkdir(mode=0)
    try:
        assert scan(tmp_path).problems == (Problem("fight/locked", "cannot be listed (Permission denied)"),)
    finally:
        locked.chmod(0o700)


def test_symlinked_folders_are_followed_but_loops_end(tmp_path):
    put(tmp_path / "data", "fight/a.avi", "normal/b.avi")
    put(tmp_path / "elsewhere", "c.avi")
    (tmp_path / "data/fight/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/fight/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/normal/self").symlink_to(".")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data/fight")
    assert list(by_path(scan(tmp_path / "data"))) == ["fight/a.avi", "fight/more/c.avi", "normal/b.avi"]


def test_identical_files_with_different_labels_are_left_out(tmp_path):
    put_classes(tmp_path, 5)
    for name in ("fight/x.avi", "fight/y.avi", "normal/z.avi"):
        (tmp_path / name).write_bytes(b"same")
    data = scan(tmp_path)
    assert len(data.clips) == 10
    assert data.problems == tuple(
        Problem(path, f"byte-identical to {other}, which has the other label: both are left out")
        for path, other in (
            ("fight/x.avi", "normal/z.avi"),
            ("fight/y.avi", "normal/z.avi"),
            ("normal/z.avi", "fight/x.avi"),
        )
    )


def test_identical_files_do_not_leak_between_given_splits(tmp_path):
    splits = ("train", "valid", "test")
    put(tmp_path, *(f"{split}/{c}/{i}.avi" for split in splits for c in ("fight", "normal") for i in range(2)))
    for name in (
        "train/fight/x.avi",
        "test/fight/x.avi",
        "valid/fight/x.avi",
        "train/normal/y.avi",
        "train/normal/z.avi",
    ):
        (tmp_path / name).write_bytes(name[-5:-4].replace("z", "y").encode())
    data = scan(tmp_path)
    assert data.problems == (
        Problem("train/fight/x.avi", "byte-identical to test/fight/x.avi: left out of train, or it would leak"),
        Problem("valid/fight/x.avi", "byte-identical to test/fight/x.avi: left out of valid, or it would leak"),
    )
    assert {"test/fight/x.avi", "train/normal/y.avi", "train/normal/z.avi"} <= by_path(data).keys()


def test_identical_files_stay_together_when_splits_are_drawn(tmp_path):
    put_classes(tmp_path)
    for index in range(4):
        (tmp_path / f"fight/copy{index}.avi").write_bytes(b"same")
    for seed in range(10):
        clips = by_path(scan(tmp_path, seed=seed))
        assert len({clips[f"fight/copy{index}.avi"].split for index in range(4)}) == 1


def test_the_result_does_not_depend_on_names(tmp_path):
    put_classes(tmp_path / "one")
    for file in sorted((tmp_path / "one").rglob("*.avi")):
        renamed = tmp_path / "two" / file.parent.name / f"{hashlib.sha256(file.name.encode()).hexdigest()}.avi"
        renamed.parent.mkdir(parents=True, exist_ok=True)
        renamed.write_bytes(file.read_bytes())
    one, two = scan(tmp_path / "one", seed=3), scan(tmp_path / "two", seed=3)
    assert {c.sha256: c.split for c in one.clips} == {c.sha256: c.split for c in two.clips}


def test_progress_is_told_in_order(tmp_path):
    put_classes(tmp_path, 5)
    seen: list[tuple[int, int]] = []
    scan(tmp_path, on_file=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 10) for done in range(1, 11)]


def test_an_interruption_comes_through(tmp_path):
    put_classes(tmp_path, 5)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path, on_file=interrupt)


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (0.0, 0.5, 0.5), (1.0, 0.0, 0.0), (0.9, 0.2, -0.1)])
def test_split_fractions_are_checked(tmp_path, fractions):
    put_classes(tmp_path, 3)
    assert "cannot be used; give three numbers that add up to 1" in refusal(tmp_path, split=fractions)


def test_no_test_split_on_request(tmp_path):
    put_classes(tmp_path)
    assert list(scan(tmp_path, split=(0.8, 0.2, 0)).counts()) == ["train", "valid"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "{root} is empty; put a folder of videos"),
        (["fight/a.jpg"], "{root} holds no videos; videos are files with one of these suffixes: 264, 265, 3g2, 3gp,"),
        (["a.avi"], "{root} holds videos, but no class folders; put the clips"),
        (["train/a.avi"], "{root} holds videos, but no class folders inside its split folders; put the clips"),
        (["fight/a.avi"], "{root} holds one class only: fight; it needs violent"),
        (["Fight/a.avi", "fight/b.avi"], "{root} holds one class only: Fight; it needs violent"),
        (["fight/a.avi", "soccer/b.avi"], "{root} holds classes whose meaning is not clear: fight, soccer; say which"),
        (["fight/a.avi", "violence/b.avi"], "{root} holds classes whose meaning is not clear: fight, violence; say"),
        (["fight/a.avi", "normal/b.avi", "talk/c.avi"], "{root} holds more than two classes (3): fight, normal, talk;"),
        ([f"{c}/a.avi" for c in "abcdefghij"], "more than two classes (10): a, b, c, d, e, f, g, h and 2 more;"),
        (
            ["train/fight/a.avi", "raw/b.avi", "fight/b.avi"],
            "{root} mixes split folders (train) with others (fight, raw); keep either",
        ),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, names, message):
    put(tmp_path, *names)
    assert message.format(root=tmp_path) in refusal(tmp_path)


def test_the_refusal_names_the_option(tmp_path):
    put(tmp_path, "punch/a.avi", "walk/b.avi")
    assert "with --positive NAME" in refusal(tmp_path)
    assert refusal(tmp_path, positive=["kick"]).startswith(f"{tmp_path} has no class kick, only punch, walk; pass")
    assert "every class (punch, walk) is given as positive" in refusal(tmp_path, positive=["punch", "walk"])


def test_sources_that_cannot_be_used(tmp_path):
    put(tmp_path, "clip.avi")
    assert refusal(tmp_path / "none").startswith(f"{tmp_path / 'none'} does not exist; give a folder")
    assert "is neither a folder nor a .csv file" in refusal(tmp_path / "clip.avi")


def test_a_class_of_which_nothing_is_usable(tmp_path):
    put(tmp_path, "normal/a.avi")
    (tmp_path / "fight").mkdir()
    (tmp_path / "fight/a.avi").touch()
    message = f"{tmp_path} holds no usable clip of fight; left out: fight/a.avi, is empty; it needs both classes"
    assert refusal(tmp_path) == message


def test_nothing_but_names_that_cannot_be_written(tmp_path):
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.avi")).write_bytes(b"latin-1")
    reason = "has a name that is not UTF-8, rename it"
    assert refusal(tmp_path) == f"{tmp_path} holds no usable video: caf\\xe9.avi {reason}"


def write(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


def test_csv(tmp_path):
    put(tmp_path, "a, b.avi", "deep/c.avi", "other/d.dat", "e.avi")
    file = write(
        tmp_path / "clips.CSV",
        "\ufeffLabel, Path ,note,split,Group\r\n"
        'fight,"a, b.avi",x,Training,cam1\r\n'
        "\r\n"
        f"normal,{tmp_path}/deep/c.avi,,val,\r\n"
        "fight,./other/d.dat,,test, cam2\r\n"
        "normal,e.avi,,train,cam1\r\n",
    )
    data = scan(file)
    assert data.root == tmp_path
    assert data.given_splits
    assert data.classes == ("normal", "fight")
    assert [dataclasses.astuple(clip)[:4] for clip in data.clips] == [
        ("a, b.avi", 1, "train", "cam1"),
        ("deep/c.avi", 0, "valid", ""),
        ("e.avi", 0, "train", "cam1"),
        ("other/d.dat", 1, "test", "cam2"),
    ]


def test_csv_with_clips_elsewhere_and_numeric_labels(tmp_path):
    put(tmp_path / "far", "a.avi", "b.avi")
    (tmp_path / "near").mkdir()
    file = write(tmp_path / "near/clips.csv", f"path,label\n../far/a.avi,1\n{tmp_path}/far/b.avi,0\ngone.avi,1\n")
    data = scan(file)
    assert data.classes == ("0", "1")
    assert data.problems == (Problem("gone.avi", "does not exist"),)
    assert {clip.path: clip.label for clip in data.clips} == {"../far/a.avi": 1, f"{tmp_path}/far/b.avi": 0}
    assert sorted(data.absolute(clip).read_bytes() for clip in data.clips) == [b"a.avi", b"b.avi"]


def test_a_sign_is_part_of_a_label(tmp_path):
    put(tmp_path, *(f"{name}.avi" for name in "abcdef"))
    lines = ["a.avi,1", "b.avi,0", "c.avi,-1", "d.avi,1", "e.avi,0", "f.avi,\u22121"]
    data = scan(write(tmp_path / "clips.csv", "\n".join(["path,label", *lines])))
    assert data.classes == ("0", "1")
    assert {clip.path: clip.label for clip in data.clips} == {"a.avi": 1, "b.avi": 0, "d.avi": 1, "e.avi": 0}
    assert data.problems == (
        Problem("c.avi", "is unlabelled: its class is -1"),
        Problem("f.avi", "is unlabelled: its class is \u22121"),
    )


def test_minus_one_without_zero_is_refused_by_name(tmp_path):
    put(tmp_path, "a.avi", "b.avi")
    file = write(tmp_path / "clips.csv", "path,label\na.avi,1\nb.avi,-1\n")
    assert "holds classes whose meaning is not clear: -1, 1; say which" in refusal(file)
    assert scan(file, positive=["1"]).classes == ("-1", "1")


@pytest.mark.parametrize("word", ["violence", "Fight", "assault "])
def test_classes_that_differ_in_their_last_sign(tmp_path, word):
    put(tmp_path, f"{word}+/a.avi", f"{word}-/b.avi")
    data = scan(tmp_path)
    assert {clip.path: clip.label for clip in data.clips} == {f"{word}+/a.avi": 1, f"{word}-/b.avi": 0}


@pytest.mark.parametrize("word", ["unknown", "Unlabelled", "NaN", "N/A", "?"])
def test_values_that_mean_unlabelled_are_left_out_and_counted(tmp_path, word):
    put(tmp_path, "a.avi", "b.avi", "c.avi", "d.avi")
    file = write(tmp_path / "clips.csv", f"path,label\na.avi,fight\nb.avi,normal\nc.avi,{word}\nd.avi,{word}\n")
    data = scan(file)
    assert [clip.path for clip in data.clips] == ["a.avi", "b.avi"]
    assert [problem.path for problem in data.problems] == ["c.avi", "d.avi"]
    assert data.problems[0].reason == f"is unlabelled: its class is {word}"
    assert scan(file, positive=["fight", word]).problems == ()


@pytest.mark.parametrize("suffix", ["mts", "M2TS", "vob", "gif", "asf", "dav", "h264", "264", "dv", "hevc", "f4v"])
def test_suffixes_that_cameras_and_discs_give(tmp_path, suffix):
    put(tmp_path, f"fight/a.{suffix}", f"normal/b.{suffix}")
    assert [clip.path for clip in scan(tmp_path).clips] == [f"fight/a.{suffix}", f"normal/b.{suffix}"]


def test_files_of_unknown_suffixes_are_named(tmp_path):
    put(
        tmp_path,
        "fight/a.avi",
        "fight/b.braw",
        "normal/c.avi",
        "normal/d.mp4.part",
        "normal/thumb.jpg",
        "normal/README",
    )
    assert scan(tmp_path).problems == (
        Problem("fight/b.braw", "has the suffix .braw, not one of a video"),
        Problem("normal/d.mp4.part", "has the suffix .part, not one of a video"),
    )


@pytest.mark.parametrize("outer", ["rwf", "rwf/RWF-2000", "a/b/c"])
@pytest.mark.parametrize("inner", ["", "train/"])
def test_folders_around_the_classes_are_looked_through(tmp_path, outer, inner):
    put(tmp_path, *(f"{outer}/{inner}{c}/cam1/{i}.avi" for c in ("fight", "normal") for i in range(3)))
    data = scan(tmp_path)
    assert data.classes == ("normal", "fight")
    assert len(data.clips) == 6
    assert data.root == tmp_path


def test_a_class_alone_is_not_looked_through(tmp_path):
    put(tmp_path, "fight/cam1/a.avi", "fight/cam2/b.avi")
    assert "holds one class only: fight;" in refusal(tmp_path)


def test_paths_with_backslashes(tmp_path):
    put(tmp_path, "fight/a.avi", "normal/b.avi")
    data = scan(write(tmp_path / "clips.csv", "path,label\nfight\\a.avi,fight\nnormal\\b.avi,normal\n"))
    assert [clip.path for clip in data.clips] == ["fight/a.avi", "normal/b.avi"]
    put(tmp_path, "odd\\name.avi")
    data = scan(write(tmp_path / "clips.csv", "path,label\nodd\\name.avi,fight\nnormal/b.avi,normal\n"))
    assert [clip.path for clip in data.clips] == ["normal/b.avi", "odd\\name.avi"]


def test_csv_groups_stay_together(tmp_path):
    put_classes(tmp_path, 20)
    lines = [f"{c}/{i:03}.avi,{c},video{i // 4}" for c in ("fight", "normal") for i in range(20)]
    file = write(tmp_path / "clips.csv", "\n".join(["path,label,group", *lines]))
    for seed in range(5):
        split_of: dict[str, set[str]] = {}
        for clip in scan(file, seed=seed).clips:
            split_of.setdefault(clip.group, set()).add(clip.split)
        assert all(len(splits) == 1 for splits in split_of.values())
        assert set.union(*split_of.values()) == {"train", "valid", "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column path; its first line is: empty; the first line names the columns"),
        ("path;label\na.avi;1\n", "has no column path; its first line is: path;label;"),
        ("path,kind\na.avi,1\n", "has no column label; its first line is: path, kind;"),
        ("path,label\n", "holds no clips; add a line"),
        ("path,label\na.avi,fight\nb.avi,\n", "line 3: no label; fill it in"),
        ("path,label\n ,fight\n", "line 2: no path; fill it in"),
        ("path,label\na,b.avi,fight\n", "line 2: 3 values for 2 columns; put a value"),
        ("path,label,split\na.avi,1,train\n\nb.avi,0,\n", "line 4: no split, while other lines have one; fill in"),
        ("path,label,split\na.avi,1,train\nb.avi,0\n", "line 3: no split, while other lines have one; fill in"),
        ("path,label,split\na.avi,1,dev\n", "line 2: unknown split dev; use train, valid or test"),
        ("path,label\na.avi,1\nb.avi,0\n./a.avi,1\n", "line 4: ./a.avi is on line 2 already; delete"),
        ('path,label\n"a.avi,1\n', "is not a well-formed CSV (unexpected end of data)"),
        ("path,label\na.avi,1\nb.avi,1\n", "holds one class only: 1;"),
        ("path,label\na.avi,1\nb.avi,0\n", "holds no usable clip of 0 or 1; left out: a.avi, does not exist;"),
    ],
)
def test_csvs_that_cannot_be_used(tmp_path, text, message):
    file = write(tmp_path / "clips.csv", text)
    answer = refusal(file)
    assert answer.startswith(str(file))
    assert message in answer


def test_csv_that_is_not_utf8(tmp_path):
    assert "is not UTF-8 text" in refusal(write(tmp_path / "clips.csv", "path,label\ncafé.avi,1\n", "latin-1"))


def test_an_empty_split_column_means_none(tmp_path):
    put_classes(tmp_path, 4)
    lines = [f"{c}/{i:03}.avi,{c}," for c in ("fight", "normal") for i in range(4)]
    data = scan(write(tmp_path / "clips.csv", "\n".join(["path,label,split", *lines])))
    assert not data.given_splits
    assert all(clip.split for clip in data.clips)


def test_written_and_read_back(tmp_path):
    put(tmp_path / "data", *(f'{c}/ {i}, "é"\n.avi' for c in ("fight", "normal") for i in range(4)))
    data = scan(tmp_path / "data")
    file = tmp_path / "runs/clips.csv"
    data.write_csv(file)
    assert file.read_text(encoding="utf-8").startswith("path,label,split,group,sha256\n")
    assert Dataset.read_csv(file, root=data.root, classes=data.classes) == dataclasses.replace(data, given_splits=True)
    assert Dataset.read_csv(file).root == file.parent


def test_what_was_written_can_be_scanned_again(tmp_path):
    put_classes(tmp_path, 10)
    data = scan(tmp_path, seed=5)
    data.write_csv(tmp_path / "clips.csv")
    again = scan(tmp_path / "clips.csv", seed=6)
    assert again.clips == data.clips
    assert again.given_splits


def test_reading_back_something_else(tmp_path):
    with pytest.raises(DatasetError, match=r"line 2: needs a label 0 or 1 and a sha256"):
        Dataset.read_csv(write(tmp_path / "clips.csv", "path,label\na.avi,fight\n"))
    with pytest.raises(DatasetError, match=r"none\.csv cannot be read \(No such file or directory\)"):
        Dataset.read_csv(tmp_path / "none.csv")


def test_without(tmp_path):
    put_classes(tmp_path, 3)
    data = scan(tmp_path)
    fewer = data.without(["fight/000.avi", "not/there.avi"])
    assert by_path(data).keys() - by_path(fewer).keys() == {"fight/000.avi"}
    assert len(fewer.clips) == 5


def make_clips(
    generator: random.Random, counts: tuple[int, int], groups: int = 0, mixed: bool = False
) -> list[LabelledClip]:
    clips = []
    for label, count in enumerate(counts):
        for index in range(count):
            group = f"{'' if mixed else label}g{generator.randrange(groups)}" if groups else ""
            digest = hashlib.sha256(generator.randbytes(16)).hexdigest()
            clips.append(LabelledClip(f"{label}/{index}.avi", label, "", group, digest))
    generator.shuffle(clips)
    return clips


def sizes(clips: list[LabelledClip], label: int) -> dict[str, int]:
    return {split: sum(clip.split == split and clip.label == label for clip in clips) for split in SHARES}


def test_drawn_splits_are_stratified_and_near_their_shares():
    for seed in range(60):
        generator = random.Random(seed)
        counts = (generator.randint(3, 300), generator.randint(3, 300))
        drawn = draw_splits(make_clips(generator, counts), SHARES, seed)
        for label, count in enumerate(counts):
            got = sizes(drawn, label)
            assert sum(got.values()) == count
            assert min(got.values()) >= 1
            for split, share in SHARES.items():
                assert abs(got[split] - share * count) <= 1.5, (seed, label, count, got)


def test_the_first_splits_are_served_first_when_clips_are_few():
    for count, expected in ((1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1))):
        for shares in ((0.7, 0.15, 0.15), (0.2, 0.4, 0.4)):
            generator = random.Random(count)
            drawn = draw_splits(make_clips(generator, (count, 50)), dict(zip(SHARES, shares, strict=True)), 0)
            got = tuple(sizes(drawn, 0).values())
            assert got == expected or (count == 4 and min(got) == 1), (count, shares, got)


def test_groups_and_copies_are_never_separated():
    for seed in range(60):
        generator = random.Random(seed)
        clips = make_clips(generator, (120, 80), groups=generator.randint(6, 60), mixed=seed % 2 == 0)
        for _ in range(10):
            source, copy = generator.sample(range(len(clips)), 2)
            clips[copy] = dataclasses.replace(clips[copy], sha256=clips[source].sha256)
        drawn = draw_splits(clips, SHARES, seed)
        assert [dataclasses.replace(clip, split="") for clip in drawn] == clips
        for key in ("group", "sha256"):
            splits: dict[str, set[str]] = {}
            for clip in drawn:
                splits.setdefault(getattr(clip, key), set()).add(clip.split)
            assert all(len(found) == 1 for found in splits.values()), (seed, key)


def test_groups_are_spread_evenly():
    for seed in range(40):
        generator = random.Random(seed)
        drawn = draw_splits(make_clips(generator, (200, 200), groups=40, mixed=seed % 2 == 0), SHARES, seed)
        for label in (0, 1):
            for split, share in SHARES.items():
                assert abs(sizes(drawn, label)[split] - share * 200) <= 6, (seed, label, sizes(drawn, label))


def test_each_split_gets_both_labels_where_each_has_three_groups():
    for seed in range(40):
        generator = random.Random(seed)
        clips = make_clips(generator, (60, 40), groups=4)
        if min(len({clip.group for clip in clips if clip.label == label}) for label in (0, 1)) < 3:
            continue
        drawn = draw_splits(clips, SHARES, seed)
        assert all(min(sizes(drawn, label).values()) > 0 for label in (0, 1)), seed


def test_order_does_not_matter_and_seeds_do():
    generator = random.Random(0)
    clips = make_clips(generator, (50, 50), groups=30, mixed=True)
    expected = {clip.path: clip.split for clip in draw_splits(clips, SHARES, 7)}
    for _ in range(5):
        generator.shuffle(clips)
        assert {clip.path: clip.split for clip in draw_splits(clips, SHARES, 7)} == expected
    assert {clip.path: clip.split for clip in draw_splits(clips, SHARES, 8)} != expected


def test_one_more_clip_moves_few_others():
    for seed in range(20):
        generator = random.Random(seed)
        clips = make_clips(generator, (100, 100))
        before = {clip.path: clip.split for clip in draw_splits(clips, SHARES, seed)}
        extra = LabelledClip("1/extra.avi", 1, "", "", hashlib.sha256(bytes([seed])).hexdigest())
        after = {clip.path: clip.split for clip in draw_splits([*clips, extra], SHARES, seed)}
        assert sum(before[path] != after[path] for path in before) <= 3
