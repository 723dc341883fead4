"""Options that several commands share, and the printing of results."""

from __future__ import annotations

import dataclasses
import enum
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vdeploy.core.text import escape_controls

if TYPE_CHECKING:
    from vdeploy.inference.scorer import BundleScorer

__all__ = [
    "ClassifierFormatOption",
    "DataArgument",
    "ExtractorFormatOption",
    "FormatOption",
    "JsonOption",
    "OtlpOption",
    "PositiveOption",
    "PrecisionName",
    "ScorerBundleOption",
    "ScorerFormatOption",
    "ScorerOptions",
    "ScorerUrlOption",
    "StoreOption",
    "StrictOption",
    "VerifyKeyOption",
    "print_json",
    "print_line",
    "print_next",
    "print_table",
    "store_root",
]

_VERSION_TIMEOUT_S = 2.0

DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Folder or CSV of labelled clips.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", help="Format of the bundle to run. [default: the first that it holds]", show_default=False
    ),
]
ScorerFormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the bundle to run. [default: the first that it holds, or the fastest of its precision where "
        "vdeploy benchmark has compared them here]",
        show_default=False,
    ),
]
OtlpOption = Annotated[
    str | None,
    typer.Option(
        "--otlp-endpoint",
        metavar="URL",
        help="OpenTelemetry collector that traces of requests are sent to by HTTP, such as http://localhost:4318.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder of the feature store. [default: ~/.cache/vdeploy/features]", show_default=False
    ),
]
PositiveOption = Annotated[
    list[str] | None,
    typer.Option("--positive", help="Name of the class that means violence, if it is not recognised. May be repeated."),
]
ScorerBundleOption = Annotated[Path | None, typer.Option("--bundle", help="Bundle to run in this process.")]
ScorerUrlOption = Annotated[str | None, typer.Option("--url", help="HOST:PORT of a Triton server's gRPC service.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse data with clips that cannot be used.")]

ExtractorFormatOption = Annotated[
    str | None,
    typer.Option(help="Format of the extractor, where the stages differ: onnx-int8, …", show_default=False),
]
ClassifierFormatOption = Annotated[str | None, typer.Option(help="Format of the classifier.", show_default=False)]
VerifyKeyOption = Annotated[
    Path | None,
    typer.Option(help="PEM file of an Ed25519 public key; a bundle that it has not signed is refused."),
]


class PrecisionName(str, enum.Enum):
    """Precision of the stages."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclasses.dataclass(frozen=True)
class ScorerOptions:
    """A bundle to run in this process, or a server."""

    bundle: ScorerBundleOption = None
    url: ScorerUrlOption = None
    format_name: ScorerFormatOption = None

    def open(self, *, server_windows: bool = False) -> AbstractContextManager[BundleScorer]:
        """Opens the scorer.

        Args:
            server_windows: Send single frames to a server that keeps the windows.

        Raises:
            UserError: Neither or both were given, or the scorer cannot be opened.
        """
        from vdeploy.inference.open_scorer import open_scorer  # noqa: PLC0415  keeps --help fast

        return open_scorer(
            bundle=self.bundle, url=self.url, format_name=self.format_name, server_windows=server_windows
        )

    def newest(self) -> AbstractContextManager[BundleScorer]:
        """Opens the version that the server has loaded last, to read its configuration.

        Raises:
            UserError: The server does not answer within seconds.
        """
        from vdeploy.triton.client.client import TritonScorer  # noqa: PLC0415  a user of a bundle does without it

        return TritonScorer(str(self.url), timeout_seconds=_VERSION_TIMEOUT_S)


def print_next(*words: object) -> None:
    """Prints the next command, quoted for the shell."""
    print_line(f"next: vdeploy {shlex.join(map(str, words))}")


def store_root(store: Path | None) -> Path:
    """Returns the folder of all feature stores."""
    from vdeploy.core.files import cache_dir  # noqa: PLC0415  keeps --help fast

    return store or cache_dir() / "features"


def print_json(value: Any) -> None:
    """Prints a result as JSON; characters that the locale cannot express are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")


def print_line(text: str) -> None:
    """Prints one line, with control characters escaped."""
    typer.echo(escape_controls(text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Prints a table; columns of numbers are right-aligned."""
    from rich.console import Console  # noqa: PLC0415  keeps --help fast
    from rich.table import Table  # noqa: PLC0415  keeps --help fast

    cells = [[("-" if cell is None else escape_controls(str(cell))) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[index]) for row in cells)
        table.add_column(escape_controls(column), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200
    if title:
        console.print(escape_controls(title), soft_wrap=True)
    console.print(table)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace(",", "").rstrip("%").lstrip("-").isdigit()
