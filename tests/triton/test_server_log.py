from __future__ import annotations

from pathlib import Path

import pytest

from vdeploy.triton.client.server_log import reason_in

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


def test_a_log_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    assert reason_in(tmp_path / "server.log") == ""
