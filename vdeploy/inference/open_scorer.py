"""One way to open whatever scores clips: a bundle in this process, or a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.errors import UserError

if TYPE_CHECKING:
    from vdeploy.inference.scorer import BundleScorer

__all__ = ["open_scorer"]


@contextlib.contextmanager
def open_scorer(
    *,
    bundle: Path | None = None,
    url: str | None = None,
    format_name: str | None = None,
    server_windows: bool = False,
) -> Iterator[BundleScorer]:
    """Opens a scorer, and closes it when the block ends.

    Args:
        bundle: Folder of a bundle to run in this process.
        url: ``HOST:PORT`` of a Triton server's gRPC service.
        format_name: Which of the bundle's formats to run; left out, the fastest of its usual precision where the
            benchmark has measured them here. A server has made its choice.
        server_windows: Whether the server is to keep the windows of streams; the scorer is a `StreamScorer` then.

    Yields:
        The scorer.

    Raises:
        UserError: Neither or both were given, or what was given does not work.
    """
    if bundle is None and url is None:
        raise UserError("give either a bundle or a server", "add --bundle BUNDLE or --url HOST:PORT")
    if bundle is not None and url is not None:
        raise UserError("give either a bundle or a server, not both", "leave out --bundle or --url")
    if url is not None and format_name is not None:
        raise UserError("a server ignores --format: it runs what it was given", "leave it out, or use --bundle BUNDLE")
    if bundle is not None and server_windows:
        raise UserError("windows are kept by a server only", "give one, --url HOST:PORT, or leave --server-windows out")
    if bundle is not None:
        from vdeploy.artifacts.bundle import Bundle  # noqa: PLC0415  a client of a server does without it
        from vdeploy.inference.format_speeds import fastest_here  # noqa: PLC0415
        from vdeploy.inference.in_process import LocalScorer  # noqa: PLC0415

        opened = Bundle(bundle)
        yield LocalScorer(opened, format_name or fastest_here(opened))
        return
    from vdeploy.triton.client.client import TritonScorer  # noqa: PLC0415  a user of a bundle does without it
    from vdeploy.triton.client.stream_client import StreamClient  # noqa: PLC0415  a user of a bundle does without it

    with (StreamClient if server_windows else TritonScorer)(str(url)) as scorer:
        yield scorer
