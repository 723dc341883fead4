"""Accuracy of recipes on one data set by cross-validation, all clips of a source on the same side.

    python -m benchmarks.cross_validation DATA [--recipe NAME ...] [--seeds 3] [--folds 5] [--json] [--out FILE]

DATA is a CSV of labelled clips with a ``group`` column: the source that a clip was cut from. Each clip is scored by a
classifier that has learned from clips of other sources, at a threshold of 0.5 and without calibration, so nothing is
chosen on clips that are reported on: the epoch or the penalty is chosen on a part of the other sources. The accuracy
"with the chosen threshold" is that after calibration at the threshold that the recipe's rule chooses, on other sources
as well. Figures are means over the seeds, with 95 % intervals from a bootstrap over sources.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.output import add_output_options, report_result
from benchmarks.recipe_options import add_recipe_options, named_recipes
from training.experiments.cross_validation import CrossValidation, Interval, cross_validate
from training.experiments.folds import extract_folds
from training.methods.fine_tuning import trunk_of
from training.pipeline import scan_source
from training.recipe import Recipe
from vdeploy.core.errors import DatasetError, UserError


def main() -> None:
    """Reads options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    add_output_options(parser)
    options = parser.parse_args()
    try:
        results = {name: _measure(name, recipe, options) for name, recipe in named_recipes(options).items()}
    except UserError as error:
        parser.error(str(error))
    rows = {name: result.to_dict() for name, result in results.items()}
    judged = next(iter(results.values()))
    clips, sources = len(judged.labels), len(np.unique(judged.groups))
    title = f"{options.data}: {clips} clips of {sources} sources, {options.folds} folds, {options.seeds} seeds"
    given = {"data": str(options.data), "clips": clips, "sources": sources, "folds": options.folds}
    report_result(options, {**given, "seeds": options.seeds, "recipes": rows}, "\n".join([title, *_lines(results)]))


def _measure(name: str, recipe: Recipe, options: argparse.Namespace) -> CrossValidation:
    dataset = scan_source(options.data, recipe)
    weights = recipe.make_backbone().find_weights()
    trunk = trunk_of(recipe, weights)
    dataset, clips = extract_folds(dataset, recipe, weights, options.store, trunk)
    if not all(clip.group for clip in dataset.clips):
        raise DatasetError(f"{options.data} names no source for some clips", "give a CSV with a group column")
    return cross_validate(recipe, clips, seeds=options.seeds, folds=options.folds, name=name, trunk=trunk)


def _lines(results: dict[str, CrossValidation]) -> list[str]:
    return [
        f"{name:10} accuracy {_text(result.accuracy())}  with the chosen threshold {_text(result.decided_accuracy())}  "
        f"AUC {_text(result.roc_auc())}"
        for name, result in results.items()
    ]


def _text(figure: Interval | None) -> str:
    return "-" if figure is None else f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


if __name__ == "__main__":
    main()
