"""Golden clips: written at the export, hashed, read back, and as exact as the formats that must meet them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from vdeploy.artifacts.bundle import MANIFEST, Bundle, HeldOut
from vdeploy.artifacts.bundle.golden import GOLDEN, TOLERANCE, GoldenClips
from vdeploy.core.errors import BundleError
from vdeploy.core.files import sha256_of, write_json
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.inference.in_process import LocalScorer

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
FP32 = ("onnx-fp32", "onnx-fp32")


def some_clips(**changes: object) -> GoldenClips:
    values = {
        "frames": FRAMES,
        "probabilities": tiny_probabilities(FRAMES),
        "source": "held-out clips",
        "tolerance": 0.5,
    }
    return GoldenClips(**(values | changes))


def with_golden(folder: Path, clips: GoldenClips, **changes: object) -> Bundle:
    bundle = make_tiny_bundle(folder)
    clips.save(folder / GOLDEN)
    documents = {GOLDEN: sha256_of(folder / GOLDEN)}
    manifest = bundle.manifest.model_copy(update={"documents": documents, **changes})
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return Bundle(folder)


def test_what_is_written_is_read(tmp_path):
    some_clips().save(tmp_path / GOLDEN)
    read = GoldenClips.load(tmp_path / GOLDEN)
    np.testing.assert_array_equal(read.frames, FRAMES)
    np.testing.assert_array_equal(read.probabilities, tiny_probabilities(FRAMES))
    assert (read.source, read.tolerance, len(read)) == ("held-out clips", 0.5, 2)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / GOLDEN).write_bytes(content)
    with pytest.raises(BundleError, match=r"golden.npz cannot be read as golden clips .*export the run again"):
        GoldenClips.load(tmp_path / GOLDEN)


def test_deviation():
    clips = some_clips()
    right = clips.probabilities
    assert clips.deviation(right) == 0
    assert clips.deviation(right + np.float32([[0, 0], [0, 0.25]])) == pytest.approx(0.25)
    assert clips.deviation(right * np.float32("nan")) == float("inf")
    with pytest.raises(ValueError, match=r"shape \[2, 3\] instead of \[2, 2\]"):
        clips.deviation(np.zeros((2, 3), np.float32))


def test_an_older_bundle_gets_synthetic_frames_scored_here(tmp_path):
    clips = golden_clips_of(make_tiny_bundle(tmp_path), *FP32)
    np.testing.assert_allclose(clips.probabilities, tiny_probabilities(clips.frames), atol=1e-6)
    assert clips.source == "synthetic frames, scored in process"
    assert clips.tolerance == TOLERANCE
    assert len({tuple(row) for row in clips.probabilities.tolist()}) == len(clips)


def test_a_bundle_brings_its_own(tmp_path):
    clips = golden_clips_of(with_golden(tmp_path, some_clips()), *FP32)
    np.testing.assert_array_equal(clips.frames, FRAMES)
    assert (clips.source, clips.tolerance) == ("held-out clips", TOLERANCE)


def test_tampered_clips_are_found_by_their_hash(tmp_path):
    with_golden(tmp_path, some_clips())
    some_clips(probabilities=1 - tiny_probabilities(FRAMES)).save(tmp_path / GOLDEN)
    with pytest.raises(BundleError, match=r"golden.npz is not the file that was exported"):
        Bundle(tmp_path)


@pytest.mark.parametrize("frames", [FRAMES[:, :2], FRAMES[:, :, :16], FRAMES[:0]])
def test_clips_of_another_shape_are_refused(tmp_path, frames):
    with pytest.raises(BundleError, match=r"golden.npz holds frames \[.*\], not those of the bundle"):
        golden_clips_of(with_golden(tmp_path, some_clips(frames=frames)), *FP32)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-3), ("fp16", 1e-2), ("int8", 5e-2), ("mixed: fp16 and fp32", 5e-2)]
)
def test_the_coarser_format_sets_the_tolerance(tmp_path, precision, tolerance):
    one, other = make_tiny_bundle(tmp_path / "b").manifest.artifacts
    held_out = HeldOut.model_construct(drift_max=0.125)
    bundle = with_golden(
        tmp_path / "a",
        some_clips(),
        artifacts=(one.model_copy(update={"precision": precision}), other),
    )
    assert golden_clips_of(bundle, *FP32).tolerance == tolerance
    bundle.manifest = bundle.manifest.model_copy(
        update={"artifacts": tuple(each.model_copy(update={"held_out": held_out}) for each in (one, other))}
    )
    assert golden_clips_of(bundle, *FP32).tolerance == pytest.approx(1e-3 + 0.25)


def test_an_export_writes_them(tiny_bundle_dir):
    bundle = Bundle(tiny_bundle_dir)
    assert GOLDEN in bundle.manifest.documents
    clips = golden_clips_of(bundle, *FP32)
    assert 2 <= len(clips) <= 4
    assert clips.source.startswith("held-out clips")
    assert clips.deviation(LocalScorer(bundle).score(clips.frames)) < TOLERANCE
    assert clips.deviation(LocalScorer(bundle).score(clips.frames[:, :, ::-1])) > 0
