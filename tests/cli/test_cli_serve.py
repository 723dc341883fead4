"""`vdeploy serve` and `deploy` without a server, and `vdeploy inspect`, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.tiny_bundle import make_tiny_bundle
from tests.conftest import Done
from tests.triton.planning.conftest import with_engines
from vdeploy.triton.repository.repository import read_config
from vdeploy.triton.server.install import find_install

Verb = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_engines(make_tiny_bundle(tmp_path_factory.mktemp("serve") / "bundle")).root


@pytest.fixture
def vdeploy(vdeploy: Callable[..., Done]) -> Verb:
    """Runs a command in this process; what it printed on stdout and stderr."""

    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        done = vdeploy(*arguments)
        assert done.code == code, done.err
        return done.out, done.err

    return run


def test_options_arrive_in_the_configuration(vdeploy: Verb, bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "r"
    out, err = vdeploy(
        *("serve", bundle, "--repo", root, "--backend", "onnxruntime", "--gpus", "0,1", "--accelerate"),
        *("--latency-budget-ms", 200, "--max-queue", 16, "--max-batch", 4, "--warmup", "1,2", "--loaded-versions", 2),
        *("--target-ort", "1.21.0", "--json"),
    )
    told = json.loads(out)
    assert (told["backend"], told["version"]) == ("onnxruntime", 1)
    assert told["formats"] == {"extractor": "onnx-fp32", "classifier": "onnx-fp32"}
    assert all(check.startswith("ok: ") for check in told["checks"])
    assert "preflight: ok: extractor's ONNX version: IR version 9, opset 17, which ONNX Runtime 1.21.0 reads" in err
    config = read_config(root / "vgg19_features" / "config.pbtxt")
    assert config.max_batch_size == 4
    assert list(config.instance_group[0].gpus) == [0, 1]
    assert config.version_policy.latest.num_versions == 2
    assert config.dynamic_batching.max_queue_delay_microseconds == 18_000
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 16
    assert [warm_up.batch_size for warm_up in config.model_warmup] == [1, 2]
    assert config.optimization.execution_accelerators.gpu_execution_accelerator[0].name == "tensorrt"


def test_instances_share_the_cores(vdeploy: Verb, bundle: Path, tmp_path: Path) -> None:
    arguments = ("--backend", "onnxruntime", "--target-ort", "1.21.0", "--instances", 2, "--threads", 4)
    vdeploy("serve", bundle, "--repo", tmp_path / "r", *arguments)
    config = read_config(tmp_path / "r" / "vgg19_features" / "config.pbtxt")
    assert config.parameters["intra_op_thread_count"].string_value == "2"


@pytest.mark.triton
def test_a_launch_is_suggested_only_where_the_backend_is(vdeploy: Verb, bundle: Path, tmp_path: Path) -> None:
    out, _ = vdeploy("serve", bundle, "--repo", tmp_path / "r", "--backend", "onnxruntime", "--target-ort", "1.21.0")
    has_it = find_install().has_backend("onnxruntime")
    assert ("next: " in out) is has_it
    assert ("start a Triton on it that has the backends onnxruntime" in out) is not has_it


def test_streams_are_asked_for_kept_and_dropped(vdeploy: Verb, bundle: Path, tmp_path: Path) -> None:
    serve = ("serve", bundle, "--repo", tmp_path / "r", "--backend", "python", "--json")
    plain, streams = ["vgg19_features", "lstm_classifier"], ["violence_window", "violence_stream"]
    models = [json.loads(vdeploy(*serve, *more)[0])["models"] for more in ((), ("--streams", 5), (), ("--streams", 0))]
    with_streams = [*plain, streams[0], "violence_detector", streams[1]]
    assert models == [[*plain, "violence_detector"], with_streams, with_streams, [*plain, "violence_detector"]]
    out, _ = vdeploy(*serve[:-1], "--streams", 5)
    assert f"next: vdeploy serve {bundle} --repo {tmp_path / 'r'} --backend python --streams 5 --launch" in out
    inspected, _ = vdeploy("inspect", tmp_path / "r")
    assert "violence_window" in inspected


@pytest.mark.triton
def test_an_engine_beside_an_onnx_file_for_a_server_without_tensorrt(
    vdeploy: Verb, bundle: Path, tmp_path: Path
) -> None:
    formats = ("--extractor-format", "tensorrt-fp16", "--classifier-format", "onnx-fp32")
    _, err = vdeploy("serve", bundle, "--repo", tmp_path / "r", *formats, code=1)
    assert "error: extractor in tensorrt-fp16: the Triton server of" in err
    assert "has no tensorrt backend; choose another with --backend, or another server" in err
    assert "ok: classifier in onnx-fp32: python backend" in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--backend", "tensorrt", "--precision", "fp32"), "error: there is no engine format in fp32"),
        (("--backend", "tensorrt", "--target-sm", "8.6"), "built for compute capability 8.9, the GPU has 8.6"),
        (("--backend", "tensorrt", "--target-trt", "10.9"), "was built by TensorRT 10.13.2.6, 10.9 is to run it"),
        (("--backend", "tensorrt", "--target-trt", "new"), "error: 'new' is no version"),
        (("--backend", "python", "--gpus", "one"), "error: --gpus 'one' is no list of numbers"),
        (("--backend", "python", "--gpus", "0"), "error: the python backend runs the extractor on the CPU"),
        (("--backend", "python", "--streams", "-1"), "error: --streams is -1; give a number above 0, or 0 for none"),
        (("--backend", "tensorrt", "--streams", "4"), "takes whole clips; serve it in an onnx-* format"),
        (("--backend", "python", "--instances", "0"), "error: --instances is 0; give a number above 0"),
        (("--backend", "python", "--precision", "int8"), "holds no extractor in onnx-int8, only in onnx-fp32"),
        (("--backend", "onnxruntime", "--target-ort", "1.14"), "has IR version 9, ONNX Runtime 1.14 reads 8 at most"),
    ],
)
def test_what_would_go_wrong_is_said_before_anything_is_written(
    vdeploy: Verb, bundle: Path, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    out, err = vdeploy("serve", bundle, "--repo", tmp_path / "r", *arguments, code=1)
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert line in last
    assert not (tmp_path / "r").exists()


def test_a_bundle_is_no_repository(vdeploy: Verb, bundle: Path) -> None:
    before = sorted(bundle.rglob("*"))
    for verb in ("serve", "deploy"):
        _, err = vdeploy(verb, bundle, "--repo", bundle, "--backend", "python", code=1)
        assert err.splitlines()[-1] == f"error: repository: {bundle} is a bundle; choose another folder with --repo"
    assert sorted(bundle.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--target-ort", "1.14"), "has IR version 9, ONNX Runtime 1.14 reads 8 at most (and 1 more)"),
        (
            ("--extractor-format", "tensorrt-fp16"),
            "the python backend cannot run the extractor in tensorrt-fp16",
        ),
        (
            ("--backend", "tensorrt", "--extractor-format", "onnx-fp32"),
            "error: the tensorrt backend cannot run the extractor in onnx-fp32",
        ),
        (("--precision", "int8"), "holds no extractor in onnx-int8, only in onnx-fp32"),
    ],
)
def test_a_deployment_that_would_fail_is_refused_before_the_server_is_asked(
    vdeploy: Verb, bundle: Path, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    out, err = vdeploy("deploy", bundle, "--url", "127.0.0.1:9", "--repo", tmp_path / "r", *arguments, code=1)
    assert out == ""
    assert line in err.splitlines()[-1]
    assert not (tmp_path / "r").exists()


def test_inspect_prints_what_is_in_a_bundle(vdeploy: Verb, bundle: Path) -> None:
    out, _ = vdeploy("inspect", bundle)
    assert out.startswith(f"bundle {bundle}\n")
    assert "takes frames uint8[B, T, 32, 32, 3]" in out
    assert "refused by GPUs of another compute capability than 8.9" in out
    told = json.loads(vdeploy("inspect", bundle, "--json")[0])
    assert [part["precision"] for part in told["parts"]] == ["fp32", "fp32", "fp16", "fp16"]


def test_inspect_of_something_else_is_one_line(vdeploy: Verb) -> None:
    out, err = vdeploy("inspect", "nowhere", code=1)
    assert out == ""
    assert err == "error: nowhere does not exist; give one of these: BUNDLE, REPO, ENGINE, MODEL.onnx or MODEL.xml\n"
