"""A row's process: what it answers, what it refuses, and what is left to say when it dies."""

from __future__ import annotations

import io
import json
import os
import signal

import pytest

from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from tests.triton.planning.conftest import with_engines
from vdeploy.benchmark.measure.process import Crashed, Refused, RowProcess
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.subjects import DISTINCT_INPUTS, Subject
from vdeploy.benchmark.measure.worker import Worker, main
from vdeploy.benchmark.measure.workloads import open_subject
from vdeploy.video.clips import ClipSpec, read_clip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("worker") / "bundle").root


def job(root, what="pipeline", **values) -> Job:
    common = {"bundle": str(root), "format": "onnx-fp32", "runtime": None, "batch": 2, "threads": 1}
    return Job(what=what, **{**common, **values})


def clip(clips_dir):
    return str(next(iter(sorted(clips_dir.rglob("*.mp4")))))


def test_a_job_travels_as_a_line(root):
    sent = job(root, "video", videos=("a.mp4", "b.mp4"))
    assert "\n" not in sent.to_json()
    assert Job.from_json(sent.to_json()) == sent


@pytest.mark.parametrize("what", ["extractor", "classifier", "pipeline"])
def test_commands_are_answered_line_by_line(root, what):
    answers = io.StringIO()
    commands = f'{job(root, what).to_json()}\n{{"warm": 0}}\n{{"window": 0.01}}\n{{"window": 0}}\n'
    main(io.StringIO(commands), answers)
    ready, warm, window, single = map(json.loads, answers.getvalue().splitlines())
    assert ready == {"device": "cpu"}
    assert warm == {"calls": 1}
    assert window["peak_memory_bytes"] > 1 << 24
    assert all(seconds > 0 for seconds in window["durations"])
    assert len(single["durations"]) == 1
    assert window["parts"] == {}


def test_what_does_not_run_here_is_refused_in_a_line(root):
    answers = io.StringIO()
    main(io.StringIO(job(root, format="onnx-int8").to_json() + "\n"), answers)
    assert "holds no extractor in onnx-int8" in json.loads(answers.getvalue())["refused"]


def test_calls_see_different_inputs_in_turn(root):
    seen = []
    with open_subject(job(root)) as subject:
        assert subject.scorer is not None
        score = subject.scorer.score
        subject.scorer.score = lambda frames: (seen.append(frames.tobytes()), score(frames))[1]
        for index in range(2 * DISTINCT_INPUTS):
            assert subject.call(index) == {}
    assert len(set(seen)) == DISTINCT_INPUTS
    assert seen[:DISTINCT_INPUTS] == seen[DISTINCT_INPUTS:]


def test_a_video_call_gives_its_parts(root, clips_dir):
    with open_subject(job(root, "video", batch=1, videos=(clip(clips_dir),))) as subject:
        parts = subject.call(0)
    assert list(parts) == ["decode", "extract", "classify"]
    assert all(seconds > 0 for seconds in parts.values())


def test_a_clip_is_scored_as_by_the_bundle(root, clips_dir, broken_clips_dir):
    frames = read_clip(clip(clips_dir), ClipSpec(frames=4, size=32)).frames
    with open_subject(job(root)) as subject:
        worker = Worker(subject)
        answer = worker.execute({"score": clip(clips_dir)})
        broken = worker.execute({"score": str(broken_clips_dir / "violent" / "text.mp4")})
    assert answer["probability"] == pytest.approx(tiny_probabilities(frames[None])[0, 1], abs=1e-5)
    assert broken == {"unreadable": "is not a readable video"}


def test_a_stage_scores_nothing():
    with pytest.raises(ValueError, match="scores no clips"):
        Worker(Subject(lambda _: {})).execute({"score": "a.mp4"})


def test_a_quick_call_is_done_once_before_a_window():
    calls = []
    worker = Worker(Subject(lambda index: calls.append(index) or {}))
    worker.execute({"warm": 0})
    answer = worker.execute({"window": 0.005})
    assert answer["untimed"] == 1
    assert calls == list(range(len(answer["durations"]) + 2))


def test_a_process_executes_commands_and_ends(root):
    with RowProcess(job(root)) as process:
        assert process.device == "cpu"
        assert process.ask("warm", 0)["calls"] == 1
        assert process.ask("window", 0)["durations"]
        pid = process._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_engine_without_its_gpu_is_refused(tmp_path):
    bundle = with_engines(make_tiny_bundle(tmp_path / "bundle"))
    with pytest.raises(Refused, match=r"tensorrt|TensorRT|GPU"), RowProcess(job(bundle.root, format="tensorrt-fp16")):
        pass


def test_a_process_that_dies_is_reported_with_its_signal(root):
    with RowProcess(job(root)) as process:
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(Crashed, match="ended with signal 9"):
            process.ask("warm", 0)


def test_a_defect_is_reported_with_its_last_line(root):
    with RowProcess(job(root)) as process, pytest.raises(Crashed, match="ended with exit code 1: KeyError: 'score'"):
        process.ask("fly", 1)
