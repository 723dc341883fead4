"""What is read out of networks and out of the inspector's words, and how a build's progress adds up."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import pytest

from vdeploy.core.errors import ExportError
from vdeploy.export.tensorrt import ComputeLayer
from vdeploy.export.tensorrt.inspection import engine_types, refuse_other_types, types_between_layers
from vdeploy.export.tensorrt.layers import network_precision, refuse_other_precision, weight_bytes_of
from vdeploy.export.tensorrt.monitor import Progress, interruption
from vdeploy.inference.runtimes.tensorrt_library import Library


def layer(name: str, precision: str, parameters: int = 10) -> ComputeLayer:
    return ComputeLayer(name, "convolution", precision, parameters)


TEN = {
    "Layers": [
        {"Name": "cast", "Inputs": [{"Name": "frames", "Format/Datatype": "Row major linear FP32"}]},
        {"Name": "conv", "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP16 format"}]},
        {"Name": "gemm", "Inputs": [{"Name": "y", "Format/Datatype": "Thirty-two wide channel vectorized INT8"}]},
    ],
    "Bindings": ["frames", "features"],
}
ELEVEN = {
    "Layers": [
        {
            "Name": "conv",
            "Inputs": [{"Name": "x", "Format/Datatype": "Half"}, {"Name": "w", "Format/Datatype": "Half"}],
        },
        {"Name": "cast", "Inputs": [{"Name": "z", "DataType": "Float"}, {"Name": "bytes", "DataType": "UInt8"}]},
    ]
}
FUSED = {"Layers": [{"Name": "ForeignNode", "Inputs": [{"Name": "frames", "Format/Datatype": "Float"}]}]}


def test_the_inspectors_types_are_counted_in_the_words_of_both_versions():
    assert types_between_layers(TEN, {"frames", "features"}) == {"fp16": 1, "int8": 1}
    assert types_between_layers(ELEVEN, {"frames"}) == {"fp16": 2, "fp32": 1}
    assert types_between_layers({"Layers": ["names only"]}, ()) == {}


def test_an_engine_fused_into_one_layer_tells_nothing():
    assert types_between_layers(FUSED, {"frames", "features"}) == {}


class Engine:
    """An engine of `tensorrt` as its inspector shows it."""

    num_io_tensors = 1

    def get_tensor_name(self, _index):
        return "frames"

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, style):
        assert style == "json"
        return json.dumps(TEN)


def on_a_gpu(engine: Engine | None) -> Library:
    class ILogger:
        INFO, ERROR = 3, 1

    runtime = SimpleNamespace(deserialize_cuda_engine=lambda _blob: engine)
    style = SimpleNamespace(JSON="json")
    module = SimpleNamespace(ILogger=ILogger, LayerInformationFormat=style, Runtime=lambda _logger: runtime)
    return Library("tensorrt", module, "10.13.3.9")


def test_an_engine_for_this_machine_is_opened_and_inspected():
    assert engine_types(on_a_gpu(Engine()), b"engine") == {"fp16": 1, "int8": 1}


def test_an_engine_that_its_own_builder_cannot_open_is_refused():
    with pytest.raises(ExportError, match=r"cannot open the engine that it built \(the library gave no reason\)"):
        engine_types(on_a_gpu(None), b"engine")


def test_an_engine_that_is_fp32_inside_is_refused():
    with pytest.raises(
        ExportError, match="asked for fp16, but the layers of the engine compute in fp32: it is fp32 in"
    ):
        refuse_other_types({"fp32": 30}, "fp16")


@pytest.mark.parametrize("types", [None, {}, {"fp16": 3, "fp32": 1}])
def test_an_engine_that_does_not_tell_or_has_the_type_is_let_through(types):
    refuse_other_types(types, "fp16")


def test_the_precision_of_a_network_is_one_word_or_names_what_differs():
    many = [layer(f"c{index}", "int8") for index in range(3)]
    assert network_precision(many) == "int8"
    assert network_precision([*many, layer("fc", "fp32")]) == "mixed: int8 in 3 layers, fp32 in fc"
    assert network_precision([*many, layer("fc", "fp32"), layer("fc", "fp32")]).endswith("fp32 in fc")
    assert network_precision([layer("a", "int8"), layer("b", "fp16"), layer("c", "fp32")]) == (
        "mixed: int8 in 1 layer, fp16 in b, fp32 in c"
    )
    assert network_precision([]).startswith("none")


def test_weights_are_counted_in_the_type_of_their_layer():
    assert weight_bytes_of([layer("a", "int8"), layer("b", "fp16"), layer("c", "fp32"), layer("d", "int4")]) == 110


def test_layers_may_stay_in_float_by_pattern():
    layers = [layer("conv", "int8"), layer("LSTM__3", "fp16")]
    refuse_other_precision(layers, "int8", ("LSTM*",))
    with pytest.raises(ExportError, match="1 of 2 layers compute in fp16: LSTM__3"):
        refuse_other_precision(layers, "int8", ("conv",))


@pytest.mark.parametrize("layers", [[], [layer("fc", "fp32")]])
def test_a_network_without_the_precision_is_refused_though_its_layers_may_differ(layers):
    with pytest.raises(ExportError, match="asked for int8, but no layer computes in it"):
        refuse_other_precision(layers, "int8", ("*",))


class Recorder:
    def __init__(self) -> None:
        self.total, self.notes = 0, []

    def advance(self, count=1, note=None):
        self.total += count
        if note:
            self.notes.append(note)


def test_progress_is_the_share_of_nested_phases_and_never_goes_back():
    shown = Recorder()
    progress = Progress(shown)
    progress.start("build", None, 2)
    progress.start("optimize", "build", 4)
    progress.complete("optimize", 1)
    assert shown.total == 25
    progress.start("fuse", "optimize", 1)
    progress.complete("fuse", 0)
    assert shown.total == 37
    progress.finish("fuse")
    progress.complete("optimize", 0)
    assert shown.total == 37
    progress.finish("optimize")
    assert shown.total == 50
    progress.complete("build", 1)
    progress.finish("build")
    progress.complete("unknown", 3)
    progress.finish("unknown")
    assert (shown.total, shown.notes) == (100, ["build", "optimize", "fuse"])


def test_a_phase_without_steps_does_no_harm():
    shown = Recorder()
    progress = Progress(shown)
    progress.start("build", None, 0)
    progress.finish("build")
    assert shown.total == 100


def test_outside_of_the_main_thread_a_build_cannot_be_interrupted():
    seen = []

    def work():
        with interruption() as stop:
            seen.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
