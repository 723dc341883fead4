"""Checkouts of vdeploy whose commands a comparison runs, in turns."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vdeploy.core.errors import BenchmarkError

__all__ = ["FORMATS", "Comparison", "Revision"]

FORMATS = ("onnx-fp32", "tflite-fp32", "savedmodel")
"""Formats that each revision exports the small run to."""

SMALL = ("clip.size=32", "clip.frames=4", "training.epochs=2", "training.batch=8", "features.weights=random")
"""Settings of the small run."""


class Revision:
    """A checkout whose commands are run.

    Args:
        root: Folder of the checkout.
        work: Folder that its commands run in and write to.

    Raises:
        BenchmarkError: The folder holds no vdeploy.
    """

    def __init__(self, root: Path, work: Path) -> None:
        if not (root / "vdeploy" / "__main__.py").is_file():
            raise BenchmarkError(f"{root} is no checkout of vdeploy", "give the root folder of a checkout")
        self.root, self.work = root.absolute(), work
        work.mkdir()

    def run(self, *words: object) -> str:
        """Runs a command of vdeploy and returns what it prints.

        Raises:
            BenchmarkError: It failed; the message is its last line.
        """
        command = [sys.executable, "-m", "vdeploy", *map(str, words)]
        environment = os.environ | {"PYTHONPATH": str(self.root)}
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
            raise BenchmarkError(f"{self.root}: vdeploy {' '.join(map(str, words[:2]))}: {lines[-1]}")
        return done.stdout

    def seconds(self, *words: object) -> float:
        """Runs a command and returns how long it took."""
        began = time.perf_counter()
        self.run(*words)
        return time.perf_counter() - began


@dataclasses.dataclass
class Comparison:
    """What the checks share.

    Attributes:
        before: The first revision.
        after: The second one.
        folder: For clips and the run that both revisions export.
        demo: Finished demo folder of the first revision, if there is one.
        rounds: Measurements of each revision.
        time: Seconds that each of them lasts.
    """

    before: Revision
    after: Revision
    folder: Path
    demo: Path | None
    rounds: int
    time: float

    @property
    def revisions(self) -> tuple[Revision, Revision]:
        """Both, the first one first."""
        return self.before, self.after

    def run(self) -> Path:
        """A small run that the first revision trains, once."""
        run = self.folder / "run"
        if not run.exists():
            clips = self.folder / "clips"
            self.before.run("data", "synth", clips, "--clips", 20)
            settings = [word for setting in SMALL for word in ("--set", setting)]
            self.before.run("train", clips, "--out", run, "--store", self.folder / "store", *settings)
        return run

    def bundle(self, revision: Revision) -> Path:
        """The run as a revision exports it, once."""
        bundle = revision.work / "bundle"
        if not bundle.exists():
            store = self.folder / "store"
            revision.run("export", self.run(), "--out", bundle, "--store", store, "--format", ",".join(FORMATS))
        return bundle

    def in_turns(self, measure: Callable[[Revision], float]) -> tuple[list[float], list[float]]:
        """Measures both revisions in turns, each round begun by the other one."""
        figures: dict[Revision, list[float]] = {revision: [] for revision in self.revisions}
        for index in range(self.rounds):
            for revision in self.revisions[:: -1 if index % 2 else 1]:
                figures[revision].append(measure(revision))
        return figures[self.before], figures[self.after]
