"""What is wrong with the data is found where it is, and not where it is not."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from testing.videos import write_video
from training.model_choice.data_checks import check_duplicates, check_metadata, check_sources
from training.model_choice.near_duplicates import alike_across_sources, hash_frames
from training.pipeline import scan_source
from training.recipe import load_recipe
from vdeploy.dataset import Dataset


def textured(seed: int, *, size: int = 96, moved: int = 0) -> list[np.ndarray]:
    """Frames of one scene: broad patches with a seed of their own."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    frame = np.kron(coarse, np.ones((size // 6, size // 6, 1), np.uint8))
    return [np.roll(frame, moved * number, axis=1) for number in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(8):
        write_video(tmp_path / f"{number}.mp4", textured(number))
    return tmp_path


def dataset(folder: Path, rows: list[tuple[str, str, str]]) -> Dataset:
    with (folder / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    return scan_source(folder / "clips.csv", load_recipe("edge"))


def rows(count: int = 8) -> list[tuple[str, str, str]]:
    return [(f"{number}.mp4", ("fight", "normal")[number % 2], f"s{number}") for number in range(count)]


def test_clips_that_name_no_source(folder: Path):
    found = check_sources(dataset(folder, [(path, label, "") for path, label, _ in rows()]))
    assert [finding.code for finding in found] == ["groups missing", "few sources"]
    assert found[0].text.startswith("8 of 8 clips name no source")


def test_few_sources(folder: Path):
    (found,) = check_sources(dataset(folder, rows()))
    assert found.text.startswith("8 sources are too few to tell models apart")


def test_a_recompressed_copy_in_another_source_is_found(folder: Path):
    assert check_duplicates(dataset(folder, rows())) == []
    write_video(folder / "copy.avi", [frame[::2, ::2].copy() for frame in textured(3)])
    (found,) = check_duplicates(dataset(folder, [*rows(), ("copy.avi", "fight", "other")]))
    assert found.code == "look-alikes"
    assert "1 pairs of clips" in found.text
    assert "3.mp4" in found.text
    assert "copy.avi" in found.text


def test_a_copy_in_the_same_source_is_none_of_our_business(folder: Path):
    write_video(folder / "copy.avi", [frame[::2, ::2].copy() for frame in textured(3)])
    assert check_duplicates(dataset(folder, [*rows(), ("copy.avi", "fight", "s3")])) == []


def test_pairs_across_blocks_of_rows():
    rng = np.random.default_rng(0)
    hashes = rng.random((600, 189)) > 0.5
    hashes[599] = hashes[3]
    hashes[400] = ~hashes[3]
    sources = np.array([f"s{number}" for number in range(600)])
    assert list(alike_across_sources(hashes, sources)) == [(3, 599)]


def test_the_hash_keeps_through_brightness_and_noise():
    rng = np.random.default_rng(1)
    frames = np.kron(rng.integers(40, 200, (3, 8, 8, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    brighter = np.clip(frames * 1.1 + rng.normal(0, 2, frames.shape) + 5, 0, 255).astype(np.uint8)
    assert np.mean(hash_frames(frames) != hash_frames(brighter)) < 0.05
    assert np.mean(hash_frames(frames) != hash_frames(frames[:, ::-1])) > 0.3


@pytest.mark.slow
def test_a_label_that_the_length_gives_away(tmp_path: Path):
    lines = []
    for number in range(24):
        label = number % 2
        frames = textured(number, size=48)
        write_video(tmp_path / f"{number}.mp4", frames if label else frames * 3)
        lines.append((f"{number}.mp4", ("normal", "fight")[label], f"s{number}"))
    judged, (found,) = check_metadata(dataset(tmp_path, lines), folds=3, seeds=1)
    assert judged is not None
    assert judged.roc_auc().value > 0.9
    assert found.code == "metadata"
    assert "duration, frame rate, width, height and bit rate alone predict the label" in found.text


def test_a_label_that_nothing_gives_away(tmp_path: Path):
    write_video(tmp_path / "0.mp4", textured(0, size=48))
    content = (tmp_path / "0.mp4").read_bytes()
    lines = []
    for number in range(24):
        shutil.copy(tmp_path / "0.mp4", tmp_path / f"{number:02}.mp4")
        # Another hash, the same header: bytes after the last box are ignored.
        (tmp_path / f"{number:02}.mp4").write_bytes(content + b"\0\0\0\x09free" + bytes([number]))
        lines.append((f"{number:02}.mp4", ("normal", "fight")[number // 2 % 2], f"s{number}"))
    judged, found = check_metadata(dataset(tmp_path, lines), folds=3, seeds=1)
    assert judged is not None
    assert found == []
