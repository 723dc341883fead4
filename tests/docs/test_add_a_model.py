"""The model that the page *Add a model* writes is a model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from training.recipe import load_recipe
from vdeploy.models import registry

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-model.md"


def block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0]


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's file and its entry, in a folder of their own."""
    (tmp_path / "max_pooling.py").write_text(block("python"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    name, module = re.fullmatch(r'"(.*)": "vdeploy\.models\.heads\.(.*)",\n', block("text"), re.DOTALL).groups()  # type: ignore[union-attr]
    monkeypatch.setitem(registry.HEADS, name, module)
    return tmp_path


@pytest.mark.slow
def test_the_page_gives_a_head_that_a_recipe_can_name(registered):
    (registered / "max_pooling.toml").write_text(block("toml"), encoding="utf-8")
    recipe = load_recipe(str(registered / "max_pooling.toml"))
    head = registry.head_of(recipe.head)
    assert head.model_name == "max_pooling_classifier"
    model = head.build((16, 32))
    probabilities = model(np.zeros((3, 16, 32), np.float32)).numpy()
    assert probabilities.shape == (3, 2)
    assert np.allclose(probabilities.sum(axis=1), 1)
