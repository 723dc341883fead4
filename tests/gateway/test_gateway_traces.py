"""Traces: one identifier from the client through the gateway to Triton, and spans at a real receiver."""

from __future__ import annotations

import concurrent.futures
import io
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from testing.otlp_receiver import otlp_receiver
from testing.running_gateway import ROOT, Running, running_gateway
from testing.tiny_bundle import make_tiny_bundle
from testing.waiting import eventually
from tests.triton.conftest import own_ports
from vdeploy.core.errors import MissingExtraError, UserError
from vdeploy.core.trace_context import TRACEPARENT, trace_id_of
from vdeploy.gateway.batching import Batcher
from vdeploy.gateway.opening import open_tracing
from vdeploy.gateway.traces import NO_TRACE, Trace, Tracing
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer
from vdeploy.video.clips import ClipSpec

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT_OF_CLIENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("header", "trace_id"),
    [
        (TRACEPARENT_OF_CLIENT, TRACE_ID),
        ("", ""),
        (TRACEPARENT_OF_CLIENT.upper(), ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        (f"00-{TRACE_ID}-{'0' * 16}-01", ""),
        (f"{TRACEPARENT_OF_CLIENT}\n", ""),
        (f"{TRACEPARENT_OF_CLIENT}-more", ""),
    ],
)
def test_a_header_is_a_trace_context_or_is_ignored(header: str, trace_id: str) -> None:
    assert trace_id_of(header) == trace_id
    assert Trace(header).traceparent == (header if trace_id else "")


class Telling:
    """A scorer that notes the trace context in which it is called."""

    spec, classes, threshold = ClipSpec(frames=4, size=32), ("non-violent", "violent"), 0.5

    def __init__(self) -> None:
        self.contexts: list[str] = []

    def score(self, frames: np.ndarray) -> np.ndarray:
        self.contexts.append(TRACEPARENT.get())
        return np.full((len(frames), 2), 0.5, np.float32)


def test_a_batch_carries_the_context_of_its_requests() -> None:
    scorer = Telling()
    batcher = Batcher(scorer)
    clip = np.zeros((4, 32, 32, 3), np.uint8)
    batcher.submit(clip, trace=Trace(TRACEPARENT_OF_CLIENT)).result(10)
    batcher.submit(clip).result(10)
    batcher.call(lambda: scorer.score(clip[None]), trace=Trace(TRACEPARENT_OF_CLIENT)).result(10)
    batcher.close()
    assert scorer.contexts == [TRACEPARENT_OF_CLIENT, "", TRACEPARENT_OF_CLIENT]
    assert NO_TRACE.traceparent == ""


def test_the_clients_trace_is_logged_without_a_collector(gateway: Running, video: Path) -> None:
    with gateway.client(headers={"traceparent": TRACEPARENT_OF_CLIENT}) as client:
        assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200
    assert eventually(lambda: TRACE_ID in {record.get("trace_id") for record in gateway.records("request")})


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://", "http://a,b"])
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(UserError, match=r"--otlp-endpoint .* is no HTTP address; give one such as"):
        open_tracing(endpoint)


def test_without_the_extra_an_address_is_refused_and_a_variable_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError, match=r"vdeploy\[tracing\]"):
        open_tracing("http://localhost:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    assert type(open_tracing(None)) is Tracing
    assert "requests are not traced" in capsys.readouterr().err
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost")
    with pytest.raises(UserError, match="OTEL_EXPORTER_OTLP_ENDPOINT localhost is no HTTP address"):
        open_tracing(None)


def test_serve_refuses_an_address_that_is_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vdeploy", "serve", "--launch", "--otlp-endpoint", "collector"]
    done = subprocess.run(
        [*command, "--repo", str(tmp_path / "repo")], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert "--otlp-endpoint collector is no HTTP address" in done.stderr
    assert not (tmp_path / "repo").exists()


def test_nothing_of_opentelemetry_is_imported_without_a_collector() -> None:
    script = (
        "import sys\n"
        "from vdeploy.gateway.opening import open_tracing\n"
        "import vdeploy.gateway.app, vdeploy.gateway.server\n"
        "open_tracing(None)\n"
        "assert not {'opentelemetry.sdk', 'opentelemetry.exporter'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


class TestWithACollector:
    @pytest.fixture(autouse=True)
    def _needs_the_extra(self) -> None:
        pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")

    @pytest.mark.slow
    def test_spans_of_a_request_have_the_clients_trace_and_its_parent(self, tmp_path: Path, video: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle").root
        with otlp_receiver() as receiver:
            options = ("--bundle", str(bundle), "--otlp-endpoint", f"{receiver.url}/")
            with running_gateway(tmp_path / "spool", *options) as gateway:
                with gateway.client(headers={"traceparent": TRACEPARENT_OF_CLIENT}) as client:
                    assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200
                    assert client.post("/predict", files={"video": b"no video"}).status_code == 422
                    timeline = client.post("/predict?timeline=true", files={"video": video.read_bytes()})
                    assert timeline.status_code == 200
                    assert client.get("/healthz").status_code == 200
                assert gateway.stop() == 0, "what has not been sent is sent at the end"
            spans = receiver.spans(TRACE_ID)
            assert receiver.paths == ["/v1/traces"] * len(receiver.paths)
            assert receiver.services == {"vdeploy-gateway"}
        assert set(spans) == {"POST /predict", "decode", "inference", "batch", "timeline"}
        requests = spans["POST /predict"]
        assert [span.parent_span_id.hex() for span in requests] == ["b7ad6b7169203331"] * 3
        statuses = [
            next(each.value.int_value for each in span.attributes if each.key == "http.response.status_code")
            for span in requests
        ]
        assert statuses == [200, 422, 200]
        ids = [span.span_id for span in requests]
        assert [span.parent_span_id for span in spans["decode"]] == ids[:2]
        (inference,), (timeline_span,) = spans["inference"], spans["timeline"]
        assert (inference.parent_span_id, timeline_span.parent_span_id) == (ids[0], ids[2])
        assert {span.parent_span_id for span in spans["batch"]} == {inference.span_id, timeline_span.span_id}
        first = requests[0]
        for span in (spans["decode"][0], inference):
            assert first.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= first.end_time_unix_nano

    @pytest.mark.slow
    def test_a_batch_links_to_every_request(self, tmp_path: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle", dim=1024, work=60).root
        packed = io.BytesIO()
        np.save(packed, np.zeros((4, 32, 32, 3), np.uint8))

        def post(client: httpx.Client) -> int:
            headers = {"Content-Type": "application/octet-stream"}
            return client.post("/predict/frames", content=packed.getvalue(), headers=headers).status_code

        with otlp_receiver() as receiver:
            options = ("--bundle", str(bundle), "--otlp-endpoint", receiver.url)
            with running_gateway(tmp_path / "spool", *options) as gateway, gateway.client() as client:
                with concurrent.futures.ThreadPoolExecutor(8) as crowd:
                    assert set(crowd.map(post, [client] * 24)) == {200}
                assert gateway.stop() == 0
            ids = {record["trace_id"] for record in gateway.records("request")}
            batches = receiver.spans()["batch"]
            assert len(ids) == 24, "each request has a trace of its own"
        assert any(span.links for span in batches)
        linked = {link.trace_id.hex() for span in batches for link in span.links}
        assert {span.trace_id.hex() for span in batches} | linked == ids

    @pytest.mark.slow
    def test_a_collector_that_is_not_there_holds_nothing_up(self, tmp_path: Path, video: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle").root
        options = ("--bundle", str(bundle), "--otlp-endpoint", "http://127.0.0.1:9")
        with running_gateway(tmp_path / "spool", *options) as gateway:
            with gateway.client() as client:
                assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200
            began = time.monotonic()
            assert gateway.stop() == 0
            assert time.monotonic() - began < 15
        assert all(line.startswith(("{", "gateway: ")) for line in gateway.lines), gateway.lines

    @pytest.mark.slow
    @pytest.mark.triton
    def test_triton_continues_the_trace_of_the_client(self, tmp_path: Path, install: TritonInstall) -> None:
        repository = write_repository(make_tiny_bundle(tmp_path / "bundle"), tmp_path / "triton_repo")
        packed = io.BytesIO()
        np.save(packed, np.zeros((4, 32, 32, 3), np.uint8))
        headers = {"Content-Type": "application/octet-stream", "traceparent": TRACEPARENT_OF_CLIENT}
        ports = own_ports()
        with otlp_receiver() as receiver:
            with (
                TritonServer(
                    repository,
                    install=install,
                    grpc_port=ports.grpc,
                    metrics_port=None,
                    log_file=tmp_path / "log",
                    traces=f"{receiver.url}/v1/traces",
                ) as server,
                running_gateway(tmp_path / "spool", "--url", server.url, "--otlp-endpoint", receiver.url) as gateway,
            ):
                with gateway.client() as client:
                    answer = client.post("/predict/frames", content=packed.getvalue(), headers=headers)
                    assert answer.status_code == 200
                    assert client.get("/readyz").status_code == 200
                assert gateway.stop() == 0
                assert eventually(lambda: "InferRequest" in receiver.spans(TRACE_ID), seconds=60)
            spans = receiver.spans(TRACE_ID)
            assert receiver.services == {"triton", "vdeploy-gateway"}
            assert len(receiver.spans()["InferRequest"]) == 1, "probes are not traced"
        (batch,), (inferred,) = spans["batch"], spans["InferRequest"]
        assert inferred.parent_span_id == batch.span_id
        assert {"violence_detector", "vgg19_features", "lstm_classifier"} <= set(spans)
