"""The Typer app, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from vdeploy import __version__
from vdeploy.cli import (
    ablate,
    benchmark_app,
    bundle,
    data,
    deploy,
    doctor,
    evaluate,
    export,
    features,
    gateway,
    inspect,
    lr_find,
    predict,
    serve,
    train,
    tune,
    watch,
)
from vdeploy.core.errors import UserError
from vdeploy.core.process_arguments import mask_secrets

__all__ = ["app", "main"]

INTERRUPTED = 130
INTERNAL = 70

_OF_THE_PLACE = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS})
"""What a file system may say at any moment, and a user can mend."""

app = typer.Typer(
    name="vdeploy",
    help="From labelled clips to a service: train, export, serve and measure a violence detector for video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data")
app.command("features")(features.features)
app.command("train")(train.train)
app.command("ablate")(ablate.ablate)
app.command("tune")(tune.tune)
app.command("lr-find")(lr_find.lr_find)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.add_typer(bundle.app, name="bundle")
app.command("inspect")(inspect.inspect)
app.command("serve")(serve.serve)
app.command("deploy")(deploy.deploy)
app.command("rollback")(deploy.rollback)
app.command("status")(deploy.status)
app.add_typer(gateway.app, name="gateway")
app.command("predict")(predict.predict)
app.command("watch")(watch.watch)
app.add_typer(benchmark_app.app, name="benchmark")
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vdeploy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works behind any verb.")
    ] = False,
) -> None:
    """Options that every verb has."""


def main() -> None:
    """Runs the command line; an error is one line on stderr and a non-zero exit code.

    Exit codes: 1 for what the user can mend, 2 for a wrong call, 70 for a defect of ours, 130 after Ctrl-C.
    """
    mask_secrets()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1 or bool(os.environ.get("VDEPLOY_DEBUG"))
    try:
        app(args=arguments)
    except UserError as error:
        _fail(str(error), 1, debug)
    except SystemExit as ending:
        if ending.code == INTERRUPTED:  # Typer turns KeyboardInterrupt into this, and says nothing
            _fail("interrupted; what was finished is kept, the same command goes on from there", INTERRUPTED, debug)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_PLACE:
            _fail(f"{error.filename or 'a file'}: {error.strerror}; free some space, or choose another place", 1, debug)
        line = " ".join(f"{type(error).__name__}: {error}".split())
        _fail(f"internal error, {line}; add --debug for the traceback and report it", INTERNAL, debug)


def _fail(line: str, code: int, debug: bool) -> None:
    if debug:
        raise  # noqa: PLE0704  called from except blocks only
    sys.stderr.write(f"error: {line}\n")
    sys.exit(code)
