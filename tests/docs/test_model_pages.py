"""Every model of the registry has a page, and the page of all models names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vdeploy.models.registry import BACKBONES, HEADS

DOCS = Path(__file__).parents[2] / "docs"
INDEX = (DOCS / "models" / "index.md").read_text(encoding="utf-8")
PAGES = {page.stem.replace("-", "_"): page.name for page in (DOCS / "models").glob("*.md")}


@pytest.mark.parametrize("name", [*BACKBONES, *HEADS])
def test_a_model_has_a_page(name):
    module = (BACKBONES | HEADS)[name].partition(":")[0].removesuffix(".model").rpartition(".")[2]
    assert module in PAGES, f"write docs/models/{module}.md"
    assert f"({PAGES[module]})" in INDEX, f"name {PAGES[module]} in docs/models/index.md"
