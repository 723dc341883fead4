"""Files that are made from the timeline of a video: the document, a picture, and a clip of each event."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.errors import TimelineError
from vdeploy.core.files import write_text
from vdeploy.core.write_check import refuse_unwritable
from vdeploy.timeline.cutting import cut_events
from vdeploy.timeline.plot import check_picture, plot_timeline
from vdeploy.video.clips import ClipSpec
from vdeploy.video.workers.clips import decode_clip

if TYPE_CHECKING:
    from vdeploy.timeline.timeline import Timeline

__all__ = ["TimelineFiles"]

_STRIP = ClipSpec(frames=12, size=160)
"""The frames above a plotted timeline."""


@dataclasses.dataclass(frozen=True)
class TimelineFiles:
    """Where the files of a timeline go; ``None`` where a file is not wanted.

    Attributes:
        timeline: JSON document.
        plot: PNG, SVG or PDF picture.
        clips: Folder of one MP4 file per event.
    """

    timeline: Path | None = None
    plot: Path | None = None
    clips: Path | None = None

    def check(self, videos: int) -> None:
        """Checks before the videos are scored that the files can be written.

        Args:
            videos: Number of videos that are going to be scored.

        Raises:
            TimelineError: Several videos would write one file, or the suffix of the plot is unknown.
            UserError: A file or folder cannot be written.
        """
        if videos > 1 and (self.timeline or self.plot):
            raise TimelineError(
                f"--timeline and --plot write one file, and {videos} videos were given", "give one video, or use --json"
            )
        if self.plot:
            check_picture(self.plot)
        for file in filter(None, (self.timeline, self.plot)):
            refuse_unwritable(file)
        if self.clips:
            refuse_unwritable(self.clips, folder=True)

    def write(self, video: Path, timeline: Timeline) -> Iterator[Path]:
        """Writes the files of one video.

        Yields:
            Each clip, once it is complete.

        Raises:
            ClipError: The video cannot be read.
            TimelineError: A clip cannot be written.
        """
        if self.timeline:
            write_text(self.timeline, timeline.to_json() + "\n")
        if self.plot:
            plot_timeline(timeline, self.plot, decode_clip(video, _STRIP).frames)
        if self.clips:
            yield from cut_events(video, timeline, self.clips)
