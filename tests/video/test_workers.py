"""Decoding in worker processes: order, look-ahead, what is lost when a process ends, and that none is left behind."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from testing.decoder_kills import children, kill_decoder_of, write_heavy
from testing.videos import numbered_frame, read_number, write_numbered, write_video
from testing.waiting import eventually
from tests.test_structure import MODULES
from vdeploy.core.errors import ClipError, UserError
from vdeploy.live.camera import Camera
from vdeploy.live.inbox import Inbox
from vdeploy.live.report import Report
from vdeploy.live.source import parse_source
from vdeploy.video.clips import Clip, ClipSpec, read_clip
from vdeploy.video.reader import Stopped, VideoReader
from vdeploy.video.workers import clips, launch, pool, process
from vdeploy.video.workers.answers import DecoderDefectError, raise_refusal
from vdeploy.video.workers.clips import decode_clip, decode_clips
from vdeploy.video.workers.limits import DecodingLimits
from vdeploy.video.workers.messages import Request
from vdeploy.video.workers.pool import WorkerPool, workers
from vdeploy.video.workers.remote_reader import RemoteReader

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SMALL = ClipSpec(size=32)


def numbers(clip: Clip) -> list[int]:
    return [read_number(frame) for frame in clip.frames]


def decoder_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("clip-decoder")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(12):
        write_video(folder / f"{number:02d}.avi", [numbered_frame(100 + number)] * (2 + number))
    (folder / "05.avi").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_heavy(tmp_path_factory.mktemp("heavy") / "heavy.avi", 800)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_heavy(tmp_path_factory.mktemp("victim") / "victim.avi")


IN_WORKERS = {"vdeploy.timeline.sampling", "vdeploy.timeline.sampling_task", "vdeploy.gateway.decoding.decode"}
DECODING = {"LiveReader", "VideoReader", "VideoSampler", "read_clip"}


def test_no_other_module_decodes_in_its_own_process() -> None:
    modules = [module for module in MODULES.values() if not module.name.startswith("vdeploy.video")]
    found = {
        module.name
        for module in modules
        if any(name in module.path.read_text(encoding="utf-8") for name in DECODING)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and DECODING & {alias.name for alias in node.names}
    }
    assert found == IN_WORKERS


# Many videos


def test_clips_come_in_order_with_their_errors(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    outcomes = list(decode_clips(paths, SMALL, workers=3))
    assert [path for path, _ in outcomes] == paths
    for number, (path, outcome) in enumerate(outcomes):
        if number == 5:
            assert isinstance(outcome, ClipError)
            assert (outcome.path, outcome.reason) == (path, "is not a readable video")
        else:
            assert isinstance(outcome, Clip)
            assert (outcome.decoded_frames, numbers(outcome)[0]) == (2 + number, 100 + number)
    assert decoder_threads() == []


def test_a_clip_is_what_this_process_decodes(folder: Path) -> None:
    path = folder / "11.avi"
    found, expected = decode_clip(path, SMALL), read_clip(path, SMALL)
    np.testing.assert_array_equal(found.frames, expected.frames)
    values = [(one.decoded_frames, one.header_frames, one.fps, one.warnings) for one in (found, expected)]
    assert values[0] == values[1]


def test_no_clips_at_all() -> None:
    assert list(decode_clips([], SMALL)) == []


@pytest.mark.parametrize("arguments", [{"workers": 0}, {"ahead": 0}])
def test_workers_and_look_ahead_must_be_positive(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        decode_clips([], SMALL, **arguments)


def test_the_look_ahead_is_bounded(folder: Path) -> None:
    taken = 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        for path in sorted(folder.iterdir()):
            taken += 1
            yield path

    outcomes = decode_clips(paths(), SMALL, workers=2, ahead=3)
    for handed_out in range(1, 5):
        next(outcomes)
        assert taken == handed_out + 3
    outcomes.close()


def test_clips_are_decoded_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Semaphore(0)
    read_one = clips._decode

    def counting(*arguments: object) -> Clip:
        clip = read_one(*arguments)  # type: ignore[arg-type]
        read.release()
        return clip

    monkeypatch.setattr(clips, "_decode", counting)
    outcomes = decode_clips([folder / "00.avi"] * 5, SMALL, workers=2, ahead=4)
    next(outcomes)
    for _ in range(5):
        assert read.acquire(timeout=30)
    outcomes.close()


@pytest.mark.slow
def test_closing_stops_decoders_in_the_middle_of_a_clip(heavy: Path) -> None:
    outcomes = decode_clips([heavy] * 9, SMALL, workers=1)
    next(outcomes)
    assert eventually(lambda: [one.source for one in workers.processes] == [str(heavy)])
    (busy,) = [one.pid for one in workers.processes]
    (child,) = children(busy)
    outcomes.close()
    assert decoder_threads() == []
    assert workers.processes == []
    assert not Path(f"/proc/{busy}").exists()
    assert eventually(lambda: not Path(f"/proc/{child}").exists())


@pytest.mark.slow
def test_opencv_keeps_its_threads_here_and_has_one_there(heavy: Path) -> None:
    before = cv2.getNumThreads()
    outcomes = decode_clips([heavy] * 3, SMALL, workers=1)
    next(outcomes)
    assert eventually(lambda: workers.processes)
    (child,) = children(workers.processes[0].pid)
    time.sleep(0.1)
    assert len(os.listdir(f"/proc/{child}/task")) == 1  # noqa: PTH208
    assert cv2.getNumThreads() == before
    outcomes.close()


def test_an_error_in_the_list_of_paths_stops_everything(folder: Path) -> None:
    def paths() -> Iterator[Path]:
        yield folder / "00.avi"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(decode_clips(paths(), SMALL))
    assert decoder_threads() == []


def test_threads_agree_with_one_another(folder: Path) -> None:
    path = folder / "11.avi"
    alone = read_clip(path, SMALL)
    for _, clip in decode_clips([path] * 40, SMALL, workers=8):
        assert isinstance(clip, Clip)
        assert np.array_equal(clip.frames, alone.frames)


@pytest.mark.slow
def test_processes_are_started_once_and_decode_further_groups(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "_GROUP", 4)
    workers.close()
    seen = set()
    for _, clip in decode_clips([folder / "00.avi"] * 20, SMALL, workers=1):
        assert isinstance(clip, Clip)
        seen |= {one.pid for one in (*workers.processes, *workers._idle)}
    assert len(seen) == 1
    assert decode_clip(folder / "11.avi", SMALL).decoded_frames == 13
    assert {one.pid for one in workers._idle} == seen


# Processes that end


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_killed_decoder_costs_its_file_alone(folder: Path, victim: Path, number: signal.Signals) -> None:
    paths = [folder / "00.avi", folder / "01.avi", victim, *sorted(folder.glob("0[2-4].avi"))]
    with kill_decoder_of(victim, number) as killed:
        outcomes = dict(decode_clips(paths, SMALL, workers=2))
    assert killed
    lost = outcomes.pop(victim)
    assert isinstance(lost, ClipError)
    assert str(lost).startswith(f"{victim}: cannot be decoded: its decoder was ended by {number.name}")
    assert "\n" not in str(lost)
    assert [outcome.decoded_frames for outcome in outcomes.values() if isinstance(outcome, Clip)] == [2, 3, 4, 5, 6]


def test_a_killed_worker_costs_its_file_alone(folder: Path, victim: Path) -> None:
    outcomes = decode_clips([folder / "00.avi", victim, folder / "01.avi"], SMALL, workers=1)
    next(outcomes)
    assert eventually(lambda: [one.source for one in workers.processes] == [str(victim)])
    worker = workers.processes[0].pid
    (child,) = children(worker)
    os.kill(worker, signal.SIGKILL)
    _, lost = next(outcomes)
    assert isinstance(lost, ClipError)
    assert "ended by SIGKILL, as the system does where memory runs out" in lost.reason
    assert isinstance(next(outcomes)[1], Clip)
    assert eventually(lambda: not Path(f"/proc/{child}").exists())
    outcomes.close()


@pytest.mark.slow
def test_a_decoder_that_hangs_is_ended(folder: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SILENCE_SECONDS", 3.0)
    with kill_decoder_of(victim, signal.SIGSTOP) as stopped:
        outcomes = dict(decode_clips([victim, folder / "00.avi"], SMALL, workers=1))
    lost = outcomes[victim]
    assert isinstance(lost, ClipError)
    assert lost.reason == "cannot be decoded: its decoder was ended because it did nothing for too long"
    assert isinstance(outcomes[folder / "00.avi"], Clip)
    assert eventually(lambda: not Path(f"/proc/{stopped[0]}").exists())


def test_a_defect_of_a_task_is_no_damage_of_the_file(folder: Path) -> None:
    path = folder / "00.avi"
    request = Request("samples", str(path), DecodingLimits.for_own_files(), {"plan": {}, "size": 32})
    ((values, _),) = workers.answer(path, request, lambda: None)
    with pytest.raises(DecoderDefectError, match="TypeError"):
        raise_refusal(path, values)


def test_too_little_memory_is_told(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.avi", 2, width=2048, height=2048, codec="mjpeg", pixel_format="yuvj420p")
    limits = DecodingLimits(memory_bytes=1)
    request = Request("clip", str(path), limits, {"spec": {"size": 32}}, largest=1 << 20)
    with pytest.raises(ClipError, match=r"needs more memory|holds no frame that can be decoded"):
        raise_refusal(path, next(workers.answer(path, request, lambda: None)).values)


def test_a_process_that_cannot_be_started_is_no_damage_of_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_WORKER", "vdeploy.no_such_module")
    monkeypatch.setattr(clips, "_pool", WorkerPool())
    with pytest.raises(UserError, match="the decoder cannot be started"):
        decode_clip(folder / "00.avi", SMALL)


def test_a_process_that_is_not_ready_in_time_is_no_damage_of_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_START_SECONDS", 0.001)
    monkeypatch.setattr(clips, "_pool", WorkerPool())
    with pytest.raises(UserError, match=r"decoder was not ready within 0 s; see that memory, .* time are left"):
        decode_clip(folder / "00.avi", SMALL)


# A video that a process holds open


def test_a_remote_reader_gives_what_a_reader_gives(folder: Path) -> None:
    path = folder / "11.avi"
    with VideoReader(path, threading.Event()) as near, RemoteReader(path, group=[path]) as far:
        assert (far.frame_count, far.fps, far.duration_s) == (near.frame_count, near.fps, near.duration_s)
        assert far.warnings == near.warnings
        while near.grab():
            assert far.grab()
            assert far.time_us == near.time_us
            np.testing.assert_array_equal(far.retrieve(32), near.retrieve(32))
            np.testing.assert_array_equal(far.picture(), near.picture())
        assert not far.grab()
        for one in (near, far):
            one.restart()
            one.seek(200_000)
            one.grab()
        assert far.time_us == near.time_us
    assert workers.processes == []


def test_a_remote_reader_is_stopped(folder: Path) -> None:
    stop = threading.Event()
    with RemoteReader(folder / "11.avi", stop) as reader:
        assert reader.grab()
        stop.set()
        with pytest.raises(Stopped):
            reader.grab()
    assert workers.processes == []


def test_a_killed_remote_reader_names_its_file(folder: Path) -> None:
    path = folder / "11.avi"
    with RemoteReader(path) as reader:
        assert reader.grab()
        (child,) = children(workers.processes[0].pid)
        os.kill(child, signal.SIGSEGV)
        assert eventually(lambda: not Path(f"/proc/{child}").exists())
        with pytest.raises(ClipError, match=r"11.avi: cannot be decoded: its decoder was ended by SIGSEGV"):
            reader.grab()
    assert workers.processes == []
    with pytest.raises(ClipError, match="is not a readable video"):
        RemoteReader(folder / "05.avi")


def test_a_watched_file_that_ends_its_decoder_is_told(victim: Path) -> None:
    told: list[Report] = []
    source = parse_source(str(victim))
    inbox = Inbox(4)
    camera = Camera(0, source, inbox, sampled_fps=5.0, size=32, tell=told.append, stop=threading.Event())
    camera.start()
    assert eventually(lambda: workers.processes and children(workers.processes[0].pid))
    os.kill(children(workers.processes[0].pid)[0], signal.SIGSEGV)
    camera.join(30)
    assert [report.kind for report in told][-2:] == ["lost", "ended"]
    assert "ended by SIGSEGV" in (told[-2].message or "")


SCRIPT = """
    import sys
    sys.path[:] = [entry for entry in sys.path if entry]
    from pathlib import Path
    from testing.decoder_kills import children
    from vdeploy.video.clips import ClipSpec
    from vdeploy.video.workers.clips import decode_clips
    from vdeploy.video.workers.pool import workers
    try:
        for number, _ in enumerate(decode_clips([Path(sys.argv[1])] * 1_000_000, ClipSpec(size=32))):
            if number == 0:
                found = [one.pid for one in (*workers.processes, *workers._idle)]
                print(*found, *(child for pid in found for child in children(pid)), flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@contextlib.contextmanager
def decoding_program(path: Path, folder: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            running.kill()


def test_ctrl_c_ends_at_once(heavy: Path) -> None:
    with decoding_program(heavy) as running:
        assert running.stdout is not None
        pids = running.stdout.readline().split()
        assert pids
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=30)
    assert output == "interrupted\n"
    assert errors == ""
    assert running.returncode == 0
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
def test_no_process_outlives_a_program_that_is_killed(heavy: Path, stopped: bool) -> None:
    with decoding_program(heavy) as running:
        assert running.stdout is not None
        pids = [int(pid) for pid in running.stdout.readline().split()]
        assert len(pids) >= 2
        if stopped:
            for pid in pids[len(pids) // 2 :]:
                os.kill(pid, signal.SIGSTOP)
        running.kill()
        running.communicate(timeout=30)
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_processes_import_nothing_from_the_working_directory_and_no_tensorflow(tmp_path: Path, heavy: Path) -> None:
    (tmp_path / "av.py").write_text("raise SystemExit('the wrong one')")
    with decoding_program(heavy, tmp_path) as running:
        assert running.stdout is not None
        pids = running.stdout.readline().split()
        libraries = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids[:1])
        running.kill()
        running.communicate(timeout=30)
    assert "site-packages/av/" in libraries
    assert "tensorflow" not in libraries
