"""`vdeploy serve`: fill a Triton model repository, and start a server on it."""

from __future__ import annotations

import enum
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import (
    ClassifierFormatOption,
    ExtractorFormatOption,
    JsonOption,
    OtlpOption,
    PrecisionName,
    VerifyKeyOption,
    print_json,
    print_next,
)
from vdeploy.cli.serving_options import ServingFlags, TargetFlags, ThreadsOption, TunedOption

if TYPE_CHECKING:
    from vdeploy.triton.server.server import TritonServer


_WITHOUT_BUNDLE = {
    *("bundle", "repo", "launch", "triton", "host", "http", "http_port", "grpc_port", "metrics_port"),
    *("shared_memory", "otlp_endpoint", "threads", "startup_timeout", "log", "json"),
}
"""Parameters that count for a server on a repository as it stands; all others are about what a bundle becomes."""


class BackendName(str, enum.Enum):
    """What runs the stages inside Triton."""

    AUTO = "auto"
    PYTHON = "python"
    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"


@expand_groups
def serve(
    context: typer.Context,
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="Bundle folder; left out, --launch starts the repository as it stands."),
    ] = None,
    *,
    repo: Annotated[
        str,
        typer.Option(
            metavar="DIR|s3://…",
            help="Model repository to fill: a folder, s3://BUCKET/PREFIX or s3://http://HOST:PORT/BUCKET/PREFIX.",
        ),
    ] = "triton_repo",
    launch: Annotated[
        bool, typer.Option("--launch", help="Start a Triton server on it and watch over it until Ctrl-C.")
    ] = False,
    keep_deployed: Annotated[
        bool,
        typer.Option(
            "--keep-deployed",
            help="Where deployments have chosen what serves, and BUNDLE served from here before, leave it at that: for "
            "containers, which start again with the same command.",
        ),
    ] = False,
    backend: Annotated[
        BackendName,
        typer.Option(
            help="auto takes what the server has: TensorRT for engines, its own ONNX Runtime, or Python; on a CPU the "
            "fastest format of the precision, where vdeploy benchmark has compared them here."
        ),
    ] = BackendName.AUTO,
    precision: Annotated[
        PrecisionName | None,
        typer.Option(help="Precision of both stages. [default: fp32; fp16 for engines]", show_default=False),
    ] = None,
    extractor_format: ExtractorFormatOption = None,
    classifier_format: ClassifierFormatOption = None,
    flags: ServingFlags,
    tuned: TunedOption = True,
    verify_key: VerifyKeyOption = None,
    target: TargetFlags,
    triton: Annotated[
        Path | None,
        typer.Option(help="tritonserver to start. [default: from PATH, else NVIDIA's wheel]", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    http: Annotated[
        bool,
        typer.Option(
            "--http",
            help="Listen for HTTP as well. Off unless asked for: clients of vdeploy use gRPC, and one request over "
            "HTTP ends a Triton older than 2.59.",
        ),
    ] = False,
    http_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of HTTP, which turns it on. [default: 8000]", show_default=False),
    ] = None,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of gRPC.")] = 8001,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the Prometheus metrics; 0 for none.")
    ] = 8002,
    shared_memory: Annotated[
        bool,
        typer.Option(
            "--shared-memory",
            help="Let clients pass tensors by shared memory of this machine. Every user of the machine is a client.",
        ),
    ] = False,
    otlp_endpoint: OtlpOption = None,
    threads: ThreadsOption = None,
    startup_timeout: Annotated[float, typer.Option(help="Seconds to wait for the first answer.")] = 180.0,
    log: Annotated[Path | None, typer.Option(help="Log file of the server.")] = None,
    json: JsonOption = False,
) -> None:
    """Fill a Triton model repository from a bundle; with --launch, serve it on this machine.

    Before anything changes, everything that is known to go wrong is looked for, and said in a line each. What a
    deployment has chosen is not replaced: vdeploy deploy brings another bundle.
    """
    from vdeploy.core.trace_context import traces_url  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.commands.serve import ServeRequest, prepare_serving  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.names import DEFAULT_HTTP_PORT  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.planning.plans import StageRequest  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.repository.options import ServingOptions  # noqa: PLC0415  keeps --help fast

    if bundle is None:
        _refuse_bundle_options(context)
    named = flags.named(threads)
    request = ServeRequest(
        bundle=bundle,
        repository=repo,
        stages=StageRequest(
            backend=backend.value,
            precision=precision.value if precision else None,
            extractor=extractor_format,
            classifier=classifier_format,
            options=ServingOptions(**named),
            changes=named,
        ),
        launch=launch,
        tuned=tuned,
        keep_deployed=keep_deployed,
        target=target.parse(),
        verify_key=verify_key,
        triton=triton,
        host=host,
        http_port=http_port or (DEFAULT_HTTP_PORT if http else None),
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        shared_memory=shared_memory,
        traces=traces_url(otlp_endpoint, "--otlp-endpoint") if otlp_endpoint else "",
        threads=threads,
        startup_timeout=startup_timeout,
        log=log,
    )
    served = prepare_serving(request)
    if served.server is not None:
        http_address = f"{host}:{request.http_port}" if request.http_port else None
        _watch(served.server, served.to_dict() if json else None, http_address)
    elif json:
        print_json(served.to_dict())
    elif served.launchable:
        print_next(*sys.argv[1:], "--launch")
    else:
        typer.echo(f"start a Triton on it that has the backends {', '.join(served.repository.backends)}")


def _refuse_bundle_options(context: typer.Context) -> None:
    """Refuses, without a bundle, options of how it is to be served: they would have no effect."""
    from vdeploy.core.errors import RepositoryError  # noqa: PLC0415  keeps --help fast

    options = [option for option in context.command.params if context.params.get(option.name or "") != option.default]
    ignored = [option.opts[0] for option in options if option.name not in _WITHOUT_BUNDLE]
    if ignored:
        raise RepositoryError(f"{', '.join(ignored)} without a BUNDLE would change nothing", "name a BUNDLE")


def _watch(server: TritonServer, summary: dict[str, Any] | None, http: str | None) -> None:
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast

    for number in (signal.SIGTERM, signal.SIGHUP):  # what service managers and closed terminals send is Ctrl-C to us
        signal.signal(number, signal.default_int_handler)
    with server:
        if summary is not None:
            print_json({**summary, "grpc": server.url, "http": http, "log": str(server.log_file)})
        else:
            typer.echo(f"ready: gRPC {server.url}, {f'HTTP {http}, ' if http else ''}log {server.log_file}")
            typer.echo("Ctrl-C ends the server")
            print_next("predict", "VIDEO", "--url", server.url)
        try:
            server.watch()
        except KeyboardInterrupt:
            say("stopping Triton")
    say("Triton has ended, nothing is left of it")
