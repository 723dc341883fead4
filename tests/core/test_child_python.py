"""Child processes import nothing from the working directory, whatever lies there."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.running_gateway import running_gateway
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import write_numbered
from vdeploy.benchmark.measure.peak_flops import measure_peaks
from vdeploy.benchmark.measure.process import RowProcess
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.core.child_python import import_paths, python_command
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer

MODULES = "cv2 json keras numpy onnx onnxruntime pip pydantic ray runpy tensorflow training tritonclient typing vdeploy"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, whose modules leave a trace and fail."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for module in MODULES.split():
        code = f"open({str(tmp_path / 'imported')!r}, 'a').write({module!r} + ' ')\nraise ImportError('hostile')\n"
        (folder / f"{module}.py").write_text(code)
    monkeypatch.chdir(folder)
    yield folder
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


def output_of(command: list[str], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def vdeploy(*arguments: object) -> str:
    return output_of(python_command("vdeploy", *arguments))


def test_the_files_do_harm_where_the_working_directory_is_imported_from(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('hostile')\n")
    done = subprocess.run(
        [sys.executable, "-m", "numpy"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "hostile" in done.stderr


@pytest.mark.usefixtures("hostile")
def test_a_module_is_run_with_its_arguments() -> None:
    assert json.loads(output_of(python_command("json.tool", "--indent", 1), "[1]")) == [1]


@pytest.mark.usefixtures("hostile")
def test_a_file_is_run_with_its_arguments(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text("import sys, numpy, training\nif __name__ == '__main__':\n    print(sys.argv)\n")
    assert output_of(python_command(file, 1, "b")).strip() == str([str(file), "1", "b"])


def test_folders_of_the_path_are_passed_but_for_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "relative", str(tmp_path), "/own", *sys.path])
    assert import_paths()[0] == "/own"
    assert str(tmp_path) not in import_paths()
    monkeypatch.setattr(sys, "path", ["/own"])
    assert import_paths() == ["/own", str(ROOT)]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT)])
    assert import_paths() == [str(ROOT)]


def test_rows_of_a_benchmark(hostile: Path, tmp_path: Path) -> None:
    root = make_tiny_bundle(tmp_path / "bundle").root
    with RowProcess(Job("pipeline", str(root), "onnx-fp32", None, 1, 1)) as process:
        assert process.ask("warm", 0)["calls"] == 1


@pytest.mark.usefixtures("hostile")
def test_peaks_of_a_benchmark() -> None:
    assert measure_peaks(1, 0.0)


@pytest.mark.slow
def test_the_gateway_and_its_decoders(hostile: Path, tmp_path: Path) -> None:
    root = make_tiny_bundle(tmp_path / "bundle").root
    clip = write_numbered(tmp_path / "clip.avi", 20)
    command = python_command("vdeploy")
    with (
        running_gateway(tmp_path / "spool", "--bundle", str(root), command=command, folder=hostile) as gateway,
        gateway.client() as client,
    ):
        answer = client.post("/predict", files={"video": clip.read_bytes()})
        assert answer.status_code == 200, answer.text


@pytest.mark.slow
def test_the_converter_of_tflite(hostile: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    from vdeploy.export.tflite.conversion import convert

    function = tf.function(lambda x: x + 1.0, input_signature=[tf.TensorSpec((1, 2), tf.float32, name="x")])
    (tmp_path / "work").mkdir()
    assert convert(tmp_path / "work", function, [], "float32")[4:8] == b"TFL3"


@pytest.mark.slow
def test_commands(hostile: Path, tmp_path: Path) -> None:
    root = make_tiny_bundle(tmp_path / "bundle").root
    vdeploy("data", "synth", tmp_path / "clips", "--clips", 2)
    out = vdeploy("predict", tmp_path / "clips", "--bundle", root, "--json")
    assert not any(prediction["error"] for prediction in json.loads(out)["predictions"])
    out = vdeploy("benchmark", root, "--what", "classifier", "--seconds", 0, "--json")
    assert {row["status"] for row in json.loads(out)["rows"]} == {"ok"}


@pytest.mark.triton
def test_a_launched_server_and_its_models(hostile: Path, tmp_path: Path, install) -> None:
    repository = write_repository(make_tiny_bundle(tmp_path / "bundle"), tmp_path / "repository", backend="python")
    http, grpc = free_ports(2)
    log = tmp_path / "server.log"
    with TritonServer(repository, install=install, log_file=log, http_port=http, grpc_port=grpc, metrics_port=0):
        assert "hostile" not in log.read_text()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_workers_of_ray(hostile: Path, tmp_path: Path, clips_dir: Path, tiny_overrides: tuple[str, ...]) -> None:
    sets = [word for override in tiny_overrides for word in ("--set", override)]
    (hostile / "clips").symlink_to(clips_dir)
    out = vdeploy("features", "clips", *sets, "--store", tmp_path / "store", "--ray", "local", "--json")
    assert json.loads(out)["decoded"] == 20
