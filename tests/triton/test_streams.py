"""Streams whose windows a real Triton keeps: the scores are those of a client that keeps the windows itself."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from benchmarks.streams import compare
from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from testing.videos import solid_frame, write_video
from testing.waiting import eventually
from tests.triton.conftest import Ports, kill_stub, own_ports
from tests.triton.test_deploy import Site, command, kill_at, unless_triton_ends
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ClientError, RolloutError, UserError
from vdeploy.detector import detect
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.open_scorer import open_scorer
from vdeploy.live.server_windows import ServerWindows
from vdeploy.live.source import parse_sources
from vdeploy.live.watcher import watch
from vdeploy.timeline.events import Window
from vdeploy.timeline.sliding import Sample, SlidingDetector
from vdeploy.timeline.windows import WindowPlan
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.client.stream import Stream
from vdeploy.triton.client.stream_client import StreamClient
from vdeploy.triton.deployment.deploy import deploy, rollback
from vdeploy.triton.deployment.status import read_status
from vdeploy.triton.names import EXTRACTOR_MODEL, STAGES, WINDOW_MODEL
from vdeploy.triton.planning.plans import plan_deployment
from vdeploy.triton.probe import probe
from vdeploy.triton.repository.model_set import model_set_for
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

pytestmark = pytest.mark.triton

LIMIT = 12
LENGTH = 4
TOLERANCE = 1e-5
FRAMES = np.random.default_rng(5).integers(0, 256, (LIMIT, 24, 32, 32, 3), dtype=np.uint8)


def expected(frames: np.ndarray, seed: int = 0) -> float:
    """The score of the window that ends with the last frame; a shorter one is spread over it."""
    held = frames[-LENGTH:]
    indices = [(2 * index + 1) * len(held) // (2 * LENGTH) for index in range(LENGTH)]
    return float(tiny_probabilities(held[indices][np.newaxis], seed=seed)[0, 1])


@contextlib.contextmanager
def serving(
    bundle: Bundle, folder: Path, install: TritonInstall, ports: Ports, streams: StreamOptions
) -> Iterator[tuple[TritonServer, Repository]]:
    repository = write_repository(bundle, folder / "triton_repo", options=ServingOptions(streams=streams))
    with TritonServer(repository, install=install, log_file=folder / "log", **ports.as_arguments()) as server:
        yield server, repository


@pytest.fixture(scope="module")
def url(install: TritonInstall, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for LIMIT streams that no test may break."""
    with serving(bundle, tmp_path_factory.mktemp("streams"), install, own_ports(), StreamOptions(LIMIT)) as (server, _):
        yield server.url


@pytest.fixture
def client(url: str) -> Iterator[StreamClient]:
    with StreamClient(url) as client:
        yield client


def samples(count: int, present: Callable[[int], bool] = lambda _: True) -> list[Sample[str]]:
    """Frames of two streams, interleaved, with the same numbers left out."""
    return [
        Sample(name, index, FRAMES[stream, index % 24])
        for index in range(count)
        if present(index)
        for stream, name in enumerate(("door", "yard"))
    ]


def of_stream(found: list[tuple[str, Window]], name: str) -> dict[tuple[float, float], float]:
    return {(window.start_s, window.end_s): window.probability for stream, window in found if stream == name}


def run(detector: SlidingDetector[str] | ServerWindows[str], taken: list[Sample[str]]) -> list[tuple[str, Window]]:
    """Feeds as many samples at a time as come together on a bad day: 1, 2, 3, 1, ..."""
    found, start, step = [], 0, 0
    while start < len(taken):
        step = step % 7 + 1
        found += detector.feed(taken[start : start + step])
        start += step
    for name in ("door", "yard"):
        found += detector.finish(name, 60.0)
    return [(scored.stream, scored.window) for scored in found]


class TestScores:
    def test_of_two_interleaved_streams_are_those_of_whole_windows(self, client: StreamClient) -> None:
        with client.open() as door, client.open() as yard:
            for count in range(1, 13):
                for frames, stream in ((FRAMES[0], door), (FRAMES[1], yard)):
                    score = stream.push(frames[count - 1])
                    assert score.probability == pytest.approx(expected(frames[:count]), abs=TOLERANCE)
                    assert (score.held, score.is_full) == (min(count, LENGTH), count >= LENGTH)
            assert door.restarts == yard.restarts == 0

    @pytest.mark.parametrize(("count", "stride"), [(30, 1), (30, 2), (31, 3), (29, 4), (30, 9), (3, 1), (1, 2)])
    def test_are_those_of_a_client_that_keeps_the_windows(self, client: StreamClient, count: int, stride: int) -> None:
        plan = WindowPlan(LENGTH, 2.0, stride)
        sliding, kept = (run(kind(client, plan), samples(count)) for kind in (SlidingDetector, ServerWindows))
        for name in ("door", "yard"):
            wanted, found = of_stream(sliding, name), of_stream(kept, name)
            assert list(found) == list(wanted)
            assert list(found.values()) == pytest.approx(list(wanted.values()), abs=TOLERANCE)
        assert sliding

    def test_where_frames_are_missing(self, client: StreamClient) -> None:
        absent = {2, 8, 9, 15, 16, 17, 18, 23}
        plan, taken = WindowPlan(LENGTH, 2.0, 1), samples(30, lambda index: index not in absent)
        sliding, kept = (run(kind(client, plan, 3), taken) for kind in (SlidingDetector, ServerWindows))
        for name in ("door", "yard"):
            wanted, found = of_stream(sliding, name), of_stream(kept, name)
            ends = {end for _, end in wanted if round(end * plan.sampled_fps) - 1 not in absent}
            assert {end for _, end in found} == ends
            assert len(found) > 10
            for window, probability in found.items():
                assert probability == pytest.approx(wanted[window], abs=TOLERANCE)

    def test_a_window_that_was_due_between_frames_comes_with_the_next_one(self, client: StreamClient) -> None:
        found = run(ServerWindows(client, WindowPlan(LENGTH, 2.0, 4)), samples(13, lambda index: index not in {7}))
        assert [start for start, _ in of_stream(found, "door")] == [0.0, 2.5, 4.0, 4.5]

    def test_several_frames_at_a_time(self, client: StreamClient) -> None:
        with client.open() as stream:
            stream.push(FRAMES[2, :3])
            score = stream.push(FRAMES[2, 3:7], [0, 0, 0, 0], last=True)
            assert score.probability == pytest.approx(expected(FRAMES[2, :7]), abs=TOLERANCE)
            fresh = stream.push(FRAMES[2, 7])
            assert (fresh.held, stream.restarts) == (1, 0)

    def test_so_many_frames_are_missing_that_no_number_on_the_wire_holds_them(self, client: StreamClient) -> None:
        with client.open() as stream:
            stream.push(FRAMES[2, 0])
            score = stream.push(FRAMES[2, 1], [1 << 40])
            window = FRAMES[2, [0] * (LENGTH - 1) + [1]]
            assert (score.held, score.probability) == (LENGTH, pytest.approx(expected(window), abs=TOLERANCE))

    def test_begin_anew_where_the_stream_is_cleared(self, client: StreamClient) -> None:
        with client.open() as stream:
            stream.push(FRAMES[2, 7])
            stream.clear()
            assert stream.push(FRAMES[2, 8]).held == 1


def test_frames_of_several_streams_share_batches(client: StreamClient) -> None:
    def executions() -> int:
        with triton.InferenceServerClient(client.address) as admin:
            return int(admin.get_inference_statistics(EXTRACTOR_MODEL).model_stats[0].execution_count)

    before = executions()
    windows: ServerWindows[int] = ServerWindows(client, WindowPlan(LENGTH, 2.0, 1))
    for index in range(24):
        windows.feed([Sample(stream, index, FRAMES[stream, index]) for stream in range(LIMIT)])
    for stream in range(LIMIT):
        windows.finish(stream)
    assert executions() - before < LIMIT * 24


def test_the_benchmark_counts_what_it_has_sent(client: StreamClient) -> None:
    row = compare(client, streams=1, frames=9, pictures=FRAMES[0])
    assert (row.frames, row.frames_per_execution) == (9, 1.0)
    assert row.difference <= TOLERANCE


def test_too_many_streams_and_room_again(client: StreamClient) -> None:
    streams = [client.open() for _ in range(LIMIT)]
    for stream in streams:
        stream.push(FRAMES[0, 0])
    late = client.open()
    with pytest.raises(ClientError, match=r"keeps as many streams as it may; close one, .* a higher --streams"):
        late.push(FRAMES[0, 0])
    streams[3].close()
    score = late.push(FRAMES[0, 1])
    assert (score.held, score.probability) == (2, pytest.approx(expected(FRAMES[0, :2]), abs=TOLERANCE))


def test_the_probe_needs_no_room(client: StreamClient) -> None:
    streams = [client.open() for _ in range(LIMIT)]
    for stream in streams:
        stream.push(FRAMES[0, 0])
    probe(client.address)
    assert not [stream.restarts for stream in streams if stream.push(FRAMES[0, 1]).held != 2]


def test_streams_are_closed_all_at_a_time(client: StreamClient, monkeypatch: pytest.MonkeyPatch) -> None:
    together, end = threading.Barrier(3), Stream._end

    def end_together(stream: Stream) -> None:
        end(stream)
        together.wait(10)

    monkeypatch.setattr(Stream, "_end", end_together)
    for _ in range(3):
        client.open().push(FRAMES[0, 0])
    client.close()


def test_a_stream_too_many_does_not_hold_up_the_others(client: StreamClient) -> None:
    others = [client.open() for _ in range(LIMIT - 1)]
    for stream in others:
        stream.push(FRAMES[0, 0])
    windows: ServerWindows[str] = ServerWindows(client, WindowPlan(LENGTH, 2.0, 1))
    assert windows.feed([Sample("door", 0, FRAMES[0, 0])]) == []
    found = [windows.feed(pair) for pair in zip(*[iter(samples(12)[2:])] * 2, strict=True)]
    assert len([scored for batch in found for scored in batch if scored.stream == "door"]) == 12 - LENGTH + 1
    assert list(windows.refused) == ["yard"]
    others[0].close()
    found = [windows.feed([Sample("yard", index, FRAMES[1, index])]) for index in range(12, 24)]
    (scored,) = next(batch for batch in found if batch)
    last = round(scored.window.end_s * windows.plan.sampled_fps)
    assert scored.window.probability == pytest.approx(expected(FRAMES[1, :last]), abs=TOLERANCE)
    assert windows.refused == {}
    for name in ("door", "yard"):
        windows.finish(name)


def test_watching_more_sources_than_a_server_keeps(url: str, tmp_path: Path) -> None:
    files = [write_video(tmp_path / f"{name}.mp4", [solid_frame((250, 10, 10))] * 40) for name in ("a", "b")]
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(StreamClient(url))
        for _ in range(LIMIT - 1):
            client.open().push(FRAMES[0, 0])
        connect = functools.partial(open_scorer, url=url, server_windows=True)
        reports = list(watch(parse_sources(map(str, files)), connect, window_s=1.0, stride_s=0.5))
    kinds = {report.kind for report in reports}
    (lost,) = (report for report in reports if report.kind == "lost")
    assert "scorer_lost" not in kinds
    assert "keeps as many streams as it may" in lost.message
    assert len({report.source for report in reports if report.window} - {lost.source}) == 1


def test_closing_the_client_ends_its_streams(url: str) -> None:
    for _ in range(2):
        with StreamClient(url) as client:
            for _ in range(LIMIT):
                client.open().push(FRAMES[0, 0])


@pytest.mark.parametrize(
    ("frames", "missing"),
    [
        (FRAMES[0, :5], None),
        (FRAMES[0, 0].astype(np.float32), None),
        (FRAMES[0, 0, :16], None),
        (FRAMES[0, 0], [1, 2]),
        (FRAMES[0, 0], [-1]),
    ],
)
def test_what_is_no_frame_is_refused_here(client: StreamClient, frames: np.ndarray, missing: list[int] | None) -> None:
    with client.open() as stream, pytest.raises(ClientError, match=r"takes uint8\[t, 32, 32, 3\], t from 1 to 4, and"):
        stream.push(frames, missing)


def test_a_server_that_loses_streams_gives_the_same_scores_and_is_told_of(
    client: StreamClient, capfd: pytest.CaptureFixture[str]
) -> None:
    with client.open() as stream:
        picture = np.zeros_like(FRAMES[0, 0])
        for count in range(1, 8):
            if count > 1:
                stream._end()
            picture[:] = FRAMES[0, count - 1]
            score = stream.push(picture)
            assert score.probability == pytest.approx(expected(FRAMES[0, :count]), abs=TOLERANCE)
        assert stream.restarts == 6
    assert capfd.readouterr().err.count("do not send them through a load balancer") == 1


def test_an_answer_without_a_score_is_an_error(client: StreamClient, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = types.SimpleNamespace(
        get_response=lambda: types.SimpleNamespace(model_version="1"), as_numpy=lambda _: None
    )
    with client.open() as stream:
        monkeypatch.setattr(stream, "_infer", lambda *_, **__: nothing)
        with pytest.raises(ClientError, match="answered without a score; look at the server's log"):
            stream.push(FRAMES[0, 0])


def test_a_request_that_comes_late_does_not_get_into_the_window_that_was_begun_anew(client: StreamClient) -> None:
    with client.open() as stream, client.open() as late:
        stream.push(FRAMES[0, :3])
        late._id, late._is_live = stream._id, True
        stream._timeout = 1e-6
        with pytest.raises(ClientError, match="did not answer within"):
            stream.push(FRAMES[0, 3])
        stream._timeout = 60.0
        late.push(FRAMES[1, 0])
        assert late.restarts == 1
        assert stream.push(FRAMES[0, 4]).probability == pytest.approx(expected(FRAMES[0, :5]), abs=TOLERANCE)


def test_no_server(ports: Ports) -> None:
    with pytest.raises(ClientError, match="no Triton answers"):
        StreamClient(f"127.0.0.1:{ports.grpc}")


def test_a_server_that_keeps_no_streams(server: TritonServer) -> None:
    with pytest.raises(ClientError, match=r"keeps no windows of streams; serve the bundle with --streams 64"):
        StreamClient(server.url)


def test_a_bundle_keeps_no_windows(bundle: Bundle) -> None:
    with (
        pytest.raises(UserError, match="windows are kept by a server only"),
        open_scorer(bundle=bundle.root, server_windows=True),
    ):
        pass


@pytest.mark.slow
def test_watching_over_the_windows_of_a_server(url: str, bundle: Bundle, tmp_path: Path) -> None:
    red = write_video(tmp_path / "red.mp4", [solid_frame((250, 10, 10))] * 40)
    connect = functools.partial(open_scorer, url=url, server_windows=True)
    reports = list(watch(parse_sources([str(red)]), connect, window_s=1.0, stride_s=0.5))
    (wanted, *_) = detect(red, LocalScorer(bundle), window_s=1.0).windows
    scores = [report.window.probability for report in reports if report.window]
    assert scores == pytest.approx([wanted.probability] * len(scores), abs=TOLERANCE)
    assert len(scores) >= 2
    assert not [report for report in reports if report.kind in {"lost", "scorer_lost"}]


@pytest.mark.slow
def test_more_sources_than_the_server_keeps_streams(url: str) -> None:
    sources = parse_sources([f"rtsp://127.0.0.1/{number}" for number in range(LIMIT + 1)])
    connect = functools.partial(open_scorer, url=url, server_windows=True)
    with pytest.raises(ClientError, match="the server keeps 12 streams, and there are 13 sources; watch fewer, serve"):
        next(watch(sources, connect))


@pytest.mark.slow
class TestLosses:
    def test_an_idle_stream_is_forgotten_and_begins_anew(
        self, bundle: Bundle, tmp_path: Path, install: TritonInstall, ports: Ports
    ) -> None:
        with (
            serving(bundle, tmp_path, install, ports, StreamOptions(1, 0.5)) as (server, _),
            StreamClient(server.url) as client,
        ):
            first, second = client.open(), client.open()
            first.push(FRAMES[0, :3])
            assert eventually(lambda: pushed(second, FRAMES[1, 0]))
            sent = [*FRAMES[0, :3]]

            def again() -> bool:
                sent.append(FRAMES[0, len(sent) % 24])
                return pushed(first, sent[-1])

            assert eventually(again)
            sent.append(FRAMES[0, 23])
            score = first.push(sent[-1])
            assert (score.held, score.probability) == (4, pytest.approx(expected(np.stack(sent)), abs=TOLERANCE))
            assert first.restarts >= 1

    def test_a_killed_keeper_of_windows(
        self, bundle: Bundle, tmp_path: Path, install: TritonInstall, ports: Ports
    ) -> None:
        with (
            serving(bundle, tmp_path, install, ports, StreamOptions()) as (server, repository),
            StreamClient(server.url) as client,
            client.open() as stream,
        ):
            stream.push(FRAMES[0, :4])
            watcher = threading.Thread(target=server.watch, kwargs={"interval_seconds": 0.1})
            watcher.start()
            kill_stub(repository, WINDOW_MODEL)
            pushed(stream, FRAMES[0, 4])
            sent = iter(range(5, 10_000))
            last = 4

            def again() -> bool:
                nonlocal last
                last = next(sent)
                return pushed(stream, FRAMES[0, last % 24])

            assert eventually(again, 60), server.log_file.read_text()
            frames = FRAMES[0, [index % 24 for index in range(last + 2)]]
            score = stream.push(frames[-1])
            assert (score.held, score.probability) == (4, pytest.approx(expected(frames), abs=TOLERANCE))
            server.stop()
            watcher.join(10)

    def test_a_stream_goes_on_over_a_deployment_and_back(
        self, tmp_path: Path, install: TritonInstall, ports: Ports
    ) -> None:
        bundles = [make_tiny_bundle(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
        over, versions, wrong = threading.Event(), [], []
        with (
            serving(bundles[0], tmp_path, install, ports, StreamOptions(3)) as (server, repository),
            StreamClient(server.url) as client,
            client.open() as stream,
            ModelControl(server.url, log_file=server.log_file) as control,
        ):

            def send() -> None:
                index = 0
                while not over.is_set():
                    score = stream.push(FRAMES[0, index % 24])
                    index += 1
                    frames = FRAMES[0, [number % 24 for number in range(max(0, index - LENGTH), index)]]
                    seed = 1 if score.version == 2 else 0
                    if score.probability != pytest.approx(expected(frames, seed), abs=TOLERANCE):
                        wrong.append((index, score))
                    versions.append(score.version)

            sender = threading.Thread(target=send)
            sender.start()
            try:
                there = deploy(
                    plan_deployment(bundles[1], repository.root),
                    control,
                    repository.root,
                    golden_clips_of(bundles[1], "onnx-fp32", "onnx-fp32"),
                )
                at_least = len(versions) + 5
                assert eventually(lambda: len(versions) > at_least)
                found = read_status(control, repository.root)
                back = rollback(control, repository.root)
                at_least = len(versions) + 5
                assert eventually(lambda: len(versions) > at_least)
            finally:
                over.set()
                sender.join(30)
            assert (there.version, back.version) == (2, 1)
            assert found.healthy, found.problem
            assert found.versions[1].loaded == dict.fromkeys(model_set_for(STAGES, streams=True).models, "READY")
            assert not wrong
            assert (versions[0], 2 in versions, versions[-1]) == (1, True, 1)
            assert stream.restarts >= 2

    def test_streams_that_the_repository_has_dropped_end_with_a_deployment(
        self, tmp_path: Path, install: TritonInstall, ports: Ports
    ) -> None:
        bundles = [make_tiny_bundle(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
        with (
            serving(bundles[0], tmp_path, install, ports, StreamOptions(3)) as (server, repository),
            StreamClient(server.url) as client,
            client.open() as stream,
            ModelControl(server.url, log_file=server.log_file) as control,
        ):
            stream.push(FRAMES[0, 0])
            watcher = threading.Thread(target=server.watch, kwargs={"interval_seconds": 0.1})
            watcher.start()
            write_repository(bundles[0], repository.root, options=ServingOptions(streams=StreamOptions(0)))
            golden = golden_clips_of(bundles[1], "onnx-fp32", "onnx-fp32")
            plan = plan_deployment(bundles[1], repository.root)
            assert deploy(plan, control, repository.root, golden).version == 2
            with pytest.raises(ClientError, match="keeps no windows of streams"):
                stream.push(FRAMES[0, 1])
            assert eventually(control.is_ready)
            time.sleep(1)
            assert watcher.is_alive()
            assert client.score(FRAMES[:1, :LENGTH]) == pytest.approx(
                tiny_probabilities(FRAMES[:1, :LENGTH], seed=1), abs=TOLERANCE
            )
            server.stop()
            watcher.join(10)

    def test_deployments_that_fail_or_are_killed(self, tmp_path: Path, install: TritonInstall, ports: Ports) -> None:
        bundles = tuple(make_tiny_bundle(tmp_path / str(seed), seed=seed) for seed in (0, 1))
        with (
            serving(bundles[0], tmp_path, install, ports, StreamOptions(3)) as (server, repository),
            StreamClient(server.url) as client,
            client.open() as stream,
        ):
            site = Site(server, repository, bundles)

            def serves_as_before(sent: int) -> None:
                assert site.serving()[0] == 1
                assert stream.push(FRAMES[0, sent]).probability == pytest.approx(
                    expected(FRAMES[0, : sent + 1]), abs=TOLERANCE
                )

            stream.push(FRAMES[0, :4])
            with pytest.raises(RolloutError, match=r"a golden clip wrongly: .*; version 1 serves as before"):
                site.deploy(1, golden_clips_of(bundles[0], "onnx-fp32", "onnx-fp32"))
            serves_as_before(4)
            for sent, moment in ((5, "is loaded"), (6, "answers")):
                with unless_triton_ends(site):
                    kill_at(moment, command("deploy", bundles[1].root, site))
                    site.rollback()
                serves_as_before(sent)


def pushed(stream: Stream, frame: np.ndarray) -> bool:
    try:
        stream.push(frame)
    except ClientError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("host", "name"), [("::1", "[::1]"), ("localhost", "localhost")])
def test_a_server_is_reached_by_ipv6_and_by_name(
    bundle: Bundle, install: TritonInstall, tmp_path: Path, ports: Ports, host: str, name: str
) -> None:
    repository = write_repository(bundle, tmp_path / "r", options=ServingOptions(streams=StreamOptions(2)))
    video = write_video(tmp_path / "red.mp4", [solid_frame((250, 10, 10))] * 40)
    url = f"{name}:{ports.grpc}"
    with TritonServer(repository, install=install, host=host, log_file=tmp_path / "log", **ports.as_arguments()):
        with StreamClient(url) as client, client.open() as stream:
            score = stream.push(FRAMES[0, :LENGTH])
            assert score.probability == pytest.approx(expected(FRAMES[0, :LENGTH]), abs=TOLERANCE)
        for server_windows in (True, False):
            connect = functools.partial(open_scorer, url=url, server_windows=server_windows)
            reports = list(watch(parse_sources([str(video)]), connect, window_s=0.4))
            assert {"connected", "window", "ended"} <= {report.kind for report in reports}
            assert not [report for report in reports if report.kind == "scorer_lost"]
