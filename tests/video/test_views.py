"""Several views of a clip: from one decoding, cached as rows of their own, the usual one among them."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testing.videos import read_number, write_numbered
from training.recipe import load_recipe
from vdeploy.core.errors import RecipeError
from vdeploy.dataset import Dataset, scan
from vdeploy.features.extraction import Extraction, extract_dataset
from vdeploy.features.memory_mapped import ShardedFeatures
from vdeploy.features.store import FeatureKey, FeatureStore
from vdeploy.video.augmented_views import AugmentedViews
from vdeploy.video.clips import ClipSpec, read_clip
from vdeploy.video.views import USUAL_VIEW, Views, usual_view
from vdeploy.video.wanted_frames import LONG_GAP_FRAMES, frame_indices

SPEC = ClipSpec(frames=4, size=32)
KEY = FeatureKey(SPEC.digest, "avg", "0" * 64, (4, 3))


class MeanColour:
    """An extractor that is quick and tells frames apart."""

    def __init__(self, batch_clips: int = 2) -> None:
        self.batch_clips = batch_clips
        self.views = 0

    def extract(self, frames: np.ndarray) -> np.ndarray:
        assert 0 < len(frames) <= self.batch_clips
        self.views += len(frames)
        return frames.mean(axis=(2, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def dataset(clips_dir: Path) -> Dataset:
    """Some clips to train on, some not."""
    found = scan(clips_dir, split=(0.5, 0.5, 0.0))
    assert 0 < len(found.of("train")) < len(found.clips)
    return found


def extract(dataset: Dataset, store: Path, views: Views, extractor: MeanColour | None = None) -> Extraction:
    return extract_dataset(
        dataset, SPEC, FeatureStore(store, KEY), lambda: extractor or MeanColour(), views=views, shard_seconds=60
    )


@pytest.mark.parametrize("available", [1, 7, 40, 41, 1000])
@pytest.mark.parametrize("samplings", [1, 3, 5])
def test_each_view_takes_the_frames_that_its_offset_says(available: int, samplings: int) -> None:
    wanted, views = 16, Views(samplings)
    indices = np.array(frame_indices(available, wanted * samplings), np.uint8 if available < 256 else np.int64)
    dealt = views.deal(indices[:, None, None, None], range(samplings), "")[..., 0, 0, 0]
    for view, offset in enumerate(views.offsets):
        assert dealt[view].tolist() == [int((i + offset) * Fraction(available, wanted)) for i in range(wanted)]
    assert dealt[usual_view(views.count)].tolist() == frame_indices(available, wanted)


@pytest.mark.parametrize("count", [37, 12 * LONG_GAP_FRAMES + 5])
def test_one_decoding_brings_all_views_of_short_and_long_videos(tmp_path: Path, count: int) -> None:
    video = write_numbered(tmp_path / "numbered.mp4", count)
    spec = ClipSpec(frames=4, size=64)
    clip = read_clip(video, dataclasses.replace(spec, views=3))
    assert [read_number(frame) for frame in clip.frames] == frame_indices(count, 12)
    np.testing.assert_array_equal(Views(3).deal(clip.frames, [1], "")[0], read_clip(video, spec).frames)


def test_a_clip_that_has_enough_frames_for_one_view_gives_no_warning(tmp_path: Path) -> None:
    video = write_numbered(tmp_path / "short.mp4", 5)
    assert read_clip(video, dataclasses.replace(SPEC, views=3)).warnings == ()


def test_views_are_no_part_of_what_the_network_sees() -> None:
    spec = dataclasses.replace(SPEC, views=3)
    assert spec.digest == SPEC.digest
    assert ClipSpec.from_dict(spec.to_dict()) == SPEC
    assert load_recipe("default", ["clip.views=3"]).clip_spec == ClipSpec()


def test_only_training_clips_have_views_and_the_middle_one_is_the_usual_sampling(
    dataset: Dataset, tmp_path: Path
) -> None:
    extractor = MeanColour()
    one = extract(dataset, tmp_path / "one", USUAL_VIEW)
    three = extract(dataset, tmp_path / "three", Views(3), extractor)
    assert one.training_views is None
    assert extractor.views == len(dataset.clips) + 2 * len(dataset.of("train"))
    np.testing.assert_array_equal(three.features, one.features)
    np.testing.assert_array_equal(three.of("valid"), one.of("valid"))
    np.testing.assert_array_equal(three.to_train_on()[:, 1], one.to_train_on())
    first = dataset.of("train")[0]
    decoded = read_clip(dataset.absolute(first), dataclasses.replace(SPEC, frames=12)).frames
    expected = decoded.mean(axis=(1, 2), dtype=np.float32).astype(np.float16)
    for view in range(3):
        np.testing.assert_array_equal(three.to_train_on()[0, view], expected[view::3])


def test_more_views_extract_only_what_the_store_lacks(dataset: Dataset, tmp_path: Path) -> None:
    extract(dataset, tmp_path, USUAL_VIEW)
    extractor = MeanColour()
    three = extract(dataset, tmp_path, Views(3), extractor)
    assert extractor.views == 2 * len(dataset.of("train"))
    assert three.decoded == len(dataset.of("train"))
    assert three.hits == len(dataset.clips) - three.decoded
    again = extract(dataset, tmp_path, Views(3))
    assert (again.hits, again.decoded) == (len(dataset.clips), 0)
    np.testing.assert_array_equal(again.to_train_on(), three.to_train_on())
    assert extract(dataset, tmp_path, USUAL_VIEW).decoded == 0
    nine = MeanColour(batch_clips=4)
    extract(dataset, tmp_path, Views(9), nine)
    assert nine.views == 6 * len(dataset.of("train"))


@pytest.mark.parametrize("samplings", [1, 3])
def test_a_mirror_image_follows_its_sampling(samplings: int) -> None:
    views = Views(samplings, mirrored=True)
    frames = np.random.default_rng(0).integers(256, size=(2 * samplings, 1, 6, 3), dtype=np.uint8)
    dealt = views.deal(frames, range(views.count), "")
    assert dealt.shape == (2 * samplings, 2, 1, 6, 3)
    np.testing.assert_array_equal(dealt[1::2], dealt[::2, :, :, ::-1])
    np.testing.assert_array_equal(dealt[::2], Views(samplings).deal(frames, range(samplings), ""))
    np.testing.assert_array_equal(dealt[usual_view(views.count)], frames[samplings // 2 :: samplings])
    assert views.row_names("ab")[usual_view(views.count)] == "ab"


def test_mirror_images_are_extracted_for_clips_to_train_on(dataset: Dataset, tmp_path: Path) -> None:
    extract(dataset, tmp_path, USUAL_VIEW)
    extractor = MeanColour()
    found = extract(dataset, tmp_path, Views(mirrored=True), extractor)
    assert extractor.views == len(dataset.of("train"))
    assert found.to_train_on().shape[1] == 2
    np.testing.assert_array_equal(found.to_train_on()[:, 0], found.of("train"))
    assert extract(dataset, tmp_path, Views(3, mirrored=True)).hits == len(dataset.of("valid"))


def test_rows_of_views_are_named_after_their_offset_and_the_mirror() -> None:
    assert Views(mirrored=True).row_names("ab") == ("ab", "ab mirrored")
    assert Views(3, mirrored=True).row_names("ab")[:3] == ("ab@1/6", "ab@1/6 mirrored", "ab")
    assert set(Views(3).offsets) < set(Views(9).offsets)


@pytest.mark.parametrize("views", [0, 2, 4])
def test_views_without_a_middle_are_refused(views: int) -> None:
    with pytest.raises(ValueError, match="samplings must be odd"):
        Views(views)
    with pytest.raises(RecipeError, match=r"clip\.?\w*: .*(odd|greater)"):
        load_recipe("default", [f"clip.views={views}"])
    with pytest.raises(ValueError, match="views must be at least 1"):
        ClipSpec(views=0)


@pytest.mark.parametrize("samplings", [1, 3])
def test_features_beyond_the_limit_stay_on_the_disk(dataset: Dataset, tmp_path: Path, samplings: int) -> None:
    views = Views(samplings)
    whole = extract(dataset, tmp_path, views)
    store = FeatureStore(tmp_path, KEY)
    lazy = extract_dataset(dataset, SPEC, store, MeanColour, views=views, memory_limit=1)
    for one, other in [(lazy.of("valid"), whole.of("valid")), (lazy.to_train_on(), whole.to_train_on())]:
        assert isinstance(one, ShardedFeatures)
        assert one.shape == other.shape
        np.testing.assert_array_equal(one[:], other)
        np.testing.assert_array_equal(one[::-1], other[::-1])


def augmented(count: int = 3, **transforms: Any) -> AugmentedViews:
    off = {name: 0.0 for name in AugmentedViews.model_fields if name not in ("count", "seed")}
    return AugmentedViews(count=count, **{**off, **transforms})


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("views", [USUAL_VIEW, Views(3, mirrored=True)])
def test_the_usual_view_stays_in_the_middle_and_the_others_what_they_are(views: Views, count: int) -> None:
    with_more = dataclasses.replace(views, augmented=augmented(count=count, crop=0.5, time_shift=0.3))
    assert with_more.count == views.count + count
    assert with_more.decoded == 5 * views.samplings
    names = with_more.row_names("ab")
    assert names[usual_view(with_more.count)] == "ab"
    assert [name for name in names if "augmented" not in name] == list(views.row_names("ab"))
    assert len(set(names)) == len(names)
    fine = np.random.default_rng(0).integers(256, size=(4 * with_more.decoded, 8, 8, 3), dtype=np.uint8)
    plain = views.deal(fine.reshape(-1, 5, 8, 8, 3)[:, 2], range(views.count), "ab")
    dealt = dict(zip(names, with_more.deal(fine, range(with_more.count), "ab"), strict=True))
    for name, view in zip(views.row_names("ab"), plain, strict=True):
        np.testing.assert_array_equal(dealt[name], view)


def test_a_view_is_the_same_however_many_there_are_and_whatever_stands_beside_it() -> None:
    few, more = (
        Views(augmented=augmented(count=1, time_shift=0.3)),
        Views(3, augmented=augmented(count=4, time_shift=0.3)),
    )
    fine = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    usual = fine.reshape(-1, 3, 4, 4, 3)[:, 1]
    one = dict(zip(few.row_names("ab"), few.deal(usual, range(few.count), "ab"), strict=True))
    other = dict(zip(more.row_names("ab"), more.deal(fine, range(more.count), "ab"), strict=True))
    assert set(one) < set(other)
    for name, view in one.items():
        np.testing.assert_array_equal(view, other[name])


def test_only_training_clips_are_augmented_and_the_store_keeps_what_was_made(dataset: Dataset, tmp_path: Path) -> None:
    plain = extract(dataset, tmp_path, USUAL_VIEW)
    views = Views(augmented=augmented(low_light=3.0, frame_rate=0.5))
    extractor = MeanColour()
    found = extract(dataset, tmp_path, views, extractor)
    assert extractor.views == 3 * len(dataset.of("train"))
    np.testing.assert_array_equal(found.features, plain.features)
    np.testing.assert_array_equal(found.of("valid"), plain.of("valid"))
    np.testing.assert_array_equal(found.to_train_on()[:, usual_view(4)], plain.of("train"))
    first = dataset.of("train")[0]
    decoded = read_clip(dataset.absolute(first), dataclasses.replace(SPEC, views=5)).frames
    made = views.augmented.make(decoded, SPEC.frames, first.sha256, 0)
    expected = made.mean(axis=(1, 2), dtype=np.float32).astype(np.float16)
    np.testing.assert_array_equal(found.to_train_on()[0, 0], expected)
    again = MeanColour()
    np.testing.assert_array_equal(extract(dataset, tmp_path, views, again).to_train_on(), found.to_train_on())
    assert again.views == 0


def test_without_copies_nothing_is_decoded_or_named_differently(dataset: Dataset, tmp_path: Path) -> None:
    views = Views(augmented=AugmentedViews(count=0, crop=0.9))
    assert (views.count, views.decoded, views.row_names("ab")) == (1, 1, ("ab",))
    assert extract(dataset, tmp_path, views).training_views is None
    assert len(FeatureStore(tmp_path, KEY)) == len({clip.sha256 for clip in dataset.clips})
    assert "augmented_views" not in load_recipe("default").identity
