"""The ONNX graphs: versions, names, axes and operators that older servers take, and Keras' numbers."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.core.errors import ExportError
from vdeploy.export.onnx.convert import classifier_to_onnx, extractor_to_onnx
from vdeploy.features.prediction import predict
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime


@pytest.fixture(scope="module")
def extractor(tiny_run):
    return tiny_run.extractor()


@pytest.fixture(scope="module")
def classifier(tiny_run):
    return tiny_run.classifier()


@pytest.fixture(scope="module")
def extractor_graph(extractor):
    return extractor_to_onnx(extractor)


@pytest.fixture(scope="module")
def classifier_graph(classifier):
    return classifier_to_onnx(classifier)


@pytest.fixture(scope="module", params=["extractor", "classifier"])
def graph(request, extractor_graph, classifier_graph):
    return {"extractor": extractor_graph, "classifier": classifier_graph}[request.param]


def load(model: onnx.ModelProto, folder: Path) -> OnnxRuntime:
    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return OnnxRuntime(file, threads=2)


def axes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def signature(model: onnx.ModelProto) -> list[tuple[str, int, list[int | str]]]:
    values = [*model.graph.input, *model.graph.output]
    return [(value.name, value.type.tensor_type.elem_type, axes(value)) for value in values]


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_versions_are_those_that_older_servers_read(graph):
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    assert graph.ir_version <= 9


def test_only_operators_of_the_default_domain(graph):
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    assert not graph.functions


def test_no_control_flow(graph):
    assert not {"If", "Loop", "Scan"} & set(operators(graph))


def test_weights_are_in_the_file(graph):
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.graph.initializer)


def test_the_extractor_takes_bytes_with_free_batch_and_time(extractor_graph):
    assert signature(extractor_graph) == [
        ("frames", onnx.TensorProto.UINT8, ["batch", "time", 32, 32, 3]),
        ("features", onnx.TensorProto.FLOAT, ["batch", "time", 512]),
    ]


def test_the_classifier_takes_features_with_free_batch(classifier_graph):
    assert signature(classifier_graph) == [
        ("features", onnx.TensorProto.FLOAT, ["batch", 4, 512]),
        ("probabilities", onnx.TensorProto.FLOAT, ["batch", 2]),
    ]


def test_the_extractor_is_vgg19_and_nothing_else(extractor_graph):
    found = operators(extractor_graph)
    assert (found["Conv"], found["Relu"], found["MaxPool"]) == (16, 16, 5)
    assert extractor_graph.graph.node[0].op_type == "Cast"


def test_the_extractor_changes_the_layout_once_before_the_first_convolution(extractor_graph):
    kinds = [node.op_type for node in extractor_graph.graph.node]
    assert kinds.count("Transpose") == 1
    assert kinds.index("Transpose") < kinds.index("Conv")
    assert set(kinds[kinds.index("Conv") :]) == {
        "Concat",
        "Conv",
        "Flatten",
        "GlobalAveragePool",
        "MaxPool",
        "Relu",
        "Reshape",
        "Shape",
    }


def test_the_classifier_holds_a_real_lstm(classifier_graph):
    assert operators(classifier_graph)["LSTM"] == 1


def test_the_extractor_gives_the_same_bytes_every_time(extractor, extractor_graph):
    again = extractor_to_onnx(extractor)
    assert again.SerializeToString(deterministic=True) == extractor_graph.SerializeToString(deterministic=True)


@pytest.mark.parametrize(("batch", "time"), [(1, 4), (3, 2), (2, 1)])
def test_the_extractor_agrees_with_keras(extractor, extractor_graph, tmp_path, batch, time):
    frames = synthetic_frames(batch, time, 32, seed=batch)
    expected = extractor.extract(frames)
    actual = load(extractor_graph, tmp_path).infer({"frames": frames})["features"]
    assert actual.shape == (batch, time, 512)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_classifier_agrees_with_keras(classifier, classifier_graph, tmp_path, batch):
    features = np.random.default_rng(batch).normal(size=(batch, 4, 512)).astype(np.float32)
    actual = load(classifier_graph, tmp_path).infer({"features": features})["probabilities"]
    assert actual.shape == (batch, 2)
    np.testing.assert_allclose(actual.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(actual, predict(classifier, features), rtol=0, atol=1e-6)


def test_an_operator_of_another_domain_is_refused(extractor, extractor_graph, monkeypatch):
    foreign = onnx.ModelProto()
    foreign.CopyFrom(extractor_graph)
    foreign.graph.node[-1].domain = "com.microsoft"
    monkeypatch.setattr("vdeploy.export.lowering.vgg19_onnx.build_vgg19_graph", lambda *_: foreign)
    with pytest.raises(ExportError, match=r"vgg19_features uses operators of com\.microsoft"):
        extractor_to_onnx(extractor)


def test_a_graph_that_does_not_fit_together_is_refused(extractor, extractor_graph, monkeypatch):
    wrong = onnx.ModelProto()
    wrong.CopyFrom(extractor_graph)
    wrong.graph.initializer.pop()
    monkeypatch.setattr("vdeploy.export.lowering.vgg19_onnx.build_vgg19_graph", lambda *_: wrong)
    with pytest.raises(onnx.checker.ValidationError):
        extractor_to_onnx(extractor)


FC2 = """
    import json, resource, sys
    from pathlib import Path

    import numpy as np
    import onnx

    from testing.models import vgg19_extractor
    from vdeploy.models.backbones.vgg19.weights import find_weights
    from vdeploy.export.onnx.convert import extractor_to_onnx
    from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    extractor = vgg19_extractor("fc2", find_weights("random", "fc2"))
    frames = synthetic_frames(1, 1, 224)
    expected = extractor.extract(frames)
    before = peak()
    model = extractor_to_onnx(extractor)
    grown = peak() - before
    file = Path(sys.argv[1])
    file.write_bytes(model.SerializeToString())
    del model, extractor

    from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime

    actual = OnnxRuntime(file).infer({"frames": frames})["features"]
    json.dump(
        {
            "grown": grown,
            "bytes": file.stat().st_size,
            "shape": actual.shape,
            "largest": float(expected.max()),
            "difference": float(np.abs(actual - expected).max()),
        },
        sys.stdout,
    )
"""


@pytest.mark.slow
def test_fc2_is_written_in_little_memory_and_agrees_with_keras(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FC2), str(tmp_path / "model.onnx")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bytes"] > 550e6
    assert found["shape"] == [1, 1, 4096]
    assert found["difference"] <= 1e-5 * found["largest"]
    assert found["grown"] < 4 * found["bytes"]
