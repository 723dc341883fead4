"""The page on which a person sees the candidates: a few frames of each, beside its line in the CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.report.contact_sheet import contact_sheet
from vdeploy.core.errors import ClipError
from vdeploy.core.files import write_text
from vdeploy.core.progress import track
from vdeploy.core.svg_charts import printable
from vdeploy.core.templates import template_environment
from vdeploy.timeline.cutting import frames_from
from vdeploy.timeline.plot import clock
from vdeploy.video.workers.remote_reader import RemoteReader

if TYPE_CHECKING:
    import numpy.typing as npt

    from training.methods.hard_negatives.candidates import Candidate

__all__ = ["page_template", "write_page"]

_FRAMES = 4
"""Frames of a candidate: movement shows what one picture does not."""

_FIRST_LINE = 2
"""The first line of the CSV below its header."""


def page_template() -> Any:
    """The template of the page.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    folder = Path(__file__).parent / "templates"
    environment = template_environment(folder, extra="report", purpose="the page of candidates")
    environment.filters["clock"] = clock
    return environment.get_template("candidates.html.j2")


def write_page(file: Path, template: Any, candidates: Sequence[Candidate], table: str) -> None:
    """Writes the page atomically; a candidate whose video cannot be read any more has no picture.

    Args:
        file: The page.
        template: What `page_template` returned.
        candidates: In the order of their lines.
        table: Name of the CSV.
    """
    rows = []
    with track("draw candidates", len(candidates), "windows") as step:
        for line, candidate in enumerate(candidates, start=_FIRST_LINE):
            rows.append({"line": line, "candidate": candidate, "picture": _picture(candidate)})
            step.advance()
    write_text(file, printable(template.render(rows=rows, table=table)))


def _picture(candidate: Candidate) -> str:
    """Frames in one row as a ``data:`` URI; empty if there is none."""
    frames = []
    try:
        with RemoteReader(Path(candidate.path)) as reader:
            frames = _frames(reader, candidate)
    except ClipError:
        pass
    return contact_sheet(np.stack(frames)) if frames else ""


def _frames(reader: RemoteReader, candidate: Candidate) -> list[npt.NDArray[np.uint8]]:
    """The first frame of each of equal parts, ``uint8[H, W, 3]`` RGB; fewer where the video changes its size."""
    part_s = (candidate.end_s - candidate.start_s) / _FRAMES
    frames: list[npt.NDArray[np.uint8]] = []
    for shown_s in frames_from(reader, candidate.start_s):
        if shown_s >= candidate.end_s or len(frames) == _FRAMES:
            break
        if shown_s >= candidate.start_s + len(frames) * part_s or not frames:
            picture = reader.picture()
            if frames and picture.shape != frames[0].shape:
                break
            frames.append(picture)
    return frames
