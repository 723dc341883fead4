"""`requirements.txt` has the versions of `constraints.txt` with hashes, and images install from it alone."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docker" / "pinned_requirements.py"
_PARTS = runpy.run_path(str(SCRIPT))  # an installed package is called `docker`, too
read_pins, select = _PARTS["read_pins"], _PARTS["select"]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
EXTRAS = ("onnx", "triton", "export,triton", "train", "train-gpu", "gateway,onnx,s3,sign", "dev")


def lines_of(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return sorted(line.rstrip(" \\") for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line))


def pinned(extras: str, *packages: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(SCRIPT), extras, *packages]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_versions_and_markers_are_those_of_the_constraints() -> None:
    assert lines_of("requirements.txt") == lines_of("constraints.txt")


def test_each_version_has_the_hashes_of_its_files() -> None:
    pins = list(read_pins((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    assert len(pins) == len(lines_of("constraints.txt"))
    for pin in pins:
        first, *hashes = [line.rstrip(" \\") for line in pin.text.splitlines()]
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[^ ;]+( ; .+)?", first)
        assert hashes, first
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes), first


@pytest.mark.parametrize("extras", EXTRAS)
def test_the_pins_of_extras_hold_everything_that_they_require(extras: str) -> None:
    """As the packages that are installed here state it, for this Python."""
    done = pinned(extras)
    assert done.returncode == 0, done.stderr
    held = {pin.name for pin in read_pins(done.stdout)}
    waiting = [Requirement(f"vdeploy[{extras}]")]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        assert key[0] == "vdeploy" or key[0] in held, f"{extras} lacks {requirement}"
        try:
            stated = importlib.metadata.requires(requirement.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for further in map(Requirement, stated):
            environments = [{"extra": extra} for extra in ("", *requirement.extras)]
            if further.marker is None or any(further.marker.evaluate(extra) for extra in environments):
                waiting.append(further)


def test_an_image_installs_nothing_without_a_hash() -> None:
    assert len(DOCKERFILES) == 3
    for file in DOCKERFILES:
        text = file.read_text()
        installs = re.findall(r"pip --python \S+ install (.*)", text)
        assert [line.split()[0] for line in installs] == ["--require-hashes", "--no-build-isolation"], file.name
        (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", text, re.MULTILINE)
        assert extras in EXTRAS


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert pinned("nothing").stderr == "error: vdeploy has no extra nothing\n"
    assert pinned("onnx", "nothing").stderr == (
        "error: requirements.txt lacks nothing; renew it as its first lines say\n"
    )


def test_what_a_package_requires_comes_with_it() -> None:
    a, b = "a==1 \\\n    --hash=sha256:0", "b==2 ; x \\\n    --hash=sha256:1"
    pins = list(read_pins(f"{a}\n    # via b\n{b}\n    # via\n    #   c-d\nc.d==3\ne==4\n"))
    assert [pin.name for pin in select(pins, {"c-d"})] == ["a", "b", "c-d"]
    assert [pin.text for pin in select(pins, {"b"})] == [
        "a==1 \\\n    --hash=sha256:0",
        "b==2 ; x \\\n    --hash=sha256:1",
    ]


@pytest.mark.slow
def test_another_file_is_refused(tmp_path: Path) -> None:
    """Needs a package index."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120)
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    (pin,) = select(read_pins(text), {"mdurl"})
    for content, code in ((pin.text.replace("sha256:", "sha256:0")[:-1], 1), (pin.text, 0)):
        (tmp_path / "pinned.txt").write_text(re.sub(r"(sha256:[0-9a-f]{64})[0-9a-f]+", r"\1", content) + "\n")
        command = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install"]
        command += ["--require-hashes", "-r", str(tmp_path / "pinned.txt")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == code, done.stderr
        assert ("DO NOT MATCH THE HASHES" in done.stderr) == bool(code)
