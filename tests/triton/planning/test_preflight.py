"""Every fault that can be known before a server starts is one line, and nothing is written."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import onnx
import pytest

from testing.openvino_bundle import with_openvino
from tests.triton.planning.conftest import fake_install, publish, with_engines
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.core.errors import BundleError, RepositoryError
from vdeploy.core.files import sha256_of, write_json
from vdeploy.triton.planning.plans import StageRequest
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.repository.options import ServingOptions


def refused(bundle: Bundle, tmp_path: Path, request: StageRequest, message: str, **more: Any) -> None:
    """Publishing fails with the line, and the repository does not exist afterwards."""
    with pytest.raises(RepositoryError, match=message) as caught:
        publish(bundle, tmp_path / "r", request, **more)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()


def reversioned(bundle: Bundle, *, opset: int = 17, ir_version: int = 9) -> Bundle:
    """The bundle with another version written into its extractor."""
    file = bundle.root / "extractor" / "onnx-fp32" / "model.onnx"
    model = onnx.load(file)
    model.opset_import[0].version, model.ir_version = opset, ir_version
    file.write_bytes(model.SerializeToString())
    values = bundle.manifest.model_dump(mode="json")
    values["artifacts"][0] |= {"sha256": sha256_of(file), "bytes": file.stat().st_size}
    write_json(bundle.root / MANIFEST, values)
    return Bundle(bundle.root)


def test_all_is_well(bundle: Bundle, tmp_path: Path) -> None:
    seen: list[str] = []
    published = publish(
        bundle,
        tmp_path / "r",
        StageRequest("python"),
        install=fake_install(tmp_path / "b", "python"),
        target=Target(python_onnxruntime=(1, 20, 1)),
        on_check=lambda check: seen.append(str(check)),
    )
    assert published.repository.version == 1
    assert all(line.startswith("ok: ") for line in seen)
    assert "ok: extractor's ONNX version: IR version 9, opset 17, which ONNX Runtime 1.20.1 reads" in seen
    assert "ok: batch: all models take 8 clips at most" in seen


def test_a_tampered_file(bundle: Bundle) -> None:
    with (bundle.root / "extractor" / "onnx-fp32" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="is not the file that was exported"):
        Bundle(bundle.root)


@pytest.mark.parametrize(
    ("found", "runtime", "message"),
    [
        ({"ir_version": 11}, (1, 21, 0), "has IR version 11, ONNX Runtime 1.21.0 reads 10 at most"),
        ({"opset": 21}, (1, 17, 3), "has opset 21, ONNX Runtime 1.17.3 reads 20 at most"),
        ({}, (1, 9), "ONNX Runtime 1.9 is older than 1.12"),
    ],
)
def test_onnx_that_the_server_does_not_read(
    bundle: Bundle, tmp_path: Path, found: dict[str, int], runtime: tuple[int, ...], message: str
) -> None:
    changed = reversioned(bundle, **found)
    refused(changed, tmp_path, StageRequest("onnxruntime"), message, target=Target(onnxruntime=runtime))


@pytest.mark.parametrize("runtime", [None, (1, 99)])
def test_an_unknown_onnx_runtime_refuses_nothing(
    bundle: Bundle, tmp_path: Path, runtime: tuple[int, ...] | None
) -> None:
    changed = reversioned(bundle, ir_version=12)
    published = publish(changed, tmp_path / "r", StageRequest("onnxruntime"), target=Target(onnxruntime=runtime))
    assert any("known" in check.detail for check in published.checks if check.subject == "extractor's ONNX version")


@pytest.mark.parametrize(
    ("engine", "target", "message"),
    [
        ({}, Target((89,), (10, 14)), r"was built by TensorRT 10.13.2.6, 10.14 is to run it"),
        ({}, Target((86,), (10, 13, 2)), r"built for compute capability 8.9, the GPU has 8.6"),
        (
            {"flags": {"version_compatible": True}},
            Target((89,), (10, 9)),
            r"was built by TensorRT 10.13.2.6, 10.9 is to run it",
        ),
        (
            {"flags": {"hardware_compatibility": "ampere+"}},
            Target((75, 90), None),
            r"built for compute capability 8.9, the GPU has 7.5",
        ),
    ],
)
def test_an_engine_for_another_server(
    bundle: Bundle, tmp_path: Path, engine: dict[str, Any], target: Target, message: str
) -> None:
    changed = with_engines(bundle, **engine)
    refused(changed, tmp_path, StageRequest("tensorrt"), message, target=target)


@pytest.mark.parametrize(
    ("engine", "target"),
    [
        ({}, Target((89,), (10, 13, 2))),
        ({}, Target()),
        ({"flags": {"version_compatible": True}}, Target((89,), (10, 14))),
        ({"flags": {"hardware_compatibility": "ampere+"}}, Target((80, 90), (10, 13))),
        ({"capabilities": []}, Target((90,), None)),
    ],
)
def test_an_engine_that_may_fit(bundle: Bundle, tmp_path: Path, engine: dict[str, Any], target: Target) -> None:
    published = publish(with_engines(bundle, **engine), tmp_path / "r", StageRequest("tensorrt"), target=target)
    assert published.repository.backends == ("tensorrt",)
    published.repository.check()


def test_openvino_in_the_servers_environment(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    changed, install = with_openvino(bundle), fake_install(tmp_path / "b", "python")
    request = StageRequest("auto", extractor="openvino-fp32", classifier="openvino-fp32")
    told = r"extractor's OpenVINO: .* imports the package openvino, which is not installed here \(and 1 more\); run"
    refused(changed, tmp_path, request, told, target=Target(lacks_openvino=True), install=install)
    for known in (install, None):
        published = publish(changed, tmp_path / "r", request, target=Target(), install=known)
        assert published.repository.backends == ("python",)
        assert [check.passed for check in published.checks if "OpenVINO" in check.subject] == [True, True]


def test_a_file_that_is_no_engine(bundle: Bundle, tmp_path: Path) -> None:
    changed = with_engines(bundle)
    file = changed.root / "extractor" / "tensorrt-fp16" / "model.engine"
    file.write_bytes(b"hello")
    values = changed.manifest.model_dump(mode="json")
    values["artifacts"][2] |= {"sha256": sha256_of(file)}
    write_json(changed.root / MANIFEST, values)
    refused(Bundle(changed.root), tmp_path, StageRequest("tensorrt"), "is no TensorRT engine")


def test_an_engine_for_smaller_batches_than_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    request = StageRequest("tensorrt", options=ServingOptions(max_batch=16))
    refused(with_engines(bundle, largest=4), tmp_path, request, "batch: .* takes 4 clips at most, not 16")


def test_a_backend_that_the_server_lacks(bundle: Bundle, tmp_path: Path) -> None:
    install = fake_install(tmp_path / "b", "python")
    refused(
        bundle, tmp_path, StageRequest("onnxruntime"), r"has no onnxruntime backend \(and 1 more\)", install=install
    )


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("2.51.0", "this Triton, 2.51.0, stalls by up to half a second per batch: leave --max-queue out"),
        ("", "Triton 2.51 would stall"),
        ("2.60.0", "at most 9 requests wait for a stage"),
    ],
)
def test_a_bounded_queue_is_warned_of_where_it_stalls(bundle: Bundle, tmp_path: Path, version: str, said: str) -> None:
    install = dataclasses.replace(fake_install(tmp_path / "b", "python"), version=version)
    published = publish(
        bundle, tmp_path / "r", StageRequest("python", options=ServingOptions(max_queue=9)), install=install
    )
    (queue,) = (check for check in published.checks if check.subject == "queue")
    assert queue.passed
    assert said in queue.detail
    assert ("stall" in queue.detail) == (version != "2.60.0")


@pytest.mark.parametrize(
    ("gpus", "version", "said", "passed"),
    [
        ((0, 1), "2.51.0", "Triton 2.51.0 does not tell TensorRT which GPU to use, and would use GPU 0 for 0,1", False),
        ((1,), "2.56.0", "Triton 2.56.0 does not tell TensorRT which GPU to use", False),
        ((0, 1), "2.57.0", "TensorRT of Triton 2.57.0 takes GPUs 0,1", True),
        ((0, 1), "", r"a Triton before 25.04 \(2.57\) would use GPU 0", True),
        ((0,), "2.51.0", "", True),
    ],
)
def test_tensorrt_on_several_gpus(
    bundle: Bundle, tmp_path: Path, gpus: tuple[int, ...], version: str, said: str, passed: bool
) -> None:
    install = dataclasses.replace(fake_install(tmp_path / "b", "onnxruntime"), version=version)
    request = StageRequest("onnxruntime", options=ServingOptions(gpus=gpus, accelerate=True))
    if not passed:
        refused(bundle, tmp_path, request, f"accelerate: {said}.*leave --accelerate out", install=install)
        return
    checks = publish(bundle, tmp_path / "r", request, install=install).checks
    found = [check.detail for check in checks if check.subject == "accelerate"]
    assert len(found) == bool(said)
    assert re.search(said, "".join(found))


def test_a_port_that_is_taken(bundle: Bundle, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = f"ports: port {port} of 127.0.0.1 cannot be taken for grpc .*; .*choose another with --grpc-port"
        refused(bundle, tmp_path, StageRequest("python"), message, ports={"grpc": port, "metrics": 0})


def test_a_full_disk(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ("total", "used", "free"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    refused(
        bundle, tmp_path, StageRequest("python"), "disk: 0 MB free at .*; free some space, or choose another folder"
    )


def test_a_folder_that_the_python_backend_cannot_work_in(bundle: Bundle, tmp_path: Path) -> None:
    message = r"repository: .* cannot work in '.*/my models': there is a space in it; choose another folder with --repo"
    with pytest.raises(RepositoryError, match=message):
        publish(bundle, tmp_path / "my models", StageRequest("python"))
    assert not (tmp_path / "my models").exists()
    assert publish(bundle, tmp_path / "my models", StageRequest("onnxruntime")).repository.backends == ("onnxruntime",)


def test_a_file_where_the_repository_is_to_be(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("precious")
    with pytest.raises(RepositoryError, match=r"repository: .*r cannot be written; make it a writable folder"):
        publish(bundle, tmp_path / "r", StageRequest("python"))
    assert (tmp_path / "r").read_text() == "precious"
