"""`vdeploy gateway`: an HTTP service and a page for people, in front of a bundle or a Triton server."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import (
    JsonOption,
    OtlpOption,
    ScorerBundleOption,
    ScorerFormatOption,
    ScorerUrlOption,
    print_json,
    print_table,
)

app = typer.Typer(help="Serve videos over HTTP, with a page for people.", invoke_without_command=True)
keys_app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

FileOption = Annotated[Path, typer.Option("--file", help="File of the keys; it holds their hashes.")]

_DEFAULT_GATEWAY = "http://127.0.0.1:8080"
_DEFAULT_KEYS = Path("gateway-keys.json")


class RoleName(str, enum.Enum):
    """Role of a key."""

    CLIENT = "client"
    ADMIN = "admin"


@app.callback()
def gateway(
    context: typer.Context,
    bundle: ScorerBundleOption = None,
    url: ScorerUrlOption = None,
    format_name: ScorerFormatOption = None,
    canary_bundle: Annotated[Path | None, typer.Option(help="Bundle that gets a share of the requests.")] = None,
    canary_url: Annotated[str | None, typer.Option(help="Or HOST:PORT of such a Triton server.")] = None,
    canary: Annotated[float, typer.Option(min=0, max=100, help="Initial share in percent.")] = 0.0,
    camera: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=URL", help="A camera that clients may have watched. May be repeated."),
    ] = None,
    cameras: Annotated[
        Path | None, typer.Option(help="File with one NAME=URL per line, for addresses with passwords.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name under which clients may reach the gateway. May be repeated."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let other machines in without API keys.")] = False,
    api_keys: Annotated[Path | None, typer.Option(help="File of API keys, of which every request needs one.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Size of an upload in MiB.")] = 200,
    max_duration: Annotated[float, typer.Option(min=1, help="Length of a video in seconds.")] = 600.0,
    max_pixels: Annotated[int, typer.Option(min=1, help="Width times height of a video.")] = 3840 * 2160,
    max_frames: Annotated[int, typer.Option(min=1, help="Frames of a video.")] = 60_000,
    max_requests: Annotated[int, typer.Option(min=1, help="Concurrent requests.")] = 32,
    max_per_key: Annotated[int, typer.Option(min=1, help="Of these, requests with one API key.")] = 16,
    max_queue: Annotated[int, typer.Option(min=1, help="Clips that may wait for the model.")] = 64,
    max_streams: Annotated[
        int, typer.Option(min=1, help="Concurrent streams: videos and cameras in the background.")
    ] = 8,
    max_streams_per_key: Annotated[int, typer.Option(min=1, help="Of these, streams of one API key.")] = 4,
    max_readers: Annotated[int, typer.Option(min=1, help="Concurrent readers of events.")] = 128,
    max_readers_per_key: Annotated[int, typer.Option(min=1, help="Of these, readers with one API key.")] = 32,
    stream_idle: Annotated[
        float, typer.Option(min=1, help="Seconds without a reader after which a camera is no longer watched.")
    ] = 600.0,
    decoders: Annotated[int, typer.Option(min=1, max=1024, help="Processes that decode the videos of requests.")] = 2,
    stream_decoders: Annotated[
        int, typer.Option(min=1, max=1024, help="Processes that decode videos in the background.")
    ] = 2,
    decode_memory_mb: Annotated[int, typer.Option(min=64, help="Address space for decoding one video, in MiB.")] = 2048,
    decode_cpu: Annotated[int, typer.Option(min=1, help="Processor seconds for decoding one video.")] = 60,
    decode_timeout: Annotated[float, typer.Option(min=1, help="Elapsed seconds for decoding one video.")] = 120.0,
    spool: Annotated[
        Path | None,
        typer.Option(
            help="Folder for uploads while they are scored. [default: ~/.cache/vdeploy/gateway]", show_default=False
        ),
    ] = None,
    otlp_endpoint: OtlpOption = None,
    drain: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds that requests in progress may take after SIGTERM.")
    ] = 20.0,
) -> None:
    """Serve videos over HTTP, with a page for people, from a bundle (--bundle) or a Triton server (--url)."""
    if context.invoked_subcommand is not None:
        return
    from vdeploy.core.errors import GatewayError  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.files import cache_dir  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.lazy_imports import require  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast

    if (tls_cert is None) != (tls_key is None):
        raise GatewayError("TLS needs a certificate and its key", "give both --tls-cert and --tls-key")
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        require(module, extra="gateway", purpose="the gateway")
    from vdeploy.gateway.cameras import read_cameras  # noqa: PLC0415  keeps --help fast
    from vdeploy.gateway.keys import KeyFile  # noqa: PLC0415  keeps --help fast
    from vdeploy.gateway.limits import Limits  # noqa: PLC0415  keeps --help fast
    from vdeploy.gateway.opening import open_service, open_tracing  # noqa: PLC0415  needs the extra
    from vdeploy.gateway.server import Address, GatewayServer  # noqa: PLC0415  needs the extra
    from vdeploy.gateway.sites import check_exposure  # noqa: PLC0415  needs the extra
    from vdeploy.video.workers.limits import DecodingLimits  # noqa: PLC0415

    mebibyte = 1 << 20
    limits = Limits(
        upload_bytes=max_upload_mb * mebibyte,
        requests=max_requests,
        requests_per_key=max_per_key,
        queue=max_queue,
        decoders=decoders,
        stream_decoders=stream_decoders,
        streams=max_streams,
        streams_per_key=max_streams_per_key,
        stream_idle_s=stream_idle,
        readers=max_readers,
        readers_per_key=max_readers_per_key,
        drain_s=drain,
        decoding=DecodingLimits(
            duration_s=max_duration,
            pixels=max_pixels,
            frames=max_frames,
            cpu_s=decode_cpu,
            wall_s=decode_timeout,
            memory_bytes=decode_memory_mb * mebibyte,
        ),
    )
    if canary_bundle is not None and canary_url is not None:
        raise GatewayError("there can be only one canary", "give --canary-bundle or --canary-url")
    if canary and canary_bundle is None and canary_url is None:
        raise GatewayError("--canary is given without a canary", "add --canary-bundle or --canary-url")
    check_exposure(host, has_keys=api_keys is not None, insecure=insecure)
    if api_keys is not None and not api_keys.is_file():
        raise GatewayError(f"there is no file {api_keys}", f"vdeploy gateway keys add NAME --file {api_keys}")
    with open_service(
        limits=limits,
        folder=spool or cache_dir() / "gateway",
        bundle=bundle,
        url=url,
        format_name=format_name,
        canary_bundle=canary_bundle,
        canary_url=canary_url,
        canary_percent=canary,
        cameras=read_cameras(camera or [], cameras),
        keys=KeyFile(api_keys) if api_keys else None,
        tracing=open_tracing(otlp_endpoint),
    ) as service:
        served = f"model {service.router.primary.version} of run {service.router.primary.run}"
        GatewayServer(
            service,
            Address(host, port, tls_cert, tls_key, tuple(allowed_host or ())),
            lambda address: say(f"gateway: {address} serves {served}; Ctrl-C ends it"),
        ).serve_until_stopped()


@app.command("canary")
def canary_share(
    percent: Annotated[float, typer.Argument(metavar="PERCENT", min=0, max=100, help="Share of the requests.")],
    gateway_url: Annotated[str, typer.Option("--gateway", help="Address of the running gateway.")] = _DEFAULT_GATEWAY,
    key: Annotated[
        str, typer.Option(envvar="VDEPLOY_API_KEY", help="An administrator's API key.", show_default=False)
    ] = "",
    json: JsonOption = False,
) -> None:
    """Give the canary of a running gateway another share of the requests."""
    from vdeploy.gateway.client import shift_canary  # noqa: PLC0415  keeps --help fast

    shifted = shift_canary(gateway_url, percent, key)
    if json:
        print_json(shifted)
    else:
        new, old = shifted["model"]["version"], shifted["serving"]["version"]
        typer.echo(f"{shifted['percent']:g} % of the requests go to version {new}, the others to {old}")


@keys_app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the client.")],
    file: FileOption = _DEFAULT_KEYS,
    role: Annotated[RoleName, typer.Option(help="Role; admin may change the share of the canary.")] = RoleName.CLIENT,
) -> None:
    """Create a key and print it once; a running gateway accepts it at once."""
    from vdeploy.gateway.keys import KeyFile  # noqa: PLC0415  keeps --help fast

    typer.echo(KeyFile(file).add(name, role.value))


@keys_app.command("list")
def list_keys(file: FileOption = _DEFAULT_KEYS) -> None:
    """Print the names of all keys."""
    from vdeploy.gateway.keys import KeyFile  # noqa: PLC0415  keeps --help fast

    keys = KeyFile(file).read()
    print_table(("name", "role", "created"), [(key.name, key.role, key.created) for key in keys])


@keys_app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the client.")],
    file: FileOption = _DEFAULT_KEYS,
) -> None:
    """Delete a key; a running gateway refuses it at once."""
    from vdeploy.gateway.keys import KeyFile  # noqa: PLC0415  keeps --help fast

    KeyFile(file).revoke(name)
