"""What can be said of the images and compose files without building them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
COMPOSE_FILES = sorted((ROOT / "docker").glob("compose*.yaml"))
PINNED = re.compile(r"[\w./-]+:v?\d[\w.-]*")

every_dockerfile = pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)


def services(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return dict(yaml.safe_load((ROOT / "docker" / name).read_text())["services"])


def test_the_images_are_there():
    assert [file.name for file in DOCKERFILES] == ["Dockerfile.cli", "Dockerfile.train", "Dockerfile.triton"]


@every_dockerfile
def test_hadolint_has_nothing_to_say(file):
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, "--failure-threshold", "info", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@every_dockerfile
def test_a_base_is_pinned_and_nothing_else_is_pulled(file):
    text = file.read_text()
    assert "syntax=" not in text
    (base,) = re.findall(r"^ARG BASE_IMAGE=(.+)$", text, re.MULTILINE)
    assert PINNED.fullmatch(base)
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"${BASE_IMAGE}", *stages}


@every_dockerfile
def test_it_ends_as_nobody_and_takes_pips_configuration_as_a_secret(file):
    text = file.read_text()
    final = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)$", final, re.MULTILINE) == ["10001:0"]
    for command in re.findall(r"^RUN (?:.*\\\n)*.*$", text, re.MULTILINE):
        assert "pip" not in command or "--mount=type=secret,id=pip,target=/etc/pip.conf" in command
    assert not re.search(r"^(?:ARG|ENV) .*(?:INDEX|TOKEN|PASSWORD)", text, re.MULTILINE)


def test_triton_is_recent_enough_and_checked_by_inference():
    text = (ROOT / "docker" / "Dockerfile.triton").read_text()
    (year, month) = re.findall(r"^ARG BASE_IMAGE=\S+/tritonserver:(\d+)\.(\d+)-py3$", text, re.MULTILINE)[0]
    assert (int(year), int(month)) >= (25, 7)
    assert re.search(r"HEALTHCHECK .*\\\n +CMD .*vdeploy\.triton\.probe", text)


def test_only_what_images_are_made_of_is_sent_to_the_engine():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    for name in lines[1:]:
        assert name == "**/__pycache__" or (ROOT / name.removeprefix("!")).exists()


def test_every_service_is_confined():
    for name, service in services("compose.yaml").items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert not service.get("privileged"), name
        assert all(str(port).startswith("127.0.0.1:") for port in service["ports"]), name
        assert "ulimits" not in service, f"{name}: needs a capability"
        assert PINNED.fullmatch(re.sub(r"\$\{\w+:-(.*?)\}", r"\1", service["image"])), name


def test_monitoring_starts_only_when_asked_for():
    profiles = {name: service.get("profiles") for name, service in services("compose.yaml").items()}
    assert profiles == {"triton": None, "prometheus": ["monitoring"], "grafana": ["monitoring"]}


def test_the_gpu_file_changes_triton_alone():
    (triton,) = services("compose.gpu.yaml").values()
    assert triton["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    assert "--gpus" in triton["command"]
