from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from vdeploy.artifacts.bundle import Bundle, digest_of
from vdeploy.core.errors import MissingExtraError, ServerError
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server import install as install_module
from vdeploy.triton.server import launch, python_backend
from vdeploy.triton.server.install import TritonInstall, find_install, from_wheel_tree
from vdeploy.triton.server.python_backend import assemble_backends, find_libpython

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def make_wheel_tree(root: Path, *versions: str) -> Path:
    server = root / "pytriton" / "tritonserver"
    make_program(server / "bin" / "tritonserver")
    for version in versions:
        make_program(server / "python_backend_stubs" / version / "triton_python_backend_stub")
    (server / "backends" / "python").mkdir(parents=True)
    (server / "backends" / "python" / "libtriton_python.so").touch()
    (root / "nvidia_pytriton.libs").mkdir()
    return root


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server on PATH, an empty cache, and a package index that has nothing."""
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(install_module, "_from_site_packages", lambda: None)


class TestFinding:
    def test_an_explicit_path(self, tmp_path: Path) -> None:
        binary = make_program(tmp_path / "tritonserver" / "bin" / "tritonserver")
        (tmp_path / "tritonserver" / "TRITON_VERSION").write_text("2.59.0\n")
        (tmp_path / "tritonserver" / "backends" / "onnxruntime").mkdir(parents=True)
        (tmp_path / "tritonserver" / "backends" / "onnxruntime" / "libtriton_onnxruntime.so").touch()
        found = find_install(binary)
        assert found == TritonInstall(
            binary, binary.parents[1] / "backends", {}, binary.parents[1] / "lib", "2.59.0", "the given path"
        )
        assert found.has_backend("onnxruntime")
        assert not found.has_backend("python")

    def test_a_path_into_a_wheel_knows_its_stubs(self, tmp_path: Path) -> None:
        root = make_wheel_tree(tmp_path, "3.10", "3.11")
        found = find_install(root / "pytriton" / "tritonserver" / "bin" / "tritonserver")
        assert sorted(found.stubs) == ["3.10", "3.11"]
        assert found.version == "2.51.0"

    def test_a_path_that_is_no_program(self, tmp_path: Path) -> None:
        with pytest.raises(ServerError, match="is not a program that can be run"):
            find_install(tmp_path)

    @pytest.mark.usefixtures("nothing_installed")
    def test_path_comes_before_the_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        binary = make_program(tmp_path / "opt" / "bin" / "tritonserver")
        monkeypatch.setenv("PATH", str(binary.parent))
        found = find_install()
        assert (found.binary, found.version, found.origin) == (binary, "", "PATH")

    def test_an_installed_wheel(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        site = make_wheel_tree(tmp_path / "site-packages", "3.12")
        (site / "nvidia_pytriton-0.7.0.dist-info").mkdir()
        (site / "nvidia_pytriton-0.7.0.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: nvidia-pytriton\nVersion: 0.7.0\n"
        )
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PATH", str(tmp_path))
        found = find_install()
        assert found.origin == "nvidia-pytriton in site-packages"
        assert found.libraries == site / "nvidia_pytriton.libs"

    @pytest.mark.usefixtures("nothing_installed")
    def test_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = tmp_path / "cache" / "triton" / "0.7.0"
        make_wheel_tree(root, "3.11")
        monkeypatch.setattr(install_module, "TREE_SHA256", digest_of(root))
        assert find_install().origin.startswith("the cache ")

    @pytest.mark.usefixtures("nothing_installed")
    def test_a_cache_that_was_tampered_with_is_not_started(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        make_wheel_tree(tmp_path / "cache" / "triton" / "0.7.0", "3.11")
        with pytest.raises(ServerError, match="could not be fetched"):
            find_install()
        assert "0.7.0 is not what was unpacked there; it is fetched again" in capfd.readouterr().err

    @pytest.mark.usefixtures("nothing_installed")
    def test_a_cache_without_the_program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "cache" / "triton" / "0.7.0").mkdir(parents=True)
        monkeypatch.setattr(install_module, "TREE_SHA256", digest_of(tmp_path / "cache" / "triton" / "0.7.0"))
        with pytest.raises(ServerError, match=r"holds no runnable .*; delete .* and start again"):
            find_install()

    @pytest.mark.usefixtures("nothing_installed")
    def test_an_index_without_the_wheel(self, tmp_path: Path) -> None:
        with pytest.raises(ServerError, match=r"nvidia-pytriton 0\.7\.0 could not be fetched \(ERROR: .*look at the"):
            find_install()
        assert not (tmp_path / "cache" / "triton" / "0.7.0").exists()
        assert not list((tmp_path / "cache").rglob("*.tmp"))

    @pytest.mark.usefixtures("nothing_installed")
    def test_another_wheel_under_its_name_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "nvidia_pytriton-0.7.0-py3-none-manylinux_2_35_x86_64.whl").write_bytes(b"PK")
        with pytest.raises(ServerError, match="could not be fetched"):
            find_install()

    @pytest.mark.usefixtures("nothing_installed")
    def test_a_cache_that_cannot_be_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VDEPLOY_CACHE", "/sys/vdeploy")
        with pytest.raises(ServerError, match=r"cannot be unpacked into /sys/vdeploy.*set VDEPLOY_CACHE"):
            find_install()

    @pytest.mark.usefixtures("nothing_installed")
    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("machine", "aarch64", "aarch64"),
            ("system", "Darwin", "Darwin"),
            ("libc_ver", ("glibc", "2.31"), "glibc 2.31"),
            ("libc_ver", ("", ""), "another C library"),
        ],
    )
    def test_another_platform(self, monkeypatch: pytest.MonkeyPatch, name: str, value: object, told: str) -> None:
        monkeypatch.setattr(install_module.platform, name, lambda: value)
        with pytest.raises(ServerError, match=f"glibc 2.35 or newer, this is .*{told}"):
            find_install()

    @pytest.mark.slow
    @pytest.mark.triton
    def test_fetching_it(self, install: TritonInstall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        if "cache" not in install.origin:
            pytest.skip("a Triton is installed, none would be fetched")
        monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path))
        found = find_install()
        assert found.has_backend("python")
        assert {"3.10", "3.11", "3.12", "3.13"} <= set(found.stubs)
        assert all(os.access(program, os.X_OK) for program in (found.binary, *found.stubs.values()))


class TestPythonBackend:
    @pytest.fixture
    def wheel(self, tmp_path: Path) -> TritonInstall:
        return from_wheel_tree(make_wheel_tree(tmp_path / "wheel", RUNNING), "0.7.0", "a test")

    def test_the_parts_are_put_together(self, wheel: TritonInstall, tmp_path: Path) -> None:
        name = f"libpython{sys.version_info[0]}-0123abcd.{sys.version_info[1]}.so.1.0"
        (wheel.libraries / name).touch()
        environment = assemble_backends(wheel, tmp_path / "run")
        backend = tmp_path / "run" / "backends" / "python"
        assert sorted(file.name for file in backend.iterdir()) == ["libtriton_python.so", "triton_python_backend_stub"]
        assert environment["LD_LIBRARY_PATH"].split(":")[:2] == [str(tmp_path / "run" / "lib"), str(wheel.libraries)]
        assert environment["PATH"].split(":")[0] == str(Path(sys.executable).parent)
        assert find_libpython(wheel) is None

    def test_other_backends_are_put_beside_it(self, wheel: TritonInstall, tmp_path: Path) -> None:
        library = wheel.backends / "onnxruntime" / "libtriton_onnxruntime.so"
        library.parent.mkdir()
        library.touch()
        assemble_backends(wheel, tmp_path / "run", others=["onnxruntime"])
        assert sorted(folder.name for folder in (tmp_path / "run" / "backends").iterdir()) == ["onnxruntime", "python"]
        assert (tmp_path / "run" / "backends" / "onnxruntime" / library.name).samefile(library)

    @pytest.mark.parametrize("streams", [None, StreamOptions(3)])
    def test_a_launch_finds_every_backend_of_the_repository(
        self,
        wheel: TritonInstall,
        bundle: Bundle,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        streams: StreamOptions | None,
    ) -> None:
        library = wheel.backends / "onnxruntime" / "libtriton_onnxruntime.so"
        library.parent.mkdir()
        library.touch()
        monkeypatch.setattr(python_backend, "find_libpython", lambda _: None)
        repository = write_repository(
            bundle, tmp_path / "r", backend="onnxruntime", options=ServingOptions(streams=streams)
        )
        started: list[tuple[list[str], dict[str, str]]] = []

        def spawned(command: list[str], **more: Any) -> None:
            (folder,) = (word.partition("=")[2] for word in command if word.startswith("--backend-directory="))
            held = sorted(file.parent.name for file in Path(folder).glob("*/libtriton_*.so"))
            started.append((held, more["environment"]))

        monkeypatch.setattr(launch, "spawn", spawned)
        running = launch.Launch(repository, "127.0.0.1", {"http": 0, "grpc": 1, "metrics": 0}, tmp_path / "log", 1, "i")
        running.begin(wheel)
        running.end()
        ((held, environment),) = started
        assert {"onnxruntime", "python"} <= {*held}
        assert str(wheel.libraries) in environment["LD_LIBRARY_PATH"].split(":")

    def test_a_python_without_a_stub(self, tmp_path: Path) -> None:
        wheel = from_wheel_tree(make_wheel_tree(tmp_path / "wheel", "3.8", "3.9"), "0.7.0", "a test")
        with pytest.raises(ServerError, match=f"no Python backend for Python {RUNNING}, only for 3.8, 3.9"):
            assemble_backends(wheel, tmp_path / "run")

    def test_libpython_is_found_where_this_python_has_it(self, wheel: TritonInstall, tmp_path: Path) -> None:
        name = f"libpython{RUNNING}.so.1.0"
        if not any((folder / name).is_file() for folder in python_backend._library_folders()):
            pytest.skip(f"this Python has no {name}")
        assert find_libpython(wheel) == (tmp_path / find_libpython(wheel)).resolve()
        assert find_libpython(wheel).name == name

    def test_a_python_without_a_shared_library(
        self, wheel: TritonInstall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(python_backend, "_library_folders", lambda: iter([tmp_path]))
        monkeypatch.setattr(python_backend, "_linker_cache", dict)
        with pytest.raises(ServerError, match=f"apt-get install libpython{RUNNING}, or use a Python"):
            assemble_backends(wheel, tmp_path / "run")

    def test_the_linkers_cache_is_asked_last(
        self, wheel: TritonInstall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        known = python_backend._linker_cache()
        assert known["libc.so.6"].is_file()
        monkeypatch.setattr(python_backend, "_library_folders", lambda: iter([tmp_path]))
        monkeypatch.setattr(python_backend, "_linker_cache", lambda: {f"libpython{RUNNING}.so.1.0": tmp_path / "here"})
        assert find_libpython(wheel) == tmp_path / "here"

    @pytest.mark.parametrize(("module", "extra"), [("onnxruntime", "triton"), ("openvino", "openvino")])
    def test_a_runtime_is_not_installed(
        self, wheel: TritonInstall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, extra: str
    ) -> None:
        monkeypatch.setattr(sys, "path", [])
        monkeypatch.delitem(sys.modules, module, raising=False)
        with pytest.raises(MissingExtraError, match=rf"{module}.*pip install 'vdeploy\[{extra}\]'"):
            assemble_backends(wheel, tmp_path / "run", (module,))


@pytest.mark.parametrize(
    ("version", "has_holes"), [("2.51.0", True), ("2.58.1", True), ("2.59.0", False), ("3.0", False), ("", False)]
)
def test_versions_with_known_holes(tmp_path: Path, version: str, has_holes: bool) -> None:
    assert TritonInstall(tmp_path, tmp_path, {}, tmp_path, version, "a test").has_known_holes is has_holes
