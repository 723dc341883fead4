"""The learning-rate curve as a chart or as JSON."""

from __future__ import annotations

import io
from pathlib import Path

from training.experiments.learning_rate import RateCurve
from vdeploy.core.errors import StudyError
from vdeploy.core.files import atomic_write, write_json
from vdeploy.core.lazy_imports import require

__all__ = ["check_suffix", "write_rate_curve"]

_PICTURES = (".png", ".svg")


def write_rate_curve(curve: RateCurve, file: Path) -> None:
    """Writes a curve in the format of the file's suffix: a chart for ``.png`` and ``.svg``, or ``.json``.

    Args:
        curve: The curve.
        file: File to write.

    Raises:
        StudyError: The suffix is unknown, or the file cannot be written.
    """
    check_suffix(file)
    try:
        if file.suffix == ".json":
            write_json(file, curve.to_dict())
        else:
            content = _draw(curve, file.suffix.removeprefix("."))
            with atomic_write(file) as output:
                output.write(content)
    except OSError as error:
        raise StudyError(f"cannot write {file} ({error.strerror or error})", "choose another: --out FILE") from error


def check_suffix(file: Path) -> None:
    """Checks that `write_rate_curve` knows the suffix of a file.

    Raises:
        StudyError: The suffix is unknown.
    """
    if file.suffix not in (*_PICTURES, ".json"):
        raise StudyError(f"{file} is neither a picture nor JSON", f"name it *{', *'.join(_PICTURES)} or *.json")


def _draw(curve: RateCurve, kind: str) -> bytes:
    figures = require("matplotlib.figure", extra="train", purpose="drawing a curve")
    figure = figures.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, color="0.8", linewidth=1, label="each batch")
    axes.plot(curve.rates, curve.smooth, color="#1f5fa8", linewidth=2, label="smoothed")
    axes.axvline(curve.suggested, color="#b3261e", linestyle="--", label=f"suggested: {curve.suggested:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.set_ylim(0, 1.1 * max(curve.smooth[: curve.smooth.index(min(curve.smooth)) + 1]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
