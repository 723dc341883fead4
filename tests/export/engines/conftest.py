"""Networks to build engines from, each made once: VGG19 on 32 pixels, the classifier, and one matrix product."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.export.engines.typed_networks import product, save, to_float16, to_int8

if TYPE_CHECKING:
    import onnx


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="session")
def vgg() -> onnx.ModelProto:
    """VGG19 up to ``avg``, random weights, 32 pixels; read only."""
    from testing.models import vgg19_extractor
    from vdeploy.export.onnx.convert import extractor_to_onnx
    from vdeploy.models.backbones.vgg19.weights import find_weights

    return extractor_to_onnx(vgg19_extractor("avg", find_weights("random", "avg"), size=32))


@pytest.fixture(scope="session")
def classifier() -> onnx.ModelProto:
    """The classifier of the default recipe, random weights; read only."""
    from testing.models import build_lstm
    from training.recipe import load_recipe
    from vdeploy.export.onnx.convert import classifier_to_onnx

    return classifier_to_onnx(build_lstm(16, 512, load_recipe("default").head))


@pytest.fixture(scope="session")
def networks(vgg: onnx.ModelProto, classifier: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """ONNX files by stage and precision: ``"vgg-fp32"``, ``"classifier-int8"``, …"""
    return {
        f"{stage}-{precision}": save(change(model), folder / f"{stage}-{precision}.onnx")
        for stage, model in (("vgg", vgg), ("classifier", classifier))
        for precision, change in (("fp32", lambda same: same), ("fp16", to_float16), ("int8", to_int8))
    }


@pytest.fixture(scope="session")
def products(folder: Path) -> dict[str, Path]:
    """One matrix product by precision."""
    model = product()
    return {
        "fp32": save(model, folder / "product-fp32.onnx"),
        "fp16": save(to_float16(model), folder / "product-fp16.onnx"),
        "int8": save(to_int8(model), folder / "product-int8.onnx"),
    }
