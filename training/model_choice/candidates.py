"""The models to choose from, and how much of a data set a budget pays for."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import StudyError, WeightsError
from vdeploy.dataset import Dataset
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "ALL",
    "CANDIDATES",
    "Afforded",
    "Budget",
    "Candidate",
    "afford",
    "draw_clips",
    "find_candidates",
    "seconds_a_clip",
    "seconds_to_time",
    "timing_order",
]

CANDIDATES = ("edge", "two-stream", "default", "accurate", "mobilenet", "efficientnet-v2")
"""Recipes of the package with different backbones; `choose` leaves out those whose weights cannot be had."""

EXTRACTION_SHARE = 0.4
"""Part of a budget of time for extraction; trainings, exports and measurements take the rest."""

TIMING_CLIPS = {"frame": 150, "clip": 300}
"""Clips that pass through a model, about, until it is exported in every format of the choice and timed.

A model that looks at whole clips ranks its layers for INT8 on clips, another one on frames.
"""

TIMING_SECONDS = 30.0
"""What that takes however fast the model is: files, processes, and the measured windows."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A recipe whose weights are at hand.

    Attributes:
        name: The recipe's, or that of its file without the suffix; different for each candidate.
        recipe: Every choice.
        weights: The backbone's.
    """

    name: str
    recipe: Recipe
    weights: Weights


@dataclasses.dataclass(frozen=True)
class Budget:
    """What may be spent; ``None`` is no limit.

    Attributes:
        seconds: Time.
        clips: Clips to extract with each model.
    """

    seconds: float | None = None
    clips: int | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads minutes, as in ``15m``, or a number of clips, as in ``300``.

        Raises:
            StudyError: It is neither.
        """
        if match := re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)(m?)", text.strip()):
            number, is_time = float(match[1]), bool(match[2])
            if number > 0 and (is_time or number.is_integer()):
                return cls(seconds=60 * number) if is_time else cls(clips=int(number))
        raise StudyError(f"{text!r} is no budget", "give minutes, as in --budget 15m, or clips, as in --budget 300")


ALL = Budget()
"""No limit."""


@dataclasses.dataclass(frozen=True)
class Afforded:
    """What a budget pays for.

    Attributes:
        clips: Clips to try the models on.
        left_out: Name of the model that it does not pay for, or an empty text.
        seconds: Seconds to extract one clip in all its views, by model; empty without a limit of time.
    """

    clips: int
    left_out: str = ""
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)


def find_candidates(
    names: Iterable[str], overrides: Sequence[str], *, taken: Collection[str] = ()
) -> tuple[list[Candidate], dict[str, str]]:
    """The recipes whose weights can be had, and why the others cannot be tried.

    Args:
        names: Names or TOML files of recipes.
        overrides: Keys to override in each; see `training.recipe.load_recipe`.
        taken: Names that no candidate gets.

    Raises:
        RecipeError: A recipe is unknown or wrong.
        WeightsError: No weights can be had, of any of them.
    """
    found: list[Candidate] = []
    left_out: dict[str, str] = {}
    for source in dict.fromkeys(names):
        recipe = load_recipe(source, overrides)
        name = _unused(Path(source).stem, {*taken, *left_out, *(candidate.name for candidate in found)})
        try:
            found.append(Candidate(name, recipe, recipe.make_backbone().find_weights()))
        except WeightsError as error:
            left_out[name] = str(error)
    if not found:
        raise WeightsError(f"no model can be tried ({next(iter(left_out.values()), 'none was named')})", "see above")
    return found, left_out


def _unused(name: str, taken: Collection[str]) -> str:
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def seconds_a_clip(candidate: Candidate) -> float:
    """Time to extract one clip in all its views on this machine, once the backbone is loaded."""
    extractor = FeatureExtractor(candidate.recipe.make_backbone(), candidate.weights, candidate.recipe.clip_spec)
    clip = candidate.recipe.clip
    frames = np.zeros((1, clip.frames, clip.size, clip.size, 3), np.uint8)
    extractor.extract(frames)
    started = time.monotonic()
    extractor.extract(frames)
    return candidate.recipe.views.count * (time.monotonic() - started)


def seconds_to_time(candidate: Candidate, a_clip: float) -> float:
    """About how long it takes to train, export and time a candidate; most of it is the search for its INT8 files.

    Args:
        candidate: The model.
        a_clip: Its `seconds_a_clip`.
    """
    clips = TIMING_CLIPS[candidate.recipe.make_backbone().granularity]
    return TIMING_SECONDS + clips * a_clip / candidate.recipe.views.count


def timing_order(seconds: Mapping[str, float]) -> list[str]:
    """The order in which models are timed, so that a deadline leaves out those that matter least to the advice.

    The one that is timed soonest comes first, as the fast ones are candidates for speed, and the most accurate one
    second. The others follow, the soonest first.

    Args:
        seconds: How long each takes to be timed, by name, the most accurate model first.
    """
    soonest_first = sorted(seconds, key=seconds.__getitem__)
    first, leader = soonest_first[:1], next(iter(seconds), "")
    return first + sorted(soonest_first[1:], key=lambda name: name != leader)


def afford(budget: Budget, candidates: Sequence[Candidate], clips: int, *, may_leave_out: bool = False) -> Afforded:
    """How many clips a budget pays for, and which model it does not pay for.

    Args:
        budget: What may be spent.
        candidates: The models.
        clips: Clips of the whole data set.
        may_leave_out: Whether a model that takes more than half of the time for features may be left out where that
            time does not pay for all clips: without it, the others are compared on more than twice as many.
    """
    if budget.seconds is None:
        return Afforded(min(budget.clips or clips, clips))
    seconds = {candidate.name: seconds_a_clip(candidate) for candidate in candidates}
    allowed, total = EXTRACTION_SHARE * budget.seconds, sum(seconds.values())
    slowest = max(seconds, key=seconds.__getitem__)
    leaves_out = may_leave_out and len(seconds) > 2 and clips * total > allowed and 2 * seconds[slowest] > total
    if leaves_out:
        total -= seconds[slowest]
    return Afforded(max(1, min(clips, int(allowed / total))), slowest if leaves_out else "", seconds)


def draw_clips(dataset: Dataset, sources: npt.NDArray[np.str_], count: int, *, seed: int = 0) -> Dataset:
    """Part of a data set: whole sources, drawn at random, of each class about as large a share as in all of it.

    Args:
        dataset: The clips.
        sources: The source of each.
        count: About how many clips to keep; a source that would go beyond it is left out, unless nothing is drawn yet.
        seed: Another seed draws other sources.
    """
    if count >= len(dataset.clips):
        return dataset
    labels = np.array([clip.label for clip in dataset.clips])
    names, members = np.unique(sources, return_inverse=True)
    counts = np.array([np.bincount(labels[members == index], minlength=2) for index in range(len(names))])
    target = counts.sum(axis=0) * count / len(labels)
    kept: list[int] = []
    total = np.zeros(2)
    for index in np.random.default_rng(seed).permutation(len(names)):
        if not kept or np.all(total + counts[index] <= np.maximum(target, 1)):
            kept.append(int(index))
            total += counts[index]
    return dataclasses.replace(
        dataset, clips=tuple(clip for clip, index in zip(dataset.clips, members, strict=True) if index in set(kept))
    )
