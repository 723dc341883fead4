"""Open the parts of a gateway, and close them in the end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.files import staging_folder
from vdeploy.gateway.access import Access
from vdeploy.gateway.decoding.pool import BACKGROUND_NICE, DecoderPool
from vdeploy.gateway.metrics import Metrics
from vdeploy.gateway.models import open_model
from vdeploy.gateway.router import Router
from vdeploy.gateway.service import Service

if TYPE_CHECKING:
    from vdeploy.gateway.keys import KeyFile
    from vdeploy.gateway.limits import Limits

__all__ = ["open_service"]


@contextlib.contextmanager
def open_service(
    *,
    limits: Limits,
    folder: Path,
    bundle: Path | None = None,
    url: str | None = None,
    format_name: str | None = None,
    canary_bundle: Path | None = None,
    canary_url: str | None = None,
    canary_percent: float = 0.0,
    keys: KeyFile | None = None,
    cameras: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Open the parts of a gateway, and close them when the block ends.

    Args:
        limits: What is accepted.
        folder: Where a folder for uploads is created; those of killed gateways are removed.
        bundle: Folder of a bundle to run in this process.
        url: ``HOST:PORT`` of a Triton server's gRPC service.
        format_name: Format of the bundle to run.
        canary_bundle: Folder of the bundle that gets a share of the requests.
        canary_url: Or the server that does.
        canary_percent: That share in percent.
        keys: API keys, of which every request needs one; ``None`` admits everyone.
        cameras: Addresses of cameras that clients may have watched, by name.

    Raises:
        UserError: The model does not work, or the keys cannot be read.
    """
    if keys is not None:
        keys.read()
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        uploads = stack.enter_context(staging_folder(folder.absolute() / "uploads"))
        uploads.chmod(0o700)
        opening = functools.partial(open_model, limits=limits, on_batch=metrics.on_batch)
        router = Router(
            functools.partial(opening, bundle=bundle, url=url, format_name=format_name),
            functools.partial(opening, bundle=canary_bundle, url=canary_url) if canary_bundle or canary_url else None,
            percent=canary_percent,
            changes=url is not None or canary_url is not None,
        )
        decoders = DecoderPool(
            limits.decoders, share=functools.partial(_share, limits.decoders, keys), on_loss=metrics.losses.inc
        )
        stream_decoders = DecoderPool(
            limits.stream_decoders,
            patience_s=None,
            nice=BACKGROUND_NICE,
            share=functools.partial(_share, limits.stream_decoders, keys),
            on_loss=metrics.losses.inc,
        )
        access = Access(
            keys,
            limit=limits.requests,
            limit_per_key=limits.requests_per_key,
            expected_s=lambda: router.primary.batcher.expected_s,
        )
        service = Service(router, limits, access, metrics, decoders, stream_decoders, uploads, cameras or {})
        stack.callback(service.close)
        yield service


def _share(size: int, keys: KeyFile | None) -> int:
    """Decoders that one key may hold: all but one where there are others."""
    return size if keys is None or len(keys.read()) < 2 else max(1, size - 1)
