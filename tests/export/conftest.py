from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testing.toy_models import toys_registered

if TYPE_CHECKING:
    from vdeploy.artifacts.run import Run


@pytest.fixture(scope="module")
def toy_run(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of one convolution and an exact classifier, for what an export does around its conversions; read only."""
    from training.pipeline import train
    from training.recipe import load_recipe

    folder = tmp_path_factory.mktemp("toy")
    models = ("backbone.name=toy-colours", "backbone.weights=random", "head.name=pooling")
    with toys_registered():
        recipe = load_recipe("default", ["clip.size=32", "clip.frames=4", *models])
        yield train(clips_dir, folder / "run", recipe, store_root=folder / "features")
