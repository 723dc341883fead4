"""A deployment that is known to fail is refused in a line, before the server is asked and anything is written."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.triton.planning.conftest import with_engines
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import BundleError, RepositoryError
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.running import running_backends, running_formats
from vdeploy.triton.names import CONFIG, ENSEMBLE_MODEL
from vdeploy.triton.planning.checks import Check, Surroundings
from vdeploy.triton.planning.plans import StageRequest, check_plan, formats_to_deploy, plan_deployment
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.repository.backends import BackendChoice
from vdeploy.triton.repository.writer import write_repository

ONNX = {"extractor": "onnx-fp32", "classifier": "onnx-fp32"}
ENGINES = {"extractor": "tensorrt-fp16", "classifier": "tensorrt-fp16"}


def check_deployment(
    bundle: Bundle,
    root: Path,
    target: Target | None = None,
    on_check: Callable[[Check], None] = lambda _: None,
    backend: BackendChoice | None = None,
    **formats: str,
) -> None:
    plan = plan_deployment(bundle, root, StageRequest(backend, **formats))
    check_plan(plan, root, Surroundings(target or Target()), on_check)


def snapshot(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))


def test_a_first_deployment_is_pythons(bundle: Bundle, tmp_path: Path) -> None:
    seen: list[str] = []
    check_deployment(bundle, tmp_path / "r", **ONNX, on_check=lambda check: seen.append(str(check)))
    assert "ok: extractor in onnx-fp32: needs a server with the python backend" in seen
    assert all(line.startswith("ok: ") for line in seen)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
def test_the_backend_is_the_one_that_runs_the_stages_now(
    bundle: Bundle, tmp_path: Path, backend: BackendChoice
) -> None:
    write_repository(bundle, tmp_path, backend=backend)
    before = snapshot(tmp_path)
    seen: list[str] = []
    check_deployment(bundle, tmp_path, **ONNX, on_check=lambda check: seen.append(str(check)))
    assert running_backends(Journal(tmp_path)) == (backend, backend)
    assert f"ok: classifier in onnx-fp32: needs a server with the {backend} backend" in seen
    assert snapshot(tmp_path) == before


def test_formats_are_those_that_serve_now(bundle: Bundle, tmp_path: Path) -> None:
    def chosen(**request: Any) -> tuple[str, str]:
        found = formats_to_deploy(bundle, tmp_path, StageRequest(**({"backend": None} | request)))
        return found.extractor, found.classifier

    assert chosen() == ("onnx-fp32", "onnx-fp32")
    write_repository(with_engines(bundle), tmp_path, extractor="onnx-fp32", classifier="onnx-fp32")
    config = tmp_path / ENSEMBLE_MODEL / CONFIG
    config.write_text(config.read_text().replace(r"\"extractor\": \"onnx-fp32", r"\"extractor\": \"onnx-int8"))
    assert chosen() == ("onnx-int8", "onnx-fp32")
    assert chosen(extractor="openvino-int8") == ("openvino-int8", "onnx-fp32")
    assert chosen(precision="int8") == ("onnx-int8", "onnx-int8")
    assert chosen(backend="tensorrt") == ("tensorrt-fp16", "tensorrt-fp16")
    assert chosen(backend="tensorrt", precision="int8", classifier="onnx-fp32") == ("tensorrt-int8", "onnx-fp32")


def test_formats_that_nobody_noted(bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path)
    config = tmp_path / ENSEMBLE_MODEL / CONFIG
    config.write_text(config.read_text().replace('"formats"', '"others"'))
    assert running_formats(Journal(tmp_path)) == {}
    assert formats_to_deploy(bundle, tmp_path).extractor == "onnx-fp32"


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
def test_an_older_onnx_runtime(bundle: Bundle, tmp_path: Path, backend: BackendChoice) -> None:
    target = Target(onnxruntime=(1, 9), python_onnxruntime=(1, 9))
    with pytest.raises(RepositoryError, match=r"ONNX Runtime 1.9 is older than 1.12 \(and 1 more\)"):
        check_deployment(bundle, tmp_path, **ONNX, backend=backend, target=target)


def test_an_engine_for_another_server(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"built for compute capability 8.9, the GPU has 8.6"):
        check_deployment(with_engines(bundle), tmp_path, **ENGINES, backend="tensorrt", target=Target((86,)))


def test_engines_where_python_serves(bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path)
    with pytest.raises(RepositoryError, match="the python backend cannot run the extractor in tensorrt-fp16"):
        check_deployment(with_engines(bundle), tmp_path, **ENGINES)


def test_a_format_that_is_not_held(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no extractor in onnx-int8"):
        check_deployment(bundle, tmp_path, extractor="onnx-int8", classifier="onnx-fp32")


def test_a_full_disk(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ("total", "used", "free"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(RepositoryError, match=r"disk: 0 MB free at .*; free some space, or choose another folder"):
        check_deployment(bundle, tmp_path, **ONNX)
