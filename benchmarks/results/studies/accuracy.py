"""How good trained classifiers are, and what each method adds."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.results.markdown import mean, table
from benchmarks.results.study import Blocks, Found, Step, Study, single

__all__ = ["ABLATION", "ACCURACY", "IMBALANCE"]

_SEEDS = range(3)


def _accuracy(found: Found) -> Blocks:
    judged = {name.removeprefix("seed "): each["metrics"]["valid"] for name, each in found.items()}
    trained_on = next(iter(found.values()))["metrics"]["train"]["clips"]
    clips = next(iter(judged.values()))["clips"]
    yield (
        f"{trained_on} clips to train on, {clips} to validate. The threshold, the calibration and the best epoch were "
        f"chosen on the same {clips} clips, which flatters the figures."
    )
    keys = ("accuracy", "roc_auc", "expected_calibration_error")
    figures = {seed: [values[key] for key in keys] for seed, values in judged.items()}
    if len(figures) > 1:
        figures["mean"] = [statistics.mean(column) for column in zip(*figures.values(), strict=True)]
    yield table(
        ("seed", "accuracy", "AUC", "calibration error"),
        [(name, f"{right:.2f}", f"{auc:.4f}", f"{error:.3f}") for name, (right, auc, error) in figures.items()],
    )


def _conditions(found: dict[str, Any]) -> str:
    trained, judged = ("{} non-violent and {} violent".format(*found[key]) for key in ("train_clips", "judged_clips"))
    fitted = "the other half of the judged clips" if found["judged_split"] == "valid" else "the validation split"
    change = f" ({found['imbalance']})" if found["imbalance"] else ""
    return (
        f"{trained} clips to train on{change}; judged on {judged} clips of the {found['judged_split']} split at "
        f"threshold 0.5. Calibrated as `vdeploy train` does it, on {fitted}. Mean over {len(found['seeds'])} seeds and "
        "95 % interval."
    )


def _imbalance(found: Found) -> Blocks:
    one = next(iter(found.values()))
    rare = one["rare_class"]
    yield _conditions(one)
    yield table(
        (
            *("recipe", "loss", "accuracy", f"accuracy, {rare}", "accuracy, calibrated", f"{rare}, calibrated"),
            *(f"gain, {rare}, calibrated", "AUC"),
        ),
        [
            (
                each["recipe"],
                row["name"],
                mean(row["accuracy"]),
                mean(row["rare_accuracy"]),
                mean(row["calibrated_accuracy"]),
                mean(row["calibrated_rare_accuracy"]),
                None if row is each["rows"][0] else mean(row["calibrated_gain"], sign=True),
                mean(row["roc_auc"]),
            )
            for each in found.values()
            for row in each["rows"]
        ],
    )


def _ablation(found: dict[str, Any]) -> Blocks:
    yield f"Each row adds to the one above. {_conditions(found)}"
    yield table(
        ("row", "accuracy", f"accuracy, {found['rare_class']}", "accuracy, calibrated", "AUC", "seconds"),
        [
            (
                row["name"],
                mean(row["accuracy"]),
                mean(row["rare_accuracy"]),
                mean(row["calibrated_accuracy"]),
                mean(row["roc_auc"], 4),
                f"{row['seconds']:.1f}",
            )
            for row in found["rows"]
        ],
    )


ACCURACY = Study(
    "accuracy",
    "Accuracy on the Hockey Fight clips",
    tuple(
        Step(f"seed {seed}", f"vdeploy train {{data}} --recipe accurate --set training.seed={seed}") for seed in _SEEDS
    ),
    _accuracy,
)
IMBALANCE = Study(
    "imbalance",
    "A rare class",
    tuple(
        Step(recipe, f"python -m benchmarks.imbalance {{data}} --seeds 5 --recipe {recipe}")
        for recipe in ("default", "accurate")
    ),
    _imbalance,
)
ABLATION = single("ablation", "What each method adds", "vdeploy ablate {data} --seeds 3", _ablation)
