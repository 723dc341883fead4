"""What is found out about a server."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import pytest

from tests.triton.planning.conftest import fake_install
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.planning.server_facts import Target, find_target, parse_version, version_text


def test_what_the_user_tells_comes_first(tmp_path: Path) -> None:
    told = find_target(None, capabilities=(86,), tensorrt=(10, 13), onnxruntime=(1, 20))
    assert told == Target((86,), (10, 13), (1, 20), (1, 20))
    assert find_target(None) == Target()
    install = fake_install(tmp_path, "python")
    assert find_target(install, onnxruntime=(1, 17)).python_onnxruntime == (1, 17)


def test_the_python_backend_has_the_onnx_runtime_of_this_environment(tmp_path: Path) -> None:
    target = find_target(fake_install(tmp_path, "python"))
    assert version_text(target.python_onnxruntime or ()) == importlib.metadata.version("onnxruntime")
    assert target.onnxruntime is None


@pytest.mark.parametrize("there", [True, False])
def test_whether_the_python_backend_has_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    (tmp_path / "openvino.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)] if there else [])
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    assert find_target(fake_install(tmp_path, "python"), onnxruntime=(1, 17)).lacks_openvino is not there
    assert not find_target(None).lacks_openvino


def test_the_version_of_a_real_onnx_runtime_library_is_read(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("onnxruntime")
    assert spec
    assert spec.origin
    library = next((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"), None)
    if library is None:
        pytest.skip("this ONNX Runtime comes without its library")
    install = fake_install(tmp_path, "onnxruntime")
    (tmp_path / "onnxruntime" / "libonnxruntime.so").symlink_to(library)
    assert version_text(find_target(install).onnxruntime or ()) == importlib.metadata.version("onnxruntime")


@pytest.mark.parametrize("content", [b"", b"no version"])
def test_a_library_that_tells_nothing_is_unknown(tmp_path: Path, content: bytes) -> None:
    install = fake_install(tmp_path, "onnxruntime")
    (tmp_path / "onnxruntime" / "libonnxruntime.so").write_bytes(content)
    assert find_target(install).onnxruntime is None


def test_tensorrt_is_known_by_its_file(tmp_path: Path) -> None:
    install = fake_install(tmp_path, "tensorrt")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libnvinfer.so.10.13.2").touch()
    assert find_target(install).tensorrt == (10, 13, 2)


@pytest.mark.parametrize(("script", "found"), [("echo 8.9; echo 9.0", (89, 90)), ("echo no GPU", ()), ("exit 9", ())])
def test_the_driver_tells_the_compute_capability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: tuple[int, ...]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert find_target(fake_install(tmp_path / "backends")).capabilities == found


def test_versions_are_numbers() -> None:
    assert parse_version("10.13.2") == (10, 13, 2)
    with pytest.raises(RepositoryError, match="'ten' is no version; give numbers with dots"):
        parse_version("ten")
