"""Alert rules and dashboard ask for what a real Triton tells, and fire when they should."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from testing.debian import Unavailable, fetch_packages
from testing.tiny_bundle import make_tiny_bundle
from tests.triton.conftest import own_ports
from vdeploy.core.errors import ServerError
from vdeploy.evaluation.drift_metrics import DriftCollector
from vdeploy.gateway.metrics import Metrics
from vdeploy.inference.in_process import LocalScorer
from vdeploy.live.metrics import WatchMetrics
from vdeploy.triton.probe import probe
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import find_install
from vdeploy.triton.server.server import TritonServer

DOCKER = Path(__file__).parents[2] / "docker"
ALERTS = DOCKER / "prometheus" / "alerts.yml"
DASHBOARD = DOCKER / "grafana" / "dashboards" / "triton.json"
AUTOSCALER = DOCKER / "kubernetes" / "base" / "autoscaler.yaml"

ONLY_WITH_A_GPU = {
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
    "nv_gpu_utilization",
}
"""Documented in Triton's metrics guide; a server without a GPU does not tell them."""


@pytest.fixture(scope="module")
def exposition(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a real Triton that keeps streams answers at /metrics, after an inference."""
    folder = tmp_path_factory.mktemp("metrics")
    try:
        install = find_install()
    except ServerError as reason:
        pytest.skip(str(reason))
    options = ServingOptions(streams=StreamOptions(1))
    repository = write_repository(make_tiny_bundle(folder / "bundle"), folder / "repository", options=options)
    ports = own_ports()
    with TritonServer(repository, install=install, log_file=folder / "log", **ports.as_arguments()) as server:
        probe(server.url)
        with urllib.request.urlopen(f"http://127.0.0.1:{ports.metrics}/metrics") as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return fetch_packages("prometheus", ["prometheus/bookworm"]) / "usr" / "bin" / "promtool"
    except Unavailable as reason:
        pytest.skip(str(reason))


def strings(value: Any) -> Iterator[str]:
    """The PromQL expressions of a dashboard."""
    if isinstance(value, dict):
        yield from (part for key, part in value.items() if key == "expr" and isinstance(part, str))
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from strings(part)


def selectors(text: str) -> set[str]:
    return set(re.findall(r"\bnv_[a-z_]+", text))


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.parametrize("file", [ALERTS, DASHBOARD, AUTOSCALER], ids=lambda file: file.name)
def test_every_metric_that_is_asked_for_is_told_by_triton(file, exposition):
    asked = selectors(file.read_text())
    told = set(re.findall(r"^(nv_[a-z_]+)\{?", exposition, re.MULTILINE))
    assert asked
    assert asked - told <= ONLY_WITH_A_GPU
    assert not ONLY_WITH_A_GPU & told


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=lambda file: file.name)
def test_every_label_that_is_asked_for_is_told_by_triton(file, exposition):
    text = file.read_text().replace('\\"', '"')
    for name, labels in re.findall(r"\b(nv_[a-z_]+)\{([^}]*)\}", text):
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', labels):
            values = re.findall(rf'^{name}\{{.*?\b{label}="([^"]*)"', exposition, re.MULTILINE)
            assert values, f"{name} has no label {label}"
            wanted = value.split("|") if "~" in operator else [value]
            assert set(wanted) <= set(values), f"{name}{{{label}}} is never {value}"


def test_every_metric_that_is_asked_of_the_gateway_and_of_watch_is_its_own(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.register(DriftCollector("vdeploy_gateway", tuple))
    watch = WatchMetrics([], LocalScorer(make_tiny_bundle(tmp_path / "bundle")))
    told = set(re.findall(r"# HELP (\w+)", metrics.text().decode() + generate_latest(watch.registry).decode()))
    for file in (ALERTS, DASHBOARD):
        asked = set(re.findall(r"\bvdeploy_(?:gateway|watch)_\w+", file.read_text()))
        assert asked
        assert asked <= told


def test_each_panel_asks_and_has_its_own_place():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert all(list(strings(panel)) for panel in panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_times_of_a_stage_are_told_by_model_and_version():
    texts = [text for text in strings(json.loads(DASHBOARD.read_text())) if "_duration_us" in text]
    assert len(texts) == 2
    assert all(set(re.findall(r"by \((.*?)\)", text)) == {"model, version"} for text in texts)


def check(promtool: Path, *arguments: object) -> None:
    done = subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_prometheus_accepts_its_configuration_and_the_rules(promtool):
    check(promtool, "check", "config", DOCKER / "prometheus" / "prometheus.yml")


@pytest.mark.slow
def test_prometheus_can_read_every_expression_of_the_dashboard(promtool, tmp_path):
    dashboard = json.loads(DASHBOARD.read_text())
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "1m")}
        for number, text in enumerate(strings(dashboard))
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    check(promtool, "check", "rules", file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alert", "series", "fires"),
    [
        ("TritonDown", {'up{job="triton"}': "0x20"}, True),
        ("TritonDown", {'up{job="triton"}': "1x20"}, False),
        (
            "TritonAnswersNobody",
            {
                'nv_inference_request_success{model="violence_detector"}': "7x20",
                'nv_inference_request_failure{model="violence_detector",reason="BACKEND"}': "0+5x20",
            },
            True,
        ),
        (
            "TritonAnswersNobody",
            {
                'nv_inference_request_success{model="violence_detector"}': "7x20",
                'nv_inference_pending_request_count{model="vgg19_features"}': "3x20",
            },
            True,
        ),
        (
            "TritonAnswersNobody",
            {
                'nv_inference_request_success{model="violence_detector"}': "7x20",
                'nv_inference_request_failure{model="violence_detector",reason="BACKEND"}': "0x20",
                'nv_inference_pending_request_count{model="vgg19_features"}': "0x20",
            },
            False,
        ),
        (
            "TritonRequestsFail",
            {
                'nv_inference_request_success{model="violence_detector"}': "0+97x20",
                'nv_inference_request_failure{model="violence_detector",reason="REJECTED"}': "0+3x20",
            },
            True,
        ),
        (
            "TritonAnswersNobody",
            {
                'nv_inference_request_success{model="violence_detector"}': "7x20",
                'nv_inference_request_success{model="violence_stream"}': "0+100x20",
                'nv_inference_request_failure{model="violence_window",reason="BACKEND"}': "0+1x20",
            },
            False,
        ),
        (
            "TritonRequestsFail",
            {
                'nv_inference_request_success{model="violence_detector"}': "0+1x20",
                'nv_inference_request_success{model="violence_stream"}': "0+97x20",
                'nv_inference_request_failure{model="violence_stream",reason="BACKEND"}': "0+3x20",
            },
            True,
        ),
        (
            "TritonQueueIsLong",
            {
                'nv_inference_queue_duration_us{model="vgg19_features"}': "0+6000000x20",
                'nv_inference_request_success{model="vgg19_features"}': "0+10x20",
            },
            True,
        ),
        (
            "TritonQueueIsLong",
            {
                'nv_inference_queue_duration_us{model="vgg19_features"}': "0+60000x20",
                'nv_inference_request_success{model="vgg19_features"}': "0+10x20",
            },
            False,
        ),
        (
            "TritonIsSlow",
            {'nv_inference_request_summary_us{model="violence_detector",quantile="0.99"}': "6e6x20"},
            True,
        ),
        (
            "ScoresDrift",
            {
                'vdeploy_gateway_score_drift{run="a",version="1"}': "0.31x20",
                'vdeploy_gateway_score_drift_limit{run="a",version="1"}': "0.25x20",
            },
            True,
        ),
        (
            "ScoresDrift",
            {
                'vdeploy_gateway_score_drift{run="a",version="1"}': "0.31x20",
                'vdeploy_gateway_score_drift_limit{run="a",version="1"}': "0.4x20",
            },
            False,
        ),
        (
            "ScoresDrift",
            {
                'vdeploy_watch_score_drift{run="a",version="1"}': "0.5x20",
                'vdeploy_watch_score_drift_limit{run="a",version="1"}': "0.25x20",
            },
            True,
        ),
        (
            "GatewayRefuses",
            {
                'vdeploy_gateway_refusals_total{code="overloaded"}': "0+10x20",
                'vdeploy_gateway_requests_total{method="POST",route="/predict",status="503"}': "0+10x20",
                'vdeploy_gateway_requests_total{method="POST",route="/predict",status="200"}': "0+90x20",
            },
            True,
        ),
        (
            "GatewayRefuses",
            {
                'vdeploy_gateway_refusals_total{code="overloaded"}': "0+1x20",
                'vdeploy_gateway_requests_total{method="POST",route="/predict",status="200"}': "0+90x20",
            },
            False,
        ),
        (
            "GpuMemoryIsFull",
            {'nv_gpu_memory_used_bytes{gpu_uuid="a"}': "97x20", 'nv_gpu_memory_total_bytes{gpu_uuid="a"}': "100x20"},
            True,
        ),
    ],
)
def test_an_alert_fires_when_it_should(promtool, tmp_path, alert, series, fires):
    expression = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    tests = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": "18m",
                        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(tests))
    check(promtool, "test", "rules", file)
