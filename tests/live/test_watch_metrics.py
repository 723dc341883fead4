"""Metrics of a watch, read over HTTP as Prometheus does."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from testing.streams import mjpeg_server
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import write_numbered
from testing.waiting import eventually
from tests.gateway.test_gateway_drift import verified_bundle
from tests.triton.conftest import own_ports
from vdeploy.artifacts.bundle import Bundle
from vdeploy.cli import app as cli
from vdeploy.evaluation.drift import NOTABLE
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.inference.in_process import LocalScorer
from vdeploy.live.metrics import WatchMetrics, serve_metrics
from vdeploy.live.report import Report
from vdeploy.timeline.events import Event, Window
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.deploy import deploy
from vdeploy.triton.planning.plans import plan_deployment
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer


def read(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(vdeploy_watch_\S+) (\S+)$", text, re.MULTILINE)}


def drift_of(values: dict[str, float]) -> list[float]:
    return [value for name, value in values.items() if "score_drift" in name]


def score(metrics: WatchMetrics, bundle: Bundle, count: int, top: float) -> None:
    """Windows whose scores are those that the bundle was verified on, up to one of their quantiles."""
    (held_out,) = bundle.manifest.end_to_end.values()
    for probability in np.quantile(held_out.reference, np.linspace(0, top, count)):
        metrics.take(Report("window", "door", window=Window(0, 1, float(probability)), dropped_frames=3))


def test_prometheus_reads_sources_and_drift(tmp_path: Path) -> None:
    bundle = verified_bundle(tmp_path / "bundle")
    (port,) = free_ports(1)
    scorer = LocalScorer(bundle)
    metrics = WatchMetrics(["door", "yard"], scorer)
    with serve_metrics(metrics, "127.0.0.1", port):
        metrics.take(Report("connected", "door"))
        metrics.take(Report("event_began", "door", event=Event(0, 1, 0.5, 0.9, 0.9)))
        score(metrics, bundle, 99, 1.0)
        found = read(port)
        assert drift_of(found) == [], "too few scores"
        assert found['vdeploy_watch_windows_total{source="door"}'] == 99
        assert found['vdeploy_watch_windows_total{source="yard"}'] == 0
        assert found['vdeploy_watch_events_total{source="door"}'] == 1
        assert found['vdeploy_watch_dropped_frames_total{source="door"}'] == 3
        assert found['vdeploy_watch_connected{source="door"}'] == 1
        assert found['vdeploy_watch_connected{source="yard"}'] == 0
        score(metrics, bundle, 101, 1.0)
        index, limit = drift_of(read(port))
        assert index < 0.1
        assert limit >= NOTABLE
        score(metrics, bundle, 1000, 0.2)
        index, limit = drift_of(read(port))
        assert index > limit
        metrics.use(scorer)
        assert drift_of(read(port)) == [index, limit], "the same version"
        metrics.use(LocalScorer(make_tiny_bundle(tmp_path / "other", seed=1)))
        assert drift_of(read(port)) == []
    with pytest.raises(OSError, match="refused"):
        read(port)


@pytest.mark.slow
@pytest.mark.triton
def test_a_watch_follows_a_deployment(tmp_path: Path, install: TritonInstall) -> None:
    """The server keeps the windows; it is asked for its version once a minute, and its scores are counted anew then."""
    bundles = verified_bundle(tmp_path / "old"), verified_bundle(tmp_path / "new", 300, threshold=0.25)
    (port,) = free_ports(1)
    repository = write_repository(bundles[0], tmp_path / "r", options=ServingOptions(streams=StreamOptions(4)))
    options = ("--server-windows", "--window", "0.4", "--stride", "0.1", "--json", "--metrics-port", str(port))
    with (
        mjpeg_server(write_numbered(tmp_path / "v.mp4", 200, g=10)) as camera,
        TritonServer(repository, install=install, log_file=tmp_path / "log", **own_ports().as_arguments()) as server,
        ModelControl(server.url, log_file=server.log_file) as control,
        (tmp_path / "told").open("w") as told,
    ):
        sources = [f"http://127.0.0.1:{camera.port}/{number}" for number in range(4)]
        command = [sys.executable, "-m", "vdeploy", "watch", *sources, "--url", server.url, *options]
        with subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT) as watching:
            try:
                assert eventually(lambda: '"window"' in (tmp_path / "told").read_text(), 120)
                golden = golden_clips_of(bundles[1], "onnx-fp32", "onnx-fp32")
                deploy(plan_deployment(bundles[1], repository.root), control, repository.root, golden)
                assert eventually(lambda: "scorer_changed" in (tmp_path / "told").read_text(), 120)
                assert eventually(lambda: drift_of(read(port)), 120)
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    found = set(re.findall(r'score_drift{.*version="(\w+)"', answer.read().decode()))
            finally:
                watching.send_signal(signal.SIGINT)
    assert found == {bundles[1].manifest.digest[:12]}
    (changed,) = (line for line in (tmp_path / "told").read_text().splitlines() if "scorer_changed" in line)
    assert json.loads(changed)["message"] == "threshold 0.50 -> 0.25"


@pytest.mark.slow
def test_a_watch_tells_its_metrics_while_it_runs(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    (port,) = free_ports(1)
    with mjpeg_server(write_numbered(tmp_path / "v.mp4", 200, g=10)) as server:
        source = f"http://user:secret@127.0.0.1:{server.port}/"
        options = ("--bundle", str(bundle.root), "--json", "--window", "0.4", "--metrics-port", str(port))
        with subprocess.Popen(
            [sys.executable, "-m", "vdeploy", "watch", source, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdout
            for _ in range(2):  # what is printed is counted before the next line
                while json.loads(watching.stdout.readline())["kind"] != "window":
                    pass
            found = read(port)
            watching.send_signal(signal.SIGINT)
            error = watching.communicate(timeout=60)[1]
    assert watching.returncode == 0
    assert next(value for name, value in found.items() if "windows_total" in name) >= 1
    assert [value for name, value in found.items() if "watch_connected" in name] == [1]
    assert not [name for name in found if "secret" in name]
    assert error.count("metrics: no drift of the scores, as the bundle lacks") == 1


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--metrics-port", "{port}"), 1, "metrics cannot be served at 127.0.0.1:{port} (Address already in use)"),
        (
            ("--metrics-port", "{port}", "--metrics-host", "nowhere.invalid"),
            1,
            "another --metrics-port or --metrics-host",
        ),
        (("--metrics-host", "192.0.2.1"), 2, "give --metrics-port as well"),
    ],
)
def test_an_address_that_cannot_be_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    video = write_numbered(tmp_path / "v.mp4", 5)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["watch", str(video), "--bundle", str(bundle.root), *(one.format(port=port) for one in options)]
        monkeypatch.setattr(sys, "argv", ["vdeploy", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == code
    assert reason.format(port=port) in " ".join(capsys.readouterr().err.replace("│", " ").split())
