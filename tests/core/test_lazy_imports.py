"""What is set before TensorFlow, Keras, ONNX Runtime and OpenVINO are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process with a home of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), **variables}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
        timeout=300,
    )


SETTINGS = """
    import gc
    from vdeploy.core.lazy_imports import load_keras
    collections = []
    gc.callbacks.append(lambda phase, info: collections.append(info["generation"]))
    config = load_keras().config
    print(config.backend(), config.floatx(), config.image_data_format(), config.dtype_policy().name)
    print(2 in collections, gc.isenabled())
"""


@pytest.mark.slow
def test_keras_runs_on_tensorflow_in_float32_whatever_the_user_has_set(tmp_path: Path) -> None:
    """And the import of some hundred thousand objects that stay is not slowed by collections of all of them."""
    (tmp_path / ".keras").mkdir()
    settings = {"backend": "torch", "floatx": "float16", "image_data_format": "channels_first", "epsilon": 1e-3}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    done = run(SETTINGS, tmp_path, KERAS_BACKEND="jax")
    assert done.stdout == "tensorflow float32 channels_last float32\nFalse True\n", done.stderr


@pytest.mark.slow
def test_keras_that_was_imported_on_another_backend_is_refused(tmp_path: Path) -> None:
    code = """
        import keras
        from vdeploy.core.errors import UserError
        from vdeploy.core.lazy_imports import load_keras
        try:
            load_keras()
        except UserError as error:
            print(error)
    """
    done = run(code, tmp_path, KERAS_BACKEND="openvino")
    assert done.stdout == (
        "Keras was imported on openvino before, and vdeploy needs it on TensorFlow; "
        "set KERAS_BACKEND=tensorflow, or import vdeploy first\n"
    ), done.stderr


def test_onnx_runtime_writes_no_identifier_and_openvino_reports_nothing(tmp_path: Path) -> None:
    code = """
        import sys
        from onnx import TensorProto, helper
        from vdeploy.core.lazy_imports import require
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        runtime = require("onnxruntime", extra="onnx", purpose="a test")
        runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        require("openvino", extra="openvino", purpose="a test").Core()
        print(sys.modules.get("openvino_telemetry"))
    """
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == []
