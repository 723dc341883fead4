"""What `vdeploy tune` searches: models, methods and hyperparameters of a recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from training.recipe import Recipe

__all__ = ["suggest_recipe"]

_Sections = dict[str, dict[str, Any]]

_HEADS: dict[str, dict[str, Any]] = {
    "linear": {"name": "pooling", "dense": 0},
    "dense": {"name": "pooling"},
    "lstm": {"name": "lstm"},
    "gru": {"name": "gru"},
    "transformer": {"name": "transformer"},
}

_BALANCE: dict[str, _Sections] = {
    "none": {"loss": {"alpha": (1.0, 1.0), "class_weights": "none"}, "sampling": {"balance": "instances"}},
    "weights": {"loss": {"alpha": "balanced", "class_weights": "none"}, "sampling": {"balance": "instances"}},
    "effective": {"loss": {"alpha": (1.0, 1.0), "class_weights": 0.99}, "sampling": {"balance": "instances"}},
    "sampling": {"loss": {"alpha": (1.0, 1.0), "class_weights": "none"}, "sampling": {"balance": "classes"}},
}


def suggest_recipe(
    trial: Any, models: Mapping[str, Recipe], fixed: Collection[str] = ()
) -> tuple[str, Recipe, dict[str, Any]]:
    """The recipe of a trial.

    Every parameter is drawn in every trial, so that the importance of each can be told; those that the recipe does not
    take, such as the learning rate of an exact solution, change nothing.

    Args:
        trial: Of Optuna, or what has its ``suggest`` methods.
        models: Recipes by name, of which a trial takes the clips, the backbone and whatever is not searched.
        fixed: Keys that are not searched, as in ``"loss.gamma"``; with one of the head, its name is not either.

    Returns:
        The name of the model, the recipe, and the values that it takes, by parameter.
    """
    names = list(models)
    name = trial.suggest_categorical("model", names) if len(names) > 1 else names[0]
    base = models[name]
    values = _draw(trial)
    steps = _in_steps(values, base.training.epochs)
    sections = _merged(_BALANCE[values["balance"]], {"loss": {"label_smoothing": values["label_smoothing"]}})
    if not base.fine_tune.blocks:
        sections["label_noise"] = {"action": values["label_noise"]}
    else:
        del steps["curriculum"]
    varied = base.varied(head=_head(values, base, fixed))
    exact = values["solver"] == "logistic" and varied.make_head().linear and not base.fine_tune.blocks
    if exact and not {"optimizer.solver", "loss.gamma"} & {*fixed}:
        # Class-balanced sampling is a method of steps; the exact solution has its weights.
        exact_balance = _BALANCE["weights"] if values["balance"] == "sampling" else {}
        off = {"augment", "averaging", "curriculum"}
        chosen = _merged(sections, exact_balance, _switched_off(off), {"loss": {"gamma": 0.0}})
        chosen["optimizer"] = {"solver": "logistic"}
        taken = {"balance", "label_smoothing", "label_noise", "solver", "head"}
    else:
        chosen = _merged(sections, steps)
        chosen["optimizer"]["solver"] = "adamw"
        taken = set(values)
    kept: _Sections = {
        section: {key: value for key, value in keys.items() if f"{section}.{key}" not in fixed}
        for section, keys in chosen.items()
    }
    parameters = {"model": name} if len(names) > 1 else {}
    return name, varied.varied(**kept), {**parameters, **{key: values[key] for key in values if key in taken}}


def _draw(trial: Any) -> dict[str, Any]:
    return {
        "head": trial.suggest_categorical("head", list(_HEADS)),
        "units": trial.suggest_categorical("units", [32, 64, 128, 256]),
        "dense": trial.suggest_categorical("dense", [32, 64, 128]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.7),
        "solver": trial.suggest_categorical("solver", ["logistic", "adamw"]),
        "balance": trial.suggest_categorical("balance", list(_BALANCE)),
        "label_noise": trial.suggest_categorical("label_noise", ["none", "drop"]),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "gamma": trial.suggest_float("gamma", 0.0, 4.0),
        "mixup": trial.suggest_float("mixup", 0.0, 0.4),
        "frame_jitter": trial.suggest_float("frame_jitter", 0.0, 0.3),
        "frame_drop": trial.suggest_float("frame_drop", 0.0, 0.3),
        "decay": trial.suggest_categorical("decay", [0.0, 0.9, 0.99]),
        "curriculum": trial.suggest_categorical("curriculum", ["none", "exponential"]),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
        "warmup_share": trial.suggest_float("warmup_share", 0.0, 0.2),
        "batch": trial.suggest_categorical("batch", [16, 32, 64, 128]),
    }


def _in_steps(values: Mapping[str, Any], epochs: int) -> _Sections:
    """The sections of a training in steps."""
    return {
        "loss": {"gamma": values["gamma"]},
        "augment": {key: values[key] for key in ("mixup", "frame_jitter", "frame_drop")},
        "averaging": {"decay": values["decay"]},
        "curriculum": {"pacing": values["curriculum"]},
        "optimizer": {
            "learning_rate": values["learning_rate"],
            "weight_decay": values["weight_decay"],
            "warmup_epochs": epochs * values["warmup_share"],
        },
        "training": {"batch": values["batch"]},
    }


def _head(values: Mapping[str, Any], base: Recipe, fixed: Collection[str]) -> dict[str, Any]:
    """The settings of the head: of the recipe's where a key of it is fixed."""
    is_fixed = any(key.startswith("head.") for key in fixed)
    choice = base.head.model_dump() if is_fixed else _HEADS[values["head"]]
    fields = type(base.varied(head={"name": choice["name"]}).head).model_fields
    sizes = {"units": values["units"], "width": values["units"], "dense": values["dense"], "dropout": values["dropout"]}
    if choice.get("dense") == 0:
        del sizes["dense"]
    searched = {key: size for key, size in sizes.items() if key in fields and f"head.{key}" not in fixed}
    kept = base.head.model_dump() if choice["name"] == base.head.name else {}
    return {**kept, **choice, **searched}


def _switched_off(sections: Collection[str]) -> _Sections:
    return {name: Recipe.model_fields[name].default.model_dump() for name in sections}


def _merged(*parts: _Sections) -> _Sections:
    merged: _Sections = {}
    for part in parts:
        for section, keys in part.items():
            merged[section] = {**merged.get(section, {}), **keys}
    return merged
