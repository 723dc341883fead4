"""What a study is: commands to run, what they need, and how that which they find becomes Markdown."""

from __future__ import annotations

import dataclasses
import shlex
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

from vdeploy.benchmark.measure.machine import gpu_and_driver

__all__ = ["Blocks", "Found", "Inputs", "Step", "Study", "single"]

Need = Literal["bundle", "data", "run", "gpu"]

Found = Mapping[str, Any]
"""Results of a study's steps by the steps' names; at least one, and not always all."""

Blocks = Iterable[str]
"""Paragraphs and tables of Markdown."""

_FOLDERS: Mapping[str, str] = {"bundle": "bundles/", "data": "", "run": "runs/"}
"""What stands in front of an input's name where a command is shown."""

_REMEDIES: Mapping[Need, str] = {
    "bundle": "needs a bundle: --bundle BUNDLE",
    "data": "needs labelled clips: --data CLIPS",
    "run": "needs a trained run: --run RUN",
    "gpu": "needs a GPU, and this machine has none",
}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the user gives to studies.

    Attributes:
        bundle: A bundle.
        data: Labelled clips.
        run: A trained run.
    """

    bundle: Path | None = None
    data: Path | None = None
    run: Path | None = None


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of a study.

    Attributes:
        name: What it is called among the study's steps.
        command: What is run, without an option for its output; ``{bundle}``, ``{data}`` and ``{run}`` stand for inputs.
        gpu: Whether it needs a GPU.
        keep: Leaves of the command's JSON what a record should hold.
    """

    name: str
    command: str
    gpu: bool = False
    keep: Callable[[Any], Any] = lambda result: result

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the command takes."""
        return tuple(field for _, field, _, _ in string.Formatter().parse(self.command) if field)

    def missing(self, inputs: Inputs) -> str | None:
        """Why it cannot run, and what to do about it; ``None`` if it can."""
        needs = [cast(Need, name) for name in self.inputs if getattr(inputs, name) is None]
        if self.gpu and gpu_and_driver()[0] is None:
            needs.append("gpu")
        return "; ".join(_REMEDIES[need] for need in sorted(needs, key=get_args(Need).index)) or None

    def words(self, inputs: Inputs) -> list[str]:
        """The command to run, with absolute paths."""
        values = {name: shlex.quote(str(getattr(inputs, name).absolute())) for name in self.inputs}
        return shlex.split(self.command.format(**values))

    def shown(self, inputs: Inputs | None = None) -> str:
        """The command as a reader may see it: inputs by their names, wherever they lie.

        Args:
            inputs: Those that it was run with; left out, their names are capital letters.
        """
        values = {}
        for name in self.inputs:
            path: Path | None = getattr(inputs, name, None)
            values[name] = name.upper() if path is None else f"{_FOLDERS[name]}{path.absolute().name}"
        return self.command.format(**values)


@dataclasses.dataclass(frozen=True)
class Study:
    """What belongs into one section of the results.

    Attributes:
        name: For the command line and the record's file.
        title: The section's heading.
        steps: What is run; each is measured and kept for itself.
        describe: The section's text, made of what was found.
    """

    name: str
    title: str
    steps: tuple[Step, ...]
    describe: Callable[[Found], Blocks]


def single(
    name: str,
    title: str,
    command: str,
    describe: Callable[[Any], Blocks],
    *,
    gpu: bool = False,
    keep: Callable[[Any], Any] | None = None,
) -> Study:
    """A study of one command.

    Args:
        name: As in `Study`, and that of its only step.
        title: As in `Study`.
        command: As in `Step`.
        describe: The section's text, made of the command's result.
        gpu: As in `Step`.
        keep: As in `Step`.
    """
    step = Step(name, command, gpu) if keep is None else Step(name, command, gpu, keep)
    return Study(name, title, (step,), lambda found: describe(found[name]))
