from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper

from testing.waiting import eventually
from tests.triton.conftest import Ports, kill_stub
from vdeploy.artifacts.bundle import Bundle
from vdeploy.export.openvino.convert import onnx_to_openvino
from vdeploy.triton.names import CLASSIFIER_MODEL, EXTRACTOR_MODEL
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer


def infer(client: triton.InferenceServerClient, model: str, name: str, array: np.ndarray, wanted: str) -> np.ndarray:
    tensor = triton.InferInput(name, array.shape, "UINT8" if array.dtype == np.uint8 else "FP32")
    tensor.set_data_from_numpy(array)
    return client.infer(model, [tensor], client_timeout=30).as_numpy(wanted)


@pytest.mark.triton
class TestInTriton:
    @pytest.fixture
    def client(self, server: TritonServer) -> Iterator[triton.InferenceServerClient]:
        client = triton.InferenceServerClient(server.url)
        yield client
        client.close()

    def test_arrays_cross_the_border_exactly(self, client: triton.InferenceServerClient, bundle: Bundle) -> None:
        """The backend's own numpy bridge gives zeros under numpy 2; DLPack must give every bit under any numpy."""
        session = onnxruntime.InferenceSession(bundle.root / "extractor" / "onnx-fp32" / "model.onnx")
        random = np.random.default_rng(0)
        for trial in range(100):
            clips = random.integers(0, 256, (trial % 8 + 1, trial % 5 + 1, 32, 32, 3), dtype=np.uint8)
            wanted = np.concatenate([session.run(None, {"frames": clip[None]})[0] for clip in clips])
            assert np.abs(wanted).max() > 0
            np.testing.assert_array_equal(infer(client, EXTRACTOR_MODEL, "frames", clips, "features"), wanted)

    def test_merged_requests_get_their_own_answers(self, client: triton.InferenceServerClient, bundle: Bundle) -> None:
        session = onnxruntime.InferenceSession(bundle.root / "classifier" / "onnx-fp32" / "model.onnx")
        random = np.random.default_rng(1)
        batches = [random.normal(size=(trial % 3 + 1, 4, 8)).astype(np.float32) for trial in range(60)]
        answers: dict[int, Any] = {}
        executions = self.executions(client)
        for index, batch in enumerate(batches):
            tensor = triton.InferInput("features", batch.shape, "FP32")
            tensor.set_data_from_numpy(batch)
            client.async_infer(
                CLASSIFIER_MODEL,
                [tensor],
                lambda result, error, index=index: answers.__setitem__(
                    index, error or result.as_numpy("probabilities")
                ),
                client_timeout=30,
            )
        assert eventually(lambda: len(answers) == len(batches))
        for index, batch in enumerate(batches):
            np.testing.assert_allclose(answers[index], session.run(None, {"features": batch})[0], rtol=0, atol=1e-6)
        assert 0 < self.executions(client) - executions < len(batches)

    @staticmethod
    def executions(client: triton.InferenceServerClient) -> int:
        return client.get_inference_statistics(CLASSIFIER_MODEL).model_stats[0].execution_count

    def test_nothing_is_printed_for_a_response(
        self, client: triton.InferenceServerClient, server: TritonServer
    ) -> None:
        infer(client, EXTRACTOR_MODEL, "frames", np.zeros((8, 4, 32, 32, 3), np.uint8), "features")
        assert "Capsule" not in server.log_file.read_text()

    def test_wrong_shape_is_told_and_the_model_lives_on(
        self, repository: Repository, install: TritonInstall, ports: Ports
    ) -> None:
        config = repository.root / EXTRACTOR_MODEL / "config.pbtxt"
        config.write_text(config.read_text().replace("dims: 32", "dims: -1", 2))
        with (
            TritonServer(
                repository, install=install, log_file=repository.root / "log", **ports.as_arguments()
            ) as server,
            triton.InferenceServerClient(server.url) as client,
        ):
            stub = kill_stub(repository, EXTRACTOR_MODEL, 0)
            with pytest.raises(
                triton.InferenceServerException,
                match=r"frames is uint8\[1, 4, 16, 16, 3\], the model takes uint8\[any, any, 32, 32, 3\]",
            ):
                infer(client, EXTRACTOR_MODEL, "frames", np.zeros((1, 4, 16, 16, 3), np.uint8), "features")
            right = infer(client, EXTRACTOR_MODEL, "frames", np.zeros((1, 4, 32, 32, 3), np.uint8), "features")
            assert right.shape == (1, 4, 8)
            assert kill_stub(repository, EXTRACTOR_MODEL, 0) == stub


class TestInThisProcess:
    """What Triton does not provoke at will; a stand-in plays its Python module."""

    @pytest.fixture
    def module(self, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
        backend = types.ModuleType("triton_python_backend_utils")
        backend.get_input_tensor_by_name = lambda request, name: request[name]
        backend.Tensor = types.SimpleNamespace(from_dlpack=lambda *parts: parts)
        backend.InferenceResponse = lambda tensors=(), error=None: error or tensors[0]
        backend.TritonError = RuntimeError
        backend.TritonModelException = RuntimeError
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
        path = Path(importlib.util.find_spec("vdeploy").origin).parent / "triton" / "backend_code" / "stage_model.py"
        spec = importlib.util.spec_from_file_location("model", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "_tensor", lambda _, array: array)
        return module

    @staticmethod
    def arguments(folder: Path, **changes: Any) -> dict[str, str]:
        config = {
            "input": [{"name": "x"}],
            "output": [{"name": "y"}],
            "parameters": {
                "intra_op_num_threads": {"string_value": "1"},
                "max_clips_per_run": {"string_value": "0"},
            },
        }
        return {
            "model_config": json.dumps(config | changes),
            "model_repository": str(folder),
            "model_version": "1",
        }

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A model that looks four numbers up and fails for any other index."""
        table = numpy_helper.from_array(np.array([10, 11, 12, 13], np.float32), "table")
        graph = helper.make_graph(
            [
                helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64),
                helper.make_node("Gather", ["table", "index"], ["y"]),
            ],
            "lookup",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "N"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "N"])],
            [table],
        )
        (tmp_path / "1").mkdir()
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
            tmp_path / "1" / "model.onnx",
        )
        return tmp_path

    @staticmethod
    def request(*rows: list[float]) -> dict[str, np.ndarray]:
        return {"x": np.array(rows, np.float32)}

    def test_one_bad_request_does_not_fail_those_it_was_merged_with(
        self, module: types.ModuleType, folder: Path
    ) -> None:
        model = module.TritonPythonModel()
        model.initialize(self.arguments(folder))
        first, bad, last, wide = model.execute(
            [self.request([1]), self.request([99]), self.request([2], [3]), self.request([0, 1])]
        )
        assert first.tolist() == [[11]]
        assert isinstance(bad, RuntimeError)
        assert "InvalidArgument" in str(bad)
        assert last.tolist() == [[12], [13]]
        assert wide.tolist() == [[10, 11]]

    def test_a_request_of_another_type_is_refused_alone(self, module: types.ModuleType, folder: Path) -> None:
        model = module.TritonPythonModel()
        model.initialize(self.arguments(folder))
        wrong, right = model.execute([{"x": np.zeros((1, 1), np.uint8)}, self.request([3])])
        assert str(wrong) == "ValueError: x is uint8[1, 1], the model takes float32[any, any]"
        assert right.tolist() == [[13]]

    @pytest.mark.parametrize("clips_per_run", [1, 2, 5])
    def test_chunks_give_what_one_run_gives(self, module: types.ModuleType, folder: Path, clips_per_run: int) -> None:
        arguments = self.arguments(
            folder,
            parameters={
                "intra_op_num_threads": {"string_value": "1"},
                "max_clips_per_run": {"string_value": str(clips_per_run)},
            },
        )
        model = module.TritonPythonModel()
        model.initialize(arguments)
        assert model.execute([self.request([0], [1], [2], [3], [0])])[0].ravel().tolist() == [10, 11, 12, 13, 10]

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"input": [{"name": "frames"}]}, "has input x, config.pbtxt says frames"),
            ({"output": [{"name": "features"}]}, "has outputs y, config.pbtxt says features"),
        ],
    )
    def test_names_other_than_the_configurations_are_refused(
        self, module: types.ModuleType, folder: Path, changes: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(RuntimeError, match=told):
            module.TritonPythonModel().initialize(self.arguments(folder, **changes))

    def test_a_version_without_a_model_is_refused(self, module: types.ModuleType, folder: Path) -> None:
        (folder / "1" / "model.onnx").unlink()
        with pytest.raises(RuntimeError, match=r"1 holds neither model\.onnx nor model\.xml"):
            module.TritonPythonModel().initialize(self.arguments(folder))

    @pytest.mark.parametrize("clips_per_run", ["0", "2"])
    def test_openvino_gives_what_onnx_runtime_gives(
        self, module: types.ModuleType, bundle: Bundle, tmp_path: Path, clips_per_run: str
    ) -> None:
        pytest.importorskip("openvino")
        source, threads = bundle.root / "extractor" / "onnx-fp32" / "model.onnx", {"string_value": "1"}
        onnx_to_openvino(source, tmp_path / "1")
        model = module.TritonPythonModel()
        names = {"input": [{"name": "frames"}], "output": [{"name": "features"}]}
        parameters = {"intra_op_num_threads": threads, "max_clips_per_run": {"string_value": clips_per_run}}
        model.initialize(self.arguments(tmp_path, **names, parameters=parameters))
        clips = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8)
        wrong, first, second = model.execute([{"frames": given} for given in (clips / 2, clips[:1], clips[1:])])
        assert str(wrong) == (
            "ValueError: frames is float64[3, 4, 32, 32, 3], the model takes uint8[any, any, 32, 32, 3]"
        )
        (expected,) = onnxruntime.InferenceSession(source).run(None, {"frames": clips})
        np.testing.assert_allclose(np.concatenate([first, second]), expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("asked", "variable", "instances", "threads"),
        [("3", "8", 1, 3), ("0", "8", 1, 8), ("0", "8", 3, 2), ("0", "1", 4, 1), ("0", "", 1, None)],
    )
    def test_threads(
        self,
        module: types.ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        asked: str,
        variable: str,
        instances: int,
        threads: int | None,
    ) -> None:
        monkeypatch.setenv("VDEPLOY_THREADS", variable or "0")
        config = {
            "parameters": {"intra_op_num_threads": {"string_value": asked}},
            "instance_group": [{"count": instances}],
        }
        assert module._threads(config) == (threads or len(os.sched_getaffinity(0)))
