"""What `vdeploy inspect` finds in a bundle, a repository, an ONNX file and an engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testing.openvino_bundle import with_openvino
from testing.tiny_bundle import make_tiny_bundle
from tests.triton.planning.conftest import engine_bytes, with_engines
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import BundleError, DeployError, ExportError, RepositoryError
from vdeploy.core.files import sha256_of
from vdeploy.inspection.describe import describe
from vdeploy.inspection.description import Part
from vdeploy.triton.repository.writer import write_repository


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "bundle")


def refusers(part: Part) -> list[str]:
    return [refusal.where for refusal in part.refused]


def test_a_bundle(bundle: Bundle) -> None:
    found = describe(with_engines(bundle).root)
    assert found.kind == "bundle"
    assert found.facts["clip"] == "4 frames of 32 pixels"
    assert [(part.name, part.format, part.precision) for part in found.parts] == [
        ("extractor", "onnx-fp32", "fp32"),
        ("classifier", "onnx-fp32", "fp32"),
        ("extractor", "tensorrt-fp16", "fp16"),
        ("classifier", "tensorrt-fp16", "fp16"),
    ]
    onnx, _, engine, _ = found.parts
    assert str(onnx.inputs[0]) == "frames uint8[B, T, 32, 32, 3]"
    assert (onnx.versions["opset"], onnx.versions["IR"]) == ("17", "9")
    assert refusers(onnx) == ["Triton's tensorrt backend", "ONNX Runtime before 1.15"]
    assert engine.versions["tensorrt"] == "10.13.2.6"
    assert refusers(engine) == ["every tensorrt but 10.13.2.6", "GPUs of another compute capability than 8.9"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_damaged_bundle_is_not_described(bundle: Bundle) -> None:
    (bundle.root / "extractor" / "onnx-fp32" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="is not the file that was exported"):
        describe(bundle.root)


def test_a_repository(bundle: Bundle, tmp_path: Path) -> None:
    root = tmp_path / "r"
    write_repository(bundle, root)
    write_repository(make_tiny_bundle(tmp_path / "other", seed=1), root)
    found = describe(root)
    assert found.facts == {
        "lstm_classifier": "python, 1 on CPU, batches of 8 at most, versions 1, 2",
        "vgg19_features": "python, 1 on CPU, batches of 8 at most, versions 1, 2",
        "violence_detector": "ensemble, versions 1, 2",
    }
    classifier, extractor, ensemble = found.parts
    assert (classifier.precision, extractor.precision, ensemble.precision) == ("fp32", "fp32", "")
    assert extractor.sha256 == sha256_of(root / "vgg19_features" / "2" / "model.onnx")
    assert str(ensemble.inputs[0]) == "frames uint8[B, 4, 32, 32, 3]"
    assert "Triton's tensorrt backend" in refusers(extractor)


def test_a_repository_of_engines(bundle: Bundle, tmp_path: Path) -> None:
    changed = with_engines(bundle)
    write_repository(changed, tmp_path / "r", backend="tensorrt", extractor="tensorrt-fp16", classifier="tensorrt-fp16")
    found = describe(tmp_path / "r")
    assert found.facts["vgg19_features"] == "tensorrt, 1 on GPU 0, batches of 8 at most, versions 1"
    assert found.parts[1].versions == {"tensorrt": "10.13.2.6"}


def test_openvino_in_a_bundle_and_in_a_repository(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    changed, formats = with_openvino(bundle), {"extractor": "openvino-fp32", "classifier": "openvino-fp32"}
    refusing = ["Triton's onnxruntime backend", "Triton's tensorrt backend"]
    *_, extractor, classifier = describe(changed.root).parts
    assert (extractor.format, classifier.format) == ("openvino-fp32", "openvino-fp32")
    assert refusers(extractor) == refusers(classifier) == refusing
    write_repository(changed, tmp_path / "r", **formats)
    _, served, _ = describe(tmp_path / "r").parts
    assert (served.format, served.precision, served.bytes) == ("python", "fp32", extractor.bytes)
    assert refusers(served) == refusing


def test_a_repository_without_a_version(bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path)
    (tmp_path / "violence_detector" / "1").rmdir()
    with pytest.raises(RepositoryError, match="violence_detector holds no version; write the repository again"):
        describe(tmp_path)


def test_an_onnx_file(bundle: Bundle) -> None:
    found = describe(bundle.root / "classifier" / "onnx-fp32" / "model.onnx")
    (part,) = found.parts
    assert (found.kind, part.name, part.precision) == ("onnx", "model.onnx", "fp32")
    assert [str(tensor) for tensor in (*part.inputs, *part.outputs)] == [
        "features float32[B, 4, 8]",
        "probabilities float32[B, 2]",
    ]


@pytest.mark.parametrize(
    ("tag", "library", "refused_by"),
    [(b"ftrt", "tensorrt", "every tensorrt but 10.13.2.6"), (b"vtrt", "tensorrt_rtx", "Triton")],
)
def test_an_engine_without_papers(tmp_path: Path, tag: bytes, library: str, refused_by: str) -> None:
    (tmp_path / "model.plan").write_bytes(engine_bytes(tag=tag))
    (part,) = describe(tmp_path / "model.plan").parts
    assert (part.format, part.precision, part.versions[library]) == (library, "", "10.13.2.6")
    assert refused_by in refusers(part)


def test_an_engine_with_the_papers_of_another(tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(engine_bytes())
    (tmp_path / "model.engine.json").write_text("{}")
    with pytest.raises(ExportError, match="holds no papers of an engine"):
        describe(tmp_path / "model.engine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere does not exist; give one of these: BUNDLE, REPO, ENGINE, MODEL.onnx or MODEL.xml"),
        ("text.txt", "text.txt is no bundle, model repository, .engine, .plan, .onnx or .xml file"),
        ("text.onnx", "text.onnx is no ONNX model"),
        ("text.engine", "text.engine is no TensorRT engine"),
        ("", "is no bundle, model repository"),
    ],
)
def test_what_cannot_be_described_is_told_in_a_line(tmp_path: Path, name: str, message: str) -> None:
    for suffix in ("txt", "onnx", "engine"):
        (tmp_path / f"text.{suffix}").write_text("dear diary")
    with pytest.raises(DeployError, match=message) as caught:
        describe(tmp_path / name)
    assert "\n" not in str(caught.value)
