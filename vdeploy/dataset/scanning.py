"""Reads a data set from disk: lists it, hashes every file, names what cannot be used, and settles the splits."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vdeploy.core.errors import DatasetError
from vdeploy.core.files import sha256_of
from vdeploy.dataset.labels import assign_labels, unlabelled_names
from vdeploy.dataset.layout import Entry, Listing, list_csv, list_folder
from vdeploy.dataset.records import SPLITS, Dataset, LabelledClip, Problem
from vdeploy.dataset.splits import draw_splits

__all__ = ["list_clips", "scan"]

_THREADS = 8


def scan(
    source: Path,
    *,
    positive: Sequence[str] = (),
    seed: int = 0,
    split: tuple[float, float, float] = (0.7, 0.15, 0.15),
    on_file: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Reads a folder or a CSV of labelled clips.

    A folder holds a folder for each class, or a folder for each split (train, valid, test) with class folders
    inside. A CSV has the columns path and label, and optionally split and group. Splits that come with the data are
    kept; if only the validation split is missing, it is drawn from the training split; without any, all three are
    drawn. Files that cannot be used or are said to be unlabelled, and byte-identical ones that contradict each
    other or would leak from one split into another, become the data set's problems.

    Args:
        source: The folder or the CSV.
        positive: Names of the classes that mean violence; empty to recognise the usual names.
        seed: Seed of the splits that are drawn.
        split: The parts of training, validation and test among the clips, for the splits that are drawn.
        on_file: Called in this thread after each file that was hashed, with how many are done and how many there are.

    Returns:
        The data set, sorted by path; the same for the same files, seed and parts.

    Raises:
        DatasetError: It holds no usable clips of both classes; the message says why.
    """
    _check_fractions(split)
    listing = _without_unlabelled(list_clips(source), positive)
    labels, classes = assign_labels({entry.class_name for entry in listing.entries}, positive, str(source))
    hashes, unreadable = _hash(listing, on_file)
    clips = [
        LabelledClip(entry.path, labels[entry.class_name], entry.split, entry.group, hashes[entry.path])
        for entry in listing.entries
        if entry.path in hashes
    ]
    clips, contradictions = _drop_contradictions(clips)
    given = {entry.split for entry in listing.entries} - {""}
    leaks: list[Problem] = []
    if given - {"train"}:
        clips, leaks = _drop_leaks(clips)
    problems = (*listing.problems, *unreadable, *contradictions, *leaks)
    _check_labels(source, {clip.label for clip in clips}, classes, problems)
    clips = _settle_splits(clips, given, dict(zip(SPLITS, split, strict=True)), seed)
    return Dataset(
        root=listing.root,
        clips=tuple(sorted(clips, key=lambda clip: clip.path)),
        classes=classes,
        given_splits=bool(given - {"train"}),
        problems=tuple(sorted(problems, key=lambda problem: problem.path)),
    )


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    train, valid, test = fractions
    if not (train > 0 and valid > 0 and test >= 0 and abs(train + valid + test - 1) < 1e-6):
        raise DatasetError(
            f"the split fractions {train:g}, {valid:g}, {test:g} cannot be used",
            "give three numbers that add up to 1 for training, validation and test; only the last may be 0",
        )


def list_clips(source: Path) -> Listing:
    """Lists the clips of a folder or a CSV, without opening any.

    Raises:
        DatasetError: It is neither, or lists no clip; the message says why.
    """
    if source.is_dir():
        return list_folder(source)
    if source.is_file() and source.suffix.lower() == ".csv":
        return list_csv(source)
    reason = "is neither a folder nor a .csv file" if source.exists() else "does not exist"
    raise DatasetError(f"{source} {reason}", "give a folder of clips or a CSV that lists them")


def _without_unlabelled(listing: Listing, positive: Sequence[str]) -> Listing:
    """Leaves out the clips whose class name says that nobody has labelled them."""
    unlabelled = unlabelled_names({entry.class_name for entry in listing.entries}, positive)
    problems = [
        Problem(entry.path, f"is unlabelled: its class is {entry.class_name}")
        for entry in listing.entries
        if entry.class_name in unlabelled
    ]
    kept = tuple(entry for entry in listing.entries if entry.class_name not in unlabelled)
    return dataclasses.replace(listing, entries=kept, problems=(*listing.problems, *problems))


def _hash(listing: Listing, on_file: Callable[[int, int], None] | None) -> tuple[dict[str, str], list[Problem]]:
    def outcome(entry: Entry) -> str | Problem:
        file = listing.root / entry.path
        try:
            if not file.exists():
                return Problem(entry.path, "does not exist")
            if not file.is_file():
                return Problem(entry.path, "is not a regular file")
            return sha256_of(file) if file.stat().st_size else Problem(entry.path, "is empty")
        except OSError as error:
            return Problem(entry.path, f"cannot be read ({error.strerror})")

    hashes: dict[str, str] = {}
    problems = []
    pool = ThreadPoolExecutor(max_workers=min(_THREADS, (os.cpu_count() or 1) * 2), thread_name_prefix="hash")
    try:
        for done, (entry, result) in enumerate(
            zip(listing.entries, pool.map(outcome, listing.entries), strict=True), start=1
        ):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                hashes[entry.path] = result
            if on_file:
                on_file(done, len(listing.entries))
    finally:
        pool.shutdown(cancel_futures=True)
    return hashes, problems


def _same_bytes(clips: Iterable[LabelledClip]) -> list[list[LabelledClip]]:
    by_hash: dict[str, list[LabelledClip]] = {}
    for clip in clips:
        by_hash.setdefault(clip.sha256, []).append(clip)
    return [same for same in by_hash.values() if len(same) > 1]


def _drop_contradictions(clips: list[LabelledClip]) -> tuple[list[LabelledClip], list[Problem]]:
    problems = [
        Problem(clip.path, f"byte-identical to {other.path}, which has the other label: both are left out")
        for same in _same_bytes(clips)
        for clip in same
        if (other := next((each for each in same if each.label != clip.label), None))
    ]
    return _without(clips, problems), problems


def _drop_leaks(clips: list[LabelledClip]) -> tuple[list[LabelledClip], list[Problem]]:
    """Leaves a clip out of training if validation or test holds it too, and out of validation if test does."""
    problems = []
    for same in _same_bytes(clips):
        keeper = max(same, key=lambda clip: SPLITS.index(clip.split))
        problems += [
            Problem(clip.path, f"byte-identical to {keeper.path}: left out of {clip.split}, or it would leak")
            for clip in same
            if clip.split != keeper.split
        ]
    return _without(clips, problems), problems


def _without(clips: list[LabelledClip], problems: Iterable[Problem]) -> list[LabelledClip]:
    dropped = {problem.path for problem in problems}
    return [clip for clip in clips if clip.path not in dropped]


def _check_labels(source: Path, labels: set[int], classes: tuple[str, str], problems: Sequence[Problem]) -> None:
    missing = [name for label, name in enumerate(classes) if label not in labels]
    if missing:
        examples = "".join(f"; left out: {problem.path}, {problem.reason}" for problem in problems[:1])
        raise DatasetError(
            f"{source} holds no usable clip of {' or '.join(missing)}{examples}", "it needs both classes"
        )


def _settle_splits(
    clips: list[LabelledClip], given: set[str], fractions: dict[str, float], seed: int
) -> list[LabelledClip]:
    if not given - {"train"}:
        return draw_splits(clips, fractions, seed)
    if "valid" in given or "train" not in given:
        return clips
    both = fractions["train"] + fractions["valid"]
    shares = {name: fractions[name] / both for name in ("train", "valid")}
    drawn = draw_splits([clip for clip in clips if clip.split == "train"], shares, seed)
    return drawn + [clip for clip in clips if clip.split != "train"]
