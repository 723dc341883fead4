"""The search on a real Triton, its page, and what a user is told where it cannot be."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from testing.tiny_bundle import make_tiny_bundle
from tests.triton.planning.conftest import fake_install
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.report.tuning_page import write_tuning_page
from vdeploy.benchmark.tuning import tune
from vdeploy.benchmark.tuning.arrivals import Arrivals, poisson_arrivals
from vdeploy.benchmark.tuning.open_loop import Load
from vdeploy.benchmark.tuning.search import Outcome, Trial
from vdeploy.benchmark.tuning.table import comparison, table_rows
from vdeploy.benchmark.tuning.trial_server import TrialServer
from vdeploy.benchmark.tuning.tune import Tuned, TuningRequest, tune_serving
from vdeploy.cli import app as cli
from vdeploy.core.errors import BenchmarkError, StudyError
from vdeploy.triton.planning.tuned_serving import Configuration, HeldRate, LoadKind, TunedServing, load_tuned
from vdeploy.triton.server.install import TritonInstall

REQUEST = TuningRequest(200.0, poisson_arrivals(), trials=3, requests=100)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    return make_tiny_bundle(tmp_path / "bundle")


@pytest.mark.slow
@pytest.mark.triton
def test_a_real_server_is_tuned(
    bundle: Bundle, install: TritonInstall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "find_install", lambda: install)
    generous = dataclasses.replace(REQUEST, slo_ms=1000.0, trials=1, requests=40)
    found = tune_serving(bundle, generous, tmp_path / "out")
    assert load_tuned(bundle) == found.record
    assert len(found.trials) == 1
    assert found.trials[0].configuration == found.record.configuration
    assert found.record.held.clips_per_s > 10
    assert found.record.held.cpu_s_per_clip
    assert found.record.held.cpu_s_per_clip < 0.1
    monkeypatch.setattr(tune, "_measure", None)  # nothing is left to be measured
    again = tune_serving(bundle, generous, tmp_path / "out")
    assert again.trials == found.trials
    assert again.record.held == found.record.held


@pytest.mark.parametrize("rates", [(0.0, 0.0), (5.0, 0.0)])
def test_an_objective_that_nothing_holds(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: tuple[float, float]
) -> None:
    """In the search, or only by the arrivals that confirm."""

    def measure(*_: object, confirm: bool) -> Outcome:
        return Outcome(HeldRate(clips_per_s=rates[confirm]), problem="the objective is missed at every rate")

    monkeypatch.setattr(tune, "find_install", lambda: fake_install(tmp_path / "backends", "python"))
    monkeypatch.setattr(tune, "_measure", measure)
    with pytest.raises(
        BenchmarkError, match="but nothing by other arrivals" if rates[0] else "no configuration holds a"
    ):
        tune_serving(bundle, REQUEST, tmp_path / "out")
    assert load_tuned(bundle) is None


@pytest.mark.parametrize(("kind", "share"), [("clips", 1), ("frames", 4)])
def test_rates_are_told_in_clips(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: LoadKind, share: int
) -> None:
    """A server that answers at once up to 40 requests a second; a clip has 4 frames."""

    asked: list[tuple[int, float]] = []

    class Answering(TrialServer):
        def load(self, rate: float, _: Arrivals, requests: int, slo_ms: float, part: int) -> Load:
            asked.append((part, rate))
            self.requests += requests
            self.cpu_s += 0.02 * requests
            return Load(rate, requests, np.full(requests, 1.0 if rate < 40 else 2 * slo_ms))

    @contextlib.contextmanager
    def server(*_: object) -> Iterator[TrialServer]:
        yield Answering(lambda *_: None, kind, 0.05)

    monkeypatch.setattr(tune, "find_install", lambda: fake_install(tmp_path / "backends", "python"))
    monkeypatch.setattr(tune, "open_trial_server", server)
    request = dataclasses.replace(REQUEST, trials=1, load=kind)
    found = tune_serving(bundle, request, tmp_path / "out")
    record = found.record
    assert record.load == kind
    assert record.held.clips_per_s == pytest.approx(40 / share, rel=0.05)
    assert record.held.cpu_s_per_clip == pytest.approx(0.02 * share)
    assert max(rate for rate, _, late in found.trials[0].outcome.points) < 70 / share
    begins = {part: next(rate for other, rate in asked if other == part) for part in range(4)}
    assert begins[2] == begins[3] == pytest.approx(40, rel=0.05), "further arrivals begin where the first ones ended"
    assert begins[0] == begins[1] == pytest.approx(12, rel=0.05)
    other = dataclasses.replace(request, load="streams")
    with pytest.raises(StudyError, match="is a search with another load"):
        tune_serving(bundle, other, tmp_path / "out")


@pytest.mark.parametrize("leads", [True, False])
def test_what_leads_by_chance_is_not_kept(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leads: bool
) -> None:
    def measure(_: Bundle, configuration: Configuration, *__: object, confirm: bool) -> Outcome:
        is_usual = configuration.max_batch == 8
        return Outcome(HeldRate(clips_per_s=10.0 if is_usual is (confirm and not leads) else 9.0))

    monkeypatch.setattr(tune, "find_install", lambda: fake_install(tmp_path / "backends", "python"))
    monkeypatch.setattr(tune, "_measure", measure)
    record = tune_serving(bundle, dataclasses.replace(REQUEST, trials=2), tmp_path / "out").record
    assert (record.configuration == record.defaults) is not leads
    assert record.held.clips_per_s == 10
    assert comparison(record).startswith("the defaults are best") is not leads


def test_a_configuration_that_cannot_be_served_is_a_trial_with_the_reason(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "find_install", lambda: fake_install(tmp_path / "backends", "python"))
    with pytest.raises(BenchmarkError, match=r"no configuration holds a p99 of 200 ms \(Triton ended with exit code 1"):
        tune_serving(bundle, dataclasses.replace(REQUEST, trials=1), tmp_path / "out")


def a_result() -> Tuned:
    usual = Configuration("python", "onnx-fp32", "onnx-fp32", 1, 2, 8, None)
    best = dataclasses.replace(usual, extractor="openvino-int8", max_batch=1)
    points = ((5.0, 80.0, False), (10.0, 190.0, False), (20.0, 900.0, True))
    outcome = Outcome(HeldRate(clips_per_s=10, p99_ms=190, cpu_s_per_clip=0.1), points)
    record = TunedServing(
        bundle_sha256="0" * 64,
        cpu="Abacus <2>",
        cores=2,
        vdeploy_version="0.2.0",
        measured="2026-11-30T01:02:03+00:00",
        slo_p99_ms=200,
        goal="throughput",
        arrivals="Poisson arrivals, seed 0",
        requests=200,
        trials=3,
        configuration=best,
        held=HeldRate(clips_per_s=9, low=8, high=10),
        defaults=usual,
        defaults_held=HeldRate(clips_per_s=6, low=5, high=7),
    )
    failed = Trial(dataclasses.replace(best, instances=2), Outcome.failed("no room"))
    return Tuned(record, (Trial(best, outcome), Trial(usual, outcome), failed))


def test_a_table_and_a_sentence() -> None:
    found = a_result()
    rows = table_rows(found)
    assert rows[0] == ("openvino-int8", "onnx-fp32", "python", 1, 2, 1, None, "10", "190", "100", "")
    assert [row[-1] for row in rows] == ["", "defaults", "no room"]
    assert comparison(found.record) == (
        "openvino-int8 and onnx-fp32, 1 x 2 threads, no batches: 9 clips/s (8 to 10) on other arrivals, the defaults "
        "6 clips/s (5 to 7): 1.50x"
    )
    best = found.record.model_copy(update={"configuration": found.record.defaults})
    assert comparison(best) == "the defaults are best: 9 clips/s (8 to 10)"
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_page(tmp_path: Path) -> None:
    write_tuning_page(tmp_path / "a" / "page.html", a_result(), "<run>")
    page = (tmp_path / "a" / "page.html").read_text()
    assert "Abacus &lt;2&gt;" in page
    assert "<run>" not in page
    assert "1.50x" in page
    assert page.count('<i class="swatch"') == 2
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("missing", "--slo-p99-ms", "100"), 1, "missing is no bundle"),
        (("bundle",), 2, "--slo-p99-ms"),
        (("bundle", "--slo-p99-ms", "0"), 2, "--slo-p99-ms"),
        (("bundle", "--slo-p99-ms", "nan"), 2, "--slo-p99-ms"),
        (("bundle", "--slo-p99-ms", "100", "--requests", "10"), 2, "--requests"),
        (("bundle", "--slo-p99-ms", "100", "--arrivals", "none.txt"), 1, "none.txt holds no arrivals"),
        (("bundle", "--slo-p99-ms", "100", "--out", "file"), 1, "file cannot be written"),
        (("bundle", "--slo-p99-ms", "100", "--load", "videos"), 2, "--load"),
        (("bundle", "--slo-p99-ms", "100", "--url", "127.0.0.1:9"), 1, "no Triton answers at 127.0.0.1:9"),
        (("bundle", "--slo-p99-ms", "100", "--url", "127.0.0.1:9", "--trials", "3"), 2, "leave --trials out"),
        (("bundle", "--slo-p99-ms", "100", "--precision", "fp16"), 1, "holds no extractor in onnx-fp16"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    monkeypatch.setattr(tune, "find_install", lambda: fake_install(tmp_path / "backends", "python"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["vdeploy", "tune-serving", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert reason in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} <= {"bundle", "file", "backends", "cache"}
