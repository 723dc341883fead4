"""Exporting: what is published is proven, and what stood there before survives every failure."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import onnx
import pytest

from testing.limits import largest_file
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import CLASSES, MANIFEST, Bundle
from vdeploy.artifacts.bundle.golden import GOLDEN
from vdeploy.core import files
from vdeploy.core.errors import BundleError, ExportError, ParityError
from vdeploy.core.files import sha256_of
from vdeploy.export import exporter
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import FORMATS, parse_formats

FORMAT = parse_formats("onnx-fp32")
STRICT = dataclasses.replace(FORMATS["onnx-fp32"], name="onnx-strict", tolerance=1e-12)
OTHER = dataclasses.replace(FORMATS["onnx-fp32"], name="onnx-other")
IMPOSSIBLE = [dataclasses.replace(FORMATS["onnx-fp32"], tolerance=1e-12)]


@pytest.fixture(autouse=True)
def _own_feature_store(tmp_path_factory, monkeypatch):
    """The feature store of the default options; one for the module, so that features are extracted once."""
    base = tmp_path_factory.getbasetemp() / "exporter-cache"
    monkeypatch.setenv("VDEPLOY_CACHE", str(base))


def snapshot(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def older(tmp_path):
    """A bundle from an earlier day, alone in its folder."""
    return make_tiny_bundle(tmp_path / "bundles" / "tiny").root


@pytest.fixture(scope="module")
def exported_dir(toy_run, tmp_path_factory):
    """The bundle of `toy_run` in onnx-fp32; read only."""
    out = tmp_path_factory.mktemp("exported") / "tiny"
    export_run(toy_run, FORMAT, out, options=ExportOptions(store_root=out.parent / "store"))
    return out


@pytest.fixture
def exported_copy(exported_dir, tmp_path):
    return Path(shutil.copytree(exported_dir, tmp_path / "tiny"))


@contextlib.contextmanager
def untouched(folder: Path):
    before = snapshot(folder)
    yield
    assert snapshot(folder) == before
    assert names(folder.parent) == [folder.name]


def test_a_bundle_is_verified_and_says_what_is_in_it(tiny_run, tiny_bundle_dir):
    manifest = Bundle(tiny_bundle_dir).manifest
    assert manifest.run == tiny_run.info.name
    assert manifest.classes == CLASSES
    info = tiny_run.info
    assert (manifest.threshold, manifest.temperature, manifest.bias) == (info.threshold, info.temperature, info.bias)
    assert manifest.clip_spec == tiny_run.spec
    assert manifest.metrics == tiny_run.metrics
    extractor, classifier = manifest.stages
    assert (extractor.architecture, extractor.settings, extractor.granularity) == ("vgg19", {"layer": "avg"}, "frame")
    assert (extractor.weights, extractor.weights_sha256) == ("random", tiny_run.info.weights_sha256)
    assert extractor.dim == 512
    assert extractor.parameters == pytest.approx(20_024_384, rel=1e-4)
    assert classifier.architecture == "lstm"
    assert classifier.settings == {"units": 128, "pooling": "mean", "dense": 64, "dropout": 0.3}
    assert classifier.parameters == tiny_run.classifier().count_params()
    assert manifest.feature_shape == tiny_run.feature_shape == (4, 512)


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
        "MODEL_CARD.md",
        MANIFEST,
        "classifier/onnx-fp32/model.onnx",
        "extractor/onnx-fp32/model.onnx",
        GOLDEN,
    ]
    assert names(tiny_bundle_dir.parent) == [tiny_bundle_dir.name]


@pytest.mark.slow
def test_an_older_bundle_is_replaced_in_one_step(toy_run, older):
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
        exported = export_run(toy_run, FORMAT, older)
    finally:
        stop.set()
        watcher.join()
    after = (older / MANIFEST).read_bytes()
    assert seen <= {before, after}
    assert before in seen
    assert exported.kept == ()
    assert exported.bundle.manifest.run == toy_run.info.name
    assert names(older.parent) == [older.name]


@pytest.mark.slow
def test_an_empty_folder_is_taken(toy_run, tmp_path):
    (tmp_path / "out").mkdir()
    assert export_run(toy_run, FORMAT, tmp_path / "out").bundle.artifact("extractor", "onnx-fp32")


def test_a_file_that_fails_parity_leaves_the_older_bundle(toy_run, older):
    before = snapshot(older)
    with pytest.raises(ParityError, match="onnx-fp32: features differs from Keras") as caught:
        export_run(toy_run, IMPOSSIBLE, older)
    assert str(caught.value).endswith(f"see {older}.rejected")
    assert snapshot(older) == before
    assert names(older.parent) == [older.name, f"{older.name}.rejected"]


def test_a_file_that_fails_parity_is_kept_aside_with_what_was_measured(toy_run, tmp_path):
    out = tmp_path / "bundles" / "tiny"
    with pytest.raises(ParityError):
        export_run(toy_run, IMPOSSIBLE, out)
    aside = out.with_name("tiny.rejected")
    assert names(out.parent) == ["tiny.rejected"]
    assert (aside / "extractor" / "onnx-fp32" / "model.onnx").is_file()
    (rejection,) = json.loads((aside / "rejected.json").read_text())
    assert rejection["format"] == "onnx-fp32"
    assert rejection["reason"].startswith("onnx-fp32: features differs from Keras")
    assert rejection["evidence"]["parity"]["tolerance"] == 1e-12 < rejection["evidence"]["parity"]["max_rel"]


@pytest.mark.slow
def test_the_others_ship_when_one_format_fails(toy_run, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "onnx-strict", STRICT)
    out = tmp_path / "tiny"
    exported = export_run(toy_run, [STRICT, *FORMAT], out)
    assert (exported.made, exported.kept) == (("onnx-fp32",), ())
    assert [rejection.format for rejection in exported.rejected] == ["onnx-strict"]
    assert {artifact.format for artifact in exported.bundle.manifest.artifacts} == {"onnx-fp32"}
    assert not list(out.rglob("onnx-strict"))
    assert (tmp_path / "tiny.rejected" / "extractor" / "onnx-strict" / "model.onnx").is_file()
    export_run(toy_run, FORMAT, out)
    assert names(tmp_path) == ["tiny"]


def test_a_folder_that_no_export_wrote_is_not_taken_for_rejected_files(toy_run, tmp_path):
    (tmp_path / "tiny.rejected").mkdir()
    (tmp_path / "tiny.rejected" / "photo.jpg").write_text("smile")
    with pytest.raises(BundleError, match=r"tiny\.rejected is in the way: no export has written it"):
        export_run(toy_run, FORMAT, tmp_path / "tiny")
    assert (tmp_path / "tiny.rejected" / "photo.jpg").read_text() == "smile"


@pytest.mark.slow
def test_formats_are_added_one_at_a_time(toy_run, exported_copy):
    out, first = exported_copy, Bundle(exported_copy).manifest
    second = export_run(toy_run, [OTHER], out)
    assert (second.made, second.kept) == (("onnx-other",), ("onnx-fp32",))
    manifest = second.bundle.manifest
    assert manifest.formats == ("onnx-other", "onnx-fp32")
    assert [a for a in manifest.artifacts if a.format == "onnx-fp32"] == list(first.artifacts)
    assert manifest.end_to_end["onnx-fp32"] == first.end_to_end["onnx-fp32"]
    assert set(manifest.end_to_end) == {"onnx-other", "onnx-fp32"}
    alone = export_run(toy_run, [OTHER], out, options=ExportOptions(keep=False))
    assert (alone.kept, alone.bundle.manifest.formats) == ((), ("onnx-other",))


def test_nothing_is_kept_of_another_run(toy_run, older):
    exported = export_run(toy_run, [OTHER], older)
    assert exported.kept == ()
    assert exported.bundle.manifest.formats == ("onnx-other",)


@pytest.mark.slow
def test_nothing_is_kept_of_a_damaged_bundle(toy_run, exported_copy):
    out = exported_copy
    (out / "classifier" / "onnx-fp32" / "model.onnx").write_bytes(b"damaged")
    exported = export_run(toy_run, [OTHER], out)
    assert (exported.kept, exported.bundle.manifest.formats) == ((), ("onnx-other",))


def test_the_same_run_gives_the_same_files(toy_run, exported_dir, tmp_path):
    once, again = Bundle(exported_dir).manifest, export_run(toy_run, FORMAT, tmp_path / "again").bundle.manifest
    assert [a.sha256 for a in once.artifacts] == [a.sha256 for a in again.artifacts]


def test_held_out_clips_are_judged_against_keras(toy_run, tmp_path):
    out = tmp_path / "tiny"
    manifest = export_run(toy_run, FORMAT, out, options=ExportOptions(clips=2)).bundle.manifest
    whole = manifest.end_to_end["onnx-fp32"]
    assert (whole.split, whole.clips) == ("test", 2)
    assert (whole.agreement, whole.accuracy) == (1, whole.reference_accuracy)
    assert whole.drift_max < 1e-3
    for artifact in manifest.artifacts:
        assert artifact.held_out is not None
        assert artifact.held_out.agreement == 1
        assert (artifact.parity.inputs, artifact.parity.executed) == ("real", "artifact")


@pytest.fixture
def orphan(toy_run, tmp_path):
    """The run, whose clips are no longer where they lay."""
    return dataclasses.replace(toy_run, info=dataclasses.replace(toy_run.info, source=str(tmp_path / "gone")))


def test_without_the_clips_synthetic_frames_prove_it(orphan, tmp_path):
    manifest = export_run(orphan, FORMAT, tmp_path / "tiny").bundle.manifest
    assert manifest.end_to_end == {}
    assert {artifact.parity.inputs for artifact in manifest.artifacts} == {"synthetic"}


def test_the_clips_are_found_where_the_user_says(orphan, clips_dir, tmp_path):
    options = ExportOptions(data=clips_dir, clips=2)
    assert export_run(orphan, FORMAT, tmp_path / "tiny", options=options).bundle.manifest.end_to_end


def test_a_folder_without_the_clips_is_refused(orphan, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match=r"empty does not hold the clips of .*: .*\.mp4 is missing; check --data"):
        export_run(orphan, FORMAT, tmp_path / "tiny", options=ExportOptions(data=tmp_path / "empty"))
    assert not (tmp_path / "tiny").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "foreign"])
def test_a_run_without_its_checkpoint_is_one_clear_line(tiny_run, older, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.root, folder)
    classifier = folder / "classifier.keras"
    if damage == "missing":
        classifier.unlink()
        expected = f"{classifier} is missing; train again"
    else:
        classifier.write_bytes(b"the classifier of somebody else")
        expected = f"{classifier} is not the classifier of this run: its SHA-256 differs from run.json; train again"
    command = [sys.executable, "-m", "vdeploy", "export", str(folder), "--out", str(older)]
    with untouched(older):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {expected}\n")


def test_a_full_disk_leaves_the_older_bundle(tiny_run, older):
    with untouched(older), largest_file(1 << 20), pytest.raises(ExportError) as caught:
        export_run(tiny_run, FORMAT, older)
    line = str(caught.value)
    assert line.startswith(f"cannot write the bundle {older} (")
    assert "an earlier bundle is intact" in line


def test_a_full_disk_at_the_manifest_leaves_the_older_bundle(toy_run, older, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(exporter, "write_json", full)
    with untouched(older), pytest.raises(ExportError, match=r"cannot write the bundle .* \(No space left on device\)"):
        export_run(toy_run, FORMAT, older)


def test_a_read_only_target_is_named(toy_run, older, monkeypatch):
    def refused(**_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.tempfile, "mkdtemp", refused)
    with untouched(older), pytest.raises(ExportError, match=r"cannot write the bundle .* \(Permission denied\)"):
        export_run(toy_run, FORMAT, older)


def test_a_folder_that_cannot_be_made_is_named(toy_run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"cannot write the bundle .*/file/tiny \("):
        export_run(toy_run, FORMAT, tmp_path / "file" / "tiny")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_foreign_in_the_way_is_left_alone(toy_run, tmp_path, kind):
    out = tmp_path / "thesis"
    if kind == "folder":
        out.mkdir()
        (out / "chapter.txt").write_text("years of work")
    else:
        out.write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(BundleError, match=r"thesis is in the way: it is no bundle; .*--out"):
        export_run(toy_run, FORMAT, out)
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
    assert export_run(tiny_run, FORMAT, older).bundle.manifest.run == tiny_run.info.name
    assert json.loads((older / MANIFEST).read_text())["run"] == tiny_run.info.name
    assert names(older.parent) == [older.name]
