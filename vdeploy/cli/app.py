"""The Typer app, error messages and exit codes."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from typing import Annotated

import typer

from vdeploy import __version__
from vdeploy.cli import (
    ablate,
    benchmark_app,
    bundle,
    choose,
    data,
    deploy,
    distill,
    doctor,
    ensemble,
    evaluate,
    export,
    features,
    gateway,
    inspect,
    lr_find,
    mine,
    plan,
    predict,
    pretrain,
    prune,
    serve,
    train,
    tune,
    tune_serving,
    watch,
)
from vdeploy.core.errors import UserError
from vdeploy.core.process_arguments import mask_secrets
from vdeploy.core.telemetry import disable_telemetry
from vdeploy.core.text import escape_controls

__all__ = ["app", "main"]

INTERRUPTED = 130
INTERNAL = 70

_LONGEST_WORD = 500

_CHOOSE_ANOTHER = "free some space, or choose another place"
_REMEDIES = {
    errno.EACCES: _CHOOSE_ANOTHER,
    errno.EDQUOT: _CHOOSE_ANOTHER,
    errno.ENOSPC: _CHOOSE_ANOTHER,
    errno.EROFS: _CHOOSE_ANOTHER,
    errno.EPERM: _CHOOSE_ANOTHER,
    errno.EFBIG: "choose another file system",
    errno.EIO: "check the disk",
    errno.ELOOP: "remove the circle of symbolic links",
    errno.EMFILE: "raise the limit: ulimit -n",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs, or work in smaller parts",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "give a folder",
}
"""Hints for errors of the operating system."""

_VALUES = {
    "embedded null": "a path holds a NUL character; remove it",
    "has an empty name": "a path does not end with a name; give one that does",
    "integer string conversion": "a number has thousands of digits; give a smaller one",
}
"""Messages for parts of Python's own."""

_PARSERS = ("json/decoder.py", "json/__init__.py", "tomllib/_parser.py", "tomli/_parser.py")

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
app.command("choose")(choose.choose)
app.command("train")(train.train)
app.command("pretrain")(pretrain.pretrain)
app.command("ensemble")(ensemble.ensemble)
app.command("distill")(distill.distill)
app.command("prune")(prune.prune)
app.command("ablate")(ablate.ablate)
app.command("tune")(tune.tune)
app.command("lr-find")(lr_find.lr_find)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.add_typer(bundle.app, name="bundle")
app.command("inspect")(inspect.inspect)
app.command("serve")(serve.serve)
app.command("tune-serving")(tune_serving.tune_serving)
app.command("deploy")(deploy.deploy)
app.command("rollback")(deploy.rollback)
app.command("status")(deploy.status)
app.add_typer(gateway.app, name="gateway")
app.command("predict")(predict.predict)
app.command("watch")(watch.watch)
app.command("mine")(mine.mine)
app.add_typer(benchmark_app.app, name="benchmark")
app.command("plan")(plan.plan)
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
        bool, typer.Option("--debug", help="Show the traceback of an error; may follow any command.")
    ] = False,
) -> None:
    """Options of every command."""


def main() -> None:
    """Runs the command line; an error is one line on stderr and a non-zero exit code.

    Exit codes: 1 for an error that the user can resolve, 2 for wrong usage, 70 for a bug, 130 after Ctrl-C.
    """
    mask_secrets()
    disable_telemetry()
    _escape_unprintable()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1 or bool(os.environ.get("VDEPLOY_DEBUG"))
    try:
        _run(arguments)
    except UserError as error:
        _fail(str(error), 1, debug)
    except SystemExit as ending:
        if ending.code == INTERRUPTED:  # Typer turns KeyboardInterrupt into this without a message
            _fail("interrupted; what was finished is kept, the same command resumes", INTERRUPTED, debug)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        line, code = _explain(error)
        _fail(line, code, debug)


def _run(arguments: list[str]) -> None:
    """Runs a command and writes out what it has printed: Python itself would do so too late to handle a failure."""
    try:
        app(args=arguments)
    except SystemExit:
        sys.stdout.flush()
        raise


def _explain(error: Exception) -> tuple[str, int]:
    """Returns the message and the exit code of an unexpected error."""
    if line := _explain_input(error):
        return line, 1
    # The error of TensorFlow, which is not imported here, holds a traceback.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "out of memory; lower the batch or work in smaller parts", 1
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return f"internal error, {line}; add --debug for the traceback and report it", INTERNAL


def _explain_input(error: Exception) -> str:
    """Returns the message of an error of what was given to a command, or of the system; empty for others."""
    if isinstance(error, OSError):
        known = error.errno in _REMEDIES or (error.errno in errno.errorcode and error.filename is not None)
        remedy = _REMEDIES.get(error.errno or 0, "check the path")
        return f"{_shortened(error.filename)}: {error.strerror}; {remedy}" if known else ""
    if isinstance(error, UnicodeError):
        is_ours = isinstance(error, UnicodeDecodeError)
        return "" if is_ours else f"a name or an address cannot be encoded ({error}); use other characters"
    if isinstance(error, RecursionError) and _raised_in(error).endswith(_PARSERS):
        return "a JSON or TOML document is nested too deeply; give one that vdeploy wrote"
    if isinstance(error, ValueError):
        return next((line for part, line in _VALUES.items() if part in str(error)), "")
    return ""


def _shortened(path: object) -> str:
    text = str(path or "a file")
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


def _shorten_words(line: str) -> str:
    """Shortens what no message would be so long for, such as a number of a thousand digits."""
    return re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda found: _shortened(found[0]), line)


def _raised_in(error: BaseException) -> str:
    """Returns the source file of the function that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else trace.tb_frame.f_code.co_filename


def _escape_unprintable() -> None:
    """Escapes characters that the encoding of a stream cannot express, instead of failing after the work is done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(line: str, code: int, debug: bool) -> None:
    if debug:
        raise  # noqa: PLE0704  called from except blocks only
    sys.stderr.write(f"error: {_shorten_words(escape_controls(line))}\n")
    sys.exit(code)
