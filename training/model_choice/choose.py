"""Which model to take for a data set: each candidate judged on sources that it has not learned from, and timed here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.experiments.cross_validation import CrossValidation, cross_validate
from training.experiments.folds import content_of, extract_folds, fold_count, sources_of
from training.experiments.judged_folds import groups_of
from training.experiments.result_file import ResultFile
from training.methods.self_supervised.trunk import trunk_identity
from training.model_choice.advice import Advice, Measured, advise
from training.model_choice.candidates import (
    ALL,
    Afforded,
    Budget,
    Candidate,
    afford,
    draw_clips,
    seconds_to_time,
    timing_order,
)
from training.model_choice.data_checks import Finding, check_duplicates, check_metadata, check_sources
from training.model_choice.speed import Speed, measure_speed
from training.pipeline import scan_source
from vdeploy.core.errors import StudyError, UserError
from vdeploy.core.locks import folder_lock
from vdeploy.core.progress import say
from vdeploy.dataset import Dataset

__all__ = ["Choice", "choose"]

SPEED_SECONDS = 3.0
"""Time to measure each format of each model."""

_CLIPS = "clips.csv"
_FINISHED = "finished.json"
_VERSION = 1
_TOO_SLOW = "it takes more than half of the time for features, which does not pay for all clips; name it with --recipe"


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was measured, and what follows from it.

    Attributes:
        source: The data set.
        clips: Number of clips that the models were tried on.
        all_clips: Number of clips of the data set.
        sources: Number of sources of the clips.
        folds: Parts of the cross-validation.
        seeds: How often it was repeated.
        findings: What makes the figures look better than they are.
        models: The candidates, most accurate first.
        left_out: Why a candidate was not tried, by name.
        advice: Which to take.
        seconds: Duration of this call.
    """

    source: str
    clips: int
    all_clips: int
    sources: int
    folds: int
    seeds: int
    findings: tuple[Finding, ...]
    models: tuple[Measured, ...]
    left_out: dict[str, str]
    advice: Advice
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            **{name: getattr(self, name) for name in ("source", "clips", "all_clips", "sources", "folds", "seeds")},
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "models": [model.to_dict() for model in self.models],
            "left_out": self.left_out,
            "advice": dataclasses.asdict(self.advice),
            "seconds": round(self.seconds, 1),
        }


def choose(
    source: Path,
    out: Path,
    candidates: Sequence[Candidate],
    *,
    store_root: Path,
    budget: Budget = ALL,
    seeds: int = 3,
    with_speed: bool = True,
    left_out: Mapping[str, str] | None = None,
    may_leave_out: bool = False,
) -> Choice:
    """Tries each candidate on a data set.

    Every model and measurement that is finished is kept in ``OUT``; an interrupted choice resumes.

    Args:
        source: Folder or CSV of labelled clips.
        out: Folder of the work: the drawn clips, and for each model its run and its bundle.
        candidates: The models.
        store_root: Folder of all feature stores.
        budget: Limit of time or clips.
        seeds: How often the cross-validation is repeated.
        with_speed: Train, export and time each model as well.
        left_out: Candidates that cannot be tried, with the reasons, for the record.
        may_leave_out: Whether the slowest candidate may be left out for a budget of time; see
            `training.model_choice.candidates.afford`.

    Raises:
        LockedError: Another choice works in the folder.
        UserError: The data, the weights or the disk do not allow it.
    """
    started = time.monotonic()
    if out.exists() and not out.is_dir():
        raise StudyError(f"{out} is in the way: it is no folder", "choose another: --out DIR")
    with folder_lock(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        finished = ResultFile(out / _FINISHED, version=_VERSION, field="entries", hint="choose another: --out DIR")
        whole = scan_source(source, candidates[0].recipe)
        afforded = _afforded(whole, finished, budget, candidates, may_leave_out)
        candidates = [candidate for candidate in candidates if candidate.name != afforded.left_out]
        dataset = _drawn(whole, out / _CLIPS, afforded.clips)
        sources = sources_of(dataset)
        folds = fold_count(dataset, ", or a larger --budget" if len(dataset.clips) < len(whole.clips) else "")
        judged = {
            candidate.name: _judge(candidate, dataset, finished, store_root, folds, seeds) for candidate in candidates
        }
        best_first = sorted(candidates, key=lambda candidate: _rank(judged[candidate.name]))
        findings = [*check_sources(dataset), *check_duplicates(dataset)]
        findings += check_metadata(dataset, folds=folds, seeds=seeds)[1]
        deadline = None if budget.seconds is None else started + budget.seconds
        speeds = _speeds(best_first, out, finished, store_root, afforded.seconds, deadline) if with_speed else {}
    models = [Measured(each.name, judged[each.name], speeds.get(each.name)) for each in best_first]
    return Choice(
        source=str(source),
        clips=len(dataset.clips),
        all_clips=len(whole.clips),
        sources=len(np.unique(sources)),
        folds=folds,
        seeds=seeds,
        findings=tuple(findings),
        models=tuple(models),
        left_out={**(left_out or {}), **({afforded.left_out: _TOO_SLOW} if afforded.left_out else {})},
        advice=advise(models),
        seconds=time.monotonic() - started,
    )


def _weights(candidate: Candidate) -> list[Any]:
    """What a candidate's results depend on beside the clips."""
    return [candidate.recipe.identity, candidate.weights.sha256, *trunk_identity(candidate.recipe)]


def _afforded(
    whole: Dataset, finished: ResultFile, budget: Budget, candidates: Sequence[Candidate], may_leave_out: bool
) -> Afforded:
    """What the budget pays for, the same after an interruption; see `training.model_choice.candidates.afford`."""
    names = [candidate.name for candidate in candidates]
    identity = ("budget pays for", content_of(whole), dataclasses.asdict(budget), names, may_leave_out)
    if (known := finished.get(identity)) is not None:
        return Afforded(**known)
    afforded = afford(budget, candidates, len(whole.clips), may_leave_out=may_leave_out)
    finished.put(identity, dataclasses.asdict(afforded))
    return afforded


def _drawn(whole: Dataset, csv: Path, count: int) -> Dataset:
    dataset = draw_clips(whole, sources_of(whole), count)
    if len(dataset.clips) < len(whole.clips):
        say(f"choose: the budget pays for {len(dataset.clips)} of {len(whole.clips)} clips")
    absolute = tuple(dataclasses.replace(clip, path=str(dataset.absolute(clip))) for clip in dataset.clips)
    dataset = dataclasses.replace(dataset, clips=absolute)
    dataset.write_csv(csv)
    return dataset


def _judge(
    candidate: Candidate, dataset: Dataset, finished: ResultFile, store_root: Path, folds: int, seeds: int
) -> CrossValidation:
    dataset, clips = extract_folds(dataset, candidate.recipe, candidate.weights, store_root)
    identity = ("accuracy", *_weights(candidate), content_of(dataset), folds, seeds)
    known = finished.get(identity)
    if known is not None:
        return CrossValidation(clips.labels, groups_of(clips), np.array(known))
    result = cross_validate(candidate.recipe, clips, seeds=seeds, folds=folds, name=candidate.name)
    finished.put(identity, result.probabilities.tolist())
    return result


def _rank(judged: CrossValidation) -> tuple[float, float]:
    """Less for a model that is more accurate, and among those alike for one of a larger AUC; no bootstrap is drawn."""
    return -float(judged.correct.mean()), -judged.auc_of(np.arange(len(judged.labels)))


def _speeds(
    candidates: Sequence[Candidate],
    out: Path,
    finished: ResultFile,
    store_root: Path,
    seconds_a_clip: Mapping[str, float],
    deadline: float | None,
) -> dict[str, Speed]:
    """Speeds by name; with a deadline, only of the candidates that will probably be ready by then.

    Args:
        candidates: The most accurate first.
        out: Folder of the work.
        finished: What is measured already.
        store_root: Folder of all feature stores.
        seconds_a_clip: What the deadline was reckoned with, by name; empty without one.
        deadline: In the seconds of ``time.monotonic``.
    """
    csv = (out / _CLIPS).read_text("utf-8")
    by_name = {candidate.name: candidate for candidate in candidates}
    identities = {name: ("speed", *_weights(candidate), csv) for name, candidate in by_name.items()}
    found = {name: Speed(**known) for name, key in identities.items() if (known := finished.get(key)) is not None}
    needed = {
        name: seconds_to_time(candidate, seconds_a_clip.get(name, 0.0))
        for name, candidate in by_name.items()
        if name not in found
    }
    for name in timing_order(needed):
        if deadline is not None and time.monotonic() + needed[name] > deadline:
            say(f"choose: the budget does not pay for the speed of {name}, about {needed[name]:.0f} s")
            continue
        say(f"choose: train, export and time {name}")
        try:
            speed = measure_speed(by_name[name], out / _CLIPS, out / name, store_root, seconds=SPEED_SECONDS)
        except UserError as error:
            say(f"choose: {name} cannot be timed: {error}")
            continue
        finished.put(identities[name], dataclasses.asdict(speed))
        found[name] = speed
    return found
