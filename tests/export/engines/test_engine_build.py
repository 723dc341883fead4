"""Engines for RTX cards, really built: what is in them, and what is written beside them."""

from __future__ import annotations

import pytest

from tests.export.engines.typed_networks import product, save, to_float16, to_int8
from vdeploy.artifacts.file_headers.tensorrt import read_plan
from vdeploy.core.errors import ExportError
from vdeploy.core.files import sha256_of
from vdeploy.export.tensorrt import (
    EngineOptions,
    build_engine,
    found_precision,
    log_file,
    read_report,
    report_file,
)

pytest.importorskip("tensorrt_rtx")

TARGETS = (86, 89)
LSTM = ("lstm*",)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "share"), [("fp32", 1.0), ("fp16", 0.5), ("int8", 0.25)])
def test_the_extractor_has_the_precision_and_the_size_of_its_network(networks, tmp_path, precision, share):
    engine = tmp_path / "model.engine"
    options = EngineOptions(precision=precision, batches=(1, 2, 4), target_sm=TARGETS)
    report = build_engine(networks[f"vgg-{precision}"], engine, options)
    assert report.precision == found_precision(engine) == precision
    assert report.weight_bytes == pytest.approx(share * 4 * 20_018_880, rel=0.01)
    assert [layer.precision for layer in report.layers] == [precision] * 16
    assert report.shapes == {"frames": tuple((batch, 16, 32, 32, 3) for batch in (1, 2, 4))}
    assert report.capabilities == TARGETS
    assert report.timing_cache == "none"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_classifier_has_the_precision_of_its_network(networks, tmp_path, precision):
    engine = tmp_path / "model.engine"
    options = EngineOptions(precision=precision, target_sm=TARGETS)
    report = build_engine(networks[f"classifier-{precision}"], engine, options)
    assert report.precision == found_precision(engine) == precision
    assert report.weight_bytes == pytest.approx(336_000 * (4 if precision == "fp32" else 2), rel=0.02)
    assert report.shapes == {"features": tuple((batch, 16, 512) for batch in (1, 16, 64))}


def test_an_lstm_stays_in_floating_point_only_where_that_is_allowed_and_then_it_is_said(networks, tmp_path):
    engine, network = tmp_path / "model.engine", networks["classifier-int8"]
    with pytest.raises(ExportError, match="asked for int8, but 2 of 4 layers compute in fp32: lstm"):
        build_engine(network, engine, EngineOptions(precision="int8", target_sm=TARGETS))
    options = EngineOptions(precision="int8", target_sm=TARGETS, float_layers=LSTM)
    report = build_engine(network, engine, options)
    assert report.precision.startswith("mixed: int8 in 2 layers, fp32 in lstm")
    assert found_precision(engine) == report.precision


def test_the_papers_and_the_log_lie_beside_the_engine(products, tmp_path):
    engine = tmp_path / "new" / "model.engine"
    options = EngineOptions(precision="fp16", target_sm=(89,), workspace_bytes=1 << 28, optimization_level=1)
    report = build_engine(products["fp16"], engine, options)
    assert sorted(engine.parent.iterdir()) == [engine, report_file(engine), log_file(engine)]
    assert read_report(engine) == report
    assert (report.bytes, report.sha256) == (engine.stat().st_size, sha256_of(engine))
    assert report.version == read_plan(engine).version_text
    assert report.flags == {
        "strongly_typed": True,
        "workspace_bytes": 1 << 28,
        "optimization_level": 1,
        "version_compatible": False,
        "hardware_compatibility": "none",
    }
    assert "INFO: Engine generation completed" in log_file(engine).read_text()


def test_the_same_network_gives_the_same_engine(products, tmp_path):
    options = EngineOptions(precision="fp16", target_sm=TARGETS)
    one, other = (build_engine(products["fp16"], tmp_path / name, options) for name in ("one", "other"))
    assert one.sha256 == other.sha256


def test_without_targets_an_engine_is_for_every_card_from_ampere_on(products, tmp_path):
    report = build_engine(products["fp16"], tmp_path / "model.engine", EngineOptions(precision="fp16"))
    assert {80, 86, 89} <= set(report.capabilities)
    assert 75 not in report.capabilities


def test_a_build_shows_its_progress(products, tmp_path, capfd):
    build_engine(products["fp16"], tmp_path / "model.engine", EngineOptions(precision="fp16", target_sm=(89,)))
    assert "build engine: 100/100 percent" in capfd.readouterr().err


def test_an_fp32_network_passed_as_fp16_is_caught(networks, tmp_path):
    with pytest.raises(ExportError, match=r"fp16, but 16 of 16 layers compute in fp32: block1_conv1, .* 12 more"):
        build_engine(networks["vgg-fp32"], tmp_path / "model.engine", EngineOptions(precision="fp16"))
    assert not list(tmp_path.iterdir())


def test_a_layer_left_out_of_the_quantization_is_caught(vgg, tmp_path):
    network = save(to_int8(vgg, skip={"block3_conv2"}), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="asked for int8, but 1 of 16 layers compute in fp32: block3_conv2; "):
        build_engine(network, tmp_path / "model.engine", EngineOptions(precision="int8"))
    allowed = EngineOptions(precision="int8", target_sm=(89,), float_layers=("block3_conv2",))
    report = build_engine(network, tmp_path / "model.engine", allowed)
    assert report.precision == "mixed: int8 in 15 layers, fp32 in block3_conv2"


def test_a_quantization_of_weights_alone_is_caught(tmp_path):
    model = to_int8(product())
    graph = model.graph
    next(node for node in graph.node if node.op_type == "MatMul").input[0] = "features"
    network = save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="asked for int8, but 1 of 1 layers compute in fp32: product"):
        build_engine(network, tmp_path / "model.engine", EngineOptions(precision="int8"))


def test_a_network_without_layers_that_compute_is_refused(tmp_path):
    model = product()
    model.graph.node[0].op_type = "Add"
    model.graph.initializer[0].dims[:] = [1, 256 * 512]
    network = save(to_float16(model), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"no layer computes in it|TensorRT cannot parse"):
        build_engine(network, tmp_path / "model.engine", EngineOptions(precision="fp16"))


def test_a_fixed_batch_is_refused(tmp_path):
    network = save(product(batch=8), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="fixes the batch of features at 8; export it with a free batch"):
        build_engine(network, tmp_path / "model.engine", EngineOptions(precision="fp32"))


def test_a_missing_network_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"there is no ONNX file .*model\.onnx"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine", EngineOptions(precision="fp32"))


def test_a_network_that_cannot_be_parsed_says_why(tmp_path):
    model = product()
    model.graph.node[0].op_type = "Imaginary"
    network = save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"TensorRT cannot parse .*model\.onnx \(.*Imaginary"):
        build_engine(network, tmp_path / "model.engine", EngineOptions(precision="fp32"))


def test_a_network_that_a_target_cannot_compute_says_why(networks, tmp_path):
    options = EngineOptions(precision="fp32", target_sm=(75,))
    with pytest.raises(ExportError, match=r"could not build an engine from .*\(.*FP32 GEMM is not supported"):
        build_engine(networks["classifier-fp32"], tmp_path / "model.engine", options)
    assert not list(tmp_path.iterdir())


def test_a_target_that_the_library_lacks_is_refused_with_those_it_has(products, tmp_path):
    options = EngineOptions(precision="fp16", target_sm=(90,))
    with pytest.raises(
        ExportError, match=r"does not build for compute capability 9\.0, only for 7\.5, 8\.0, 8\.6, 8\.9"
    ):
        build_engine(products["fp16"], tmp_path / "model.engine", options)
