"""The runtime for TensorRT engines: what it refuses before it loads anything, and how it feeds an engine."""

from __future__ import annotations

import gc
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.inference.runtimes.fake_gpu import FakeCuda, FakeTrt
from vdeploy.artifacts.file_headers.tensorrt import Plan
from vdeploy.core.errors import BundleError, DeployError, MissingExtraError
from vdeploy.inference.runtimes import tensorrt
from vdeploy.inference.runtimes.cuda import Cuda
from vdeploy.inference.runtimes.tensorrt import TensorRTRuntime, refuse_other_gpu, refuse_other_version
from vdeploy.inference.runtimes.tensorrt_library import Library, MessageLog

VERSION = "10.13.3.9"
PLAN = Plan("tensorrt", (10, 13, 3, 9), (), 100, None)


def clips(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, 2, 3), np.uint8)


def sums(frames: np.ndarray) -> np.ndarray:
    return frames.reshape(len(frames), -1).sum(axis=1, keepdims=True).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    """An engine of TensorRT, as far as its first bytes go."""
    file = tmp_path / "model.engine"
    file.write_bytes(b"ftrt" + bytes(20) + bytes(PLAN.version) + bytes(200))
    return file


@pytest.fixture
def gpu(monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    for parent in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    return cuda


def use(monkeypatch, trt: FakeTrt, version: str = VERSION) -> MessageLog:
    log = MessageLog(errors=["expecting compute 8.9 got compute 8.6"])
    monkeypatch.setattr(tensorrt, "load_library", lambda name: Library(name, trt, version))
    monkeypatch.setattr(tensorrt, "message_logger", lambda _: (types.SimpleNamespace(log=lambda *_: None), log))
    return log


@pytest.fixture
def trt(gpu, monkeypatch):
    fake = FakeTrt(gpu)
    use(monkeypatch, fake)
    return fake


def test_an_engine_gives_its_answer_at_every_batch_that_it_takes(trt, path):
    runtime = TensorRTRuntime(path, threads=4)
    for batch in (2, 3, 8, 2):
        outputs = runtime.infer({"frames": clips(batch, batch)})
        assert list(outputs) == ["features"]
        np.testing.assert_array_equal(outputs["features"], sums(clips(batch, batch)))
        assert outputs["features"].dtype == np.float32


@pytest.mark.parametrize("batch", [9, 16, 21])
def test_a_larger_batch_is_run_in_parts(trt, path, batch):
    outputs = TensorRTRuntime(path).infer({"frames": clips(batch)})
    np.testing.assert_array_equal(outputs["features"], sums(clips(batch)))


def test_repeated_shapes_run_as_a_graph_with_new_data(gpu, trt, path):
    runtime = TensorRTRuntime(path)
    for call, (launches, captures) in enumerate([(0, 0), (1, 1), (2, 1), (3, 1)]):
        frames = clips(4, seed=call)
        np.testing.assert_array_equal(runtime.infer({"frames": frames})["features"], sums(frames))
        assert (gpu.launches, gpu.captures) == (launches, captures)
    runtime.infer({"frames": clips(2)})
    assert gpu.launches == 3
    np.testing.assert_array_equal(runtime.infer({"frames": clips(4, 9)})["features"], sums(clips(4, 9)))
    assert gpu.captures == 1


def test_an_engine_that_cannot_be_captured_runs_without_a_graph(gpu, trt, path):
    runtime = TensorRTRuntime(path)
    runtime.infer({"frames": clips(4)})
    gpu.failing.add("cudaGraphInstantiate")
    for seed in (1, 2):
        np.testing.assert_array_equal(runtime.infer({"frames": clips(4, seed)})["features"], sums(clips(4, seed)))
    assert gpu.captures == 1


def test_tensorrt_rtx_makes_its_graphs_itself(gpu, monkeypatch, path):
    fake = FakeTrt(gpu, native_graphs=True)
    use(monkeypatch, fake)
    runtime = TensorRTRuntime(path)
    for seed in (1, 2, 3):
        np.testing.assert_array_equal(runtime.infer({"frames": clips(4, seed)})["features"], sums(clips(4, seed)))
    assert (fake.strategy, gpu.captures) == ("whole", 0)


def test_memory_is_kept_for_a_few_shapes_and_given_back_in_the_end(gpu, trt, path):
    runtime = TensorRTRuntime(path)
    for batch in (2, 3, 4, 5, 6, 7, 8):
        runtime.infer({"frames": clips(batch)})
    gc.collect()
    assert len(gpu.blocks) == 4 * 4
    del runtime
    gc.collect()
    assert not gpu.blocks


def test_outputs_are_the_callers_own(trt, path):
    runtime = TensorRTRuntime(path)
    first = runtime.infer({"frames": clips(2, 1)})["features"]
    runtime.infer({"frames": clips(2, 2)})
    np.testing.assert_array_equal(first, sums(clips(2, 1)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "takes frames, not nothing"),
        ({"pixels": clips(2)}, "takes frames, not pixels"),
        ({"frames": clips(2).astype(np.float32)}, "takes frames as uint8, not float32"),
        ({"frames": clips(2)[:, :1]}, r"takes frames of shapes from \[2, 2, 3\] to \[8, 2, 3\], not \[2, 1, 3\]"),
        ({"frames": clips(2)[0]}, r"not \[2, 3\]"),
        ({"frames": clips(1)}, r"not \[1, 2, 3\]"),
        ({"frames": clips(0)}, r"not \[0, 2, 3\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(trt, path, inputs, message):
    with pytest.raises(BundleError, match=rf"model\.engine .*{message}; give it what the manifest says"):
        TensorRTRuntime(path).infer(inputs)


def test_an_engine_that_fails_is_told(gpu, monkeypatch, path):
    use(monkeypatch, FakeTrt(gpu, runs=False))
    with pytest.raises(BundleError, match="TensorRT could not run the engine"):
        TensorRTRuntime(path).infer({"frames": clips(2)})


def test_a_cuda_failure_is_told(gpu, trt, path):
    runtime = TensorRTRuntime(path)
    gpu.failing.add("cudaMemcpyAsync")
    with pytest.raises(DeployError, match="CUDA's cudaMemcpyAsync failed: driver is insufficient; see nvidia-smi"):
        runtime.infer({"frames": clips(2)})


def test_an_engine_that_tensorrt_cannot_open_is_told_in_its_words(gpu, monkeypatch, path):
    fake = FakeTrt(gpu, opens=False)
    use(monkeypatch, fake)
    with pytest.raises(BundleError, match=r"cannot open .*model\.engine \(expecting compute 8\.9 got compute 8\.6\)"):
        TensorRTRuntime(path)


@pytest.mark.parametrize("version", ["10.13.3.8", "10.14.1.48", "11.4.0.106"])
def test_an_engine_of_another_version_is_refused_before_anything_is_loaded(monkeypatch, path, version):
    use(monkeypatch, types.SimpleNamespace(), version)
    monkeypatch.setattr(tensorrt, "Cuda", pytest.fail)
    with pytest.raises(BundleError) as caught:
        TensorRTRuntime(path)
    assert str(caught.value) == (
        f"{path} was built by tensorrt 10.13.3.9 and runs on no other version; here is {version}; "
        "export again where it is to run, inside the serving image on the machine with the GPU"
    )


def test_a_version_with_fewer_parts_is_compared_as_far_as_it_goes():
    refuse_other_version(PLAN, Library("tensorrt", None, "10.13.3"), Path("model.engine"))


def test_an_engine_for_another_gpu_is_refused_before_anything_is_loaded():
    plan = Plan("tensorrt_rtx", (1, 7, 1, 116), (86, 120), 100, None)
    refuse_other_gpu(plan, 120, Path("model.engine"))
    with pytest.raises(BundleError, match=r"built for compute capability 8\.6, 12\.0; the GPU here has 8\.9; export"):
        refuse_other_gpu(plan, 89, Path("model.engine"))
    refuse_other_gpu(PLAN, 89, Path("model.engine"))


@pytest.mark.parametrize(
    ("flags", "reason"), [(2 | 4, "another compute capability; the GPU's driver"), (0, "not say why")]
)
def test_what_the_library_finds_in_the_first_bytes_is_told(gpu, monkeypatch, path, flags, reason):
    fake = FakeTrt(gpu)
    fake.EngineValidity = types.SimpleNamespace(INVALID=2)
    members = {"UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4, "MALFORMED_ENGINE": 32}
    fake.EngineInvalidityDiagnostics = types.SimpleNamespace(__members__=members)
    fake.get_engine_validity = lambda *_: (2, flags)
    use(monkeypatch, fake)
    with pytest.raises(BundleError, match=rf"model\.engine cannot run here: .*{reason}"):
        TensorRTRuntime(path)
    fake.get_engine_validity = lambda *_: (1, 0)
    assert TensorRTRuntime(path)


def test_a_file_that_is_no_engine_is_refused_without_any_library(tmp_path):
    file = tmp_path / "model.engine"
    file.write_text("no engine")
    with pytest.raises(BundleError, match=r"model\.engine is no TensorRT engine"):
        TensorRTRuntime(file)


def test_a_missing_library_is_told(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match=r"run: pip install 'vdeploy\[tensorrt\]'"):
        TensorRTRuntime(path)


def test_missing_cuda_is_told_with_the_extra_of_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(MissingExtraError, match=r"cuda\.bindings\.runtime; run: pip install 'vdeploy\[tensorrt-rtx\]'"):
        Cuda(extra="tensorrt-rtx")


def test_a_machine_without_a_gpu_is_told(gpu, trt, path):
    gpu.devices = 0
    with pytest.raises(DeployError, match="this machine has no GPU that can be used; use a machine with an NVIDIA GPU"):
        TensorRTRuntime(path)
    gpu.failing.add("cudaGetDeviceCount")
    with pytest.raises(DeployError, match=r"no GPU that can be used \(CUDA's cudaGetDeviceCount failed: driver"):
        TensorRTRuntime(path)


def test_the_real_cuda_says_whether_there_is_a_gpu():
    pytest.importorskip("cuda.bindings.runtime")
    try:
        found = str(Cuda().capability)
    except DeployError as error:
        found = str(error)
    assert found.isdecimal() or found.startswith("this machine has no GPU that can be used")
