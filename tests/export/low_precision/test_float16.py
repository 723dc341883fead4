"""FP16: half the weights, the same numbers, and float32 where float16 ends."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vdeploy.core.errors import ExportError
from vdeploy.export.lowering.choose import extractor_onnx
from vdeploy.export.onnx.float16 import FLOAT16_MAX, MARGIN, find_wide_tensors, to_float16
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of
from vdeploy.video.clips import ClipSpec

LARGE = 70_000.0


def scaled(model: onnx.ModelProto, layer: str, factor: float) -> onnx.ModelProto:
    """A copy in which one layer gives larger numbers."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in (f"{layer}/kernel", f"{layer}/bias"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return result


def nodes(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def signature(model: onnx.ModelProto) -> list[bytes]:
    return [value.SerializeToString() for value in (*model.graph.input, *model.graph.output)]


@pytest.mark.slow
def test_it_computes_the_same_from_the_same_inputs(stage, unchanged):
    half = to_float16(unchanged(stage.model))
    onnx.checker.check_model(half, full_check=True)
    assert signature(half) == signature(stage.model)
    assert 0 < stage.relative_error(half) < 5e-3


@pytest.mark.slow
def test_the_file_says_so_and_is_half_as_large(stage, saved):
    whole = saved(stage.model).stat().st_size
    file = saved(to_float16(stage.model))
    assert inspect_onnx(file).precision == "fp16"
    assert file.stat().st_size / whole == pytest.approx(0.5, abs=0.01)


def test_the_same_input_gives_the_same_bytes(stage):
    one, other = (to_float16(stage.model).SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


def test_the_first_node_of_the_extractor_casts_the_bytes(extractor_stage):
    first = to_float16(extractor_stage.model).graph.node[0]
    assert (first.op_type, list(first.input)) == ("Cast", ["frames"])


def test_only_three_casts_are_needed_in_the_extractor(extractor_stage):
    found = nodes(to_float16(extractor_stage.model))
    assert Counter(found)["Cast"] == 3
    assert found[found.index("Sub") : found.index("Conv") + 1] == ["Sub", "Reshape", "Transpose", "Cast", "Conv"]
    assert found[found.index("GlobalAveragePool") - 1] == "Cast"


def kinds(model: onnx.ModelProto, operator: str) -> set[int]:
    """Types of what an operator's nodes give."""
    values = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    return {values[node.output[0]] for node in model.graph.node if node.op_type == operator}


def test_normalisation_and_softmax_stay_in_float32(classifier_stage):
    half = to_float16(classifier_stage.model)
    assert all(kinds(half, name) == {onnx.TensorProto.FLOAT} for name in ("Reciprocal", "Sqrt", "Sub"))
    assert all(kinds(half, name) == {onnx.TensorProto.FLOAT16} for name in ("LSTM", "MatMul"))


@pytest.mark.slow
def test_the_region_in_which_things_move_is_found_and_cut_out_in_float32():
    backbone = backbone_of({"name": "efficientnet-lite0", "weights": "random", "region": "motion"})
    extractor = FeatureExtractor(backbone, backbone.find_weights(), ClipSpec(frames=2, size=64))
    half = to_float16(extractor_onnx(extractor))
    assert kinds(half, "MatMul") == {onnx.TensorProto.FLOAT}
    assert kinds(half, "Conv") == {onnx.TensorProto.FLOAT16}


def test_ordinary_frames_find_no_wide_tensor(narrow_stage):
    assert find_wide_tensors(narrow_stage.model, narrow_stage.feeds()) == {}


def largest(stage) -> dict[str, float]:
    """The largest value in each tensor on the calibration clips."""
    return find_wide_tensors(stage.model, stage.feeds(), margin=1e9)


def test_what_overflows_stays_in_float32_and_is_named(narrow_stage, saved):
    layer = "block3_conv2"
    factor = LARGE / largest(narrow_stage)[layer]
    hot = scaled(narrow_stage.model, layer, factor)
    wide = find_wide_tensors(hot, narrow_stage.feeds())
    assert wide[layer] == pytest.approx(LARGE, rel=1e-3)
    assert not [name for name in wide if name.startswith("block2")]
    expected = narrow_stage.run(hot)
    kept = to_float16(hot, wide=wide)
    np.testing.assert_allclose(narrow_stage.run(kept), expected, rtol=0, atol=5e-3 * np.abs(expected).max())
    assert layer in [found.name for found in inspect_onnx(saved(kept)).layers if found.precision == "fp32"]
    assert inspect_onnx(saved(kept)).precision.startswith("mixed: fp16 ")


def test_what_comes_near_the_end_stays_in_float32_too(narrow_stage):
    layer = "block3_conv2"
    near = FLOAT16_MAX / MARGIN * 1.1
    hot = scaled(narrow_stage.model, layer, near / largest(narrow_stage)[layer])
    assert layer in find_wide_tensors(hot, narrow_stage.feeds())
    assert layer not in find_wide_tensors(hot, narrow_stage.feeds(), margin=1.0)


def test_a_weight_beyond_float16_is_refused(extractor_stage):
    hot = scaled(extractor_stage.model, "block1_conv1", 1e7)
    with pytest.raises(ExportError, match=r"the weight block1_conv1/kernel is beyond float16 \(65504\)"):
        to_float16(hot)
