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
    spec, settings = bundle.manifest.clip_spec, bundle.manifest.classifier.settings
    units, dense = settings["units"], settings["dense"]
    assert flops.per_clip("extractor") == spec.frames * 39_016_857_600 // (224 // spec.size) ** 2
    lstm = 2 * 4 * units * (spec.frames * bundle.manifest.extractor.dim + (spec.frames - 1) * units)
    assert flops.per_clip("classifier") == lstm + 2 * (units * dense + dense * 2)


def test_the_whole_is_the_sum_of_both(bundle):
    flops = BundleFlops(bundle)
    parts = [flops.per_clip(stage) for stage in ("extractor", "classifier")]
    assert flops.per_clip("pipeline") == flops.per_clip("video") == sum(parts)


def uncounted(bundle, **values) -> Bundle:
    """The bundle as an earlier version would have written it: without counts."""
    stages = tuple(stage.model_copy(update={"flops": None}) for stage in bundle.manifest.stages)
    bundle.manifest = bundle.manifest.model_copy(update={"stages": stages, **values})
    return bundle


def test_without_counts_in_the_manifest_the_graphs_are_counted(bundle):
    expected = [BundleFlops(bundle).per_clip(stage) for stage in ("extractor", "classifier")]
    assert [stage.flops for stage in bundle.manifest.stages] == expected
    counted = BundleFlops(uncounted(bundle))
    assert [counted.per_clip(stage) for stage in ("extractor", "classifier")] == expected


def test_without_counts_and_without_an_onnx_file_a_stage_is_not_counted(bundle):
    kept = tuple(one for one in bundle.manifest.artifacts if (one.stage, one.format[:4]) != ("classifier", "onnx"))
    flops = BundleFlops(uncounted(bundle, artifacts=kept))
    assert flops.per_clip("extractor")
    assert flops.per_clip("classifier") is flops.per_clip("video") is None


def test_a_damaged_graph_is_not_counted(bundle, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    monkeypatch.setattr(bundle, "path", lambda _: tmp_path / "model.onnx")
    assert BundleFlops(uncounted(bundle)).per_clip("extractor") is None
