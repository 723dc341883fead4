"""The keeper of windows in this process, where time goes by at will; a stand-in plays Triton's Python module."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from vdeploy.triton.client import stream, stream_client
from vdeploy.video.wanted_frames import frame_indices

START, END = 1, 2
LENGTH, DIM, LIMIT, IDLE_S, SIZE = 4, 3, 2, 10.0, 6


class Refused(Exception):
    NOT_FOUND, UNAVAILABLE, INVALID_ARG = "NOT_FOUND", "UNAVAILABLE", "INVALID_ARG"

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Request:
    def __init__(
        self, name: int | str, values: np.ndarray, missing: np.ndarray, flags: int, tensor: str = "features"
    ) -> None:
        self.tensors = {tensor: values, "missing": missing}
        self.correlation_id, self.flags = (lambda: name), (lambda: flags)


class Keeper:
    """The model, and what a caller of it needs."""

    def __init__(self, module: types.ModuleType, taken: str = "features", repository: Path = Path()) -> None:
        self.now = 0.0
        module.time = types.SimpleNamespace(monotonic=lambda: self.now)
        self.model = module.TritonPythonModel()
        config = {
            "input": [{"name": taken}, {"name": "missing"}],
            "output": [{"dims": [str(LENGTH), str(DIM)]}, {"dims": ["1"]}],
            "parameters": {
                "max_streams": {"string_value": str(LIMIT)},
                "idle_seconds": {"string_value": str(IDLE_S)},
                "intra_op_num_threads": {"string_value": "1"},
            },
        }
        arguments = {"model_config": json.dumps(config), "model_repository": str(repository), "model_version": "1"}
        self.model.initialize(arguments)

    def ask(self, name: int | str, *numbers: int, flags: int = 0, missing: list[int] | None = None) -> list[int]:
        """Sends frames whose features are their number, and reads the numbers in the window."""
        features = np.repeat(np.array(numbers, np.float32)[:, None], DIM, axis=1)[None]
        counts = np.array([missing or [0] * len(numbers)], np.int32)
        return self.send(Request(name, features, counts, flags))

    def send(self, request: Request) -> list[int]:
        (answer,) = self.model.execute([request])
        if isinstance(answer, Refused):
            raise answer
        (window, held) = (array for _, array in answer)
        assert (window.shape, window.dtype) == ((1, LENGTH, DIM), np.float32)
        assert (held.shape, held.dtype) == ((1, 1), np.int32)
        assert (window[0] == window[0, :, :1]).all()
        self.held = int(held[0, 0])
        return [int(number) for number in window[0, :, 0]]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    backend = types.ModuleType("triton_python_backend_utils")
    backend.get_input_tensor_by_name = lambda request, name: request.tensors[name]
    backend.InferenceResponse = lambda tensors=(), error=None: error or tensors
    backend.TritonError = Refused
    backend.TritonModelException = RuntimeError
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    path = Path(importlib.util.find_spec("vdeploy").origin).parent / "triton" / "backend_code" / "window_model.py"
    spec = importlib.util.spec_from_file_location("model", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "model", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_tensor", lambda name, array: (name, array))
    return module


@pytest.fixture
def keeper(module: types.ModuleType) -> Keeper:
    return Keeper(module)


@pytest.fixture
def stepping(module: types.ModuleType, tmp_path: Path) -> Keeper:
    """A keeper of frames: their features are the red of a pixel, and how many requests of the stream came before."""
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Slice", ["frames", "starts", "ends", "axes"], ["pixel"]),
        helper.make_node("Cast", ["pixel"], ["value"], to=kinds.FLOAT),
        helper.make_node("Reshape", ["value", "shape"], ["flat"]),
        helper.make_node("Add", ["flat", "buffer"], ["number"]),
        helper.make_node("Mul", ["number", "ones"], ["features"]),
        helper.make_node("Add", ["buffer", "one"], ["next_buffer"]),
    ]
    stored = {
        "starts": np.zeros(3, np.int64),
        "ends": np.ones(3, np.int64),
        "axes": np.array([2, 3, 4]),
        "shape": np.array([1, -1, 1]),
        "ones": np.ones((1, 1, DIM), np.float32),
        "one": np.ones((1, 1), np.float32),
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "stream",
        [value("frames", kinds.UINT8, [1, "time", SIZE, SIZE, 3]), value("buffer", kinds.FLOAT, [1, 1])],
        [value("features", kinds.FLOAT, [1, "time", DIM]), value("next_buffer", kinds.FLOAT, [1, 1])],
        [onnx.numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    (tmp_path / "1").mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "1" / "model.onnx")
    return Keeper(module, "frames", tmp_path)


def frames(name: int, *reds: int, flags: int = 0) -> Request:
    pictures = np.zeros((1, len(reds), SIZE, SIZE, 3), np.uint8)
    pictures[:, :, 0, 0, 0] = reds
    return Request(name, pictures, np.zeros((1, len(reds)), np.int32), flags, "frames")


def test_each_stream_has_a_buffer_that_begins_and_ends_with_it(stepping: Keeper) -> None:
    assert stepping.send(frames(7, 10, 20, flags=START)) == [10, 10, 20, 20]
    assert stepping.send(frames(8, 50, flags=START)) == [50] * 4
    assert stepping.send(frames(7, 30)) == [10, 20, 20, 31]
    assert stepping.send(frames(7, 40, flags=END)) == [10, 20, 31, 42]
    assert stepping.send(frames(8, 60)) == [50, 50, 61, 61]
    assert stepping.send(frames(7, 10, flags=START)) == [10] * 4


def test_frames_that_do_not_fit_are_refused_alone(stepping: Keeper) -> None:
    bad = Request(7, np.zeros((2, 1, SIZE, SIZE, 3), np.uint8), np.zeros((2, 1), np.int32), START, "frames")
    refused, answered = stepping.model.execute([bad, frames(8, 1, flags=START)])
    assert not isinstance(answered, Refused)
    with pytest.raises(Refused, match=r"frames are \[2, 1, 6, 6, 3\], a stream sends \[1, t, 6, 6, 3\]"):
        raise refused


def test_frames_need_the_streaming_form(module: types.ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"1/model.onnx is missing, with which frames become features"):
        Keeper(module, "frames", tmp_path)


def test_the_window_slides(keeper: Keeper) -> None:
    assert keeper.ask(7, 1, flags=START) == [1, 1, 1, 1]
    assert keeper.ask(7, 2) == [1, 1, 2, 2]
    assert keeper.ask(7, 3, 4) == [1, 2, 3, 4]
    assert keeper.held == 4
    assert keeper.ask(7, 5) == [2, 3, 4, 5]
    assert keeper.held == 4


@pytest.mark.parametrize("length", range(1, LENGTH + 1))
def test_a_short_stream_is_spread_as_a_short_clip_is(keeper: Keeper, length: int) -> None:
    assert keeper.ask(7, *range(length), flags=START) == frame_indices(length, LENGTH)
    assert keeper.held == length


def test_the_frame_before_stands_for_missing_ones(keeper: Keeper) -> None:
    assert keeper.ask(7, 1, 2, flags=START, missing=[9, 1]) == [1, 1, 1, 2]
    assert keeper.held == 3
    assert keeper.ask(7, 3, missing=[2]) == [2, 2, 2, 3]
    assert keeper.ask(7, 4, missing=[2**31 - 1]) == [3, 3, 3, 4]


def test_streams_are_apart_and_names_may_be_text(keeper: Keeper) -> None:
    keeper.ask(7, 1, flags=START)
    keeper.ask("yard", 5, flags=START)
    assert keeper.ask(7, 2) == [1, 1, 2, 2]
    assert keeper.ask("yard", 6) == [5, 5, 6, 6]


def test_requests_of_one_stream_in_one_batch_are_taken_in_their_order(keeper: Keeper) -> None:
    batch = [
        Request(7, np.full((1, 1, DIM), number, np.float32), np.zeros((1, 1), np.int32), flags)
        for number, flags in ((1, START), (2, 0), (3, END), (4, 0))
    ]
    *answers, refused = keeper.model.execute(batch)
    windows = [dict(answer)["window"][0, :, 0].tolist() for answer in answers]
    assert windows == [[1, 1, 1, 1], [1, 1, 2, 2], [1, 2, 2, 3]]
    assert isinstance(refused, Refused)


def test_start_begins_anew(keeper: Keeper) -> None:
    keeper.ask(7, 1, 2, 3, flags=START)
    assert keeper.ask(7, 9, flags=START) == [9, 9, 9, 9]


def test_what_triton_frees_is_not_kept(keeper: Keeper) -> None:
    features = np.ones((1, 1, DIM), np.float32)
    keeper.send(Request(7, features, np.zeros((1, 1), np.int32), START))
    features[:] = 99
    assert keeper.ask(7, 2) == [1, 1, 2, 2]


def test_an_unknown_stream_is_refused_so_that_a_client_sees_it(keeper: Keeper) -> None:
    with pytest.raises(Refused, match="stream 7 is not known here: begin it anew, with its last frames") as caught:
        keeper.ask(7, 1)
    assert caught.value.code == "NOT_FOUND"
    assert stream._LOST in str(caught.value)


def test_a_stream_too_many_is_refused_and_the_others_go_on(keeper: Keeper) -> None:
    keeper.ask(1, 1, flags=START)
    keeper.ask(2, 1, flags=START)
    with pytest.raises(Refused, match="all 2 streams that are kept at most are live") as caught:
        keeper.ask(3, 1, flags=START)
    assert caught.value.code == "UNAVAILABLE"
    assert stream_client._NO_ROOM in str(caught.value)
    assert keeper.ask(1, 2) == [1, 1, 2, 2]
    assert keeper.ask(2, 5, flags=START) == [5, 5, 5, 5]


def test_end_makes_room(keeper: Keeper) -> None:
    keeper.ask(1, 1, flags=START)
    keeper.ask(2, 1, flags=START)
    assert keeper.ask(1, 2, flags=END) == [1, 1, 2, 2]
    keeper.ask(3, 1, flags=START)
    with pytest.raises(Refused, match="stream 1 is not known"):
        keeper.ask(1, 3)


def test_a_whole_stream_in_a_request_needs_no_room(keeper: Keeper) -> None:
    keeper.ask(1, 1, flags=START)
    keeper.ask(2, 1, flags=START)
    assert keeper.ask(3, 1, 2, 3, 4, flags=START | END) == [1, 2, 3, 4]
    assert keeper.ask(1, 2) == [1, 1, 2, 2]


def test_who_is_idle_is_forgotten_and_nobody_else(keeper: Keeper) -> None:
    keeper.ask(1, 1, flags=START)
    keeper.now = 1.0
    keeper.ask(2, 1, flags=START)
    keeper.now = 9.0
    keeper.ask(1, 2)
    keeper.now = 11.5
    keeper.ask(3, 1, flags=START)
    assert keeper.ask(1, 3) == [1, 2, 2, 3]
    with pytest.raises(Refused, match="stream 2 is not known"):
        keeper.ask(2, 2)


@pytest.mark.parametrize("name", [0, ""])
def test_a_stream_needs_a_name(keeper: Keeper, name: int | str) -> None:
    with pytest.raises(Refused, match="needs a correlation id other than 0"):
        keeper.ask(name, 1, flags=START)


@pytest.mark.parametrize(
    ("features", "missing", "told"),
    [
        ((2, 1, DIM), (2, 1), r"features are \[2, 1, 3\], a stream sends \[1, t, 3\]"),
        ((1, 0, DIM), (1, 0), r"features are \[1, 0, 3\]"),
        ((1, 1, DIM + 1), (1, 1), r"features are \[1, 1, 4\]"),
        ((1, 2, DIM), (1, 1), "missing is not a count from 0 up for each frame"),
    ],
)
def test_what_does_not_fit_is_refused_alone(
    keeper: Keeper, features: tuple[int, ...], missing: tuple[int, ...], told: str
) -> None:
    bad = Request(7, np.zeros(features, np.float32), np.zeros(missing, np.int32), START)
    good = Request(8, np.ones((1, 1, DIM), np.float32), np.zeros((1, 1), np.int32), START)
    refused, answered = keeper.model.execute([bad, good])
    assert not isinstance(answered, Refused)
    with pytest.raises(Refused, match=told):
        raise refused


def test_a_negative_count_is_refused(keeper: Keeper) -> None:
    with pytest.raises(Refused, match="missing is not a count"):
        keeper.ask(7, 1, flags=START, missing=[-1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_do_not_get_into_a_window(keeper: Keeper, value: float) -> None:
    keeper.ask(7, 1, flags=START)
    with pytest.raises(Refused, match="NaN or infinite"):
        keeper.ask(7, value)
    assert keeper.ask(7, 2) == [1, 1, 2, 2]
