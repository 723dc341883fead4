"""Combined backbones: each branch sees its own frames, and its features are rows of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testing.toy_models import toys_registered
from vdeploy.core.errors import RecipeError, WeightsError
from vdeploy.models.backbones.combined import Combined
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of, head_of
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.fine_tuned import save_fine_tuned
from vdeploy.video.clips import ClipSpec

RANDOM = Weights("random", None, "0" * 64)
SPEC = ClipSpec(frames=8, size=32)
BRANCHES = [
    {"name": "toy-colours", "features": 4, "frames": 8},
    {"name": "toy-blocks", "frames": 2},
    {"name": "toy-colours", "region": "both", "frames": 4},
]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with toys_registered():
        yield


def combined(branches: Any = BRANCHES) -> Any:
    return backbone_of({"name": "combined", "branches": branches})


def test_each_branch_sees_its_frames_and_has_rows_of_its_own(tmp_path: Path) -> None:
    backbone = combined()
    clips = np.random.default_rng(0).integers(0, 256, (2, 8, 32, 32, 3), np.uint8)
    seen = [clips, clips[:, [2, 6]], clips[:, [1, 3, 5, 7]]]
    alone = []
    for (part, frames), given in zip(backbone.parts, seen, strict=True):
        alone.append(FeatureExtractor(part, RANDOM, ClipSpec(frames=frames, size=32), seed=len(alone)))
        assert given.shape[1] == frames
    file = tmp_path / "backbone.npz"
    save_fine_tuned(backbone.join(SPEC, [extractor.network for extractor in alone]), file)
    found = FeatureExtractor(backbone, Weights("random", file, "1" * 64), SPEC, seed=9).extract(clips)
    assert found.shape[1:] == backbone.feature_shape(8) == (14, 16)
    assert backbone.inputs == ((0, 8, 4), (8, 2, 16), (10, 4, 16))
    for (row, steps, dim), extractor, given in zip(backbone.inputs, alone, seen, strict=True):
        features = found[:, row : row + steps]
        np.testing.assert_allclose(features[..., :dim], extractor.extract(given), rtol=1e-5, atol=1e-6)
        assert not features[..., dim:].any()


def test_settings_lead_back_and_name_the_features() -> None:
    backbone = combined()
    again = backbone_of({"name": "combined", **backbone.stage_settings})
    assert isinstance(again, Combined)
    assert (again.settings, again.cache_key) == (backbone.settings, backbone.cache_key)
    assert again.settings.branches[2] == {
        "name": "toy-colours", "weights": "random", "features": 8, "region": "both", "frames": 4
    }  # fmt: skip
    assert combined([{**BRANCHES[0], "frames": 4}, *BRANCHES[1:]]).cache_key != backbone.cache_key


def test_a_member_of_an_ensemble_takes_its_part() -> None:
    heads = [{"name": "pooling"}, {"name": "gru", "units": 4}]
    head = head_of({"name": "ensemble", "members": heads, "inputs": [(0, 3, 4), (3, 2, 6)]})
    model = head.build((5, 6))
    features = np.random.default_rng(0).random((2, 5, 6), np.float32)
    padding = features.copy()
    padding[:, :3, 4:] += 1
    np.testing.assert_array_equal(model(features), model(padding))
    for changed in ((0, 0, 0), (0, 2, 3), (0, 4, 5)):
        other = features.copy()
        other[changed] += 1
        assert np.abs(model(other) - model(features))[0].max() > 1e-6
    assert head.settings.model_dump(mode="json")["inputs"] == [[0, 3, 4], [3, 2, 6]]
    assert "inputs" not in head_of({"name": "ensemble", "members": heads}).stage_settings


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ([BRANCHES[0]], "backbone.branches: Tuple should have at least 2 items"),
        ([{"name": "vgg91", "frames": 4}, BRANCHES[0]], "no backbone 'vgg91', did you mean 'vgg19'?"),
        ([{"name": "toy-blocks"}, BRANCHES[0]], "needs a name and frames"),
        ([{"name": "combined", "branches": BRANCHES, "frames": 8}, BRANCHES[0]], "is one itself"),
        ([BRANCHES[0], {"name": "toy-blocks", "frames": 3}], "toy blocks cannot take 3 evenly spaced frames of a clip"),
        ([BRANCHES[0], {"name": "i3d", "frames": 4}], "I3D takes a multiple of 8 frames, not 4"),
    ],
)
def test_bad_settings_are_one_line(branches: Any, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        combined(branches).check(SPEC)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"x\.h5 holds no weights of combined backbones"):
        combined().load(SPEC, Weights("x", tmp_path / "x.h5", ""))
