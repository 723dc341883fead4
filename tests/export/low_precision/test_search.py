"""The search: the best method is taken, layers go back to float where they must, and it stops where nothing helps."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vdeploy.core.errors import ExportError
from vdeploy.export.quantization import CPU, TENSORRT, Agreement, quantize
from vdeploy.export.quantization.agreement import measure_agreement
from vdeploy.export.quantization.ranges import METHODS
from vdeploy.formats import MAX_TURN

GOOD = Agreement(100, 0.999, 0.995, 1.0, 0.001, 0.01, 0.95, 0.95)
BAD = dataclasses.replace(GOOD, top1=0.9)


def in_float(model: onnx.ModelProto) -> list[str]:
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and not node.input[1].endswith("/dequantized")
    ]


def chain(*spreads: float) -> onnx.ModelProto:
    """Products one after the other; the larger a spread, the more a layer's inputs suffer from eight bits."""
    random = np.random.default_rng(0)
    nodes, tensors, last = [], [], "x"
    for index, spread in enumerate(spreads):
        scale = np.ones(16, np.float32)
        scale[0] = spread
        kernel = np.linalg.qr(random.normal(size=(16, 16)))[0].astype(np.float32)
        tensors += [
            numpy_helper.from_array(kernel, f"w{index}"),
            numpy_helper.from_array(scale, f"s{index}"),
            numpy_helper.from_array(1 / scale, f"t{index}"),
        ]
        nodes += [
            helper.make_node("Mul", [last, f"s{index}"], [f"up{index}"], name=f"up{index}"),
            helper.make_node("MatMul", [f"up{index}", f"w{index}"], [f"y{index}"], name=f"layer{index}"),
        ]
        last = f"y{index}"
    nodes.append(helper.make_node("Identity", [last], ["y"], name="end"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 16]) for name in "xy"]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds():
    random = np.random.default_rng(1)
    return [{"x": random.normal(size=(8, 16)).astype(np.float32)} for _ in range(6)]


def test_the_method_with_the_best_agreement_is_taken():
    quick = iter([GOOD, dataclasses.replace(GOOD, drift_mean=0.0005), BAD])
    calls = []

    def judge(model, is_quick):
        calls.append(is_quick)
        return next(quick) if is_quick else GOOD

    result = quantize(chain(1, 1), CPU, feeds, judge)
    assert result.method == list(METHODS)[1] == "entropy"
    assert calls == [True] * len(METHODS) + [False]
    assert list(result.tried) == list(METHODS)
    assert (result.kept, result.float_only, result.flavour, result.agreement) == ((), (), "cpu", GOOD)


def test_the_most_sensitive_layers_go_back_to_float_until_the_verdicts_agree():
    kept = []

    def judge(model, is_quick):
        kept.append(in_float(model))
        return GOOD if len(kept[-1]) >= 2 else BAD

    result = quantize(chain(1, 300, 1, 1, 1), TENSORRT, feeds, judge)
    assert result.kept[0] == "layer1"
    assert sorted(result.kept) == sorted(in_float(result.model))
    assert len(result.kept) == 2
    assert [len(names) for names in kept] == [0, 0, 0, 0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("needed", range(1, 8))
def test_no_more_layers_than_needed_stay_in_float(needed):
    def judge(model, is_quick):
        return GOOD if len(in_float(model)) >= needed else BAD

    result = quantize(chain(1, 300, 1, 50, 1, 1, 1, 1), TENSORRT, feeds, judge)
    assert len(result.kept) == len(in_float(result.model)) == needed
    assert result.agreement is GOOD


def test_a_network_that_no_choice_of_layers_saves_is_refused():
    with pytest.raises(ExportError, match=r"chain does not agree .* \(cpu\), .*90\.0 % equal verdicts on 100 clips"):
        quantize(chain(1, 1, 1), CPU, feeds, lambda _model, _quick: BAD)


def test_no_clips_to_calibrate_on_are_refused():
    with pytest.raises(ExportError, match=r"no clips to calibrate on; .*--data"):
        quantize(chain(1), CPU, list, lambda _model, _quick: GOOD)


def test_a_graph_without_layers_is_refused():
    with pytest.raises(ExportError, match="the graph chain has no layer to quantize"):
        quantize(chain(), CPU, feeds, lambda _model, _quick: GOOD)


def test_an_lstm_is_named_as_float_only(classifier_stage):
    result = quantize(classifier_stage.model, CPU, classifier_stage.feeds, lambda _model, _quick: GOOD)
    assert result.float_only == ("lstm",)
    assert result.kept == ()


@pytest.mark.slow
def test_the_same_clips_give_the_same_bytes(extractor_stage):
    def once():
        few = itertools.islice(extractor_stage.feeds(), 2)
        model = quantize(extractor_stage.model, CPU, lambda: few, lambda _model, _quick: GOOD).model
        return model.SerializeToString(deterministic=True)

    assert once() == once()


def agreement(scores, reference, labels, **changes):
    def pairs(values):
        return np.stack([1 - np.array(values), values], axis=1)

    outputs = np.ones((len(labels), 4))
    return measure_agreement(
        changes.get("outputs", outputs), outputs, pairs(scores), pairs(reference), np.array(labels)
    )


def test_agreement_counts_verdicts_drift_and_accuracy():
    found = agreement([0.9, 0.6, 0.2, 0.1], [0.8, 0.4, 0.2, 0.1], [1, 0, 0, 0])
    assert (found.clips, found.top1, found.accuracy, found.reference_accuracy) == (4, 0.75, 0.75, 1.0)
    assert found.drift_mean == pytest.approx(0.075)
    assert found.drift_max == pytest.approx(0.2)
    assert found.cosine == pytest.approx(1)
    assert not found.is_good


def test_agreement_sees_features_that_point_elsewhere():
    turned = np.tile([1.0, -1.0, 1.0, -1.0], (2, 1))
    found = agreement([0.9, 0.1], [0.9, 0.1], [1, 0], outputs=turned)
    assert found.cosine == pytest.approx(0)
    assert not found.is_good


def test_agreement_sees_the_one_row_that_points_elsewhere():
    outputs = np.ones((200, 4))
    outputs[7] = [1.0, 0.5, 1.0, 0.5]
    scores = [0.9, 0.1] * 100
    found = agreement(scores, scores, [1, 0] * 100, outputs=outputs)
    assert (found.cosine, found.worst_cosine) == (pytest.approx(0.9997, abs=1e-4), pytest.approx(0.9487, abs=1e-4))
    assert (found.top1, found.is_good) == (1.0, False)


@pytest.mark.parametrize(
    ("top1", "accuracy", "good"), [(1.0, 0.95, True), (0.99, 0.95, True), (0.99, 0.94, False), (0.98, 0.99, False)]
)
def test_what_counts_as_good(top1, accuracy, good):
    assert dataclasses.replace(GOOD, top1=top1, accuracy=accuracy).is_good is good


@pytest.mark.parametrize(("worst_cosine", "good"), [(0.991, True), (0.985, False)])
def test_a_search_asks_for_more_than_the_proof_on_other_clips(worst_cosine, good):
    assert 1 - worst_cosine < MAX_TURN
    assert dataclasses.replace(GOOD, worst_cosine=worst_cosine).is_good is good
