"""Which formats are served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.triton.planning.conftest import fake_install, publish, with_engines
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.planning.format_selection import FormatSelection, choose_formats, options_to_serve
from vdeploy.triton.planning.plans import StageRequest
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.repository.options import ServingOptions


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({"backend": "auto"}, FormatSelection("onnx-fp32", "onnx-fp32")),
        ({"backend": "python", "precision": "int8"}, FormatSelection("onnx-int8", "onnx-int8")),
        ({"backend": "tensorrt"}, FormatSelection("tensorrt-fp16", "tensorrt-fp16")),
        ({"backend": "tensorrt", "precision": "int8"}, FormatSelection("tensorrt-int8", "tensorrt-int8")),
        (
            {"backend": "auto", "precision": "int8", "classifier": "onnx-fp16"},
            FormatSelection("onnx-int8", "onnx-fp16"),
        ),
        ({"backend": "auto", "extractor": "a", "classifier": "b"}, FormatSelection("a", "b")),
    ],
)
def test_precision_and_formats(bundle: Bundle, asked: dict[str, Any], chosen: FormatSelection) -> None:
    assert choose_formats(bundle, **asked) == chosen


def test_there_is_no_engine_in_fp32(bundle: Bundle) -> None:
    with pytest.raises(RepositoryError, match="no engine format in fp32; choose --precision fp16 or int8"):
        choose_formats(bundle, "tensorrt", precision="fp32")


@pytest.mark.parametrize(
    ("held", "options"),
    [
        (("onnx-int8", "onnx-fp32"), ()),
        (("openvino-fp32", "onnx-int8"), ("--precision", "int8")),
        (
            ("tflite-fp32", "openvino-fp32"),
            ("--extractor-format", "openvino-fp32", "--classifier-format", "openvino-fp32"),
        ),
        (("savedmodel", "tflite-int8"), None),
    ],
)
def test_what_serve_has_to_be_told(bundle: Bundle, held: tuple[str, ...], options: tuple[str, ...] | None) -> None:
    artifacts = [
        artifact.model_copy(update={"format": name}) for artifact in bundle.manifest.artifacts for name in held
    ]
    assert options_to_serve(bundle.manifest.model_copy(update={"artifacts": artifacts})) == options


class TestOnAGpu:
    FITS = Target((89,), (10, 13, 2))

    def choose(self, bundle: Bundle, tmp_path: Path, target: Target, *backends: str, **more: Any) -> FormatSelection:
        install = fake_install(tmp_path / "backends", *backends)
        return choose_formats(bundle, "auto", on_gpu=True, install=install, target=target, **more)

    def test_engines_that_fit_are_taken(self, bundle: Bundle, tmp_path: Path) -> None:
        found = self.choose(with_engines(bundle), tmp_path, self.FITS, "tensorrt", "onnxruntime")
        assert found == FormatSelection("tensorrt-fp16", "tensorrt-fp16")

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            (Target((86,), (10, 13, 2)), "the extractor in tensorrt-fp16 was built for compute capability 8.9"),
            (Target((89,), (10, 9)), "the extractor in tensorrt-fp16 was built by TensorRT 10.13.2.6"),
        ],
    )
    def test_where_none_fits_onnx_runtime_hands_over(
        self, bundle: Bundle, tmp_path: Path, target: Target, reason: str
    ) -> None:
        found = self.choose(with_engines(bundle), tmp_path, target, "tensorrt", "onnxruntime")
        assert (found.extractor, found.classifier, found.accelerate) == ("onnx-fp32", "onnx-fp32", True)
        assert reason in found.reason

    def test_where_there_is_none(self, bundle: Bundle, tmp_path: Path) -> None:
        found = self.choose(bundle, tmp_path, self.FITS, "tensorrt", "onnxruntime")
        assert found.accelerate
        assert "holds no extractor in tensorrt-fp16" in found.reason

    def test_a_server_without_tensorrt(self, bundle: Bundle, tmp_path: Path) -> None:
        found = self.choose(with_engines(bundle), tmp_path, self.FITS, "onnxruntime")
        assert (found.extractor, found.accelerate) == ("onnx-fp32", False)
        assert "has no tensorrt backend" in found.reason

    def test_int8_for_cpus_is_not_handed_over(self, bundle: Bundle, tmp_path: Path) -> None:
        found = self.choose(bundle, tmp_path, self.FITS, "tensorrt", "onnxruntime", precision="int8")
        assert found.extractor == "onnx-int8"
        assert not found.accelerate

    def test_the_fallback_is_written_and_told(self, bundle: Bundle, tmp_path: Path) -> None:
        install = fake_install(tmp_path / "backends", "onnxruntime", "tensorrt")
        request = StageRequest("auto", options=ServingOptions(gpus=(0,)))
        published = publish(with_engines(bundle), tmp_path / "r", request, install=install, target=Target((86,), None))
        assert published.checks[0].detail.startswith("none is served, the extractor in tensorrt-fp16 was built for")
        assert published.repository.backends == ("onnxruntime",)
        assert 'name: "tensorrt"' in (tmp_path / "r" / "vgg19_features" / "config.pbtxt").read_text()
