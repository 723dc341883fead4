"""`vdeploy export`: from a run to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, print_json, print_table


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    formats: Annotated[str, typer.Option("--format", help="Formats, separated by commas.")] = "onnx-fp32",
    out: Annotated[
        Path | None, typer.Option(help="Bundle folder. [default: bundles/NAME_OF_RUN]", show_default=False)
    ] = None,
    weights: Annotated[str | None, typer.Option(help="VGG19 weights of the run, where they lie elsewhere now.")] = None,
    json: JsonOption = False,
) -> None:
    """Export both stages and prove them against Keras before they count."""
    from training.run import Run  # noqa: PLC0415  keeps --help fast
    from vdeploy.export.exporter import export_run  # noqa: PLC0415  keeps --help fast
    from vdeploy.formats import parse_formats  # noqa: PLC0415  keeps --help fast

    chosen = parse_formats(formats)
    opened = Run.load(run)
    folder = out or Path("bundles") / run.absolute().name
    bundle = export_run(opened, chosen, folder, weights=opened.weights(weights))
    if json:
        print_json({"bundle": str(folder), **bundle.manifest.model_dump(mode="json")})
        return
    rows = [
        (
            a.stage,
            a.format,
            f"{a.bytes / 1e6:.1f}",
            f"{a.parity.max_abs:.1e}",
            f"{a.parity.max_rel:.1e}",
            f"{a.parity.tolerance:.0e}",
        )
        for a in bundle.manifest.artifacts
    ]
    print_table(("stage", "format", "MB", "max abs diff", "relative", "allowed"), rows)
    typer.echo(f"bundle: {folder}\nnext: vdeploy serve {folder} --launch")
