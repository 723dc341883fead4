"""Studies: the commands to run, their inputs, and the function that renders their results as Markdown."""

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
"""Results of the steps of a study by name; at least one, not always all."""

Blocks = Iterable[str]
"""Paragraphs and tables of Markdown."""

_FOLDERS: Mapping[str, str] = {"bundle": "bundles/", "data": "", "run": "runs/"}
"""Folder shown in front of the name of an input."""

_REMEDIES: Mapping[Need, str] = {
    "bundle": "needs a bundle: --bundle BUNDLE",
    "data": "needs labelled clips: --data CLIPS",
    "run": "needs a trained run: --run RUN",
    "gpu": "needs a GPU, and this machine has none",
}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Inputs that the user gives to studies.

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
        name: Name among the steps of the study.
        command: The command, without options for its output; ``{bundle}``, ``{data}`` and ``{run}`` stand for inputs.
        gpu: Whether it needs a GPU.
        keep: Reduces the JSON of the command to what the record keeps.
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
        """Returns why the step cannot run, and what to do; ``None`` if it can run."""
        needs = [cast(Need, name) for name in self.inputs if getattr(inputs, name) is None]
        if self.gpu and gpu_and_driver()[0] is None:
            needs.append("gpu")
        return "; ".join(_REMEDIES[need] for need in sorted(needs, key=get_args(Need).index)) or None

    def words(self, inputs: Inputs) -> list[str]:
        """Returns the command with absolute paths."""
        values = {name: shlex.quote(str(getattr(inputs, name).absolute())) for name in self.inputs}
        return shlex.split(self.command.format(**values))

    def shown(self, inputs: Inputs | None = None) -> str:
        """Returns the command as shown to readers, with inputs by name instead of by path.

        Args:
            inputs: Inputs of the run; left out, they are shown in capital letters.
        """
        values = {}
        for name in self.inputs:
            path: Path | None = getattr(inputs, name, None)
            values[name] = name.upper() if path is None else f"{_FOLDERS[name]}{path.absolute().name}"
        return self.command.format(**values)


@dataclasses.dataclass(frozen=True)
class Study:
    """One section of the results.

    Attributes:
        name: Name on the command line and of the file of the record.
        title: Heading of the section.
        steps: The commands; each is measured and kept separately.
        describe: Renders the results as paragraphs and tables.
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
    """Makes a study of one command.

    Args:
        name: As in `Study`, and that of its only step.
        title: As in `Study`.
        command: As in `Step`.
        describe: Renders the result of the command.
        gpu: As in `Step`.
        keep: As in `Step`.
    """
    step = Step(name, command, gpu) if keep is None else Step(name, command, gpu, keep)
    return Study(name, title, (step,), lambda found: describe(found[name]))
