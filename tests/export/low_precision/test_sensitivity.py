"""The ranking of layers: every row counts alike, and what a layer does not change is not computed again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vdeploy.export.onnx.activations import observe
from vdeploy.export.quantization import CPU, FLAVOURS, TENSORRT, Flavour, known_activations
from vdeploy.export.quantization.histograms import collect_histograms
from vdeploy.export.quantization.known_activations import KnownActivations
from vdeploy.export.quantization.qdq import Range, quantizable_layers, tensors_to_calibrate, write_qdq
from vdeploy.export.quantization.ranges import min_max
from vdeploy.export.quantization.sensitivity import rank_layers

SPREAD = 300.0
"""How much larger one input of a layer is than the others: eight bits lose those."""


def branches() -> onnx.ModelProto:
    """Two networks on one input: rows of the first are ten thousand times those of the second."""
    random = np.random.default_rng(0)
    spread = np.ones(16, np.float32)
    spread[0] = SPREAD
    tensors = [numpy_helper.from_array(spread, "up"), numpy_helper.from_array(1 / spread, "down")]
    tensors.append(numpy_helper.from_array(np.float32(1e4), "large"))
    for name in ("a1", "a2", "b1", "b2"):
        kernel = np.linalg.qr(random.normal(size=(16, 16)))[0].astype(np.float32)
        tensors.append(numpy_helper.from_array(kernel, f"{name}/w"))
    nodes = [
        *(("MatMul", ["x", "a1/w"], "a1"), ("Relu", ["a1"], "a1/on"), ("MatMul", ["a1/on", "a2/w"], "a2")),
        *(("Mul", ["a2", "large"], "a"), ("MatMul", ["x", "b1/w"], "b1"), ("Mul", ["b1", "up"], "b1/up")),
        *(("MatMul", ["b1/up", "b2/w"], "b2"), ("Mul", ["b2", "down"], "b"), ("Concat", ["a", "b"], "features")),
    ]
    made = [
        helper.make_node(kind, inputs, [output], name=output, **({"axis": 1} if kind == "Concat" else {}))
        for kind, inputs, output in nodes
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 16])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2, 16])
    graph = helper.make_graph(made, "branches", [given], [features], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [{"x": random.normal(size=(1, 1, 16)).astype(np.float32)} for _ in range(count)]


def ranges_of(model: onnx.ModelProto, flavour: Flavour) -> dict[str, Range]:
    histograms = collect_histograms(model, tensors_to_calibrate(model), samples(8))
    return {name: min_max(histogram, flavour) for name, histogram in histograms.items()}


def alone(model: onnx.ModelProto, flavour: Flavour, layer: str) -> onnx.ModelProto:
    others = [node.name for node in quantizable_layers(model) if node.name != layer]
    return write_qdq(model, flavour, ranges_of(model, flavour), keep=others)


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
@pytest.mark.usefixtures("computed_here")
def test_a_layer_that_spoils_small_rows_comes_before_those_of_large_ones(flavour: Flavour) -> None:
    model = branches()
    ranked = rank_layers(model, flavour, ranges_of(model, flavour), samples())
    assert next(iter(ranked)) == "b2"
    assert ranked["b2"] > 1.1 * ranked["a1"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("flavour", [CPU, TENSORRT], ids=lambda flavour: flavour.name)
@pytest.mark.parametrize("limit_bytes", [0, 3 * 2 * 64, 1 << 20])
@pytest.mark.parametrize("layer", ["a1", "a2", "b1", "b2"])
def test_what_a_layer_changes_is_what_the_whole_model_gives(flavour: Flavour, limit_bytes: int, layer: str) -> None:
    model = branches()
    known, quantized = KnownActivations(model, samples(), limit_bytes=limit_bytes), alone(model, flavour, layer)
    found = [outputs["features"] for outputs in known.run(quantized)]
    whole = [outputs["features"] for outputs in observe(quantized, ["features"], samples())]
    assert len(found) == len(whole) == 3
    np.testing.assert_allclose(np.stack(found), np.stack(whole), rtol=1e-5, atol=1e-4)
    floats = [outputs["features"] for outputs in observe(model, ["features"], samples())]
    assert np.abs(np.stack(found) - np.stack(floats)).max() > 1e-4
    np.testing.assert_array_equal([outputs["features"] for outputs in known.outputs], floats)


def test_the_other_network_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, parts = branches(), []

    def seen(part, names, feeds):
        parts.append({node.name for node in part.graph.node})
        return observe(part, names, feeds)

    known = KnownActivations(model, samples())
    monkeypatch.setattr(known_activations, "observe", seen)
    for layer in ("b1", "b2"):
        list(known.run(alone(model, TENSORRT, layer)))
    assert {"b1", "b2"} <= parts[0] - {"a1", "a1/on"} == parts[0]
    assert {"b2"} <= parts[1] - {"a1", "a1/on", "b1", "b1/up"} == parts[1]


def test_a_layer_that_changes_no_output_has_no_error() -> None:
    model = branches()
    model.graph.node[-1].input[:] = ["a", "a"]
    ranked = rank_layers(model, CPU, ranges_of(model, CPU), samples())
    assert ranked["b1"] == ranked["b2"] == 0 < ranked["a2"]
