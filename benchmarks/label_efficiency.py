"""Label efficiency: what pre-training on unlabelled clips adds where few clips are labelled.

    python -m benchmarks.label_efficiency DATA [--recipe edge] [--set head.name=gru] [--seeds 3] [--out FILE]

DATA is a CSV of labelled clips with a ``group`` column: the source that a clip was cut from; a clip without one is a
source of its own. In each fold of a cross-validation grouped by source, the trunk of the head is pre-trained on all
clips of the other folds without their labels. Then the recipe is trained on a share of these clips with their labels,
the same clips from random weights and from the pre-trained trunk, and judged on the clips of the fold. A share is drawn
of each class by itself, of the clips that are learned from as of those that choose the epoch, at least two of a class;
a larger share holds the smaller ones. The threshold is 0.5, without calibration. Figures are means over the seeds, with
95 % intervals from a bootstrap over sources; they are printed, and written to FILE, after each seed for those so far.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.output import add_output_options, report_result
from benchmarks.recipe_options import add_recipe_options
from training.engine.epoch_plan import FeatureSplit
from training.experiments.cross_validation import CrossValidation, accuracy_difference
from training.experiments.folds import Fold, extract_folds, grouped_folds
from training.experiments.judged_folds import judge_fold
from training.methods.self_supervised.pretrainer import Pretrainer
from training.methods.self_supervised.trunk import write_trunk
from training.pipeline import scan_source
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import UserError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.core.progress import quietly, track
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import numpy.typing as npt

SHARES = (0.1, 0.25, 0.5, 1.0)
LEAST = 2
"""Clips of a class that are labelled at least."""


def main() -> None:
    """Reads options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    add_output_options(parser)
    options = parser.parse_args()
    try:
        (name,) = options.recipe or ["edge"]
        recipe = load_recipe(name, options.set or ["head.name=gru"])
        clips, weights = _clips(options.data, recipe, options.store)
        given = {"data": str(options.data), "clips": len(clips.labels), "sources": len(np.unique(clips.groups))}
        settings = {"folds": options.folds, "recipe": recipe.model_dump(mode="json")}
        for seeds, (plain, pretrained) in enumerate(_measure(recipe, weights, clips, options), start=1):
            rows = [_row(share, plain[share], pretrained[share]) for share in SHARES]
            text = "\n".join([f"{seeds} of {options.seeds} seeds", *_lines(rows)])
            report_result(options, {**given, **settings, "seeds": seeds, "rows": rows}, text)
    except (UserError, ValueError) as error:
        parser.error(str(error))


def _clips(data: Path, recipe: Recipe, store: Path) -> tuple[FeatureSplit, Weights]:
    weights = recipe.make_backbone().find_weights()
    return extract_folds(scan_source(data, recipe), recipe, weights, store)[1], weights


def _measure(
    recipe: Recipe, weights: Weights, clips: FeatureSplit, options: argparse.Namespace
) -> Iterator[list[dict[float, CrossValidation]]]:
    labels, groups = clips.labels, np.asarray(clips.groups)
    arms = [{share: np.empty((options.seeds, len(labels))) for share in SHARES} for _ in range(2)]
    with track("label efficiency", options.seeds * options.folds * len(SHARES) * 2, "trainings") as step:
        for seed in range(options.seeds):
            seeded = recipe.varied(training={"seed": seed})
            for fold in grouped_folds(labels, groups, options.folds, seed):
                with tempfile.TemporaryDirectory(prefix="vdeploy-trunk-") as folder:
                    started = _pretrained(seeded, weights, clips, fold, Path(folder))
                    for share, part in _labelled(fold, labels, seed):
                        for arm, chosen in zip(arms, (seeded, started), strict=True):
                            arm[share][seed, fold.judged] = judge_fold(chosen, clips, part)[0]
                            step.advance()
            yield [
                {share: CrossValidation(labels, groups, found[: seed + 1]) for share, found in arm.items()}
                for arm in arms
            ]


def _pretrained(recipe: Recipe, weights: Weights, clips: FeatureSplit, fold: Fold, folder: Path) -> Recipe:
    """The recipe on a trunk that was pre-trained on the clips that are not judged."""
    load_keras().utils.clear_session()
    with quietly():
        pretrainer = Pretrainer(recipe, clips.select(np.union1d(fold.train, fold.valid)).as_served().features, folder)
        write_trunk(folder, pretrainer.fit(), recipe, weights, pretrainer.history)
    return recipe.varied(pretrain={"trunk": str(folder)})


def _labelled(fold: Fold, labels: npt.NDArray[np.int64], seed: int) -> Iterator[tuple[float, Fold]]:
    """The fold with a share of its labels, for each share."""
    orders = [np.random.default_rng(seed).permutation(clips) for clips in (fold.train, fold.valid)]
    for share in SHARES:
        train, valid = (
            np.sort(np.concatenate([_first(order[labels[order] == label], share) for label in (0, 1)]))
            for order in orders
        )
        yield share, Fold(train, valid, fold.judged)


def _first(clips: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    return clips[: max(round(share * len(clips)), LEAST)]


def _row(share: float, plain: CrossValidation, pretrained: CrossValidation) -> dict[str, Any]:
    arms = {"plain": plain, "pretrained": pretrained}
    figures = {name: arm.to_dict() for name, arm in arms.items()}
    return {"share": share, **figures, "gain": dataclasses.asdict(accuracy_difference(pretrained, plain))}


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        plain, pretrained = (
            f"accuracy {_text(row[arm]['accuracy'])} AUC {row[arm]['roc_auc']['value']:.3f}"
            for arm in ("plain", "pretrained")
        )
        yield f"{row['share']:4.0%} of the labels: {plain}; pre-trained {pretrained}; gain {_text(row['gain'])}"


def _text(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


if __name__ == "__main__":
    main()
