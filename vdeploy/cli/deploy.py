"""`vdeploy deploy`, `vdeploy rollback` and `vdeploy status`: change what a running Triton serves, and look at it."""

from __future__ import annotations

import dataclasses
import enum
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import (
    ClassifierFormatOption,
    ExtractorFormatOption,
    JsonOption,
    PrecisionName,
    VerifyKeyOption,
    print_json,
    print_next,
    print_table,
)
from vdeploy.cli.serving_options import ServingFlags, TargetFlags, ThreadsOption, TunedOption, reset_options

if TYPE_CHECKING:
    from vdeploy.triton.deployment.deploy import Deployed

UrlOption = Annotated[str, typer.Option(metavar="HOST:PORT", help="gRPC address of the running Triton.")]
RepoOption = Annotated[
    str,
    typer.Option(
        metavar="DIR|s3://…",
        help="Model repository that this Triton reads: a folder, s3://BUCKET/PREFIX or s3://http://HOST:PORT/BUCKET/PREFIX.",
    ),
]
TimeoutOption = Annotated[float, typer.Option(help="Seconds that a load, or an answer, may take.")]
LogOption = Annotated[
    Path | None,
    typer.Option(help="Log file of the server, where it can be read; it has the reason of a failed load."),
]

_DEFAULT_URL = "localhost:8001"
_DEFAULT_REPO = "triton_repo"


class BackendName(str, enum.Enum):
    """What runs the stages inside Triton."""

    PYTHON = "python"
    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"


@expand_groups
def deploy(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    *,
    url: UrlOption = _DEFAULT_URL,
    repo: RepoOption = _DEFAULT_REPO,
    precision: Annotated[
        PrecisionName | None,
        typer.Option(help="Precision of both stages. [default: as what serves now]", show_default=False),
    ] = None,
    extractor_format: ExtractorFormatOption = None,
    classifier_format: ClassifierFormatOption = None,
    backend: Annotated[
        BackendName | None,
        typer.Option(help="What runs the stages. [default: what runs them now]", show_default=False),
    ] = None,
    verify_key: VerifyKeyOption = None,
    target: TargetFlags,
    flags: ServingFlags,
    threads: ThreadsOption = None,
    tuned: TunedOption = True,
    reset: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION", help="Set one of these options back to its default: gpus. May be repeated."),
    ] = None,
    timeout: TimeoutOption = 120.0,
    log: LogOption = None,
    canary: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Afterwards, percent of the requests that --gateway is to give to this Triton, its canary.",
        ),
    ] = None,
    gateway: Annotated[str, typer.Option(help="Address of the gateway of --canary.")] = "http://127.0.0.1:8080",
    gateway_key: Annotated[
        str, typer.Option(envvar="VDEPLOY_API_KEY", help="An administrator's API key there.", show_default=False)
    ] = "",
    json: JsonOption = False,
) -> None:
    """Take a bundle into service beside the version that serves; if it does not prove itself, that one stays.

    How the models are run stays as it is, but for the options that are named, --instances to --reset, and for what
    vdeploy tune-serving has found for BUNDLE on this machine.
    """
    from vdeploy.triton.commands.deploy import DeployRequest, RunningServer, deploy_bundle  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.planning.plans import StageRequest  # noqa: PLC0415  keeps --help fast

    request = DeployRequest(
        bundle=bundle,
        server=RunningServer(url, repo, timeout, log),
        stages=StageRequest(
            backend=backend.value if backend else None,
            precision=precision.value if precision else None,
            extractor=extractor_format,
            classifier=classifier_format,
            changes=reset_options(reset or []) | flags.named(threads),
        ),
        target=target.parse(),
        verify_key=verify_key,
        tuned=tuned,
    )
    result = deploy_bundle(request)
    if canary is not None:
        from vdeploy.gateway.client import shift_canary  # noqa: PLC0415  keeps --help fast

        shift_canary(gateway, canary, gateway_key)
    _print(result, url, repo, json=json)


def rollback(
    url: UrlOption = _DEFAULT_URL,
    repo: RepoOption = _DEFAULT_REPO,
    timeout: TimeoutOption = 120.0,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Go back to the version before, by the same proof; an interrupted deployment is undone."""
    from vdeploy.triton.commands.deploy import RunningServer, roll_back  # noqa: PLC0415  keeps --help fast

    result = roll_back(RunningServer(url, repo, timeout, log))
    _print(result, url, repo, json=json)


def status(
    url: UrlOption = _DEFAULT_URL,
    repo: Annotated[
        str | None, typer.Option(metavar="DIR|s3://…", help="Model repository that this Triton reads.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print which versions there are, which one answers, since when, and whether it answers rightly."""
    from vdeploy.triton.commands.deploy import read_server_status  # noqa: PLC0415  keeps --help fast

    found = read_server_status(url, repo)
    if json:
        print_json(found.to_dict())
    else:
        which = "no version answers" if found.answering is None else f"version {found.answering} ({found.run}) answers"
        since = f" since {found.since}" if found.since else ""
        took = "" if found.milliseconds is None else f", {found.milliseconds:.0f} ms a clip"
        health = "healthy" if found.healthy else f"NOT healthy: {found.problem}"
        ready = "" if found.ready else "; Triton calls itself not ready: a version is on its way, or a load has failed"
        rows = [
            (
                entry.version,
                "answers" if entry.answers else "",
                {None: None, True: "yes", False: "no"}[entry.on_disk],
                ", ".join(f"{model} {state}" for model, state in entry.loaded.items()) or None,
                entry.record.run if entry.record else None,
                entry.record.bundle_sha256[:16] if entry.record else None,
                (entry.record.activated if entry.record else "") or None,
            )
            for entry in found.versions
        ]
        columns = ("version", "", "on disk", "loaded", "run", "bundle", "taken into service")
        print_table(columns, rows, title=f"{found.url}: {which}{since}{took}; {health}{ready}")
        if found.pending is not None:
            typer.echo(
                f"the deployment of version {found.pending.target} by process {found.pending.process} is going on or "
                f"was interrupted; vdeploy {shlex.join(('rollback', '--url', url, '--repo', str(repo)))} undoes it"
            )
    if not found.healthy:
        raise typer.Exit(1)


def _print(result: Deployed, url: str, repo: str, *, json: bool) -> None:
    if json:
        print_json(dataclasses.asdict(result))
        return
    proof = result.proof
    rows = [
        ("answers", None if result.version is None else f"version {result.version}"),
        ("took over from", None if result.previous is None else f"version {result.previous}"),
        ("undone", None if result.undone is None else f"version {result.undone}, which had been interrupted"),
        (
            "proof",
            None
            if proof is None
            else f"{proof.clips} clips ({proof.source}), off by {proof.deviation:.1e} at most, "
            f"{proof.tolerance:.1e} allowed, {proof.milliseconds:.0f} ms a clip",
        ),
        ("took", f"{result.seconds:.1f} s"),
    ]
    print_table(("deployment", ""), rows)
    print_next("status", "--url", url, "--repo", repo)
