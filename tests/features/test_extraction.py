"""Extraction: what the store has is not made again, what is interrupted goes on, what cannot be read is named."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from vdeploy.core.errors import DatasetError
from vdeploy.dataset import Dataset, scan
from vdeploy.features.extraction import extract_dataset
from vdeploy.features.store import FeatureKey, FeatureStore
from vdeploy.video.clips import ClipSpec

SPEC = ClipSpec(frames=4, size=32)
KEY = FeatureKey(SPEC.digest, "avg", "0" * 64, (4, 3))


class MeanColour:
    """An extractor that is quick and tells clips apart."""

    batch_clips = 2

    def __init__(self) -> None:
        self.clips = 0

    def extract(self, frames: np.ndarray) -> np.ndarray:
        self.clips += len(frames)
        return frames.mean(axis=(2, 3), dtype=np.float32)


@pytest.fixture
def dataset(clips_dir: Path) -> Dataset:
    return scan(clips_dir)


def test_a_second_extraction_decodes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    extractor = MeanColour()
    first = extract_dataset(dataset, SPEC, FeatureStore(tmp_path, KEY), lambda: extractor)
    assert (first.hits, first.decoded, extractor.clips) == (0, len(dataset.clips), len(dataset.clips))

    def refuse() -> MeanColour:
        raise AssertionError("VGG19 is not needed")

    second = extract_dataset(dataset, SPEC, FeatureStore(tmp_path, KEY), refuse)
    assert (second.hits, second.decoded) == (len(dataset.clips), 0)
    np.testing.assert_array_equal(first.features, second.features)
    assert first.features.dtype == np.float16


def test_only_what_changed_is_extracted_again(dataset: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "clips"
    shutil.copytree(dataset.root, copy)
    store = tmp_path / "store"
    extract_dataset(scan(copy), SPEC, FeatureStore(store, KEY), MeanColour)
    victim, other = sorted((copy / "violent").iterdir())[:2]
    with victim.open("ab") as file:
        file.write(b"\0")
    other.rename(other.with_name(f"renamed{other.suffix}"))
    extractor = MeanColour()
    result = extract_dataset(scan(copy), SPEC, FeatureStore(store, KEY), lambda: extractor)
    assert (result.hits, result.decoded, extractor.clips) == (len(dataset.clips) - 1, 1, 1)


def test_rows_belong_to_their_clips(dataset: Dataset, tmp_path: Path) -> None:
    whole = extract_dataset(dataset, SPEC, FeatureStore(tmp_path / "a", KEY), MeanColour)
    last = dataclasses.replace(dataset, clips=dataset.clips[-1:])
    alone = extract_dataset(last, SPEC, FeatureStore(tmp_path / "b", KEY), MeanColour)
    np.testing.assert_array_equal(whole.features[-1], alone.features[0])


def test_unreadable_clips_are_named_and_left_out(clips_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "clips"
    shutil.copytree(clips_dir, copy)
    (copy / "violent" / "notes.mp4").write_text("not a video")
    dataset = scan(copy)
    result = extract_dataset(dataset, SPEC, FeatureStore(tmp_path / "store", KEY), MeanColour)
    assert [problem.path for problem in result.dataset.problems] == ["violent/notes.mp4"]
    assert len(result.features) == len(result.dataset.clips) == len(dataset.clips) - 1
    with pytest.raises(DatasetError, match=r"1 clips of .* cannot be used, the first: violent/notes\.mp4"):
        extract_dataset(dataset, SPEC, FeatureStore(tmp_path / "strict", KEY), MeanColour, strict=True)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    for name in ("fight", "no_fight"):
        for index in range(2):
            file = tmp_path / "clips" / name / f"{index}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name} {index}")
    with pytest.raises(DatasetError, match="none of the 4 clips"):
        extract_dataset(scan(tmp_path / "clips"), SPEC, FeatureStore(tmp_path / "store", KEY), MeanColour)


def test_a_killed_extraction_goes_on_where_it_stopped(dataset: Dataset, tmp_path: Path) -> None:
    store = tmp_path / "store"
    code = f"""
        import time
        from pathlib import Path
        from vdeploy.dataset import scan
        from vdeploy.features.store import FeatureStore
        from vdeploy.features.extraction import extract_dataset
        from test_extraction import KEY, SPEC, MeanColour

        class Slow(MeanColour):
            batch_clips = 1
            def extract(self, frames):
                time.sleep(0.1)
                return super().extract(frames)

        store = FeatureStore(Path({str(store)!r}), KEY)
        extract_dataset(scan(Path({str(dataset.root)!r})), SPEC, store, Slow, shard_seconds=0)
    """
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(store.glob("*/*.npy"))) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    extractor = MeanColour()
    resumed = extract_dataset(dataset, SPEC, FeatureStore(store, KEY), lambda: extractor)
    assert 2 <= resumed.hits < len(dataset.clips)
    assert extractor.clips == len(dataset.clips) - resumed.hits
    fresh = extract_dataset(dataset, SPEC, FeatureStore(tmp_path / "fresh", KEY), MeanColour)
    np.testing.assert_array_equal(resumed.features, fresh.features)
