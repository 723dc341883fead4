"""What `vdeploy tune` searches: models, methods and hyperparameters of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from training.recipe import Recipe
from training.recipe_methods import cutmix_problem, stepwise_key
from vdeploy.models.base import HeadSettings

__all__ = ["suggest_recipe"]

_Sections = dict[str, dict[str, Any]]
_Draw = Callable[[Any, str], Any]

_HEADS: dict[str, dict[str, Any]] = {
    "linear": {"name": "pooling", "dense": 0},
    "dense": {"name": "pooling", "dense": 64},
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

_STEPS_OFF: _Sections = {
    **{name: Recipe.model_fields[name].default.model_dump() for name in ("augment", "averaging", "curriculum")},
    "loss": {"gamma": 0.0},
    "optimizer": {"solver": "logistic"},
}
"""What an exact solution goes without."""

_OF_HEAD = {
    "units": ("units", "width"),
    "dense": ("dense",),
    "dropout": ("dropout",),
    "normalization": ("normalization",),
}
"""Keys of the head that a parameter sets; a head has at most one of them."""


def _choice(*values: Any) -> _Draw:
    return lambda trial, name: trial.suggest_categorical(name, list(values))


def _range(low: float, high: float, *, log: bool = False) -> _Draw:
    return lambda trial, name: trial.suggest_float(name, low, high, log=log)


_SPACE: dict[str, tuple[tuple[str, ...], _Draw]] = {
    "head": (("head.name",), _choice(*_HEADS)),
    "units": (("head.units", "head.width"), _choice(32, 64, 128, 256)),
    "dense": (("head.dense",), _choice(32, 64, 128)),
    "dropout": (("head.dropout",), _range(0.0, 0.7)),
    "solver": (("optimizer.solver",), _choice("logistic", "adamw")),
    "balance": (("loss.alpha", "loss.class_weights", "sampling.balance"), _choice(*_BALANCE)),
    "label_noise": (("label_noise.action",), _choice("none", "drop")),
    "label_smoothing": (("loss.label_smoothing",), _range(0.0, 0.2)),
    "gamma": (("loss.gamma",), _range(0.0, 4.0)),
    "mixup": (("augment.mixup",), _range(0.0, 0.4)),
    "cutmix": (("augment.cutmix",), _choice(0.0, 0.2, 1.0)),
    "frame_jitter": (("augment.frame_jitter",), _range(0.0, 0.3)),
    "frame_drop": (("augment.frame_drop",), _range(0.0, 0.3)),
    "decay": (("averaging.decay",), _choice(0.0, 0.9, 0.99)),
    "curriculum": (("curriculum.pacing",), _choice("none", "exponential")),
    "learning_rate": (("optimizer.learning_rate",), _range(1e-4, 1e-2, log=True)),
    "weight_decay": (("optimizer.weight_decay",), _range(1e-6, 1e-1, log=True)),
    "warmup_share": (("optimizer.warmup_epochs",), _range(0.0, 0.2)),
    "batch": (("training.batch",), _choice(16, 32, 64, 128)),
    "normalization": (("head.normalization",), _choice("layer", "square_root")),
}
"""Parameters, each with the keys of a recipe that it sets; it is not drawn where one of them is fixed."""

_EXACT = {"head", "normalization", "solver", "balance", "label_noise", "label_smoothing"}
"""Parameters that an exact solution takes."""

_OF_FIXED_FEATURES = {"label_noise", "curriculum"}
"""Parameters of methods that `training.methods.fine_tuning` does not go with."""


def suggest_recipe(
    trial: Any, models: Mapping[str, Recipe], fixed: Collection[str] = ()
) -> tuple[str, Recipe, dict[str, Any]]:
    """The recipe of a trial.

    Every parameter that is searched is drawn in every trial, so that the importance of each can be told; those that the
    recipe does not take, such as the learning rate of an exact solution, change nothing. A head that starts from a
    pre-trained trunk keeps its name, its sizes and its normalisation.

    Args:
        trial: Of Optuna, or what has its ``suggest`` methods.
        models: Recipes by name, of which a trial takes the clips, the backbone and whatever is not searched.
        fixed: Keys that are not searched, as in ``"loss.gamma"``; with one of the head, its name is not either, and
            with one of the balance of classes, none of them is.

    Returns:
        The name of the model, the recipe, and the values that it takes, by parameter.

    Raises:
        pydantic.ValidationError, RecipeError: What is drawn does not go with what is not.
    """
    names = list(models)
    name = trial.suggest_categorical("model", names) if len(names) > 1 else names[0]
    base = models[name]
    only_exact = "optimizer.solver" in fixed and base.optimizer.solver == "logistic"
    values = _draw(trial, models.values(), fixed, only_exact=only_exact)
    head, of_head = _head(values, base)
    varied = base.varied(head=head)
    left_out = {*_OF_HEAD} - of_head
    if base.pretrain.trunk:
        left_out |= {"head"}
    if base.fine_tune.blocks:
        left_out |= _OF_FIXED_FEATURES
    if cutmix_problem(base):
        left_out |= {"cutmix"}
    taken = {key: value for key, value in values.items() if key not in left_out}
    recipe = None
    wants_exact = values.get("solver", base.optimizer.solver) == "logistic"
    if only_exact or (wants_exact and varied.make_head().linear and not base.fine_tune.blocks):
        exact = {key: value for key, value in taken.items() if key in _EXACT}
        if exact.get("balance") == "sampling":  # a method of steps; the exact solution has its weights
            exact["balance"] = "weights"
        solved = varied.varied(**_merged(_without(_STEPS_OFF, fixed), _sections(exact, base.training.epochs)))
        if only_exact or not stepwise_key(solved):
            recipe, taken = solved, exact
    if recipe is None:
        in_steps = _without({"optimizer": {"solver": "adamw"}}, fixed)
        recipe = varied.varied(**_merged(_sections(taken, base.training.epochs), in_steps))
    if "solver" in taken:
        taken["solver"] = recipe.solver
    return name, recipe, {**({"model": name} if len(names) > 1 else {}), **taken}


def _draw(trial: Any, models: Iterable[Recipe], fixed: Collection[str], *, only_exact: bool) -> dict[str, Any]:
    """The values of all parameters that are searched."""
    skipped = {name for name, (keys, _) in _SPACE.items() if {*keys} & {*fixed}}
    if any(key.startswith("head.") for key in fixed):
        skipped |= {"head"} | ({*_OF_HEAD} - {name for model in models for name in _head_keys(model.head)})
        given = {}
    else:
        given = {"head": "linear"} if only_exact else {}
    if only_exact:
        skipped |= {*_SPACE} - _EXACT
    return {**given, **{n: draw(trial, n) for n, (_, draw) in _SPACE.items() if n not in {*skipped, *given}}}


def _head(values: Mapping[str, Any], base: Recipe) -> tuple[dict[str, Any], set[str]]:
    """The settings of the head, the recipe's where its name is not searched, and what they take of `_OF_HEAD`."""
    is_kept = "head" not in values or bool(base.pretrain.trunk)
    choice = base.head.model_dump() if is_kept else _HEADS[values["head"]]
    head = {**(base.head.model_dump() if choice["name"] == base.head.name else {}), **choice}
    keys = _head_keys(base.varied(head=head).head)
    found = {name for name in keys if name in values and (name == "dropout" or not base.pretrain.trunk)}
    return {**head, **{keys[name]: values[name] for name in found}}, found


def _head_keys(head: HeadSettings) -> dict[str, str]:
    """The parameters of `_OF_HEAD` that a head takes, with its keys; a linear head has no dense layer to size."""
    values = dict(head)
    keys = {name: key for name, options in _OF_HEAD.items() for key in options if key in values}
    return {name: key for name, key in keys.items() if name != "dense" or values[key]}


def _sections(values: Mapping[str, Any], epochs: int) -> _Sections:
    """The sections of a recipe, all but the head and the solver."""
    parts = [_BALANCE[values["balance"]]] if "balance" in values else []
    for name, value in values.items():
        if name not in {"head", "solver", "balance", *_OF_HEAD}:
            section, _, key = _SPACE[name][0][0].partition(".")
            parts.append({section: {key: epochs * value if name == "warmup_share" else value}})
    return _merged(*parts)


def _without(sections: _Sections, fixed: Collection[str]) -> _Sections:
    return {
        section: {key: value for key, value in keys.items() if f"{section}.{key}" not in fixed}
        for section, keys in sections.items()
    }


def _merged(*parts: _Sections) -> _Sections:
    merged: _Sections = {}
    for part in parts:
        for section, keys in part.items():
            merged[section] = {**merged.get(section, {}), **keys}
    return merged
