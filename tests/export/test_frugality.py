"""What keeps the memory of an export small: calls of one clip, VGG19 only while it is needed, no memory kept."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.core.errors import ExportError
from vdeploy.export.intermediates import Intermediates
from vdeploy.export.quantization import cpu_flavour
from vdeploy.export.verification.parity import batches_of, check_parity
from vdeploy.export.verification.reference import Reference
from vdeploy.formats import FORMATS
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime
from vdeploy.inference.runtimes.registry import open_runtime
from vdeploy.video.clips import ClipSpec

pytestmark = pytest.mark.slow

KIND = FORMATS["onnx-fp32"]


class Counting:
    """A runtime that notes what it is given."""

    def __init__(self, runtime):
        self.runtime, self.shapes = runtime, []

    def infer(self, inputs):
        (frames,) = inputs.values()
        self.shapes.append(frames.shape[:2])
        return self.runtime.infer(inputs)


@pytest.fixture(scope="module")
def reference(tiny_run):
    return Reference(tiny_run, tiny_run.weights())


def test_no_call_has_more_frames_than_a_clip_and_every_clip_is_seen(reference, tiny_bundle_dir):
    bundle = Bundle(tiny_bundle_dir)
    frames = synthetic_frames(3, 16, 32)
    runtime = Counting(OnnxRuntime(bundle.path(bundle.artifact("extractor", "onnx-fp32")), lean=True))
    expected = np.concatenate([reference.compute("extractor", clip[None]) for clip in frames])
    parity = check_parity(KIND, runtime, lambda _: expected, frames, tensors=reference.tensors["extractor"])
    assert runtime.shapes == [(1, 16), (1, 16), (1, 16), (3, 5), (16, 1)]
    assert parity.batches == (1, 3, 16)


def test_what_float16_cannot_hold_is_looked_for_a_frame_at_a_time(reference, tmp_path, monkeypatch):
    seen = []

    def note(model, feeds):
        seen.extend((name, array.shape) for feed in feeds for name, array in feed.items())
        return {}

    monkeypatch.setattr("vdeploy.export.intermediates.find_wide_tensors", note)
    frames, features = synthetic_frames(2, 3, 32), np.zeros((2, 3, reference.run.dim), np.float32)
    inputs = {"extractor": frames, "classifier": features}
    intermediates = Intermediates(SimpleNamespace(reference=reference, inputs=inputs), tmp_path)
    for stage in ("extractor", "classifier"):
        intermediates.onnx(stage, "fp16")
    assert seen == [("frames", (1, 1, 32, 32, 3))] * 6 + [("features", (1, 3, reference.run.dim))] * 2


def test_a_model_that_cannot_be_quantized_is_tried_once(reference, tmp_path, monkeypatch):
    tried = []

    def refuse(model, flavour, feeds, judge):
        tried.append(flavour.name)
        raise ExportError("no choice of layers agrees")

    monkeypatch.setattr("vdeploy.export.intermediates.quantize", refuse)
    judge = SimpleNamespace(judge_extractor=None, judge_classifier=None)
    intermediates = Intermediates(SimpleNamespace(reference=reference, judge=judge), tmp_path)
    for flavour in ("cpu", "cpu", "tensorrt"):
        with pytest.raises(ExportError, match="no choice of layers agrees"):
            intermediates.onnx("classifier", flavour)
    assert tried == [cpu_flavour().name, "tensorrt"]


@pytest.mark.parametrize(
    ("stage", "spec", "batches"),
    [
        ("pipeline", ClipSpec(frames=4, size=32), (1, 3, 16)),
        ("pipeline", ClipSpec(), (1, 3)),
        ("pipeline", ClipSpec(frames=64), (1,)),
        ("extractor", ClipSpec(), (1, 3, 16)),
        ("classifier", ClipSpec(), (1, 3, 16)),
    ],
)
def test_a_pipeline_is_given_what_memory_holds(stage, spec, batches):
    assert batches_of(stage, spec) == batches


def test_vgg19_is_there_when_it_is_asked_for_and_gone_when_it_is_released(reference):
    frames = synthetic_frames(1, 4, 32)
    before = reference.compute("extractor", frames)
    network = weakref.ref(reference.extractor.network)
    assert reference.extractor.network is network()
    reference.release_extractor()
    assert network() is None
    np.testing.assert_array_equal(reference.compute("extractor", frames), before)


def test_a_lean_runtime_gives_the_same_numbers(tiny_bundle_dir):
    bundle = Bundle(tiny_bundle_dir)
    path = bundle.path(bundle.artifact("extractor", "onnx-fp32"))
    frames = {"frames": synthetic_frames(2, 4, 32)}
    plain, lean = (open_runtime(KIND, path, lean=lean).infer(frames)["features"] for lean in (False, True))
    np.testing.assert_array_equal(plain, lean)


KEPT = """
    from pathlib import Path
    from vdeploy.export.memory import give_back, let_tensorflow_give_back

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    let_tensorflow_give_back()
    from vdeploy.core.lazy_imports import load_tensorflow
    tf = load_tensorflow()
    tf.zeros((1000,))
    before = resident()
    large = tf.zeros((1000, 1000, 100))
    held = resident() - before
    del large
    give_back()
    print(held, resident() - before)
"""


def test_tensorflow_gives_memory_back():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KEPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    held, kept = map(int, done.stdout.split())
    assert held > 390e6
    assert kept < 40e6
