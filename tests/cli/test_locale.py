"""Names beyond the encoding of the locale: results are escaped, and the locale is named as the cause."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testing.tiny_bundle import make_tiny_bundle
from testing.videos import solid_frame, write_video

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"PYTHONIOENCODING": "latin-1"}


def vdeploy(*arguments: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a process of its own, with other variables."""
    command = [sys.executable, "-m", "vdeploy", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
    return subprocess.run(command, capture_output=True, check=False, env=environment | variables, timeout=120)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle")).root


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain = write_video(tmp_path_factory.mktemp("video") / "plain.mp4", [solid_frame((10, 10, 250))] * 8)
    return plain.rename(plain.with_name("żółć.mp4"))


def test_a_table_is_escaped(bundle: Path, video: Path) -> None:
    done = vdeploy("predict", video, "--bundle", bundle, **LATIN)
    assert done.returncode == 0
    assert b"\\u017c\xf3\\u0142\\u0107.mp4" in done.stdout
    assert b"UnicodeEncodeError" not in done.stderr


def test_json_stays_json(bundle: Path, video: Path) -> None:
    done = vdeploy("predict", video, "--bundle", bundle, "--json", **LATIN)
    assert done.returncode == 0
    (prediction,) = json.loads(done.stdout.decode("latin-1"))["predictions"]
    assert (prediction["path"], prediction["error"]) == (str(video), None)


def test_the_locale_is_blamed_for_a_name_that_it_cannot_express(bundle: Path, video: Path) -> None:
    done = vdeploy("predict", video, "--bundle", bundle, **ASCII)
    assert done.returncode == 1
    assert b"has a name beyond the locale's encoding, ascii: set LC_ALL=C.UTF-8, or rename it" in done.stdout
    assert b"Error" not in done.stderr


def test_a_scan_blames_the_locale(tmp_path: Path, video: Path) -> None:
    for label in ("violent", "non_violent"):
        (tmp_path / label).mkdir()
        (tmp_path / label / video.name).write_bytes(video.read_bytes())
    done = vdeploy("data", "scan", tmp_path, **ASCII)
    assert done.returncode == 1
    assert b"has a name beyond the locale's encoding" in done.stderr
    assert done.stderr.count(b"\n") == 1
