"""The rows of servers in a whole benchmark, and what the table says of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from testing.tiny_bundle import make_tiny_bundle
from tests.benchmark.test_record import row
from tests.triton.planning.conftest import with_engines
from vdeploy.benchmark.bundle_benchmark import benchmark_bundle
from vdeploy.benchmark.plan import Plan, parse_concurrency
from vdeploy.benchmark.record import ServerTime, load_benchmark, save_benchmark
from vdeploy.benchmark.served import target
from vdeploy.benchmark.served.remarks import served_name, served_remarks
from vdeploy.benchmark.served.statistics import other_requests
from vdeploy.core.errors import BenchmarkError, ClientError, ServerError
from vdeploy.triton.server.reaper import SHARED_MEMORY


@pytest.mark.slow
@pytest.mark.triton
def test_a_running_server_has_rows_over_each_transport(server, bundle, tmp_path):
    result = benchmark_bundle(
        bundle.root, Plan(("pipeline",), url=f"grpc://{server.url}", concurrency=(1, 3), seconds=0)
    )
    own, *served = result.rows
    assert own.transport is None
    assert [(one.concurrency, one.transport) for one in served] == [
        *((1, "grpc"), (1, "shared memory"), (3, "grpc"), (3, "shared memory"))
    ]
    for one in served:
        assert (one.name, one.format, one.precision, one.where) == ("Triton", "served", "served", server.url)
        assert (one.status, one.device, one.runtime) == ("ok", "server", "triton")
        assert list(one.server) == ["extractor", "classifier"]
        assert one.queue_ms == pytest.approx(sum(time.queue_ms for time in one.server.values()))
        assert one.compute_ms == pytest.approx(sum(time.compute_ms for time in one.server.values()))
        assert one.server["extractor"].requests >= one.calls
        assert one.in_process_clips_per_s is None
        assert one.other_requests == 0
        assert 0 < one.p50_ms <= one.p99_ms
    save_benchmark(tmp_path / "b.json", result)
    assert load_benchmark(tmp_path / "b.json") == result


@pytest.mark.slow
@pytest.mark.triton
def test_a_server_is_started_for_each_format_that_triton_can_serve(install, tmp_path):
    bundle = with_engines(make_tiny_bundle(tmp_path / "bundle"), name="tflite-fp32")
    plan = Plan(("classifier", "pipeline"), serve=True, seconds=0)
    served = [one for one in benchmark_bundle(bundle.root, plan).rows if one.runtime == "triton"]
    told = {(one.name, one.what, one.transport): one for one in served}
    assert [key for key, one in told.items() if one.status == "ok"] == [
        ("Triton, onnx-fp32", "classifier", "grpc"),
        ("Triton, onnx-fp32", "pipeline", "grpc"),
        ("Triton, onnx-fp32", "pipeline", "shared memory"),
    ]
    measured = told["Triton, onnx-fp32", "pipeline", "grpc"]
    assert (measured.format, measured.precision) == ("onnx-fp32", "fp32")
    assert measured.size_bytes > 0
    (absent,) = (one for one in served if one.status == "absent")
    assert (absent.name, absent.format) == ("Triton, tflite-fp32", "tflite-fp32")
    assert absent.reason.startswith("Triton never had a TFLite backend; export to an onnx-* format")


@pytest.mark.slow
def test_a_server_without_the_backend_is_a_row_with_the_reason(install, tmp_path):
    bundle = with_engines(make_tiny_bundle(tmp_path / "bundle"))
    plan = Plan(("pipeline",), formats=("tensorrt-fp16",), serve=True, seconds=0)
    _, absent = benchmark_bundle(bundle.root, plan).rows
    assert (absent.name, absent.status) == ("Triton, tensorrt-fp16", "absent")
    assert "has no tensorrt backend" in absent.reason


@pytest.mark.slow
@pytest.mark.triton
def test_served_verdicts_are_judged_once(server, bundle, clips_dir):
    plan = Plan(("pipeline",), url=server.url, seconds=0, data=clips_dir, clips=2)
    for one in benchmark_bundle(bundle.root, plan).rows:
        assert (one.held_out_clips, one.agreement) == (2, 1.0)


@pytest.mark.slow
def test_a_server_that_does_not_start_is_a_row_with_the_reason(install, bundle, monkeypatch):
    def refuse(*_, **__):
        raise ServerError("port 1 is taken", "take another")

    monkeypatch.setattr(target, "TritonServer", refuse)
    (absent,) = (one for one in benchmark_bundle(bundle.root, Plan(("pipeline",), serve=True, seconds=0)).rows[1:])
    assert (absent.status, absent.reason) == ("absent", "port 1 is taken; take another")


def descendants(pid: int) -> set[int]:
    """Ids of the living processes that a process has started, and of those that they have."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child} | descendants(child)
    return found


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_a_killed_benchmark_goes_on(install, bundle, tmp_path, monkeypatch, number):
    folder = tmp_path / "temporary"
    folder.mkdir()
    arguments = ["benchmark", str(bundle.root), "--serve", "--what", "pipeline", "--seconds", "2"]
    with (tmp_path / "log").open("w") as log:
        environment = {**os.environ, "TMPDIR": str(folder)}
        command = [sys.executable, "-m", "vdeploy", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        warm_up = re.compile(r"start Triton.*\d+/\d+ windows", re.DOTALL)
        deadline = time.monotonic() + 120
        while not warm_up.search((tmp_path / "log").read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = descendants(process.pid)
        assert len(left) > 4, (tmp_path / "log").read_text()
    finally:
        process.send_signal(number)
        process.wait()
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in left) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in left if is_running(pid)]
    assert (number == signal.SIGKILL) == bool(list(folder.glob("vdeploy-*")))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    target._remove_stale_folders()
    assert not list(folder.glob("*-served-*"))
    owners = {process.pid, *left}
    assert not [file for file in SHARED_MEMORY.glob("vdeploy-*") if int(file.name.split("-")[1]) in owners]


def is_running(pid: int) -> bool:
    """Whether a process does anything any more; one that nobody has waited for is dead as well."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.triton
@pytest.mark.parametrize("changed", [{"frames": 5}, {"seed": 1}])
def test_a_server_of_another_bundle_is_refused(server, tmp_path, changed):
    """Whether or not it takes the same clips."""
    other = make_tiny_bundle(tmp_path / "bundle", **changed)
    with pytest.raises(ClientError, match=r"serves another bundle than .*start it on this bundle"):
        benchmark_bundle(other.root, Plan(url=server.url, seconds=0))


def test_options_about_a_server_want_one():
    with pytest.raises(BenchmarkError, match="give either --url or --serve"):
        Plan(url="h:1", serve=True)
    with pytest.raises(BenchmarkError, match="--concurrency needs a server; add --serve, or --url HOST:PORT"):
        Plan(concurrency=(1, 2))
    with pytest.raises(BenchmarkError, match="--perf-analyzer needs a server"):
        Plan(perf_analyzer="perf_analyzer")
    assert parse_concurrency("8,1, 2") == (1, 2, 8)
    with pytest.raises(BenchmarkError, match="'0' is no number of callers"):
        parse_concurrency("0")


def test_the_table_says_how_a_server_was_called_and_what_it_cost():
    one = row(
        name="Triton, onnx-int8",
        where="h:1",
        transport="shared memory",
        concurrency=4,
        clips_per_s=4.0,
        settled=True,
        in_process_clips_per_s=4.1,
        perf_analyzer_clips_per_s=3.9,
        queue_ms=700.0,
        compute_ms=290.0,
    )
    assert served_name(one) == "Triton, onnx-int8 at h:1, shared memory, 4 callers"
    assert served_remarks(one) == [
        *("97.6% of in process", "queue 700.0 ms, compute 290.0 ms, rest 10.0 ms", "102.6% of perf_analyzer's")
    ]
    apart = one.model_copy(update={"perf_analyzer_clips_per_s": 3.0, "settled": False, "in_process_clips_per_s": None})
    assert served_remarks(apart) == [
        "queue 700.0 ms, compute 290.0 ms",
        "133.3% of perf_analyzer's, they disagree",
    ]
    busy = row(where="h:1", queue_ms=1.0, compute_ms=2.0, other_requests=7)
    assert served_remarks(busy) == ["queue 1.0 ms, compute 2.0 ms", "served 7 requests of others at the same time"]
    assert served_name(row(name="Triton", where="h:1", transport="grpc")) == "Triton at h:1"
    assert served_remarks(row()) == []


@pytest.mark.parametrize(
    ("queue", "compute", "told"),
    [
        (90.0, 105.0, "waiting for a fuller batch (90.0 ms)"),
        (10.0, 180.0, "slower computing (80.0 ms)"),
        (10.0, 105.0, "transport (85.0 ms)"),
    ],
)
def test_of_a_slow_server_the_table_says_what_is_lost_where(queue, compute, told):
    rates = {"clips_per_s": 5.0, "in_process_clips_per_s": 10.0}
    one = row(where="h:1", settled=True, queue_ms=queue, compute_ms=compute, **rates)
    assert served_remarks(one)[0] == f"50.0% of in process, lost mostly by {told}"
    assert served_remarks(one.model_copy(update={"concurrency": 2}))[0] == "50.0% of in process"
    assert served_remarks(one.model_copy(update={"settled": False}))[0] == "50.0% of in process"
    assert served_remarks(one.model_copy(update={"queue_ms": None})) == ["50.0% of in process"]


def test_requests_of_others_are_those_that_were_not_sent():
    counts = {"extractor": {"requests": 20}, "classifier": {"requests": 19}}
    assert other_requests(counts, sent=10, callers=2) == 8
    assert other_requests(counts, sent=19, callers=1) == 0
    assert other_requests({}, sent=3, callers=1) == 0


def test_the_time_in_a_model_is_all_but_the_waiting():
    parts = {"compute_input_ms": 1.0, "compute_infer_ms": 2.0, "compute_output_ms": 4.0}
    assert ServerTime(requests=1, executions=1, queue_ms=8.0, **parts).compute_ms == 7.0
