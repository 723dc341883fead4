"""Search for a serving configuration with Optuna's TPE sampler; every trial is kept in SQLite, so a search resumes."""

from __future__ import annotations

import dataclasses
import random
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from vdeploy.benchmark.tuning.search_space import SearchSpace
from vdeploy.core.errors import StudyError
from vdeploy.core.lazy_imports import require
from vdeploy.core.progress import say, track
from vdeploy.triton.planning.tuned_serving import Configuration, Goal, HeldRate

__all__ = ["Measure", "Outcome", "Search", "Trial"]

_STUDY = "vdeploy serving"
_IDENTITY = "identity"
_CONFIRMED = "confirmed"
_ASKS = 20
"""How often the sampler may name what was tried already, until an untried configuration is drawn."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a measurement of a configuration has found.

    Attributes:
        held: Its highest rate.
        points: Rate, 99th percentile in milliseconds, and whether it was given up early, by rate.
        problem: Why there is no rate; empty where there is one.
    """

    held: HeldRate
    points: tuple[tuple[float, float | None, bool], ...] = ()
    problem: str = ""

    @classmethod
    def failed(cls, problem: str) -> Outcome:
        """Nothing holds."""
        return cls(HeldRate(clips_per_s=0), problem=problem)

    def value(self, goal: Goal) -> float:
        """What is to be as large as possible: clips a second, or clips a second of processor time."""
        if goal == "throughput" or not self.held.clips_per_s:
            return self.held.clips_per_s
        return 1 / (self.held.cpu_s_per_clip or float("inf"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"held": self.held.model_dump(mode="json"), "points": self.points, "problem": self.problem}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """Reads what `to_dict` has written."""
        points = tuple((rate, p99, stopped) for rate, p99, stopped in values["points"])
        return cls(HeldRate.model_validate(values["held"]), points, values["problem"])


@dataclasses.dataclass(frozen=True)
class Trial:
    """A configuration that was measured."""

    configuration: Configuration
    outcome: Outcome


class Measure(Protocol):
    """Measures a configuration."""

    def __call__(self, configuration: Configuration, *, confirm: bool) -> Outcome:
        """Measures a configuration.

        Args:
            configuration: How the bundle is served.
            confirm: Whether to take arrivals that have chosen nothing.
        """


class Search:
    """The trials of a search, in a file.

    Args:
        file: SQLite file of the study.
        space: What may be tried.
        goal: What is searched for.
        identity: Everything else that the trials depend on, JSON-ready.

    Raises:
        MissingExtraError: Optuna is not installed.
        StudyError: The file is no study, belongs to something else, or cannot be written.
    """

    def __init__(self, file: Path, space: SearchSpace, goal: Goal, identity: Mapping[str, Any]) -> None:
        self._optuna = require("optuna", extra="tune", purpose="vdeploy tune-serving")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._space, self._goal, self._all = space, goal, space.configurations()
        choices = {name: list(values) for name, values in space.choices.items()}
        self._study = self._open(file, {**identity, "goal": goal, "choices": choices})

    @property
    def trials(self) -> list[Trial]:
        """All that was measured, in order."""
        found = self._study.get_trials(deepcopy=False)
        return [Trial(Configuration(**trial.params), Outcome.from_dict(trial.user_attrs["outcome"])) for trial in found]

    @property
    def best(self) -> Trial:
        """The best of all trials, the first of several equal ones."""
        return max(self.trials, key=lambda trial: trial.outcome.value(self._goal))

    def run(self, measure: Measure, trials: int) -> None:
        """Measures configurations until there are a number of trials, or none is left.

        A trial is written when it has ended; one that was interrupted is measured again.

        Args:
            measure: Measures one.
            trials: Number of trials at the end, including earlier ones.
        """
        wanted = min(trials, len(self._all))
        with track("tuning", max(wanted - len(self.trials), 0), "trials") as step:
            while (done := len(self.trials)) < wanted:
                configuration = self._next(done)
                outcome = measure(configuration, confirm=False)
                self._keep(configuration, outcome)
                say(f"trial {done + 1} of {wanted}: {configuration}: {outcome.problem or outcome.held}")
                step.advance(note=f"best: {self.best.outcome.held}")

    def confirmed(self, configuration: Configuration, measure: Measure) -> Outcome:
        """Measures a configuration by arrivals that have chosen nothing; what was measured so is kept as well."""
        kept: dict[str, Any] = self._study.user_attrs.get(_CONFIRMED, {})
        if (name := str(configuration)) not in kept:
            outcome = measure(configuration, confirm=True)
            self._study.set_user_attr(_CONFIRMED, {**kept, name: outcome.to_dict()})
            return outcome
        return Outcome.from_dict(kept[name])

    def _next(self, done: int) -> Configuration:
        """The configuration that follows a number of trials, the same however often the search was interrupted."""
        tried = {trial.configuration for trial in self.trials}
        first = [configuration for configuration in self._space.first_trials() if configuration not in tried]
        if first and done < len(self._space.first_trials()):
            return first[0]
        samplers = self._optuna.samplers
        for attempt in range(_ASKS):
            sampler = samplers.TPESampler(seed=_ASKS * done + attempt, n_startup_trials=len(self._space.first_trials()))
            model = self._optuna.create_study(direction="maximize", sampler=sampler)
            model.add_trials(self._study.get_trials(deepcopy=False))
            asked = model.ask(self._distributions())
            configuration = Configuration(**asked.params)
            if self._space.allows(configuration) and configuration not in tried:
                return configuration
        untried = [configuration for configuration in self._all if configuration not in tried]
        return random.Random(done).choice(untried)  # noqa: S311  no secret

    def _keep(self, configuration: Configuration, outcome: Outcome) -> None:
        trial = self._optuna.trial.create_trial(
            params=dataclasses.asdict(configuration),
            distributions=self._distributions(),
            value=outcome.value(self._goal),
            user_attrs={"outcome": outcome.to_dict()},
        )
        self._guarded(lambda: self._study.add_trial(trial))

    def _distributions(self) -> dict[str, Any]:
        categorical = self._optuna.distributions.CategoricalDistribution
        return {name: categorical(list(values)) for name, values in self._space.choices.items()}

    def _open(self, file: Path, identity: dict[str, Any]) -> Any:
        self._file = file
        study = self._guarded(lambda: self._create(file))
        known = study.user_attrs.get(_IDENTITY)
        if known is None:
            self._guarded(lambda: study.set_user_attr(_IDENTITY, identity))
        elif known != identity:
            other = ", ".join(name for name in {**known, **identity} if known.get(name) != identity.get(name))
            raise StudyError(f"{file} is a search with another {other}", "choose another folder: --out DIR")
        return study

    def _create(self, file: Path) -> Any:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.read_bytes()[:16] not in (b"", b"SQLite format 3\0"):
            raise OSError("it is no SQLite file")
        storage = f"sqlite:///{file.absolute()}"
        return self._optuna.create_study(storage=storage, study_name=_STUDY, direction="maximize", load_if_exists=True)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (OSError, sqlite3.Error, self._optuna.exceptions.StorageInternalError) as error:
            reason = f"{self._file} cannot be used as a study ({error})"
            raise StudyError(reason, "choose another folder: --out DIR") from error
