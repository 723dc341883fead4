"""No file counts that the manifest's hashes do not cover: unlisted files, links, and weights outside an ONNX file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from testing.tiny_bundle import make_tiny_bundle
from tests.conftest import Done
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.artifacts.file_headers.onnx_external import has_external_data
from vdeploy.core.errors import BundleError
from vdeploy.core.files import sha256_of, write_json


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["weights.bin", "extractor/onnx-fp32/weights.bin", "more/deep/code.py"])
def test_an_unlisted_file_is_refused(bundle: Bundle, name: str) -> None:
    file = bundle.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"?")
    with pytest.raises(BundleError, match=rf"{name} is not a file of the bundle: {MANIFEST} does not list it"):
        Bundle(bundle.root)


def test_a_link_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    file = bundle.path(bundle.artifact("extractor", "onnx-fp32"))
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle(bundle.root)
    file.unlink()
    (tmp_path / "elsewhere").rename(file)
    (bundle.root / "extra").symlink_to("bundle.json")
    with pytest.raises(BundleError, match="extra is a link, not a file of the bundle"):
        Bundle(bundle.root)


def external(array: np.ndarray, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(array, "w")
    set_external_data(tensor, location, 0, array.nbytes)
    tensor.ClearField("raw_data")
    return tensor


def model_with(*, initializer: TensorProto | None = None, nodes: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes or [], "g", [value], [value], [initializer] if initializer else [])
    return helper.make_model(graph)


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def branch(tensor: TensorProto) -> onnx.NodeProto:
    inner = helper.make_graph([constant(tensor)], "inner", [], [])
    return helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)


WEIGHTS = np.arange(300, dtype=np.float32)


@pytest.mark.parametrize("place", ["initializer", "constant", "branch", "function"])
def test_external_data_is_found_wherever_it_stands(tmp_path: Path, place: str) -> None:
    for tensor, expected in ((numpy_helper.from_array(WEIGHTS, "w"), False), (external(WEIGHTS, "w.bin"), True)):
        if place == "initializer":
            model = model_with(initializer=tensor)
        elif place == "function":
            model = model_with()
            model.functions.append(
                helper.make_function("d", "f", [], ["c"], [constant(tensor)], [helper.make_opsetid("", 17)])
            )
        else:
            model = model_with(nodes=[(constant if place == "constant" else branch)(tensor)])
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        assert has_external_data(tmp_path / "model.onnx") is expected


@pytest.mark.parametrize("content", [b"hello", b"\x3a\xff\x7f", b"\x3a\x02" * 3])
def test_what_is_no_model_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="is no ONNX model"):
        has_external_data(tmp_path / "model.onnx")


def test_a_bundle_with_external_data_is_refused(bundle: Bundle) -> None:
    """Also where its manifest fits: another exporter's, or one that was made to."""
    file = bundle.path(bundle.artifact("extractor", "onnx-fp32"))
    model = onnx.load(file)
    model.graph.initializer.append(external(WEIGHTS, "../../weights.bin"))
    file.write_bytes(model.SerializeToString())
    values = json.loads((bundle.root / MANIFEST).read_text())
    values["artifacts"][0] |= {"sha256": sha256_of(file), "bytes": file.stat().st_size}
    write_json(bundle.root / MANIFEST, values)
    with pytest.raises(BundleError, match=r"model.onnx takes weights from another file, which no hash covers"):
        Bundle(bundle.root)


@pytest.mark.parametrize("verb", ["serve", "deploy"])
def test_serve_and_deploy_refuse_what_the_key_has_not_signed(
    bundle: Bundle, vdeploy: Callable[..., Done], tmp_path: Path, verb: str
) -> None:
    pytest.importorskip("cryptography")
    for command in (
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", "key.pem"],
        ["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    arguments = [verb, bundle.root, "--repo", tmp_path / "r", "--verify-key", tmp_path / "public.pem"]
    more = ["--backend", "python"] if verb == "serve" else ["--url", "127.0.0.1:9"]
    line = f"error: {bundle.root} is not signed: it holds no bundle.json.sig; sign it: vdeploy bundle sign BUNDLE"
    assert vdeploy(*arguments, *more).err.splitlines()[-1] == line
    assert not (tmp_path / "r").exists()
    assert not vdeploy("bundle", "sign", bundle.root, "--key", tmp_path / "key.pem").err
    told = vdeploy(*arguments, *more).err
    assert "no Triton answers" in told if verb == "deploy" else "ok: disk" in told
