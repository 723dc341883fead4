from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vdeploy.triton.client.server_log import reason_in
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.server import launch as launching
from vdeploy.triton.server.launch import Launch

NOISE = """\
W1123 08:57:56.833606 13911 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"
E1123 08:57:56.833794 13911 server.cc:241] "CudaDriverHelper has not been initialized."
E1123 08:57:59.634381 14022 ensemble_scheduler.cc:1468] "unable to create stream for violence_detector: CUDA driver"
I1123 08:57:56.835375 13911 server.cc:604] "I am fine"
"""
BROKEN_CONFIG = """\
[libprotobuf ERROR /tmp/text_format.cc:337] Error parsing text-format inference.ModelConfig: 12:3: Unknown value "X".
E1123 08:57:56.834847 13911 model_repository_manager.cc:1460] "Poll failed for model directory 'lstm_classifier': \
failed to read text proto from /r/lstm_classifier/config.pbtxt"
E1123 08:57:56.835273 13911 model_repository_manager.cc:703] "Invalid argument: ensemble contains models"
"""
FAILED_LOAD = r"""
E1123 08:58:05.570381 14224 model_lifecycle.cc:642] "failed to load 'lstm_classifier' version 1: Internal: \
ModuleNotFoundError: No module named 'nothing_here'\n\nAt:\n  /r/1/model.py(1): <module>\n"
error: creating server: Invalid argument - load failed for model 'violence_detector'
""".replace("\\\n", "")
MISSING_LIBRARY = "stub: error while loading shared libraries: libpython3.11.so.1.0: cannot open shared object file\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NOISE, ""),
        (
            NOISE + "terminate called after throwing an instance of 'boost::interprocess::lock_exception'\n"
            "  what():  boost::interprocess::lock_exception\n",
            "boost::interprocess::lock_exception",
        ),
        (NOISE + BROKEN_CONFIG, '/r/lstm_classifier/config.pbtxt:12:3: Unknown value "X"'),
        (NOISE + FAILED_LOAD, "ModuleNotFoundError: No module named 'nothing_here'"),
        (
            NOISE + MISSING_LIBRARY,
            "error while loading shared libraries: libpython3.11.so.1.0: cannot open shared object file",
        ),
        (
            NOISE + 'E1123 08:57:56.8 1 http_server.cc:47] "failed to start HTTP service: Socket already in use"\n',
            "failed to start HTTP service: Socket already in use",
        ),
        (
            "error: /opt/tritonserver cannot be run: Exec format error\n",
            "/opt/tritonserver cannot be run: Exec format error",
        ),
    ],
)
def test_the_reason_is_dug_out(tmp_path: Path, text: str, reason: str) -> None:
    log = tmp_path / "server.log"
    log.write_text(text)
    assert reason_in(log) == reason


UNDONE = FAILED_LOAD.splitlines()[1] + "\n"
CRASHED = "terminate called\n  what():  boost::interprocess::lock_exception\n"


@pytest.mark.parametrize(
    ("end", "before", "after", "told"),
    [
        ("kill -KILL $$", UNDONE, "", "was ended by SIGKILL, as the system does where memory runs out"),
        ("kill -BUS $$", UNDONE, "", "was ended by SIGBUS: its log gives no reason"),
        ("kill -BUS $$", "", UNDONE, "was ended by SIGBUS: its log gives no reason"),
        ("kill -ABRT $$", UNDONE, CRASHED, "was ended by SIGABRT: boost::interprocess::lock_exception"),
        ("kill -ABRT $$", CRASHED, UNDONE, "was ended by SIGABRT: its log gives no reason"),
        ("exit 1", UNDONE, "", "ended with exit code 1: its log gives no reason"),
        ("exit 1", UNDONE, "error: no room\n", "ended with exit code 1: no room"),
        ("exit 1", BROKEN_CONFIG, "error: no room\n", "ended with exit code 1: no room"),
    ],
)
def test_an_end_has_no_reason_from_before_all_was_well(
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
    before: str,
    after: str,
    told: str,
) -> None:
    launch = Launch(repository, "127.0.0.1", {}, tmp_path / "log", None, "id")
    launch.log_file.write_text(before)
    monkeypatch.setattr(launching, "DOUBT_SECONDS", 0)
    launch.note_health()
    launch.note_health()
    with launch.log_file.open("a") as log:
        log.write(after)
    process = subprocess.Popen(["sh", "-c", end])
    process.wait()
    error = launch.ended(process)
    assert (error.message, error.hint) == (f"Triton {told}", f"its log is {tmp_path / 'log'}")


def test_the_last_of_several_broken_configurations(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(BROKEN_CONFIG + BROKEN_CONFIG.replace("12:3", "13:4"))
    assert reason_in(log) == '/r/lstm_classifier/config.pbtxt:13:4: Unknown value "X"'


def test_a_reason_without_c_plus_plus(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    place = "/workspace/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, bool)"
    log.write_text(
        f"E1123 08:58:05.5 14224 model_lifecycle.cc:642] \"failed to load 'lstm_classifier' version 1: Internal: onnx "
        f'runtime error 1: {place} Unsupported model IR version: 99, max supported IR version: 10"\n'
    )
    assert reason_in(log) == "onnx runtime error 1: Unsupported model IR version: 99, max supported IR version: 10"


def test_a_log_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    assert reason_in(tmp_path / "server.log") == ""
