"""From footage to the folder of a pre-trained trunk: extract, train, publish."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from training.engine.devices import is_alone
from training.methods.self_supervised.footage import extract_footage
from training.methods.self_supervised.pretrainer import Pretrainer, refuse_linear_head
from training.methods.self_supervised.trunk import MANIFEST, write_trunk
from training.recipe import Recipe
from training.work_folder import open_folder, partial_folder, publish_run, refuse_foreign_folder
from vdeploy.core.errors import RecipeError
from vdeploy.core.locks import folder_lock
from vdeploy.timeline.windows import ASSUMED_WINDOW_S, WindowPlan

__all__ = ["Pretraining", "pretrain"]


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """What a pre-training did.

    Attributes:
        folder: Where the trunk is.
        videos: Videos that were learned from.
        windows: Windows that they were cut to.
        loss: The mean loss of each epoch.
        failed: Why each other file could not be read.
    """

    folder: Path
    videos: int
    windows: int
    loss: tuple[float, ...]
    failed: dict[str, str]


def pretrain(
    videos: Sequence[Path],
    out: Path,
    recipe: Recipe,
    *,
    store_root: Path,
    window_s: float | None = None,
    stride_s: float | None = None,
) -> Pretraining:
    """Pre-train the trunk of a recipe's head on footage that nobody has labelled.

    Work goes on in ``OUT.partial`` and takes the place of ``OUT`` when it is finished; an older one there is kept as
    ``OUT.previous``. An interrupted pre-training with the same footage and recipe goes on where it stopped.

    Args:
        videos: Video files of any length.
        out: Folder of the trunk.
        recipe: Every choice.
        store_root: Folder of all feature stores.
        window_s: Length of a window in seconds: that of the clips that will be trained on; 2 s if left out.
        stride_s: From window to window in seconds; half a window if left out.

    Raises:
        LockedError: Another process writes there.
        UserError: The footage, the weights, the recipe or the disk do not allow it.
    """
    refuse_linear_head(recipe)
    if recipe.pretrain.trunk:
        raise RecipeError("a pre-training begins with random weights", 'set pretrain.trunk = ""')
    if not is_alone():
        raise RecipeError("vdeploy pretrain works on one machine, and TF_CONFIG names several", "unset TF_CONFIG")
    plan = WindowPlan.of(recipe.clip.frames, ASSUMED_WINDOW_S if window_s is None else window_s, stride_s)
    with folder_lock(out, "choose another --out"):
        refuse_foreign_folder(out, MANIFEST, "folder of vdeploy pretrain")
        weights = recipe.make_backbone().find_weights()
        footage = extract_footage(videos, recipe, weights, store_root, plan)
        folder, learned_from = partial_folder(out), [dataclasses.asdict(video) for video in footage.videos]
        content = {
            "recipe": {**recipe.identity, "pretrain": recipe.pretrain.model_dump(mode="json")},
            "windows": [dataclasses.asdict(plan), [video.sha256 for video in footage.videos]],
            "weights": weights.sha256,
        }
        open_folder(folder, content, "pretrain", "other footage or another recipe")
        pretrainer = Pretrainer(recipe, footage.features, folder)
        write_trunk(folder, pretrainer.fit(), recipe, weights, pretrainer.history, learned_from)
        publish_run(folder, out)
    return Pretraining(out, len(footage.videos), len(footage.features), tuple(pretrainer.history), dict(footage.failed))
