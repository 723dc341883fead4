"""Open the parts of a gateway, and close them in the end."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.errors import MissingExtraError
from vdeploy.core.files import staging_folder
from vdeploy.core.lazy_imports import require
from vdeploy.core.progress import say
from vdeploy.core.trace_context import traces_url
from vdeploy.gateway.access import Access
from vdeploy.gateway.decoding.pool import BACKGROUND_NICE, DecoderPool
from vdeploy.gateway.metrics import Metrics
from vdeploy.gateway.models import open_model
from vdeploy.gateway.router import Router
from vdeploy.gateway.service import Service
from vdeploy.gateway.traces import Tracing

if TYPE_CHECKING:
    from vdeploy.gateway.keys import KeyFile
    from vdeploy.gateway.limits import Limits

__all__ = ["open_service", "open_tracing"]

_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def open_tracing(endpoint: str | None) -> Tracing:
    """Record requests, if there is a collector to send them to.

    Args:
        endpoint: Address of the collector's OTLP/HTTP receiver; ``None`` for that of the standard variables, if any.

    Raises:
        UserError: The address is none.
        MissingExtraError: An address was given, and the extra is not installed.
    """
    variable = next((name for name in _ENDPOINT_VARIABLES if os.environ.get(name)), None)
    if endpoint is None and variable is None:
        return Tracing()
    url = None if endpoint is None else traces_url(endpoint, "--otlp-endpoint")
    if variable is not None:
        traces_url(os.environ[variable], variable)
    try:
        require("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra="tracing", purpose="tracing")
    except MissingExtraError as error:
        if endpoint is not None:
            raise
        say(f"warning: {variable} is set, but {error}; requests are not traced")
        return Tracing()
    from vdeploy.gateway.otlp import OtlpTracing  # noqa: PLC0415  needs the extra

    return OtlpTracing(url)


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
    tracing: Tracing | None = None,
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
        tracing: Records requests, and is closed in the end; if left out, clients' trace contexts are passed on.

    Raises:
        UserError: The model does not work, or the keys cannot be read.
    """
    if keys is not None:
        keys.read()
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        traced = tracing or Tracing()
        stack.callback(traced.close)
        uploads = stack.enter_context(staging_folder(folder.absolute() / "uploads"))
        uploads.chmod(0o700)
        opening = functools.partial(open_model, limits=limits, on_batch=metrics.on_batch, tracing=traced)
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
        service = Service(router, limits, access, metrics, decoders, stream_decoders, uploads, cameras or {}, traced)
        stack.callback(service.close)
        yield service


def _share(size: int, keys: KeyFile | None) -> int:
    """Decoders that one key may hold: all but one where there are others."""
    return size if keys is None or len(keys.read()) < 2 else max(1, size - 1)
