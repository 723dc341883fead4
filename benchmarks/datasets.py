"""Accuracy of recipes inside data sets and across them.

    python -m benchmarks.datasets DATA [--recipe NAME ...] [--seeds 3] [--folds 5] [--json] [--out FILE]

DATA is a folder of data sets: each folder in it is one, or the ``clips.csv`` in that folder, which may name the source
of each clip in a ``group`` column. A clip without a source is a source by itself.

Each recipe is trained on each data set and on each pair of them. A data set is judged by a classifier that has learned
from other sources of the same data set, in cross-validation, and by classifiers that have learned from the others
alone. Clips are judged at a threshold of 0.5 without calibration: nothing is chosen on clips that are reported on.
Figures are means over the seeds, with 95 % intervals from a bootstrap over sources.

Finished trainings are kept in the file of ``--finished``; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.output import add_output_options, report_result
from benchmarks.recipe_options import add_recipe_options, named_recipes
from training.engine.epoch_plan import FeatureSplit
from training.experiments.cross_validation import CrossValidation
from training.experiments.folds import Fold, content_of, extract_folds, grouped_folds
from training.experiments.judged_folds import groups_of, judge_fold
from training.experiments.result_file import ResultFile
from training.pipeline import scan_source
from training.recipe import Recipe
from vdeploy.core.errors import DatasetError, UserError
from vdeploy.core.files import cache_dir
from vdeploy.core.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Task:
    """One recipe trained with one seed on some data sets, and judged on one."""

    trained: tuple[str, ...]
    judged: str
    seed: int

    @property
    def inside(self) -> bool:
        """Whether the data set is judged in cross-validation."""
        return self.trained == (self.judged,)


@dataclasses.dataclass(frozen=True)
class Clips:
    """The clips of all data sets as one recipe sees them, one data set after the other.

    Attributes:
        split: Features, labels and sources of all clips.
        sets: The data set of each clip.
        content: What the features depend on, JSON-ready, by data set.
    """

    split: FeatureSplit
    sets: npt.NDArray[np.str_]
    content: Mapping[str, Any]

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """The source of each clip."""
        assert self.split.groups is not None  # noqa: S101
        return self.split.groups

    def of(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Numbers of the clips of some data sets."""
        return np.flatnonzero(np.isin(self.sets, names))


def main() -> None:
    """Reads options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    parser.add_argument(
        "--finished", type=Path, default=cache_dir() / "datasets.json", help="file of finished trainings"
    )
    add_output_options(parser)
    options = parser.parse_args()
    try:
        recipes = named_recipes(options)
        sources = find_sources(options.data)
        rows = [row for name, recipe in recipes.items() for row in _measure(name, recipe, sources, options)]
    except UserError as error:
        parser.error(str(error))
    given = {"data": str(options.data), "folds": options.folds, "seeds": options.seeds}
    report_result(options, {**given, "rows": rows}, "\n".join(map(_line, rows)))


def find_sources(folder: Path) -> dict[str, Path]:
    """The data sets in a folder by name: a CSV of clips where there is one, else the folder.

    Raises:
        DatasetError: There are fewer than two.
    """
    folders = sorted(each for each in folder.glob("*") if each.is_dir())
    found = {each.name: each / "clips.csv" if (each / "clips.csv").is_file() else each for each in folders}
    if len(found) < 2:
        raise DatasetError(f"{folder} holds {len(found)} data sets", "give a folder of at least two")
    return found


def plan(names: Sequence[str], seeds: int) -> list[Task]:
    """Each data set judged by itself, by each other one, and by each pair of others."""
    trained = [*((name,) for name in names), *itertools.combinations(names, 2)]
    judged = [(sets, name) for sets in trained for name in names if sets == (name,) or name not in sets]
    return [Task(sets, name, seed) for sets, name in judged for seed in range(seeds)]


def _measure(
    name: str, recipe: Recipe, sources: Mapping[str, Path], options: argparse.Namespace
) -> list[dict[str, Any]]:
    clips = _load(recipe, sources, options.store)
    finished = ResultFile(options.finished, version=_VERSION, field="entries", hint="choose another: --finished FILE")
    tasks = plan(list(sources), options.seeds)
    found: dict[Task, list[float]] = {}
    with track(f"train {name}", len(tasks), "trainings") as step:
        for task in tasks:
            parts = (clips.content[part] for part in dict.fromkeys((*task.trained, task.judged)))
            identity = (recipe.identity, *parts, dataclasses.astuple(task), options.folds)
            if (known := finished.get(identity)) is None:
                known = judge(recipe, clips, task, options.folds).tolist()
                finished.put(identity, known)
            found[task] = known
            step.advance()
    return [_row(name, clips, tasks, found) for tasks in _by_cell(tasks)]


def _load(recipe: Recipe, sources: Mapping[str, Path], store: Path) -> Clips:
    weights = recipe.make_backbone().find_weights()
    features, labels, groups, sets, content = [], [], [], [], {}
    for name, source in sources.items():
        dataset, clips = extract_folds(scan_source(source, recipe), recipe, weights, store)
        features.append(clips.features[:])
        labels.append(clips.labels)
        groups += [f"{name} {group}" for group in groups_of(clips)]
        sets += [name] * len(dataset.clips)
        content[name] = [weights.sha256, *content_of(dataset)]
    split = FeatureSplit(np.concatenate(features), np.concatenate(labels), np.array(groups))
    return Clips(split, np.array(sets), content)


def judge(recipe: Recipe, clips: Clips, task: Task, folds: int) -> npt.NDArray[np.float64]:
    """Probabilities of violence of the clips of the data set that is judged, each by other sources, ``float64[N]``."""
    seeded = recipe.varied(training={"seed": task.seed})
    probabilities = np.full(len(clips.sets), np.nan)
    for fold in _folds(clips, task, folds):
        probabilities[fold.judged] = judge_fold(seeded, clips.split, fold)[0]
    return probabilities[clips.of([task.judged])]


def _folds(clips: Clips, task: Task, folds: int) -> Iterator[Fold]:
    learned, judged = clips.of(task.trained), clips.of([task.judged])
    for fold in grouped_folds(clips.split.labels[learned], clips.groups[learned], folds, task.seed):
        train, valid, rest = (learned[part] for part in (fold.train, fold.valid, fold.judged))
        if not task.inside:
            yield Fold(np.union1d(train, rest), valid, judged)
            return
        yield Fold(train, valid, rest)


def _by_cell(tasks: Sequence[Task]) -> list[list[Task]]:
    return [list(each) for _, each in itertools.groupby(tasks, lambda task: (task.trained, task.judged))]


def _row(name: str, clips: Clips, tasks: Sequence[Task], found: Mapping[Task, list[float]]) -> dict[str, Any]:
    first, judged = tasks[0], clips.of([tasks[0].judged])
    probabilities = np.array([found[task] for task in tasks])
    result = CrossValidation(clips.split.labels[judged], clips.groups[judged], probabilities)
    return {
        "recipe": name,
        "trained": list(first.trained),
        "judged": first.judged,
        "inside": first.inside,
        "clips": len(judged),
        "sources": len(np.unique(clips.groups[judged])),
        **result.to_dict(),
    }


def _line(row: Mapping[str, Any]) -> str:
    where = "itself, other sources" if row["inside"] else " + ".join(row["trained"])
    figures = (
        f"{row[key]['value']:.3f} ({row[key]['low']:.3f} to {row[key]['high']:.3f})" for key in ("accuracy", "roc_auc")
    )
    return f"{row['recipe']:10} {row['judged']:13} from {where:24} accuracy {'  AUC '.join(figures)}"


if __name__ == "__main__":
    main()
