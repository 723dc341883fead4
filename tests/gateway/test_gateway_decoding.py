from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from testing.videos import write_numbered
from testing.waiting import eventually
from vdeploy.core.errors import UserError
from vdeploy.gateway.batching import Batcher
from vdeploy.gateway.decoding import pool as pool_module
from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.decoding.pool import DecoderPool
from vdeploy.gateway.models import ServedModel
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.timelines import make_timeline
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clips import ClipSpec, read_clip
from vdeploy.video.workers.limits import DecodingLimits
from vdeploy.video.workers.messages import Request

SPEC = ClipSpec(frames=4, size=32)
LIMITS = DecodingLimits()

CONFINED = """
import ctypes, os, signal, socket, subprocess, sys, threading
from vdeploy.core.landlock import landlock_abi
from vdeploy.core.seccomp import has_seccomp
from vdeploy.video.workers.confinement import confine, leave_network
from vdeploy.video.workers.limits import DecodingLimits

alone = leave_network()
confine(DecodingLimits(open_files=16, memory_bytes=1 << 30), SOURCE, network=NETWORK)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def refused(attempt, kind=OSError):
    try:
        attempt()
    except kind:
        return True

assert open(SOURCE, "rb").read() == b"video"
assert refused(lambda: open(TARGET, "w", buffering=1).write("x\\n"))
assert refused(lambda: bytearray(2 << 30), MemoryError)
assert refused(lambda: [open(SOURCE) for _ in range(20)])
threading.Thread(target=lambda: None).start()
if alone:
    assert [name for _, name in socket.if_nameindex()] == ["lo"] if not has_seccomp() else True
if landlock_abi():
    assert refused(lambda: open("/etc/passwd"))
    assert refused(lambda: open(OTHER))
    assert refused(lambda: os.listdir("/"))
    assert refused(lambda: os.unlink(OTHER))
    assert refused(lambda: os.truncate(OTHER, 0))
    assert refused(lambda: open("/proc/self/environ"))
if has_seccomp():
    libc = ctypes.CDLL(None, use_errno=True)
    assert refused(lambda: subprocess.run(["true"]))
    assert refused(os.fork)
    assert refused(lambda: os.execv("/bin/true", ["true"]))
    assert libc.ptrace(16, os.getppid(), 0, 0) == -1
    assert refused(lambda: os.kill(os.getppid(), 0))
    assert refused(lambda: signal.setitimer(signal.ITIMER_REAL, 0))
    import resource
    assert refused(lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)), (OSError, ValueError))
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
        assert NETWORK or refused(lambda: socket.socket(family))
if alone and not has_seccomp():
    assert refused(lambda: socket.create_connection(("127.0.0.1", 9), 1))
print("confined")
"""


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecoderPool]:
    pool = DecoderPool(1, patience_s=20)
    yield pool
    pool.close()


def job(path: Path, plan: WindowPlan | None = None, **limits: float) -> Job:
    return Job(str(path), SPEC, dataclasses.replace(LIMITS, **limits), plan)


def refusal(decoders: DecoderPool, wanted: Job) -> str:
    with pytest.raises(Problem) as caught:
        decoders.clip(wanted)
    return caught.value.code


def test_a_job_survives_its_line(tmp_path: Path):
    wanted = job(tmp_path / 'a\n"b', WindowPlan.of(4, 1.0))
    line = wanted.to_request().to_line()
    assert Job.from_request(Request.from_line(line)) == wanted
    assert line.count(b"\n") == 1


def test_a_clip_is_what_the_one_decoder_gives(decoders: DecoderPool, video: Path):
    found, expected = decoders.clip(job(video)), read_clip(video, SPEC)
    np.testing.assert_array_equal(found.frames, expected.frames)
    assert (found.count, found.fps, found.warnings) == (expected.decoded_frames, expected.fps, expected.warnings)


def test_samples_are_what_the_sampler_gives(decoders: DecoderPool, video: Path):
    plan = WindowPlan.of(4, 1.0)
    found, expected = list(decoders.samples(job(video, plan))), list(VideoSampler(video, plan, SPEC.size))
    assert [index for index, _ in found] == [index for index, _ in expected]
    np.testing.assert_array_equal([frame for _, frame in found], [frame for _, frame in expected])


@pytest.mark.parametrize("limits", [{"wall_s": 1e-3}, {"memory_bytes": 64 << 20}])
def test_a_file_that_costs_too_much_is_given_up_and_the_next_one_decoded(
    decoders: DecoderPool, video: Path, limits: dict[str, float]
):
    assert refusal(decoders, job(video, **limits)) in {"too_expensive", "unreadable_video"}
    assert decoders.clip(job(video)).count == 100


@pytest.mark.slow
def test_a_video_that_had_no_time_because_of_its_key_is_not_called_too_expensive(video: Path):
    decoders = DecoderPool(1)
    try:
        decoders.clip(job(video), owner="other")
        for _ in range(8):
            decoders.clip(job(video), owner="greedy")
        with decoders._turns.borrow("greedy", 1.0, lambda: None):
            time.sleep(2.0)
        os.kill(decoders.processes[0], signal.SIGSTOP)
        with pytest.raises(Problem, match="this key decodes more than the others") as caught:
            decoders.clip(job(video, wall_s=0.2), owner="greedy")
        assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
    finally:
        decoders.close()


def test_a_process_that_hangs_is_killed(video: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool_module, "_GRACE_SECONDS", 0.5)
    decoders = DecoderPool(1)
    try:
        decoders.clip(job(video))
        (pid,) = decoders.processes
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Problem, match="too long"):
            decoders.clip(job(video, wall_s=0.2))
        assert eventually(lambda: not Path(f"/proc/{pid}").exists())
        assert decoders.clip(job(video)).count == 100
    finally:
        decoders.close()


def test_a_killed_process_is_replaced(video: Path):
    losses = []
    decoders = DecoderPool(1, on_loss=lambda: losses.append(1))
    try:
        decoders.clip(job(video))
        (before,) = decoders.processes
        os.kill(before, signal.SIGKILL)
        assert eventually(lambda: not decoders.processes)
        assert decoders.clip(job(video)).count == 100
        assert decoders.processes != [before]
    finally:
        decoders.close()


def children(decoders: DecoderPool) -> list[int]:
    found = [Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in decoders.processes]
    return [int(child) for some in found for child in some]


@pytest.mark.slow
def test_a_file_of_an_owner_that_decodes_more_than_others_has_a_lower_priority(tmp_path: Path, video: Path):
    """A session of its own would make priorities mean nothing: Linux shares the processors between sessions first."""
    long = write_numbered(tmp_path / "long.avi", 3000)
    decoders = DecoderPool(2)
    found = {}
    try:
        decoders.clip(job(video), owner="modest")
        for _ in range(8):
            decoders.clip(job(long), owner="greedy")
        for owner in ("modest", "greedy"):
            samples = decoders.samples(job(long, WindowPlan.of(4, 0.2)), owner=owner)
            next(samples)
            assert eventually(lambda: len(children(decoders)) == 1)  # what decoded the file before exits
            (child,) = children(decoders)
            found[owner] = os.getpriority(os.PRIO_PROCESS, child) - os.getpriority(os.PRIO_PROCESS, 0)
            assert os.getsid(child) == os.getsid(0)
            assert os.getpgid(child) in decoders.processes
            samples.close()
        assert found == {"modest": 0, "greedy": 19}
    finally:
        decoders.close()


@pytest.mark.slow
def test_leaving_samples_early_ends_what_decodes_them_alone(tmp_path: Path, video: Path):
    long, losses = write_numbered(tmp_path / "long.avi", 3000), []
    decoders = DecoderPool(1, on_loss=lambda: losses.append(1))
    try:
        decoders.clip(job(video))
        (pid,) = decoders.processes
        for number in range(1, 21):
            samples = decoders.samples(job(long, WindowPlan.of(4, 0.2)))
            for _ in range(number):
                next(samples)
            samples.close()
            assert not Path(f"/proc/{pid}/task/{pid}/children").read_text()
            assert decoders.clip(job(video)).count == 100
        assert decoders.processes == [pid]
        assert not losses
    finally:
        decoders.close()


@pytest.mark.slow
def test_a_file_cancelled_before_the_decoder_has_read_its_request(tmp_path: Path, video: Path):
    """The child of the file before has answered, but the decoder has not seen yet that it has exited."""
    long = write_numbered(tmp_path / "long.avi", 3000)
    decoders = DecoderPool(1)

    def give_up() -> None:
        raise InterruptedError

    try:
        decoders.clip(job(video))
        (pid,) = decoders.processes
        samples = decoders.samples(job(video, WindowPlan.of(4, 0.2)))
        next(samples)
        os.kill(pid, signal.SIGSTOP)
        list(samples)
        goes_on = threading.Timer(0.5, os.kill, (pid, signal.SIGCONT))
        goes_on.start()
        with pytest.raises(InterruptedError):
            decoders.clip(job(long), check=give_up)
        goes_on.join()
        assert decoders.clip(job(video)).count == 100
        assert decoders.processes == [pid]
    finally:
        decoders.close()


def test_a_file_given_up_while_its_decoder_starts(video: Path):
    """It is not waited for, nor started anew for the next file."""
    losses = []
    decoders = DecoderPool(1, on_loss=lambda: losses.append(1))

    def stop_and_give_up() -> None:
        os.kill(decoders.processes[0], signal.SIGSTOP)
        raise InterruptedError

    try:
        with pytest.raises(InterruptedError):
            decoders.clip(job(video), check=stop_and_give_up)
        (pid,) = decoders.processes
        os.kill(pid, signal.SIGCONT)
        assert decoders.clip(job(video)).count == 100
        assert decoders.processes == [pid]
        assert not losses
    finally:
        decoders.close()


def test_files_wait_for_a_free_process_but_not_for_ever(video: Path):
    decoders = DecoderPool(1, patience_s=0.1)
    try:
        samples = decoders.samples(job(video, WindowPlan.of(4, 1.0)))
        next(samples)
        assert refusal(decoders, job(video)) == "busy"
        samples.close()
        decoders.close()
        assert refusal(decoders, job(video)) == "busy"
    finally:
        decoders.close()


@pytest.mark.parametrize("network", [False, True])
def test_a_decoding_process_can_do_little(tmp_path: Path, network: bool):
    """Attempts of a decoder under an attacker's control, in a process that is confined in the same way."""
    source, other = tmp_path / "source", tmp_path / "other"
    source.write_bytes(b"video")
    other.write_bytes(b"of somebody else")
    script = CONFINED.replace("TARGET", repr(str(tmp_path / "written"))).replace("NETWORK", repr(network))
    script = script.replace("SOURCE", repr(str(source))).replace("OTHER", repr(str(other)))
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "confined\n", done.stderr
    assert other.read_bytes() == b"of somebody else"


def test_the_kernel_ends_a_process_that_computes_too_long():
    script = (
        "from vdeploy.video.workers.confinement import confine\n"
        "from vdeploy.video.workers.limits import DecodingLimits\n"
        "confine(DecodingLimits(cpu_s=1), '/dev/null')\nwhile True: pass"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode in {-signal.SIGXCPU, -signal.SIGKILL}


class Scripted:
    """A scorer that records its batches, and fails or waits on demand."""

    spec, classes, threshold = SPEC, ("non-violent", "violent"), 0.5

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = concurrent.futures.Future()
        self.entered = concurrent.futures.Future()
        self.error: Exception | None = None

    def score(self, frames: np.ndarray) -> np.ndarray:
        self.batches.append(len(frames))
        if not self.entered.done():
            self.entered.set_result(None)
        self.gate.result(timeout=30)
        if self.error:
            raise self.error
        share = frames[:, 0, 0, 0, 0] / 255
        return np.stack([1 - share, share], axis=1).astype(np.float32)


def clip(value: int) -> np.ndarray:
    return np.full((4, 32, 32, 3), value, np.uint8)


def test_what_waits_is_scored_together_and_in_order():
    scorer = Scripted()
    batcher = Batcher(scorer, batch=4, capacity=16)
    first = batcher.submit(clip(0))
    scorer.entered.result(timeout=30)
    others = [batcher.submit(clip(value)) for value in (51, 102, 153, 204, 255)]
    call = batcher.call(lambda: "called")
    last = batcher.submit(clip(0))
    scorer.gate.set_result(None)
    assert [round(one.result(30).probability, 4) for one in (first, *others, last)] == [0, 0.2, 0.4, 0.6, 0.8, 1, 0]
    assert call.result(30) == "called"
    batcher.close()
    assert scorer.batches == [1, 4, 1, 1]


def test_a_full_queue_is_told_at_once():
    scorer = Scripted()
    batcher = Batcher(scorer, capacity=2)
    futures = [batcher.submit(clip(0))]
    scorer.entered.result(timeout=30)
    futures += [batcher.submit(clip(0)) for _ in range(2)]
    with pytest.raises(Problem) as caught:
        batcher.submit(clip(0))
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
    scorer.gate.set_result(None)
    assert all(future.result(30) for future in futures)
    batcher.close()
    with pytest.raises(Problem, match="shutting down"):
        batcher.submit(clip(0))


def test_a_failure_reaches_all_who_wait_and_the_next_batch_works():
    scorer = Scripted()
    scorer.error = UserError("the model is gone")
    batcher = Batcher(scorer)
    scorer.gate.set_result(None)
    with pytest.raises(UserError, match="gone"):
        batcher.submit(clip(0)).result(30)
    scorer.error = None
    assert batcher.submit(clip(255)).result(30).probability == 1
    with pytest.raises(ZeroDivisionError):
        batcher.call(lambda: 1 // 0).result(30)
    batcher.close()


class WholeClips:
    """A scorer whose extractor looks at whole clips; it counts them."""

    spec, classes, threshold, clip_seconds = SPEC, ("non-violent", "violent"), 0.5, None
    granularity, causal = "clip", None

    def __init__(self) -> None:
        self.clips = 0

    def score(self, frames: np.ndarray) -> np.ndarray:
        return self.classify(self.extract(frames))

    def extract(self, frames: np.ndarray) -> np.ndarray:
        assert frames.shape[1] == SPEC.frames
        self.clips += len(frames)
        return frames.reshape(len(frames), 1, -1)[..., :8].astype(np.float32)

    def classify(self, features: np.ndarray) -> np.ndarray:
        share = features[:, 0, 0] / 255
        return np.stack([1 - share, share], axis=1).astype(np.float32)


def test_a_timeline_tells_what_is_odd_about_its_video(decoders: DecoderPool, tmp_path: Path):
    times = [40 * number + 20_000 * (number >= 50) for number in range(100)]
    gappy = write_numbered(tmp_path / "gap.mkv", 100, codec="libx264", times_ms=times)
    scorer = WholeClips()
    model = ServedModel(scorer, "version", "run", Batcher(scorer), lambda: None)
    timeline = make_timeline(gappy, model, decoders, LIMITS, plan=WindowPlan.of(4, 1.0))
    model.close()
    assert any(warning.startswith("it has a gap in its times, 20.0 s in all") for warning in timeline.warnings)
    assert timeline.to_dict()["warnings"] == list(timeline.warnings)


def test_windows_that_are_scored_whole_leave_room_for_other_requests(decoders: DecoderPool, video: Path):
    scorer = WholeClips()
    in_calls: list[int] = []

    class Counting(Batcher):
        def call(self, function, **options):
            def counted():
                before = scorer.clips
                found = function()
                in_calls.append(scorer.clips - before)
                return found

            return super().call(counted, **options)

    model = ServedModel(scorer, "version", "run", Counting(scorer), lambda: None)
    plan = WindowPlan.of(4, 0.4, 0.1)
    timeline = make_timeline(video, model, decoders, LIMITS, plan=plan)
    model.close()
    assert len(timeline.windows) > 30
    assert max(in_calls) == 1
