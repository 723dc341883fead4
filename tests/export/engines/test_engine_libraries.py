"""Which of the two libraries is there, what is said where it is not, and what only the one that needs a GPU does."""

from __future__ import annotations

import sys
import types

import pytest

from vdeploy.core.errors import DeployError, ExportError, MissingExtraError
from vdeploy.core.files import cache_dir
from vdeploy.export.tensorrt import EngineOptions, build_engine
from vdeploy.export.tensorrt.builder import _builder, _targets
from vdeploy.export.tensorrt.timing_cache import TimingCache, timing_cache_file
from vdeploy.inference.runtimes import tensorrt_library
from vdeploy.inference.runtimes.tensorrt_library import Library, MessageLog, load_library

ON_A_GPU = Library("tensorrt", types.SimpleNamespace(), "10.13.3.9")


def options(**values) -> EngineOptions:
    return EngineOptions(precision="fp16", library="tensorrt", **values)


@pytest.mark.parametrize(
    ("name", "extra", "machine"),
    [
        ("tensorrt", "tensorrt", "on a machine with the GPU that it is for"),
        ("tensorrt_rtx", "tensorrt-rtx", "on any machine"),
    ],
)
def test_a_missing_library_is_one_line_with_package_and_machine(monkeypatch, tmp_path, name, extra, machine):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        build_engine(tmp_path / "a.onnx", tmp_path / "a.engine", EngineOptions(precision="fp16", library=name))
    line = str(caught.value)
    assert machine in line
    assert line.endswith(f"needs the Python package {name}; run: pip install 'vdeploy[{extra}]'")


@pytest.mark.parametrize("error", [ImportError("libnvinfer.so.11: no such file"), OSError("wrong ELF class")])
def test_a_library_that_cannot_be_loaded_is_one_line(monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(tensorrt_library, "require", fail)
    with pytest.raises(DeployError, match=r"tensorrt is there but cannot be loaded \(.*; mend it: pip install"):
        load_library("tensorrt")


@pytest.mark.parametrize(
    ("name", "version"), [("tensorrt", "10.11.0.33"), ("tensorrt", "8.6.1"), ("tensorrt_rtx", "1.0")]
)
def test_a_library_that_is_too_old_is_refused(monkeypatch, name, version):
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(__version__=version))
    with pytest.raises(DeployError, match=rf"{name} is {version}, older than .*; run: pip install --upgrade"):
        load_library(name)


@pytest.mark.parametrize("version", ["10.12.0", "11.4.0.106"])
def test_tensorrt_has_no_capabilities_to_choose_from(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "tensorrt", types.SimpleNamespace(__version__=version))
    assert load_library("tensorrt").capabilities == ()


@pytest.fixture
def ada(monkeypatch):
    """A machine whose GPU has compute capability 8.9."""
    monkeypatch.setattr("vdeploy.export.tensorrt.builder.Cuda", lambda **_: types.SimpleNamespace(capability=89))


@pytest.mark.usefixtures("ada")
def test_tensorrt_builds_for_the_gpu_at_hand():
    assert _targets(ON_A_GPU, options()) == (89,)
    assert _targets(ON_A_GPU, options(target_sm=(89,))) == (89,)


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("targets", [(90,), (86, 89)])
def test_tensorrt_does_not_build_for_another_gpu(targets):
    with pytest.raises(ExportError, match=r"builds for the GPU at hand, compute capability 8\.9, not for"):
        _targets(ON_A_GPU, options(target_sm=targets))


def test_a_builder_that_finds_no_gpu_says_why():
    def fail(_logger):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    log = MessageLog(errors=["CUDA initialization failure with error: 35"])
    with pytest.raises(
        ExportError, match=r"cannot build on this machine \(CUDA initialization failure with error: 35\)"
    ):
        _builder(types.SimpleNamespace(Builder=fail), None, log)


class Config:
    """A builder's configuration that measures `new` during a build, as far as the timing cache goes."""

    def __init__(self, new: bytes, *, accepts: bool = True) -> None:
        self.new, self.accepts, self.cache = new, accepts, b""

    def create_timing_cache(self, data: bytes):
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache and not self.accepts:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return types.SimpleNamespace(serialize=lambda: self.cache + self.new)


def test_what_was_measured_is_kept_for_the_next_build(tmp_path):
    path = tmp_path / "cache" / "timing"
    assert TimingCache(ON_A_GPU, Config(b"conv"), path).keep() == "filled"
    assert path.read_bytes() == b"conv"
    assert TimingCache(ON_A_GPU, Config(b""), path).keep() == "hit"
    assert TimingCache(ON_A_GPU, Config(b" gemm"), path).keep() == "filled"
    assert path.read_bytes() == b"conv gemm"


def test_a_timing_cache_of_another_gpu_is_replaced(tmp_path):
    path = tmp_path / "timing"
    path.write_bytes(b"other")
    assert TimingCache(ON_A_GPU, Config(b"conv", accepts=False), path).keep() == "filled"
    assert path.read_bytes() == b"conv"


def test_a_timing_cache_that_cannot_be_kept_is_said_and_the_build_goes_on(tmp_path, capfd):
    (tmp_path / "file").touch()
    assert TimingCache(ON_A_GPU, Config(b"conv"), tmp_path / "file" / "timing").keep() == "filled"
    assert "timing cache" in capfd.readouterr().err


def test_tensorrt_rtx_has_no_timing_cache(tmp_path):
    path = tmp_path / "timing"
    assert TimingCache(Library("tensorrt_rtx", None, "1.7.1.116"), None, path).keep() == "none"
    assert not path.exists()


def test_the_timing_cache_lies_in_the_cache_by_version(monkeypatch, tmp_path):
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path))
    assert timing_cache_file(ON_A_GPU) == cache_dir() / "tensorrt" / "timing-tensorrt-10.13.3.9.cache"
    assert cache_dir() == tmp_path


@pytest.fixture
def disguised(monkeypatch, tmp_path):
    """`tensorrt_rtx` under the name of `tensorrt`, without what only `tensorrt_rtx` has."""
    rtx = pytest.importorskip("tensorrt_rtx")
    names = {name: getattr(rtx, name) for name in dir(rtx) if name not in {"ComputeCapability", "__version__"}}
    monkeypatch.setitem(sys.modules, "tensorrt", types.SimpleNamespace(**names, __version__="10.13.3.9"))
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("vdeploy.export.tensorrt.builder.Cuda", lambda **_: types.SimpleNamespace(capability=89))


@pytest.mark.usefixtures("disguised")
@pytest.mark.filterwarnings("ignore:.*Timing cache operations:DeprecationWarning")
def test_what_tensorrt_is_asked_for_is_understood_by_the_library_that_has_its_api(products, tmp_path):
    wanted = options(hardware_compatibility="ampere+", workspace_bytes=1 << 28, optimization_level=2)
    first, second = (build_engine(products["fp16"], tmp_path / "model.engine", wanted) for _ in range(2))
    assert (first.library, first.version, first.precision) == ("tensorrt", "10.13.3.9", "fp16")
    assert (first.flags["hardware_compatibility"], first.flags["optimization_level"]) == ("ampere+", 2)
    assert (first.timing_cache, second.timing_cache) == ("filled", "hit")
    assert list((tmp_path / "cache" / "tensorrt").iterdir())
