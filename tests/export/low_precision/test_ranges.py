"""Histograms that grow with what they see, and the ranges that each method reads from them."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.export.onnx.activations import float_activations
from vdeploy.export.quantization import CPU, FLAVOURS, TENSORRT
from vdeploy.export.quantization.histograms import BINS, Histogram, collect_histograms
from vdeploy.export.quantization.ranges import METHODS, PERCENTILE, entropy, min_max, percentile

each_flavour = pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
random = np.random.default_rng(0)
NORMAL = random.normal(size=60_000).astype(np.float32)
RELU = np.maximum(NORMAL, 0)
OUTLIER = np.concatenate([RELU, [np.float32(400)]])


def histogram_of(*portions: np.ndarray) -> Histogram:
    histogram = Histogram()
    for portion in portions:
        histogram.add(portion)
    return histogram


def test_every_value_is_counted_once():
    histogram = histogram_of(NORMAL, RELU, NORMAL)
    assert histogram.counts.sum() == 3 * NORMAL.size
    assert (histogram.low, histogram.high) == (NORMAL.min(), NORMAL.max())
    assert histogram.reach >= np.abs(NORMAL).max() > histogram.reach / 2


def test_growing_gives_what_a_histogram_of_the_final_reach_would_have():
    grown = histogram_of(NORMAL / 64, NORMAL, NORMAL * 8)
    expected, _ = np.histogram(np.concatenate([NORMAL / 64, NORMAL, NORMAL * 8]), 2 * BINS, (-grown.reach, grown.reach))
    np.testing.assert_array_equal(grown.counts, expected)


def test_the_extremes_of_a_large_tensor_are_found_although_it_is_sampled():
    values = np.zeros(1_000_000, np.float32)
    values[[12_345, 777_777]] = [-3, 5]
    histogram = histogram_of(values)
    assert (histogram.low, histogram.high) == (-3, 5)
    assert 50_000 < histogram.counts.sum() < 140_000


def test_magnitudes_join_both_signs():
    histogram = histogram_of(np.array([-0.75, 0.75, 0.25], np.float32))
    assert histogram.magnitudes.sum() == 3
    assert np.flatnonzero(histogram.magnitudes).size <= 3


@each_flavour
def test_min_max_is_what_was_seen(flavour):
    assert min_max(histogram_of(OUTLIER), flavour) == (0, 400)


@each_flavour
def test_percentile_leaves_the_tails_out(flavour):
    low, high = percentile(histogram_of(NORMAL), flavour)
    inside = np.mean((low <= NORMAL) & (high >= NORMAL))
    assert PERCENTILE / 100 - 1e-4 <= inside < 1
    assert percentile(histogram_of(RELU), flavour)[0] == 0


@each_flavour
@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_an_outlier_is_clipped(flavour, method):
    low, high = METHODS[method](histogram_of(OUTLIER), flavour)
    assert low == 0
    assert 2 < high < 100


@each_flavour
@pytest.mark.parametrize("method", METHODS)
def test_no_method_reaches_beyond_what_was_seen(flavour, method):
    for values in (NORMAL, RELU, OUTLIER, np.zeros(10, np.float32), np.full(10, 7, np.float32)):
        low, high = METHODS[method](histogram_of(values), flavour)
        assert values.min() <= low <= high <= values.max()


def test_entropy_keeps_a_flat_distribution_whole():
    flat = np.linspace(0, 1, 60_000, dtype=np.float32)
    for flavour in (CPU, TENSORRT):
        assert entropy(histogram_of(flat), flavour)[1] == pytest.approx(1, abs=0.02)


def test_activations_are_collected_clip_by_clip(extractor_stage):
    seen = []

    def feeds():
        for feed in extractor_stage.feeds()[:3]:
            seen.append(len(seen))
            yield feed

    names = float_activations(extractor_stage.model)
    found = collect_histograms(extractor_stage.model, ["centred", "block1_pool"], feeds())
    assert seen == [0, 1, 2]
    assert {"centred", "block1_pool"} <= set(names)
    assert found["centred"].low < -50
    assert found["centred"].counts.sum() == 3 * 4 * 3 * 32 * 32
    assert found["block1_pool"].low >= 0


def test_no_feeds_give_no_histograms(extractor_stage):
    assert collect_histograms(extractor_stage.model, ["centred"], []) == {}
