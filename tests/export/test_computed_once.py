"""What an export computes once: decoded frames, and the operations of a graph that no format needs in a file."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.core.errors import ExportError
from vdeploy.export import decoded_clips
from vdeploy.export.calibration import held_out_clips
from vdeploy.export.decoded_clips import DecodedClips
from vdeploy.export.exporter import export_run
from vdeploy.export.intermediates import Intermediates
from vdeploy.export.options import ExportOptions
from vdeploy.formats import FORMATS


@pytest.fixture
def decoded(monkeypatch) -> list:
    """Paths that are decoded during a test."""
    paths, decode = [], decoded_clips.decode_clips

    def noting(missing, spec):
        paths.extend(missing)
        return decode(missing, spec)

    monkeypatch.setattr(decoded_clips, "decode_clips", noting)
    return paths


@pytest.mark.slow
def test_a_clip_is_decoded_once(toy_run, decoded, tmp_path):
    clips = DecodedClips(toy_run.spec, tmp_path / "frames")
    first = list(held_out_clips(toy_run, decoded=clips).frames())
    count = len(decoded)
    again = list(held_out_clips(toy_run, decoded=clips).frames())
    assert 0 < count == len(decoded) == len(first)
    np.testing.assert_array_equal(again, first)


@pytest.mark.slow
def test_some_frames_and_all_frames_are_kept_apart(toy_run, tmp_path):
    clips = held_out_clips(toy_run, decoded=DecodedClips(toy_run.spec, tmp_path / "frames"))
    some, whole = list(clips.frames(2)), list(clips.frames())
    np.testing.assert_array_equal(list(clips.frames(2)), some)
    np.testing.assert_array_equal(some, [frames[:, [1, 3]] for frames in whole])


@pytest.mark.slow
def test_reading_may_stop_and_go_on(toy_run, tmp_path):
    clips = held_out_clips(toy_run, decoded=DecodedClips(toy_run.spec, tmp_path / "frames"))
    frames = clips.frames()
    first = next(frames)
    frames.close()
    np.testing.assert_array_equal(next(iter(clips.frames())), first)


def test_a_clip_that_cannot_be_decoded_is_named(toy_run, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(ExportError, match=r"broken\.mp4"):
        list(DecodedClips(toy_run.spec, tmp_path / "frames").read([broken]))


@pytest.mark.slow
def test_an_export_decodes_no_clip_twice(toy_run, decoded, tmp_path):
    formats = [FORMATS[name] for name in ("onnx-int8", "onnx-fp32")]
    export_run(toy_run, formats, tmp_path / "bundle", options=ExportOptions(store_root=tmp_path / "store"))
    assert 0 < len(decoded) == len(set(decoded))


@pytest.mark.slow
def test_a_graph_that_no_format_needs_is_counted_and_not_written(toy_run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Intermediates, "onnx", lambda _, *what: asked.append(what))
    exported = export_run(
        toy_run, [FORMATS["savedmodel"]], tmp_path / "bundle", options=ExportOptions(store_root=tmp_path / "store")
    )
    extractor, classifier = exported.bundle.manifest.stages
    assert not asked
    assert extractor.flops > classifier.flops > 0
    assert classifier.parameters > 0
