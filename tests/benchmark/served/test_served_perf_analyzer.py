"""NVIDIA's perf_analyzer on a real server, and what is said where it cannot measure."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest

from tests.benchmark.test_record import row
from vdeploy.benchmark.served import perf_analyzer as program
from vdeploy.benchmark.served.cross_check import CrossCheck
from vdeploy.benchmark.served.perf_analyzer import PerfAnalyzer, PerfError, Setting
from vdeploy.core.errors import BenchmarkError
from vdeploy.triton.server.reaper import SHARED_MEMORY

SETTING = Setting("127.0.0.1:9", "violence_detector", "frames", "probabilities", 1, 1, "grpc", 0.0)
CLIP = np.zeros((1, 1, 1, 3), np.uint8)


def script(folder, body):
    """A program in the place of the real one."""
    file = folder / "perf_analyzer"
    file.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit 0\n{body}\n')
    file.chmod(0o755)
    return file


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.parametrize("transport", ["grpc", "shared memory"])
def test_it_measures_the_same_server(server, bundle, perf_analyzer, transport):
    ours = row(
        name="Triton, onnx-fp32",
        where=server.url,
        runtime="triton",
        transport=transport,
        concurrency=2,
        batch=2,
        clips_per_s=1.0,
        p50_ms=1.0,
    )
    check = CrossCheck(perf_analyzer, 0, stability_percent=1e6)
    mine, its = check.rows(ours, bundle.manifest)
    assert mine == ours.model_copy(update={"perf_analyzer_clips_per_s": its.clips_per_s})
    assert its.name == "perf_analyzer, onnx-fp32"
    assert (its.transport, its.concurrency, its.batch, its.where) == (transport, 2, 2, server.url)
    assert (its.status, its.settled) == ("ok", True)
    assert 0 < its.p50_ms <= its.p90_ms <= its.p95_ms <= its.p99_ms
    assert its.calls > 0
    assert its.frames_per_s == pytest.approx(4 * its.clips_per_s)
    assert its.clips_per_s == pytest.approx(2 * 2 / its.p50_ms * 1000, rel=0.9)
    assert ours.key != its.key


@pytest.mark.slow
@pytest.mark.triton
def test_its_own_words_are_told_where_it_fails(perf_analyzer):
    with pytest.raises(PerfError, match=r"(?i)error|fail|connect"):
        PerfAnalyzer(perf_analyzer).measure(SETTING, [CLIP], 0)


def test_one_that_never_becomes_stable_leaves_a_row_without_figures(bundle, tmp_path):
    file = script(tmp_path, "echo Failed to obtain stable measurement.\nexit 2")
    ours = row(name="Triton", where="h:1", p50_ms=1.0)
    mine, its = CrossCheck(file, 0).rows(ours, bundle.manifest)
    assert mine == ours
    assert (its.name, its.status) == ("perf_analyzer", "error")
    assert its.reason == "perf_analyzer: Failed to obtain stable measurement."


def test_inputs_and_settings_are_handed_over(tmp_path):
    file = script(tmp_path, f'echo "$@" > {tmp_path}/arguments; echo; echo died; exit 1')
    setting = Setting("h:1", "m", "frames", "probabilities", 3, 4, "shared memory", 2.0)
    with pytest.raises(PerfError, match="died"):
        PerfAnalyzer(file).measure(setting, [CLIP], 3.0)
    told = (tmp_path / "arguments").read_text()
    for part in ("-m m -u h:1 -i grpc -b 3", "--concurrency-range 4", "--measurement-interval 40000"):
        assert part in told
    assert "--shared-memory=system" in told


def test_a_table_of_another_kind_is_told(tmp_path):
    body = 'while [ "$1" != -f ]; do shift; done; echo a,b > "$2"; echo 1,2 >> "$2"'
    with pytest.raises(PerfError, match=r"its table is not as expected \(KeyError"):
        PerfAnalyzer(script(tmp_path, body)).measure(SETTING, [CLIP], 0)


def test_one_that_hangs_is_ended(tmp_path, monkeypatch):
    analyzer = PerfAnalyzer(script(tmp_path, "exec sleep 600"))
    monkeypatch.setattr(program, "_SPARE_SECONDS", -14.9)
    with pytest.raises(PerfError, match="it had not ended after 0 s"):
        analyzer.measure(SETTING, [CLIP], 0)


def test_shared_memory_that_it_leaves_is_removed_and_that_of_others_is_not(tmp_path):
    setting = Setting("h:1", "m", f"t{os.getpid()}", f"a{os.getpid()}", 1, 1, "shared memory", 0.0)
    others = SHARED_MEMORY / f"{setting.tensor}_9_9"
    others.touch()
    try:
        made = [SHARED_MEMORY / name for name in (f"{setting.tensor}_0_1", setting.answer)]
        kept = SHARED_MEMORY / f"{setting.tensor}_other"
        file = script(tmp_path, f"touch {made[0]} {made[1]} {kept}; kill -9 $$")
        with pytest.raises(PerfError, match="exit code -9"):
            PerfAnalyzer(file).measure(setting, [CLIP], 0)
        assert [region.exists() for region in (*made, kept, others)] == [False, False, True, True]
    finally:
        for region in SHARED_MEMORY.glob(f"{setting.tensor}_*"):
            region.unlink()


def test_what_is_no_program_is_refused(tmp_path):
    with pytest.raises(BenchmarkError, match="cannot be run \\(No such file or directory\\)"):
        PerfAnalyzer(tmp_path / "nothing")


def test_a_missing_library_is_named(tmp_path):
    file = tmp_path / "perf_analyzer"
    file.write_text("#!/bin/sh\necho 'error while loading shared libraries: libb64.so.0d' >&2\nexit 127\n")
    file.chmod(0o755)
    with pytest.raises(BenchmarkError, match=r"cannot be run \(error while loading shared libraries: libb64\.so\.0d\)"):
        PerfAnalyzer(file)


def test_one_that_does_not_answer_is_refused(tmp_path, monkeypatch):
    def late(*arguments, **__):
        raise subprocess.TimeoutExpired(arguments[0], 60)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(BenchmarkError, match="cannot be run \\(it does not answer\\)"):
        PerfAnalyzer(tmp_path / "perf_analyzer")
