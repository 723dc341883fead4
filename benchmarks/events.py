"""Detection of events: precision, recall and F1 on long videos with known fights, with a rule chosen on other videos.

    python -m benchmarks.events --bundle BUNDLE [CLIPS] [--videos 20] [--minutes 1] [--format F]

Clips of a split are divided into two halves. Videos put together from one half choose the rule (thresholds, shortest
duration, gap) with the best F1; it is evaluated on those from the other half. A fight counts as found if the
intersection over union of an event with it reaches the given limit, each event for one fight; by the second, every
tenth of a second counts by itself.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.montage import Montage, labelled_clips, make_montage, montage_parser
from benchmarks.output import report_result
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import UserError
from vdeploy.core.progress import track
from vdeploy.detector import detect
from vdeploy.inference.in_process import LocalScorer
from vdeploy.timeline.timeline import EventRule, Timeline

IOU = (0.3, 0.5)
CHOOSING_IOU = 0.5
TICK_S = 0.1

Evaluated = tuple[Timeline, Montage]


class Counts(NamedTuple):
    """True positives, false positives and false negatives."""

    hits: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of what was found that is right."""
        return self.hits / (self.hits + self.false) if self.hits + self.false else 0.0

    @property
    def recall(self) -> float:
        """Share of what there is that was found."""
        return self.hits / (self.hits + self.missed) if self.hits + self.missed else 0.0

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        return 2 * self.hits / (2 * self.hits + self.false + self.missed) if self.hits else 0.0


def by_event(evaluated: Sequence[Evaluated], overlap: float) -> Counts:
    """Events against fights; the best overlaps are matched first."""
    hits = events = fights = 0
    for timeline, montage in evaluated:
        spans = [(event.start_s, event.end_s) for event in timeline.events]
        pairs = sorted(
            (
                (_iou(span, fight), number, other)
                for number, span in enumerate(spans)
                for other, fight in enumerate(montage.fights)
            ),
            reverse=True,
        )
        used: tuple[set[int], set[int]] = (set(), set())
        for value, number, other in pairs:
            if value >= overlap and number not in used[0] and other not in used[1]:
                used[0].add(number)
                used[1].add(other)
        hits += len(used[0])
        events += len(spans)
        fights += len(montage.fights)
    return Counts(hits, events - hits, fights - hits)


def by_second(evaluated: Sequence[Evaluated]) -> Counts:
    """Tenths of a second inside events against those inside fights."""
    hits = false = missed = 0
    for timeline, montage in evaluated:
        times = np.arange(0, montage.duration_s, TICK_S) + TICK_S / 2
        found = _inside(times, [(event.start_s, event.end_s) for event in timeline.events])
        true = _inside(times, montage.fights)
        hits += int((found & true).sum())
        false += int((found & ~true).sum())
        missed += int((~found & true).sum())
    return Counts(hits, false, missed)


def choose_rule(evaluated: Sequence[Evaluated]) -> EventRule:
    """The rule with the best F1 by event."""
    rules = [
        EventRule(enter, enter * share, shortest, gap)
        for enter, share, shortest, gap in itertools.product(
            np.round(np.arange(0.05, 1.0, 0.05), 2).tolist(), (0.5, 0.8, 1.0), (0.0, 2.0, 2.5, 3.0), (0.0, 1.0)
        )
    ]
    return max(rules, key=lambda rule: by_event(_with_rule(evaluated, rule), CHOOSING_IOU).f1)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if it could not run."""
    options = _parse(arguments)
    try:
        result = _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report_result(options, result, as_text(result))
    return 0


def as_text(result: dict[str, Any]) -> str:
    """The result as a person reads it."""
    lines = [
        f"{result['videos']} videos of {result['minutes_each']} minutes with {result['fights']} fights",
        f"{'rule':28} {'counted by':12} precision  recall     F1",
    ]
    for name in ("chosen", "chosen_on_its_own_videos", "default"):
        for counted, measures in result[name].items():
            if counted != "rule":
                figures = " ".join(f"{measures[key]:9.3f}" for key in ("precision", "recall", "f1"))
                lines.append(f"{name.replace('_', ' '):28} {counted.replace('_', ' '):10} {figures}")
    return "\n".join(lines)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    scorer = LocalScorer(Bundle(options.bundle), options.format)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        clips = labelled_clips(options.clips, options.split, scratch)
        halves = [{label: paths[half::2] for label, paths in clips.items()} for half in (0, 1)]
        evaluated: list[list[Evaluated]] = [[], []]
        with track("videos", 2 * options.videos, "videos") as step:
            for half, seed in itertools.product((0, 1), range(options.videos)):
                montage = make_montage(halves[half], options.minutes, seed, scratch / "video.mp4")
                timeline = detect(montage.path, scorer, window_s=options.window, stride_s=options.stride)
                evaluated[half].append((timeline, montage))
                step.advance()
    rule = choose_rule(evaluated[0])
    usual = EventRule.at(scorer.threshold)
    return {
        "bundle": options.bundle.name,
        "format": scorer.format_name,
        "frame_px": scorer.spec.size,
        "clips": "generated" if options.clips is None else options.clips.name,
        "window_s": evaluated[1][0][0].window_s,
        "stride_s": evaluated[1][0][0].stride_s,
        "videos": options.videos,
        "minutes_each": round(statistics.mean(montage.duration_s for _, montage in evaluated[1]) / 60, 2),
        "fights": sum(len(montage.fights) for _, montage in evaluated[1]),
        "chosen": _scores(_with_rule(evaluated[1], rule), rule),
        "chosen_on_its_own_videos": _scores(_with_rule(evaluated[0], rule), rule),
        "default": _scores(_with_rule(evaluated[1], usual), usual),
    }


def _with_rule(evaluated: Sequence[Evaluated], rule: EventRule) -> list[Evaluated]:
    return [(timeline.with_rule(rule), montage) for timeline, montage in evaluated]


def _scores(evaluated: Sequence[Evaluated], rule: EventRule) -> dict[str, Any]:
    counts = {f"iou_{overlap}": by_event(evaluated, overlap) for overlap in IOU} | {"seconds": by_second(evaluated)}
    measures = {
        name: {measure: round(getattr(count, measure), 3) for measure in ("precision", "recall", "f1")}
        for name, count in counts.items()
    }
    return {"rule": vars(rule), **measures}


def _iou(one: tuple[float, float], other: tuple[float, float]) -> float:
    shared = max(min(one[1], other[1]) - max(one[0], other[0]), 0.0)
    return shared / (one[1] - one[0] + other[1] - other[0] - shared)


def _inside(times: np.ndarray, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    inside = np.zeros(len(times), bool)
    for start, end in spans:
        inside |= (times >= start) & (times < end)
    return inside


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = montage_parser(__doc__)
    parser.add_argument(
        "--videos", type=int, default=20, help="to evaluate, and as many to choose the rule on (%(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="length of each (%(default)s)")
    parser.add_argument("--window", type=float, help="seconds of a window (default: as long as the training clips)")
    parser.add_argument("--stride", type=float, default=0.5, help="seconds from window to window (%(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
