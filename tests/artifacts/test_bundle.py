"""Bundles are believed only as far as their manifest and the hashes in it hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import CLASSES, MANIFEST, SCHEMA_VERSION, Bundle, digest_of, size_of
from vdeploy.core.errors import BundleError
from vdeploy.video.clips import ClipSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "bundle").root


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / MANIFEST
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_bundle_opens(folder):
    bundle = Bundle(folder)
    assert bundle.root == folder
    assert bundle.manifest.classes == CLASSES
    assert bundle.manifest.clip_spec == ClipSpec(frames=4, size=32)
    assert [artifact.stage for artifact in bundle.manifest.artifacts] == ["extractor", "classifier"]


@pytest.mark.parametrize("stage", ["extractor", "classifier"])
def test_artifacts_are_found_by_stage_and_format(folder, stage):
    bundle = Bundle(folder)
    artifact = bundle.artifact(stage, "onnx-fp32")
    assert artifact.stage == stage
    assert bundle.path(artifact) == folder / stage / "onnx-fp32" / "model.onnx"
    assert bundle.path(artifact).stat().st_size == artifact.bytes


def test_an_absent_format_is_answered_with_those_held_and_how_to_make_it(folder):
    with pytest.raises(BundleError) as caught:
        Bundle(folder).artifact("classifier", "tensorrt-fp16")
    line = str(caught.value)
    assert "holds no classifier in tensorrt-fp16, only in onnx-fp32" in line
    assert "export the run tiny again with --format tensorrt-fp16" in line


def test_an_absent_stage_is_named(folder):
    edit(folder, lambda values: values["artifacts"].pop())
    shutil.rmtree(folder / "classifier")
    with pytest.raises(BundleError, match="holds no classifier in onnx-fp32, only in no format"):
        Bundle(folder).artifact("classifier", "onnx-fp32")


@pytest.mark.parametrize("stage", ["extractor", "classifier"])
def test_a_single_changed_bit_is_noticed(folder, stage):
    file = folder / stage / "onnx-fp32" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    line = refusal(folder)
    assert str(file) in line
    assert "is not the file that was exported" in line


def test_a_missing_file_is_named(folder):
    file = folder / "classifier" / "onnx-fp32" / "model.onnx"
    file.unlink()
    assert f"{file} is missing from the bundle" in refusal(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    line = refusal(tmp_path)
    assert f"{tmp_path} is no bundle: it holds no {MANIFEST}" in line
    assert "vdeploy export RUN" in line


def test_a_missing_folder_is_no_bundle(tmp_path):
    assert "is no bundle" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '"text"', "\x00\x01"])
def test_an_unparsable_manifest_is_refused(folder, content):
    (folder / MANIFEST).write_text(content)
    assert f"{folder / MANIFEST} cannot be read" in refusal(folder)


def test_a_manifest_that_is_not_utf8_is_refused(folder):
    (folder / MANIFEST).write_bytes(b'{"schema_version": "1.0", "run": "\xff"}')
    assert f"{folder / MANIFEST} cannot be read" in refusal(folder)


def test_unknown_keys_are_named(folder):
    edit(folder, lambda values: values["stages"][0].update(colour="blue"))
    assert f"{folder / MANIFEST}: stages.0.colour: Extra inputs are not permitted" in refusal(folder)


def test_a_stage_whose_name_leads_elsewhere_is_refused(folder):
    edit(folder, lambda values: values["stages"][0].update(architecture="../../elsewhere"))
    assert f"{folder / MANIFEST}: stages.0.architecture: String should match pattern" in refusal(folder)


def test_values_out_of_range_are_named(folder):
    edit(folder, lambda values: values.update(threshold=1.5))
    assert "threshold: Input should be less than or equal to 1" in refusal(folder)


def test_missing_keys_are_named(folder):
    edit(folder, lambda values: values["artifacts"][1].pop("sha256"))
    assert "artifacts.1.sha256: Field required" in refusal(folder)


def test_a_newer_major_version_is_refused(folder):
    edit(folder, lambda values: values.update(schema_version="3.0", news="of tomorrow"))
    line = refusal(folder)
    assert f"has schema version 3.0, this vdeploy reads {SCHEMA_VERSION}" in line
    assert "use the vdeploy that wrote it" in line


def test_a_bundle_of_version_1_0_is_read(tmp_path):
    folder = Path(shutil.copytree(Path(__file__).parent / "version_1" / "bundle", tmp_path / "old"))

    def back(values):
        values.update(schema_version="1.0")
        for key in ("bias", "clip_seconds", "classifier_sha256", "source", "end_to_end", "documents"):
            values.pop(key)
        for artifact in values["artifacts"]:
            for key in ("details", "calibration", "held_out"):
                artifact.pop(key)
            for key in ("measure", "cosine", "inputs", "executed"):
                artifact["parity"].pop(key)

    edit(folder, back)
    bundle = Bundle(folder)
    assert bundle.manifest.formats == ("onnx-fp32",)
    assert bundle.manifest.artifacts[0].parity.measure == "values"
    assert (bundle.manifest.bias, bundle.manifest.clip_seconds) == (0, None)


def test_a_folder_is_an_artifact_by_its_paths_and_contents(tmp_path):
    for name, text in (("a/one", "1"), ("b", "2")):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(text)
    before = digest_of(tmp_path / "model")
    assert size_of(tmp_path / "model") == 2
    (tmp_path / "model" / "b").rename(tmp_path / "model" / "c")
    moved = digest_of(tmp_path / "model")
    (tmp_path / "model" / "c").write_text("3")
    assert len({before, moved, digest_of(tmp_path / "model")}) == 3


def test_a_changed_document_is_noticed(folder):
    (folder / "notes.txt").write_text("good")
    edit(folder, lambda values: values.update(documents={"notes.txt": digest_of(folder / "notes.txt")}))
    assert Bundle(folder)
    (folder / "notes.txt").write_text("bad")
    assert "notes.txt is not the file that was exported" in refusal(folder)


def test_only_formats_with_both_stages_are_whole(folder):
    edit(folder, lambda values: values["artifacts"][0].update(format="onnx-int8"))
    assert Bundle(folder).manifest.formats == ()


def test_a_newer_minor_version_is_read(folder):
    edit(folder, lambda values: values.update(schema_version="2.9"))
    assert Bundle(folder).manifest.schema_version == "2.9"


@pytest.mark.parametrize("how", ["absolute", "relative", "link"])
def test_files_outside_the_bundle_are_not_touched(folder, tmp_path, how):
    inside = folder / "classifier" / "onnx-fp32" / "model.onnx"
    outside = tmp_path / "model.onnx"
    outside.write_bytes(inside.read_bytes())
    if how == "link":
        inside.unlink()
        inside.symlink_to(outside)
    else:
        path = str(outside) if how == "absolute" else "../model.onnx"
        edit(folder, lambda values: values["artifacts"][1].update(path=path))
    line = refusal(folder)
    assert "names a file outside the bundle" in line
    assert "do not trust this bundle" in line
