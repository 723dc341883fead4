"""A file that is watched like a camera, to be compared with its timeline."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vdeploy.inference.open_scorer import open_scorer
from vdeploy.live.source import parse_sources
from vdeploy.live.watcher import watch
from vdeploy.timeline.events import Window

__all__ = ["probabilities", "watched"]

_TRIES = 3


def watched(video: Path, bundle: Path, expected: Sequence[Window], *, window_s: float, stride_s: float) -> list[Window]:
    """Windows of a watched file, scored by `onnx-fp32`.

    A source that is watched runs by the clock: under load, a picture is seen late or dropped now and then, and another
    takes its place. The next try has them all.

    Args:
        video: The file.
        bundle: What scores it.
        expected: What should be found: with these, or after three tries, whatever was found is returned.
        window_s: Length of a window in seconds.
        stride_s: From window to window.
    """
    connect = functools.partial(open_scorer, bundle=bundle, format_name="onnx-fp32")
    for _ in range(_TRIES):
        reports = watch(parse_sources([str(video)]), connect, window_s=window_s, stride_s=stride_s)
        found = [report.window for report in reports if report.window is not None]
        if len(found) == len(expected) and np.allclose(*map(probabilities, (found, expected)), rtol=0, atol=1e-5):
            break
    return found


def probabilities(windows: Sequence[Window]) -> list[float]:
    """Of violence, of each window."""
    return [window.probability for window in windows]
