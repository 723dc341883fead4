"""Every augmentation does what its line in the recipe says, and nothing when it is off."""

from __future__ import annotations

import numpy as np
import pytest

from training.engine.augmentation import draw_frames, draw_mixing
from training.engine.epoch_plan import FeatureSplit, plan_epoch
from training.recipe_sections import AugmentSection

OFF = AugmentSection()


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_off_means_the_frames_as_they_are() -> None:
    np.testing.assert_array_equal(draw_frames(random(), 5, 1, 4, OFF), np.tile(np.arange(4), (5, 1)))
    assert draw_mixing(random(), 8, 4, 4, OFF) is None


def test_jitter_moves_a_frame_to_a_neighbour_with_probability_p() -> None:
    moved = draw_frames(random(), 20_000, 1, 8, AugmentSection(frame_jitter=0.3)) - np.arange(8)
    assert set(np.unique(moved)) == {-1, 0, 1}
    np.testing.assert_allclose(np.mean(moved != 0, axis=0), 0.3, atol=0.02)
    np.testing.assert_allclose(np.mean(moved[:, 1:-1] == 1, axis=0), 0.15, atol=0.02)
    assert (moved[:, 0] >= 0).all()
    assert (moved[:, -1] <= 0).all()


def test_a_dropped_frame_repeats_the_last_one_that_was_kept() -> None:
    frames = draw_frames(random(), 20_000, 1, 6, AugmentSection(frame_drop=0.4))
    assert (frames[:, 0] == 0).all()
    lost = frames[:, 1:] != np.arange(1, 6)
    np.testing.assert_allclose(lost.mean(axis=0), 0.4, atol=0.02)
    assert (frames[:, 1:][lost] == frames[:, :-1][lost]).all()


def test_jitter_of_a_single_frame_has_no_neighbour_to_take() -> None:
    assert (draw_frames(random(), 9, 1, 1, AugmentSection(frame_jitter=1, frame_drop=0.9)) == 0).all()


def test_each_view_is_as_likely_and_a_clip_stays_in_one() -> None:
    frames = draw_frames(random(), 9000, 3, 4, OFF)
    views = frames // 4
    assert (views == views[:, :1]).all()
    np.testing.assert_array_equal(frames % 4, np.tile(np.arange(4), (9000, 1)))
    np.testing.assert_allclose(np.bincount(views[:, 0]) / 9000, 1 / 3, atol=0.02)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_draws_a_share_from_beta_and_a_partner_in_the_batch(alpha: float) -> None:
    mixing = draw_mixing(random(), 40_000, 8, 4, AugmentSection(mixup=alpha))
    assert mixing is not None
    np.testing.assert_array_equal(mixing.share, random().beta(alpha, alpha, 40_000).astype(np.float32))
    assert mixing.share.mean() == pytest.approx(0.5, abs=0.01)
    assert mixing.share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    np.testing.assert_array_equal(mixing.partner // 8, np.arange(40_000) // 8)
    np.testing.assert_array_equal(np.sort(mixing.partner), np.arange(40_000))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_cutmix_pastes_one_stretch_anywhere_and_the_share_is_what_stays(alpha: float) -> None:
    mixing = draw_mixing(random(), 40_000, 8, 10, AugmentSection(cutmix=alpha))
    assert mixing is not None
    assert mixing.pasted is not None
    edges = np.abs(np.diff(np.pad(mixing.pasted, ((0, 0), (1, 1))).astype(int))).sum(axis=1)
    assert set(np.unique(edges)) == {0, 2}
    lengths = mixing.pasted.sum(axis=1)
    assert set(np.unique(lengths)) == set(range(11))
    np.testing.assert_allclose(mixing.share, 1 - lengths / 10, atol=1e-6)
    assert mixing.share.mean() == pytest.approx(0.5, abs=0.01)
    assert mixing.share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    starts = np.bincount(mixing.pasted[lengths == 5].argmax(axis=1), minlength=10) / (lengths == 5).sum()
    np.testing.assert_allclose(starts, np.where(np.arange(10) < 6, 1 / 6, 0), atol=0.03)
    np.testing.assert_array_equal(mixing.partner // 8, np.arange(40_000) // 8)
    np.testing.assert_array_equal(np.sort(mixing.partner), np.arange(40_000))


def split(count: int, views: int = 1) -> FeatureSplit:
    shape = (count, views, 4, 6) if views > 1 else (count, 4, 6)
    return FeatureSplit(random().normal(size=shape).astype(np.float16), np.arange(count) % 3 % 2)


def test_a_plan_is_a_permutation_whose_padding_weighs_nothing() -> None:
    plan = plan_epoch(split(10), (0, 1), 4, np.array([1, 3], np.float32), OFF)
    assert plan.rows.shape == (3, 4)
    np.testing.assert_array_equal(np.sort(plan.rows.ravel()[:10]), np.arange(10))
    np.testing.assert_array_equal(plan.counts, [4, 4, 2])
    labels = split(10).labels[plan.rows]
    np.testing.assert_array_equal(plan.targets, np.eye(2)[labels])
    np.testing.assert_array_equal(plan.weights.ravel()[:10], np.where(labels, 3, 1).ravel()[:10])
    np.testing.assert_array_equal(plan.weights.ravel()[10:], 0)
    assert not np.array_equal(plan.rows, plan_epoch(split(10), (0, 2), 4, np.ones(2, np.float32), OFF).rows)
    assert not np.array_equal(plan.rows, plan_epoch(split(10), (1, 1), 4, np.ones(2, np.float32), OFF).rows)


def test_mixed_targets_and_weights_follow_the_shares() -> None:
    plan = plan_epoch(split(8), (0, 1), 4, np.array([1, 3], np.float32), AugmentSection(mixup=1))
    assert plan.share is not None
    assert plan.partner is not None
    labels = split(8).labels[plan.rows]
    others = np.take_along_axis(labels, plan.partner, axis=1)
    positive = plan.share * labels + (1 - plan.share) * others
    np.testing.assert_allclose(plan.targets[..., 1], positive, rtol=1e-6)
    np.testing.assert_allclose(plan.targets.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(plan.weights, 1 + 2 * positive, rtol=1e-6)


def test_pasted_steps_are_those_of_the_partner_and_the_target_is_that_of_the_steps() -> None:
    several, weights = split(10, views=3), np.array([1, 3], np.float32)
    plan = plan_epoch(several, (0, 1), 5, weights, AugmentSection(cutmix=1, frame_jitter=0.5))
    plain = plan_epoch(several, (0, 1), 5, weights, AugmentSection(frame_jitter=0.5)).table_rows()
    assert plan.origin is not None
    assert plan.share is None
    for step, clip in np.ndindex(2, 5):
        assert len({clip, *plan.origin[step, clip].tolist()}) <= 2
        for time in range(4):
            assert plan.table_rows()[step, time, clip] == plain[step, time, plan.origin[step, clip, time]]
    stays = (plan.origin == np.arange(5)[:, None]).mean(axis=2)
    assert ((stays > 0) & (stays < 1)).any()
    positive = np.take_along_axis(several.labels[plan.rows][:, :, None], plan.origin, axis=1).mean(axis=2)
    np.testing.assert_allclose(plan.targets[..., 1], positive, atol=1e-6)
    np.testing.assert_allclose(plan.targets.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(plan.weights, 1 + 2 * positive, rtol=1e-6)
    again = plan_epoch(several, (0, 1), 5, weights, AugmentSection(cutmix=1, frame_jitter=0.5))
    np.testing.assert_array_equal(again.table_rows(), plan.table_rows())
    other = plan_epoch(several, (0, 2), 5, weights, AugmentSection(cutmix=1, frame_jitter=0.5))
    assert not np.array_equal(other.origin, plan.origin)


def test_a_share_of_0_or_1_swaps_whole_clips() -> None:
    plan = plan_epoch(split(64), (0, 1), 32, np.ones(2, np.float32), AugmentSection(cutmix=1e-9))
    assert plan.origin is not None
    assert (plan.origin == plan.origin[..., :1]).all()
    swapped = plan.origin[..., 0] != np.arange(32)
    assert 0.3 < swapped.mean() < 0.7
    labels = np.take_along_axis(split(64).labels[plan.rows], plan.origin[..., 0], axis=1)
    np.testing.assert_array_equal(plan.targets, np.eye(2)[labels])


def test_with_mixup_as_well_each_batch_gets_one_of_both() -> None:
    both = AugmentSection(mixup=1, cutmix=1)
    plan = plan_epoch(split(1600), (0, 1), 8, np.ones(2, np.float32), both)
    assert plan.origin is not None
    assert plan.share is not None
    assert plan.partner is not None
    is_cut = (plan.origin != np.arange(8)[:, None]).any(axis=(1, 2))
    np.testing.assert_array_equal(is_cut, (plan.share == 1).all(axis=1))
    assert 0.4 < is_cut.mean() < 0.6
    labels = split(1600).labels[plan.rows]
    added = plan.share * labels + (1 - plan.share) * np.take_along_axis(labels, plan.partner, axis=1)
    pasted = np.take_along_axis(labels[:, :, None], plan.origin, axis=1).mean(axis=2)
    np.testing.assert_allclose(plan.targets[..., 1], np.where(is_cut[:, None], pasted, added), atol=1e-6)


def test_table_rows_point_at_the_frames_of_the_chosen_view() -> None:
    several = split(10, views=3)
    plan = plan_epoch(several, (0, 1), 5, np.ones(2, np.float32), AugmentSection(frame_jitter=0.5))
    table = np.asarray(several.features[:]).reshape(-1, 6)
    gathered = table[plan.table_rows()].transpose(0, 2, 1, 3)
    for step, batch in np.ndindex(2, 5):
        view, frames = np.divmod(plan.frames[step, batch], 4)
        expected = several.features[plan.rows[step, batch]][view[0], frames]
        np.testing.assert_array_equal(gathered[step, batch], expected)
