"""Exporting: what is published is proven, and what stood there before survives every failure."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import onnx
import pytest

from tests.tiny_bundle import make_tiny_bundle
from training.files import sha256_of
from vdeploy.bundle import CLASSES, MANIFEST, Bundle
from vdeploy.errors import BundleError, ExportError, ParityError
from vdeploy.export.exporter import export_run
from vdeploy.formats import FORMATS, parse_formats

FORMAT = parse_formats("onnx-fp32")
IMPOSSIBLE = [dataclasses.replace(FORMATS["onnx-fp32"], tolerance=1e-12)]


def snapshot(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def older(tmp_path):
    """A bundle from an earlier day, alone in its folder."""
    return make_tiny_bundle(tmp_path / "bundles" / "tiny").root


@contextlib.contextmanager
def untouched(folder: Path):
    before = snapshot(folder)
    yield
    assert snapshot(folder) == before
    assert names(folder.parent) == [folder.name]


@contextlib.contextmanager
def largest_file(limit: int):
    """Makes every write beyond a file size fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_bundle_is_verified_and_says_what_is_in_it(tiny_run, tiny_bundle_dir):
    manifest = Bundle(tiny_bundle_dir).manifest
    assert manifest.run == tiny_run.info.name
    assert manifest.classes == CLASSES
    assert (manifest.threshold, manifest.temperature) == (tiny_run.info.threshold, tiny_run.info.temperature)
    assert manifest.clip_spec == tiny_run.recipe.clip_spec
    assert manifest.metrics == tiny_run.metrics
    assert manifest.extractor.model_dump() == {
        "layer": "avg",
        "dim": 512,
        "weights": "random",
        "weights_sha256": tiny_run.info.weights_sha256,
    }


@pytest.mark.parametrize("stage", ["extractor", "classifier"])
def test_an_artifact_says_what_is_in_its_file(tiny_bundle_dir, stage):
    bundle = Bundle(tiny_bundle_dir)
    artifact = bundle.artifact(stage, "onnx-fp32")
    file = bundle.path(artifact)
    assert (artifact.bytes, artifact.sha256) == (file.stat().st_size, sha256_of(file))
    assert artifact.precision == "fp32"
    assert artifact.parity.reference == "keras"
    assert 0 <= artifact.parity.max_rel <= artifact.parity.tolerance == FORMATS["onnx-fp32"].tolerance
    assert {"python", "keras", "onnx", "onnxruntime", "tf2onnx"} <= set(artifact.toolchain)
    graph = onnx.load(file).graph
    assert {tensor.data_type for tensor in graph.initializer} <= {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
    }
    for values, specs in ((graph.input, artifact.inputs), (graph.output, artifact.outputs)):
        found = [
            (value.name, tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim))
            for value in values
        ]
        assert found == [(spec.name, spec.shape) for spec in specs]


def test_a_bundle_holds_nothing_else(tiny_bundle_dir):
    assert sorted(snapshot(tiny_bundle_dir)) == [
        MANIFEST,
        "classifier/onnx-fp32/model.onnx",
        "extractor/onnx-fp32/model.onnx",
    ]
    assert names(tiny_bundle_dir.parent) == [tiny_bundle_dir.name]


def test_an_older_bundle_is_replaced_in_one_step(tiny_run, older):
    before, seen, stop = (older / MANIFEST).read_bytes(), set(), threading.Event()

    def watch():
        while not stop.is_set():
            try:
                seen.add((older / MANIFEST).read_bytes())
            except OSError as error:
                seen.add(repr(error))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        bundle = export_run(tiny_run, FORMAT, older)
    finally:
        stop.set()
        watcher.join()
    after = (older / MANIFEST).read_bytes()
    assert seen <= {before, after}
    assert before in seen
    assert bundle.manifest.run == tiny_run.info.name
    assert names(older.parent) == [older.name]


def test_an_empty_folder_is_taken(tiny_run, tmp_path):
    (tmp_path / "out").mkdir()
    assert export_run(tiny_run, FORMAT, tmp_path / "out").artifact("extractor", "onnx-fp32")


def test_a_file_that_fails_parity_leaves_the_older_bundle(tiny_run, older):
    with untouched(older), pytest.raises(ParityError, match="onnx-fp32: features differs from Keras"):
        export_run(tiny_run, IMPOSSIBLE, older)


def test_a_file_that_fails_parity_leaves_nothing_where_nothing_was(tiny_run, tmp_path):
    with pytest.raises(ParityError):
        export_run(tiny_run, IMPOSSIBLE, tmp_path / "bundles" / "tiny")
    assert names(tmp_path / "bundles") == []


def test_a_full_disk_leaves_the_older_bundle(tiny_run, older):
    with untouched(older), largest_file(1 << 20), pytest.raises(ExportError) as caught:
        export_run(tiny_run, FORMAT, older)
    line = str(caught.value)
    assert line.startswith(f"cannot write the bundle {older} (")
    assert "an earlier bundle is intact" in line


def test_a_folder_that_cannot_be_made_is_named(tiny_run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"cannot write the bundle .*/file/tiny \("):
        export_run(tiny_run, FORMAT, tmp_path / "file" / "tiny")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_foreign_in_the_way_is_left_alone(tiny_run, tmp_path, kind):
    out = tmp_path / "thesis"
    if kind == "folder":
        out.mkdir()
        (out / "chapter.txt").write_text("years of work")
    else:
        out.write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(BundleError, match=r"thesis is in the way: it is no bundle; .*--out"):
        export_run(tiny_run, FORMAT, out)
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_a_killed_export_leaves_the_older_bundle_and_the_next_one_succeeds(tiny_run, older):
    before = snapshot(older)
    command = [sys.executable, "-m", "vdeploy", "export", str(tiny_run.root), "--out", str(older)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(older.parent.glob(".tiny.*.tmp/extractor/onnx-fp32/model.onnx")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert snapshot(older) == before
    assert Bundle(older).manifest.run == "tiny"
    assert export_run(tiny_run, FORMAT, older).manifest.run == tiny_run.info.name
    assert json.loads((older / MANIFEST).read_text())["run"] == tiny_run.info.name
