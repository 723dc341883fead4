"""What one process of a benchmark measures."""

from __future__ import annotations

import dataclasses
import json

from vdeploy.benchmark.record import Transport, What

__all__ = ["Job"]


@dataclasses.dataclass(frozen=True)
class Job:
    """One row's work.

    Attributes:
        what: What a call does.
        bundle: Folder of the bundle.
        format: Format of the files that run; of no meaning where a server runs.
        runtime: The runtime; ``None`` for the format's own.
        batch: Clips a call.
        threads: Threads of a call.
        url: ``HOST:PORT`` of the server that is called instead.
        videos: Files that are called in turn, for ``what == "video"``.
        concurrency: Callers at once, of a server.
        transport: How frames and answers travel; ``None`` in process.
    """

    what: What
    bundle: str
    format: str
    runtime: str | None
    batch: int
    threads: int
    url: str | None = None
    videos: tuple[str, ...] = ()
    concurrency: int = 1
    transport: Transport | None = None

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Job:
        """Reads what `to_json` wrote."""
        values = json.loads(line)
        return cls(**{**values, "videos": tuple(values["videos"])})
