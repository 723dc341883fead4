"""Messages of ONNX Runtime 1.19 to 1.32 are quoted without its C++ source."""

from __future__ import annotations

import pytest

from vdeploy.core.runtime_messages import without_source

ORT = "/ort/core"
SOURCES = [
    f"{ORT}/model_load_utils.h:46 void onnxruntime::ValidateOpset(const std::unordered_map<a::basic<char>, int>&) ",
    "matmul_helper.h:59 Compute ",
    f"{ORT}/reshape_helper.h:91 onnxruntime::R::R(const onnxruntime::S&, bool) sizes == wanted.Size() was false. ",
    f"{ORT}/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::Allocate(size_t, onnxruntime::Stream*) ",
    f"{ORT}/x.cc:7 Status onnxruntime::(anonymous namespace)::Run(std::function<void(int)>, T) const [with T = int] ",
    f"{ORT}/session/inference_session.cc:12 onnxruntime::S::Load(int)::<lambda(const std::string&)> ",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("before", ["", "[ONNXRuntimeError] : 1 : FAIL : ", "onnx runtime error 6: at the start: "])
@pytest.mark.parametrize("after", ["No file (opset 28): x.onnx", "shapes {1,3} and {5,7} of f(x) differ"])
def test_what_is_left(before: str, source: str, after: str) -> None:
    assert without_source(f"{before}{source}{after}\n") == f"{before}{after}"


@pytest.mark.parametrize(
    "message", ["model.onnx (12 bytes) is damaged", "/r/1/model.py:12 in execute", "", "a: b::c(d) e"]
)
def test_other_messages_stay(message: str) -> None:
    assert without_source(message) == message
