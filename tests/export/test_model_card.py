"""The model card and the report: they say what the manifest says, and nothing in a name breaks them."""

from __future__ import annotations

import re

import pytest

from testing.html_page import HtmlPage
from testing.tiny_bundle import make_tiny_bundle
from tests.export.test_held_out import verdicts
from vdeploy.artifacts.bundle import Manifest
from vdeploy.core.files import sha256_of
from vdeploy.export.model_card import MODEL_CARD, REPORT, render_model_card, render_report, write_documents

METRICS = {
    "clips": 100,
    "violent": 50,
    "accuracy": 0.875,
    "accuracy_violent": 0.9,
    "accuracy_non_violent": None,
    "roc_auc": 0.97,
    "intervals": {"accuracy": [0.81, 0.93], "roc_auc": [0.95, 0.99]},
}


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    plain = make_tiny_bundle(tmp_path / "bundle").manifest
    judged = verdicts(4, flips=1).model_copy(
        update={"reference": (0.1, 0.4, 0.6, 0.9), "probabilities": (0.1, 0.55, 0.6, 0.9)}
    )
    artifacts = tuple(artifact.model_copy(update={"held_out": judged}) for artifact in plain.artifacts)
    return plain.model_copy(
        update={"metrics": {"valid": METRICS}, "end_to_end": {"onnx-fp32": judged}, "artifacts": artifacts}
    )


def test_the_card_says_what_was_measured(manifest):
    card = render_model_card(manifest)
    assert "On 100 validation clips" in card
    assert "| accuracy | 87.5% | 81.0% to 93.0% |" in card
    assert "| ROC AUC | 0.97 | 0.95 to 0.99 |" in card
    assert "| non-violent clips not flagged | \N{EN DASH} | \N{EN DASH} |" in card
    assert "were chosen on these same clips" in card
    assert "could not be run" not in card
    assert "| extractor | onnx-fp32 | fp32 |" in card
    assert "75.0% of 4" in card
    assert not re.search(r"\n{3,}", card)


def test_the_card_of_a_test_split_makes_no_excuse(manifest):
    card = render_model_card(manifest.model_copy(update={"metrics": {"test": METRICS}}))
    assert "On 100 test clips" in card
    assert "were chosen on these same clips" not in card


def test_the_card_tells_what_was_not_run_itself(manifest):
    first, *others = manifest.artifacts
    built = first.model_copy(update={"parity": first.parity.model_copy(update={"executed": "the ONNX file"})})
    card = render_model_card(manifest.model_copy(update={"artifacts": (built, *others)}))
    assert "onnx-fp32 could not be run on the machine that built it" in card


def test_a_card_without_figures_says_so(manifest):
    assert "The run holds no figures." in render_model_card(manifest.model_copy(update={"metrics": {}}))


def test_a_name_cannot_break_the_card(manifest):
    card = render_model_card(manifest.model_copy(update={"run": "a|b\nc"}))
    assert card.startswith("# Violence detector a\\|b c\n")


def test_the_report_has_a_row_for_each_artifact_and_a_chart_for_each_format(manifest):
    page = HtmlPage(render_report(manifest))
    assert len(page.tags("svg")) == 1
    assert not page.tags("script")
    assert "1 of 4 clips have another verdict" in render_report(manifest)
    for word in ("extractor", "classifier", "onnx-fp32", "75.0%"):
        assert word in page.text


def test_a_report_without_held_out_clips_has_no_charts(manifest):
    bare = manifest.model_copy(update={"end_to_end": {}})
    assert not HtmlPage(render_report(bare)).tags("svg")


def test_a_name_cannot_break_the_report(manifest):
    page = HtmlPage(render_report(manifest.model_copy(update={"run": "<script onload=f()>alert(1)</script>"})))
    assert not page.tags("script")
    assert [name for name in ("src", "onload", "onclick") if page.attributes(name)] == []
    assert "<script onload=f()>alert(1)</script>" in page.text


@pytest.mark.parametrize("report", [False, True])
def test_every_further_file_is_listed_with_its_hash(manifest, tmp_path, report):
    folder = tmp_path / "bundle"
    log = folder / "extractor" / "onnx-fp32" / "build.log"
    log.write_text("a builder's log")
    written = write_documents(manifest, folder, report=report)
    expected = {MODEL_CARD, "extractor/onnx-fp32/build.log"} | ({REPORT} if report else set())
    assert set(written.documents) == expected
    assert all(sha256 == sha256_of(folder / path) for path, sha256 in written.documents.items())
