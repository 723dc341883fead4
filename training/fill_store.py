"""Extraction of a data set's features into the store, in this process or on a Ray cluster."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from training.methods.fine_tuning import trunk_of
from training.pipeline import extract_source, scan_source
from training.recipe import Recipe
from vdeploy.core.errors import RecipeError
from vdeploy.dataset.records import Problem
from vdeploy.features.ray_extraction import fill_on_cluster

__all__ = ["StoreReport", "fill_store"]

_WORKERS = 2


@dataclasses.dataclass(frozen=True)
class StoreReport:
    """What an extraction did.

    Attributes:
        clips: Clips whose features the store holds now.
        from_store: Those that it held before.
        decoded: Those that were decoded.
        left_out: Files that cannot be used.
        seconds: Duration of the part in this process.
        store: Folder of all feature stores.
    """

    clips: int
    from_store: int
    decoded: int
    left_out: tuple[Problem, ...]
    seconds: float
    store: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        left_out = [{"path": str(problem.path), "reason": problem.reason} for problem in self.left_out]
        return {**dataclasses.asdict(self), "left_out": left_out, "store": str(self.store)}


def fill_store(
    source: Path,
    recipe: Recipe,
    store_root: Path,
    *,
    strict: bool = False,
    cluster: str | None = None,
    workers: int | None = None,
) -> StoreReport:
    """Extracts the features of all clips that the store lacks.

    Args:
        source: Folder or CSV of labelled clips.
        recipe: Its clip, backbone and data sections apply.
        store_root: Folder of all feature stores.
        strict: Refuse clips that cannot be read instead of leaving them out.
        cluster: Address of a Ray cluster, or ``"local"`` for one on this machine.
        workers: Workers on the cluster; 2 by default.

    Raises:
        UserError: The data, the weights, the store or the cluster do not allow it.
    """
    dataset = scan_source(source, recipe)
    backbone = recipe.make_backbone()
    weights = backbone.find_weights()
    trunk = trunk_of(recipe, weights)
    if trunk and cluster:
        raise RecipeError(
            "a cluster extracts features of whole backbones", "leave --ray out, or set fine_tune.blocks=0"
        )
    on_cluster = 0
    if cluster:
        on_cluster = fill_on_cluster(
            dataset,
            recipe.clip_spec,
            backbone,
            weights,
            store_root,
            views=recipe.views,
            address=cluster,
            workers=workers or _WORKERS,
        )
    extraction = extract_source(dataset, recipe, weights, store_root, strict=strict, trunk=trunk)
    return StoreReport(
        clips=len(extraction.dataset.clips),
        from_store=extraction.hits - on_cluster,
        decoded=extraction.decoded + on_cluster,
        left_out=extraction.dataset.problems,
        seconds=round(extraction.seconds, 3),
        store=store_root,
    )
