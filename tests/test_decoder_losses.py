"""A file that ends its decoder costs that file alone: in the scan, in training, prediction and evaluation."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from testing.decoder_kills import kill_decoder_of, write_heavy
from testing.tiny_bundle import make_tiny_bundle
from tests.features.test_extraction import KEY, SPEC, MeanColour
from vdeploy.core.errors import ClipError, DatasetError
from vdeploy.dataset import scan
from vdeploy.dataset.validation import inspect_dataset
from vdeploy.detector import detect_all, predict_videos
from vdeploy.evaluate import evaluate_on
from vdeploy.features.extraction import extract_dataset
from vdeploy.features.store import FeatureStore
from vdeploy.inference.in_process import LocalScorer
from vdeploy.timeline.timeline import Timeline

pytestmark = pytest.mark.slow

SIGNALS = pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])


@pytest.fixture(scope="module")
def victim(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in a data set, which takes seconds to decode."""
    root = tmp_path_factory.mktemp("data") / "clips"
    shutil.copytree(clips_dir, root)
    return write_heavy(root / "violent" / "victim.avi")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> LocalScorer:
    return LocalScorer(make_tiny_bundle(tmp_path_factory.mktemp("bundle")))


def cause(number: signal.Signals) -> str:
    by_system = ", as the system does where memory runs out" if number == signal.SIGKILL else ""
    return f"cannot be decoded: its decoder was ended by {number.name}{by_system}"


@SIGNALS
def test_in_a_scan(victim: Path, number: signal.Signals):
    with kill_decoder_of(victim, number):
        inspection = inspect_dataset(victim.parents[1])
    (problem,) = inspection.dataset.problems
    assert (problem.path, problem.reason) == ("violent/victim.avi", cause(number))
    assert len(inspection.dataset.clips) == 20


@SIGNALS
def test_in_the_extraction_for_a_training(victim: Path, tmp_path: Path, number: signal.Signals):
    dataset = scan(victim.parents[1])
    with kill_decoder_of(victim, number):
        extraction = extract_dataset(dataset, SPEC, FeatureStore(tmp_path, KEY), MeanColour)
    assert [(one.path, one.reason) for one in extraction.dataset.problems] == [("violent/victim.avi", cause(number))]
    assert extraction.decoded == len(extraction.dataset.clips) == 20


def test_in_a_strict_extraction(victim: Path, tmp_path: Path):
    with kill_decoder_of(victim), pytest.raises(DatasetError, match=r"victim.avi: .* ended by SIGSEGV"):
        extract_dataset(scan(victim.parents[1]), SPEC, FeatureStore(tmp_path, KEY), MeanColour, strict=True)


@SIGNALS
def test_in_predictions(victim: Path, scorer: LocalScorer, number: signal.Signals):
    paths = sorted(victim.parent.iterdir())
    with kill_decoder_of(victim, number):
        found = list(predict_videos(paths, scorer))
    assert [one.path for one in found] == [str(path) for path in paths]
    assert {one.path: one.error for one in found if one.error} == {str(victim): cause(number)}


@SIGNALS
def test_in_timelines(victim: Path, scorer: LocalScorer, number: signal.Signals):
    paths = sorted(victim.parent.iterdir())
    with kill_decoder_of(victim, number):
        found = dict(detect_all(paths, scorer))
    lost = found.pop(victim)
    assert isinstance(lost, ClipError)
    assert lost.reason == cause(number)
    assert len(found) == 10
    assert all(isinstance(one, Timeline) for one in found.values())


@SIGNALS
def test_in_an_evaluation(victim: Path, tmp_path: Path, number: signal.Signals):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with kill_decoder_of(victim, number):
        result = evaluate_on(bundle.root, victim.parents[1], split="all", positive=(), store_root=tmp_path / "store")
    assert result.to_dict()["left_out"] == [{"path": "violent/victim.avi", "reason": cause(number)}]
    assert len(result.probabilities) == 20
