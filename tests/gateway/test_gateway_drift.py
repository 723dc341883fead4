"""Drift of the scores: the index, and what the gateway tells of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from testing.running_gateway import running_gateway
from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from tests.triton.conftest import own_ports
from vdeploy.artifacts.bundle import Bundle, HeldOut
from vdeploy.core.files import write_json
from vdeploy.evaluation.drift import NOTABLE, RecentScores, ScoreHistogram, chance_index, stability_index
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

RANDOM = np.random.default_rng(1)


def clips(count: int, low: int = 0, high: int = 256) -> np.ndarray:
    """Clips of one random colour each, whose scores differ."""
    colours = RANDOM.integers(low, high, (count, 1, 1, 1, 3), np.uint8)
    return np.broadcast_to(colours, (count, 4, 32, 32, 3))


def verified_bundle(folder: Path, count: int = 400, threshold: float = 0.5) -> Bundle:
    """A bundle that has been verified on clips of all colours."""
    bundle = make_tiny_bundle(folder)
    scores = tuple(float(score) for score in tiny_probabilities(clips(count))[:, 1])
    held_out = HeldOut(
        split="test",
        clips=count,
        threshold=threshold,
        agreement=1.0,
        drift_mean=0.0,
        drift_p99=0.0,
        drift_max=0.0,
        accuracy=1.0,
        accuracy_interval=(1.0, 1.0),
        reference_accuracy=1.0,
        roc_auc=None,
        roc_auc_interval=None,
        reference_roc_auc=None,
        probabilities=scores,
        reference=scores,
    )
    manifest = bundle.manifest.model_copy(update={"threshold": threshold, "end_to_end": {"onnx-fp32": held_out}})
    write_json(folder / "bundle.json", manifest.model_dump(mode="json"))
    return Bundle(folder)


def test_equal_shares_have_no_index_and_the_published_example_has_its_own() -> None:
    assert stability_index((10, 20, 30), (100, 200, 300)) == pytest.approx(0, abs=1e-3)
    expected, actual = (5000, 3000, 2000), (3000, 3000, 4000)
    by_hand = (0.3 - 0.5) * np.log(0.3 / 0.5) + (0.4 - 0.2) * np.log(0.4 / 0.2)
    assert stability_index(expected, actual) == pytest.approx(by_hand, rel=1e-3)
    assert np.isfinite(stability_index((10, 0), (0, 10)))


def test_samples_of_one_distribution_exceed_the_chance_index_once_in_a_hundred() -> None:
    exceeded = 0
    for _ in range(500):
        histogram = ScoreHistogram.of(RANDOM.beta(0.5, 0.5, 200).tolist())
        assert histogram is not None
        found = histogram.count(RANDOM.beta(0.5, 0.5, 300).tolist())
        exceeded += stability_index(histogram.counts, found) > chance_index(histogram.counts, found)
    assert 0 <= exceeded <= 15


@pytest.mark.parametrize(
    ("scores", "bins"),
    [([0.1] * 19, 0), ([0.5] * 100, 0), ([0.1] * 10 + [0.9] * 10, 2), (list(np.linspace(0, 1, 500)), 10)],
)
def test_bins_hold_enough_scores(scores: Sequence[float], bins: int) -> None:
    histogram = ScoreHistogram.of(scores)
    assert (len(histogram.counts) if histogram else 0) == bins
    assert histogram is None or sum(histogram.counts) == len(scores)


@pytest.mark.parametrize("values", [{}, {"edges": [0.5], "counts": [1]}, {"edges": [0.5, 0.4], "counts": [1, 1, 1]}])
def test_a_malformed_histogram_is_none(values: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        ScoreHistogram.from_dict(values)


def test_the_last_thousand_scores_count() -> None:
    scores = RecentScores(ScoreHistogram.of(np.linspace(0, 1, 1000).tolist()))
    for score in np.linspace(0, 1, 99):
        scores.add(score)
    assert scores.compare() is None, "too few"
    for score in RANDOM.uniform(0, 1, 1000):
        scores.add(score)
    found = scores.compare()
    assert found is not None
    assert found[0] < 0.03
    assert found[1] == NOTABLE
    for score in RANDOM.uniform(0, 0.3, 1000):
        scores.add(score)
    found = scores.compare()
    assert found is not None
    assert found[0] > 1
    assert RecentScores(None).compare() is None


def send(client: httpx.Client, count: int, low: int, high: int) -> None:
    for clip in clips(count, low, high):
        packed = io.BytesIO()
        np.save(packed, clip)
        headers = {"Content-Type": "application/octet-stream"}
        assert client.post("/predict/frames", content=packed.getvalue(), headers=headers).status_code == 200


def drift_of(client: httpx.Client) -> tuple[float, ...]:
    text = client.get("/metrics").text
    return tuple(map(float, re.findall(r'^vdeploy_gateway_score_drift(?:_limit)?\{.*run="tiny".*\} (\S+)', text, re.M)))


@pytest.mark.slow
def test_the_gateway_tells_when_scores_are_distributed_otherwise(tmp_path: Path) -> None:
    bundle = verified_bundle(tmp_path / "bundle")
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle.root)) as gateway, gateway.client() as client:
        assert client.get("/readyz").status_code == 200
        assert drift_of(client) == ()
        send(client, 200, 0, 256)
        index, limit = drift_of(client)
        assert index < min(limit, 0.2)
        send(client, 300, 200, 256)
        index, limit = drift_of(client)
        assert index > limit >= NOTABLE
        assert not gateway.records("drift_unknown")


@pytest.mark.slow
def test_a_bundle_without_such_scores_has_no_drift_which_is_said_once(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle.root)) as gateway, gateway.client() as client:
        send(client, 101, 0, 256)
        assert drift_of(client) == ()
        (record,) = gateway.records("drift_unknown")
        assert "20 held-out clips" in record["reason"]


@pytest.mark.slow
@pytest.mark.triton
def test_a_server_tells_its_clients_the_scores(tmp_path: Path, install: TritonInstall) -> None:
    bundle = verified_bundle(tmp_path / "bundle")
    repository = write_repository(bundle, tmp_path / "triton_repo")
    kept = json.loads((bundle.root / "bundle.json").read_text())["end_to_end"]["onnx-fp32"]["reference"]
    ports = own_ports().as_arguments()
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **ports) as server,
        TritonScorer(server.url) as scorer,
    ):
        assert scorer.score_histogram == ScoreHistogram.of(kept)
        with running_gateway(tmp_path / "spool", "--url", server.url) as gateway, gateway.client() as client:
            send(client, 240, 200, 256)
            index, limit = drift_of(client)
            assert index > limit
