"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vdeploy.models.backbones.vgg19.feature_layers import DIMENSIONS

if TYPE_CHECKING:
    from vdeploy.triton.planning.server_facts import Target
    from vdeploy.triton.server.install import TritonInstall

__all__ = [
    "ClassifierFormatOption",
    "DataArgument",
    "ExtractorFormatOption",
    "FormatOption",
    "JsonOption",
    "LayerOption",
    "PositiveOption",
    "PrecisionName",
    "RecipeOption",
    "ScorerBundleOption",
    "ScorerUrlOption",
    "SetOption",
    "StoreOption",
    "StrictOption",
    "TargetOrtOption",
    "TargetSmOption",
    "TargetTrtOption",
    "WeightsOption",
    "load",
    "parse_target",
    "print_json",
    "print_table",
    "store_root",
]

DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Folder or CSV of labelled clips.")]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Layer of VGG19, with its features a frame: "
        + ", ".join(f"{layer} ({size})" for layer, size in DIMENSIONS.items())
        + ". [default: the recipe's]",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    str | None, typer.Option(help="imagenet, random, or a path. [default: the recipe's]", show_default=False)
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", help="Format of the bundle to run. [default: the first that it holds]", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder of the feature store. [default: ~/.cache/vdeploy/features]", show_default=False
    ),
]
RecipeOption = Annotated[str, typer.Option("--recipe", "-r", help="Name of a recipe, or a TOML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key of the recipe: section.key=value. May be repeated.")
]
PositiveOption = Annotated[
    list[str] | None,
    typer.Option(
        "--positive", help="Name of the class that means violence, where it is not recognised. May be repeated."
    ),
]
ScorerBundleOption = Annotated[Path | None, typer.Option("--bundle", help="Bundle to run in this process.")]
ScorerUrlOption = Annotated[str | None, typer.Option("--url", help="HOST:PORT of a Triton server's gRPC service.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse data with clips that cannot be used.")]

ExtractorFormatOption = Annotated[
    str | None,
    typer.Option(help="Format of the extractor, where the stages differ: onnx-int8, …", show_default=False),
]
ClassifierFormatOption = Annotated[str | None, typer.Option(help="Format of the classifier.", show_default=False)]
TargetSmOption = Annotated[
    str | None, typer.Option(help="Compute capability or name of the GPU that serves, where it cannot be read here.")
]
TargetTrtOption = Annotated[
    str | None, typer.Option(help="TensorRT of the server, such as 10.13.2, where it cannot be read here.")
]
TargetOrtOption = Annotated[
    str | None, typer.Option(help="ONNX Runtime of the server, such as 1.20.1, where it cannot be read here.")
]


class PrecisionName(str, enum.Enum):
    """What the stages compute in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def store_root(store: Path | None) -> Path:
    """The folder of all feature stores."""
    from vdeploy.core.files import cache_dir  # noqa: PLC0415  keeps --help fast

    return store or cache_dir() / "features"


def load(
    recipe: str,
    overrides: Sequence[str] | None = None,
    *,
    positive: Sequence[str] | None = None,
    weights: str | None = None,
    layer: str | None = None,
) -> Any:
    """The recipe with everything from the command line on top."""
    from training.recipe import load_recipe  # noqa: PLC0415  keeps --help fast

    assignments = []
    if positive:
        assignments.append(f"data.positive={json.dumps(list(positive))}")
    if weights:
        assignments.append(f"features.weights={json.dumps(weights)}")
    if layer:
        assignments.append(f"features.layer={json.dumps(layer)}")
    return load_recipe(recipe, [*assignments, *(overrides or ())])


def parse_target(
    install: TritonInstall | None, capabilities: str | None, tensorrt: str | None, onnxruntime: str | None
) -> Target:
    """What is known of a server: what the command line tells, and the rest from its installation, if there is one."""
    from vdeploy.export.tensorrt.targets import parse_targets  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.planning.server_facts import find_target, parse_version  # noqa: PLC0415  keeps --help fast

    return find_target(
        install,
        capabilities=() if capabilities is None else parse_targets(capabilities),
        tensorrt=None if tensorrt is None else parse_version(tensorrt),
        onnxruntime=None if onnxruntime is None else parse_version(onnxruntime),
    )


def print_json(value: Any) -> None:
    """Prints a result for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Prints a result for people; columns of numbers are set flush right."""
    from rich.console import Console  # noqa: PLC0415  keeps --help fast
    from rich.table import Table  # noqa: PLC0415  keeps --help fast

    cells = [[("-" if cell is None else str(cell)) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[index]) for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200
    if title:
        console.print(title, soft_wrap=True)
    console.print(table)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace(",", "").rstrip("%").lstrip("-").isdigit()
