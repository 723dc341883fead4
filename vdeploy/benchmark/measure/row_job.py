"""The job of a row's process, as it is sent to it."""

from __future__ import annotations

import dataclasses
import json

from vdeploy.benchmark.record import Transport, Workload

__all__ = ["Job"]


@dataclasses.dataclass(frozen=True)
class Job:
    """What one row measures.

    Attributes:
        what: The workload.
        bundle: Folder of the bundle.
        format: Format of the files that run; not used where a server runs.
        runtime: The runtime; ``None`` for the format's own.
        batch: Clips per call.
        threads: Threads per call.
        url: ``HOST:PORT`` of the server to call; ``None`` in process.
        videos: Input files, used in turn, for ``what == "video"``.
        concurrency: Number of concurrent callers of a server.
        transport: Transport of frames and answers; ``None`` in process.
    """

    what: Workload
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
        """Writes the job as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Job:
        """Reads a job that `to_json` wrote."""
        values = json.loads(line)
        return cls(**{**values, "videos": tuple(values["videos"])})
