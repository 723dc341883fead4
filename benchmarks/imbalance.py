"""Losses for a rare class: four losses on the same features, with an imbalanced training split.

    python -m benchmarks.imbalance DATA [--ratio 78/22] [--rare non-violent] [--seeds 5] [--recipe default] [--json]

Each seed drops other clips of the rare class from the training split and changes the initial weights; the four losses
of one seed see the same clips, so differences are taken seed by seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.output import add_output_options, report_result
from training.experiments.comparison import Arm, Comparison, compare
from training.experiments.confidence_intervals import Mean, mean_over_seeds
from training.experiments.data import load_study_data
from training.experiments.imbalance import parse_imbalance
from training.experiments.results_cache import Ledger, study_lock
from training.recipe import Recipe, load_recipe
from vdeploy.core.files import cache_dir

GAMMA = 2.0
"""Of the focal loss, as in Lin et al. 2017."""


def losses(recipe: Recipe) -> list[Arm]:
    """The recipe with plain cross-entropy, with each of the two methods, and with both."""
    plain = recipe.varied(loss={"gamma": 0.0, "alpha": (1.0, 1.0), "class_weights": "none"})
    return [
        Arm("cross-entropy", plain),
        Arm("focal", plain.varied(loss={"gamma": GAMMA})),
        Arm("class weights", plain.varied(loss={"class_weights": "balanced"})),
        Arm("focal + class weights", plain.varied(loss={"gamma": GAMMA, "class_weights": "balanced"})),
    ]


def table(result: Comparison) -> Table:
    """One row for each loss."""
    rare = f"{result.rare_class} accuracy"
    columns = (
        "loss",
        "accuracy",
        rare,
        f"gain in {rare}",
        "accuracy, calibrated",
        f"{rare}, calibrated",
        "AUC",
        "seconds",
    )
    sheet = Table(*columns, box=None, pad_edge=False, title=result.conditions, title_justify="left")
    for row in result.rows:
        gain = "-" if row is result.rows[0] else str(_gain(row.rare_accuracies, result.rows[0].rare_accuracies))
        sheet.add_row(
            row.name,
            *(str(row.accuracy), str(row.rare_accuracy), gain),
            *(str(row.calibrated_accuracy), str(row.calibrated_rare_accuracy)),
            *(str(row.roc_auc), f"{row.seconds:.1f}"),
        )
    return sheet


def with_gains(result: Comparison) -> dict[str, Any]:
    """The comparison, JSON-ready, and what each loss gains among the rare class over the first."""
    values = result.to_dict()
    for row, entry in zip(result.rows, values["rows"], strict=True):
        entry["gain"] = dataclasses.asdict(_gain(row.rare_accuracies, result.rows[0].rare_accuracies))
        entry["calibrated_gain"] = dataclasses.asdict(
            _gain(row.calibrated_rare_accuracies, result.rows[0].calibrated_rare_accuracies)
        )
    return values


def _gain(row: Sequence[float], base: Sequence[float]) -> Mean:
    return mean_over_seeds([mine - other for mine, other in zip(row, base, strict=True)])


def main() -> None:
    """Runs the comparison, or goes on with it, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder or CSV of labelled clips")
    parser.add_argument("--ratio", default="78/22", help="frequent to rare class in training (default: 78/22)")
    parser.add_argument("--rare", default="non-violent", help="class that loses clips: non-violent or violent")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    parser.add_argument("--store", type=Path, default=cache_dir() / "features", help="folder of the feature store")
    parser.add_argument("--ledger", type=Path, default=Path("studies/imbalance.json"), help="finished trainings")
    add_output_options(parser)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, options.set)
    imbalance = parse_imbalance(options.ratio, options.rare)
    with study_lock(options.ledger):
        data = load_study_data(options.data, recipe, options.store)
        result = compare(losses(recipe), data, range(options.seeds), Ledger(options.ledger), imbalance=imbalance)
    console = Console(width=160, highlight=False, file=io.StringIO(), record=True)
    console.print(table(result))
    report_result(options, {"recipe": options.recipe, **with_gains(result)}, console.export_text().rstrip())


if __name__ == "__main__":
    main()
