"""Decodes the corpus by us and by FFmpeg, and says where they disagree.

python -m testing.corpus [--kind KIND ...] [--name TEXT] [--keep FOLDER] [--json]
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
from pathlib import Path

from testing.corpus import tools
from testing.corpus.catalogue import corpus_inputs, write_intermediates
from testing.corpus.comparison import Outcome, compare

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs the corpus; 1 where frames are wrong or lost, 2 where FFmpeg is absent."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", action="append", help="only inputs of this kind; may be repeated")
    parser.add_argument("--name", default="", help="only inputs whose names contain this")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the inputs there and keep them")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    options = parser.parse_args(arguments)
    if not tools.are_installed():
        print("error: ffmpeg and ffprobe are not installed; run: apt-get install ffmpeg", file=sys.stderr)
        return 2
    chosen = [
        one for one in corpus_inputs() if options.name in one.name and (not options.kind or one.kind in options.kind)
    ]
    outcomes: dict[str, list[Outcome]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_intermediates(folder)
        for one in chosen:
            path = folder / one.name
            try:
                one.make(folder, path)
                outcome = compare(one, path)
            except tools.ToolError as error:
                outcome = Outcome(0, 0, 0, 0.0, (f"not compared: {error}",))
            outcomes[one.kind].append(outcome)
            for fault in outcome.faults:
                print(f"{one.kind}: {one.name}: {fault}", file=sys.stderr, flush=True)
    total = _sum([outcome for found in outcomes.values() for outcome in found])
    if options.json:
        print(json.dumps({**{kind: _sum(found) for kind, found in outcomes.items()}, "total": total}))
    else:
        for kind, found in [*((kind, _sum(found)) for kind, found in outcomes.items()), ("total", total)]:
            print(
                f"{kind:32} {found['inputs']:4} inputs {found['frames']:6} frames {found['wrong_frames']:4} wrong"
                f" {found['lost_frames']:4} lost {found['faulty_inputs']:4} faulty, largest error {found['error']:.2f}"
            )
    return 1 if total["faulty_inputs"] else 0


def _sum(outcomes: list[Outcome]) -> dict[str, float]:
    return {
        "inputs": len(outcomes),
        "frames": sum(outcome.frames for outcome in outcomes),
        "wrong_frames": sum(outcome.wrong for outcome in outcomes),
        "lost_frames": sum(outcome.lost for outcome in outcomes),
        "faulty_inputs": sum(bool(outcome.faults) for outcome in outcomes),
        "error": round(max((outcome.error for outcome in outcomes), default=0.0), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
