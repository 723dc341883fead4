"""Videos in, verdicts out, over any scorer: a bundle in this process or a Triton server.

Imports with numpy, opencv and, for a server, tritonclient alone.
"""

from __future__ import annotations

import dataclasses
import glob
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.clips import read_clips
from training.dataset.layout import VIDEO_SUFFIXES
from vdeploy.errors import ClipError, UserError

if TYPE_CHECKING:
    from vdeploy.scoring import Scorer

__all__ = ["Prediction", "find_videos", "predict_videos"]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What became of one video.

    Attributes:
        path: The file.
        probability: Probability that it shows violence; ``None`` if it could not be judged.
        violent: Whether that reaches the threshold.
        error: Why it could not be judged.
        warnings: What is odd about the file.
        milliseconds: Time to score it, decoding not included.
    """

    path: str
    probability: float | None
    violent: bool | None
    error: str | None
    warnings: tuple[str, ...]
    milliseconds: float | None


def find_videos(sources: Sequence[str]) -> list[Path]:
    """Resolves files, folders (searched for videos) and glob patterns.

    Args:
        sources: What the user typed.

    Returns:
        Paths in the order given, each once.

    Raises:
        UserError: Something does not exist or holds no video.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            videos = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()
            )
            if not videos:
                raise UserError(
                    f"the folder {source} holds no video", f"known suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}"
                )
        elif path.exists():
            videos = [path]
        else:
            videos = sorted(Path(match) for match in glob.glob(source, recursive=True))  # noqa: PTH207  absolute patterns too
            if not videos:
                raise UserError(f"there is no file, folder or match for {source}", "check the path")
        found.update(dict.fromkeys(videos))
    return list(found)


def predict_videos(paths: Iterable[Path], scorer: Scorer) -> Iterator[Prediction]:
    """Judges videos one by one while the next ones are being decoded.

    Args:
        paths: Video files.
        scorer: What turns frames into probabilities.

    Yields:
        A prediction for each path, in order; a file that cannot be read is answered with its error.
    """
    for path, outcome in read_clips(paths, scorer.spec):
        if isinstance(outcome, ClipError):
            yield Prediction(str(path), None, None, outcome.reason, (), None)
            continue
        started = time.perf_counter()
        probability = float(scorer.score(outcome.frames[np.newaxis])[0, 1])
        yield Prediction(
            path=str(path),
            probability=probability,
            violent=probability >= scorer.threshold,
            error=None,
            warnings=outcome.warnings,
            milliseconds=(time.perf_counter() - started) * 1000,
        )
