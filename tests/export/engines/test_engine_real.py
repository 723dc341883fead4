"""Engines of the real size, both stages, FP16 and INT8, for SM 8.6 and 8.9, built on this machine's CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.engines.typed_networks import save, to_float16, to_int8
from vdeploy.artifacts.file_headers.tensorrt import read_plan
from vdeploy.export.tensorrt import EngineOptions, EngineReport, build_engine, found_precision

pytest.importorskip("tensorrt_rtx")

CHANGES = {"fp32": lambda same: same, "fp16": to_float16, "int8": to_int8}
TARGETS = (86, 89)
EXTRACTOR_MB = 80.1
CLASSIFIER_MB = 1.34


def build(network: Path, engine: Path, precision: str) -> EngineReport:
    options = EngineOptions(precision=precision, target_sm=TARGETS, float_layers=("lstm*",))
    return build_engine(network, engine, options)


@pytest.fixture(scope="module")
def extractors(tmp_path_factory) -> dict[str, Path]:
    """VGG19 on 224 pixels by precision, random weights."""
    from testing.models import vgg19_extractor
    from vdeploy.export.onnx.convert import extractor_to_onnx
    from vdeploy.models.backbones.vgg19.weights import find_weights

    folder = tmp_path_factory.mktemp("extractors")
    model = extractor_to_onnx(vgg19_extractor("avg", find_weights("random", "avg")))
    return {precision: save(change(model), folder / f"{precision}.onnx") for precision, change in CHANGES.items()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_extractors_engines_shrink_with_their_precision(extractors, tmp_path):
    reports = {}
    for precision, network in extractors.items():
        engine = tmp_path / f"{precision}.engine"
        reports[precision] = build(network, engine, precision)
        assert reports[precision].precision == found_precision(engine) == precision
        assert read_plan(engine).capabilities == TARGETS
        assert reports[precision].shapes["frames"][2] == (64, 16, 224, 224, 3)
    full = reports["fp32"]
    assert full.weight_bytes / 1e6 == pytest.approx(EXTRACTOR_MB, rel=0.01)
    assert reports["fp16"].weight_bytes / full.weight_bytes == pytest.approx(1 / 2, rel=0.01)
    assert reports["int8"].weight_bytes / full.weight_bytes == pytest.approx(1 / 4, rel=0.01)
    assert reports["fp16"].bytes / full.bytes == pytest.approx(1 / 2, rel=0.05)
    assert reports["int8"].bytes / full.bytes == pytest.approx(1 / 4, rel=0.25)


@pytest.mark.slow
def test_the_classifiers_engines_shrink_with_their_precision(networks, tmp_path):
    reports = {
        precision: build(networks[f"classifier-{precision}"], tmp_path / f"{precision}.engine", precision)
        for precision in CHANGES
    }
    full = reports["fp32"]
    assert full.weight_bytes / 1e6 == pytest.approx(CLASSIFIER_MB, rel=0.02)
    assert reports["fp16"].weight_bytes / full.weight_bytes == pytest.approx(1 / 2, rel=0.02)
    assert reports["int8"].precision.startswith("mixed: int8 in 2 layers, fp32 in lstm")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_an_engine_may_be_for_one_card_alone(extractors, tmp_path, target):
    options = EngineOptions(precision="int8", target_sm=(target,))
    assert build_engine(extractors["int8"], tmp_path / "model.engine", options).capabilities == (target,)
