"""Operations of a bundle's workloads, from its ONNX graphs; how they are counted is tested with the export."""

from __future__ import annotations

import pytest

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.flops import BundleFlops


@pytest.fixture
def bundle(tiny_bundle_dir):
    return Bundle(tiny_bundle_dir)


def test_the_stages_are_counted_for_one_clip(bundle):
    flops = BundleFlops(bundle)
    spec, sizes = bundle.manifest.clip_spec, bundle.manifest.classifier
    assert flops.per_clip("extractor") == spec.frames * 39_016_857_600 // (224 // spec.size) ** 2
    lstm = 2 * 4 * sizes.units * (spec.frames * bundle.manifest.extractor.dim + (spec.frames - 1) * sizes.units)
    assert flops.per_clip("classifier") == lstm + 2 * (sizes.units * sizes.dense + sizes.dense * 2)


def test_the_whole_is_the_sum_of_both(bundle):
    flops = BundleFlops(bundle)
    parts = [flops.per_clip(stage) for stage in ("extractor", "classifier")]
    assert flops.per_clip("pipeline") == flops.per_clip("video") == sum(parts)


def test_a_stage_without_an_onnx_file_is_not_counted(bundle):
    kept = tuple(one for one in bundle.manifest.artifacts if (one.stage, one.format[:4]) != ("classifier", "onnx"))
    bundle.manifest = bundle.manifest.model_copy(update={"artifacts": kept})
    flops = BundleFlops(bundle)
    assert flops.per_clip("extractor")
    assert flops.per_clip("classifier") is flops.per_clip("video") is None


def test_a_damaged_graph_is_not_counted(bundle, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    monkeypatch.setattr(bundle, "path", lambda _: tmp_path / "model.onnx")
    assert BundleFlops(bundle).per_clip("extractor") is None
