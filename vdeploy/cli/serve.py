"""`vdeploy serve`: fill a Triton model repository, and start a server on it."""

from __future__ import annotations

import enum
import signal
from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, print_json


class BackendName(str, enum.Enum):
    """What runs the stages inside Triton."""

    AUTO = "auto"
    PYTHON = "python"
    ONNXRUNTIME = "onnxruntime"


def serve(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    repo: Annotated[Path, typer.Option(help="Model repository to fill.")] = Path("triton_repo"),
    launch: Annotated[
        bool, typer.Option("--launch", help="Start a Triton server on it and watch over it until Ctrl-C.")
    ] = False,
    backend: Annotated[
        BackendName, typer.Option(help="auto takes Triton's own ONNX Runtime where the server has it.")
    ] = BackendName.AUTO,
    triton: Annotated[
        Path | None,
        typer.Option(help="tritonserver to start. [default: from PATH, else NVIDIA's wheel]", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="Port of HTTP.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="Port of gRPC.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Port of the Prometheus metrics; 0 for none.")] = 8002,
    threads: Annotated[int | None, typer.Option(help="Cores for VGG19; all if left out.")] = None,
    startup_timeout: Annotated[float, typer.Option(help="Seconds to wait for the first answer.")] = 60.0,
    log: Annotated[Path | None, typer.Option(help="Log file of the server.")] = None,
    json: JsonOption = False,
) -> None:
    """Fill a Triton model repository from a bundle; with --launch, serve it on this machine."""
    from training.progress import say  # noqa: PLC0415  keeps --help fast
    from vdeploy.bundle import Bundle  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.install import find_install  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.repository import write_repository  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.server import TritonServer  # noqa: PLC0415  keeps --help fast

    opened = Bundle(bundle)
    install = find_install(triton) if launch or triton or backend is BackendName.AUTO else None
    repository = write_repository(opened, repo, backend=backend.value, install=install)
    summary = {
        "repository": str(repository.root),
        "version": repository.version,
        "models": list(repository.models),
        "backend": repository.backend,
    }
    say(
        f"repository: {repo}, version {repository.version}, backend {repository.backend}, "
        f"models {', '.join(repository.models)}"
    )
    if not launch:
        if json:
            print_json(summary)
        else:
            typer.echo(f"next: vdeploy serve {bundle} --repo {repo} --launch")
        return
    server = TritonServer(
        repository,
        install=install,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port or None,
        log_file=log,
        startup_timeout=startup_timeout,
        threads=threads,
    )
    say(f"starting Triton ({install.origin if install else 'found'}), log {server.log_file}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what service managers send is Ctrl-C to us
    with server:
        if json:
            print_json({**summary, "grpc": server.url, "http": f"{host}:{http_port}", "log": str(server.log_file)})
        else:
            typer.echo(f"ready: gRPC {server.url}, HTTP {host}:{http_port}, log {server.log_file}")
            typer.echo(f"next: vdeploy predict VIDEO --url {server.url}; Ctrl-C ends the server")
        try:
            server.watch()
        except KeyboardInterrupt:
            say("stopping Triton")
    say("Triton has ended, nothing is left of it")
