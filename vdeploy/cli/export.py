"""`vdeploy export`: from a run to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.options import JsonOption, StoreOption, print_json, print_line, print_next, print_table, store_root

if TYPE_CHECKING:
    from vdeploy.export.exporter import Exported


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    formats: Annotated[
        str,
        typer.Option("--format", help="Formats, separated by commas; all exports every format that this machine can."),
    ] = "onnx-fp32",
    out: Annotated[
        Path | None, typer.Option(help="Bundle folder. [default: bundles/NAME_OF_RUN]", show_default=False)
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Backbone weights of the run, if they have moved.")] = None,
    data: Annotated[Path | None, typer.Option(help="Clips of the run, if they have moved.")] = None,
    clips: Annotated[
        int | None,
        typer.Option(
            min=1, help="Held-out clips to verify on. [default: all for INT8, else a few]", show_default=False
        ),
    ] = None,
    calibration_clips: Annotated[
        int | None, typer.Option(min=1, help="INT8: training clips to calibrate on.", show_default=False)
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="TensorRT: smallest, typical and largest batch, as in 1,16,64.", show_default=False),
    ] = None,
    target_sm: Annotated[
        str | None, typer.Option(help="TensorRT for RTX: compute capabilities, as in 89,86.", show_default=False)
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Keep other formats of the same run in the bundle.")
    ] = True,
    report: Annotated[bool, typer.Option("--report", help="Write an HTML report into the bundle.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Export both stages and verify them against Keras."""
    from vdeploy.artifacts.run import Run  # noqa: PLC0415  keeps --help fast
    from vdeploy.export.availability import select_formats  # noqa: PLC0415  keeps --help fast
    from vdeploy.export.exporter import export_run  # noqa: PLC0415  keeps --help fast
    from vdeploy.export.options import ExportOptions  # noqa: PLC0415  keeps --help fast
    from vdeploy.export.tensorrt import parse_batches, parse_targets  # noqa: PLC0415  keeps --help fast
    from vdeploy.export.verification.held_out import find_clips  # noqa: PLC0415  keeps --help fast
    from vdeploy.formats import parse_formats, refuse_ignored_options  # noqa: PLC0415  keeps --help fast

    given = {"batch": batch, "target_sm": target_sm, "calibration_clips": calibration_clips}
    refuse_ignored_options(parse_formats(formats), [name for name, value in given.items() if value is not None])
    opened = Run.load(run)
    options = ExportOptions(
        data=data,
        store_root=store_root(store),
        clips=clips,
        batch=None if batch is None else parse_batches(batch),
        target_sm=None if target_sm is None else parse_targets(target_sm),
        calibration_clips=calibration_clips,
        keep=keep,
        report=report,
    )
    selection = select_formats(formats, has_data=find_clips(opened, data) is not None)
    folder = out or Path("bundles") / run.absolute().name
    exported = export_run(opened, selection.formats, folder, weights=opened.weights(weights), options=options)
    if json:
        print_json(
            {
                "bundle": str(folder),
                "made": list(exported.made),
                "kept": list(exported.kept),
                "rejected": {rejection.format: rejection.reason for rejection in exported.rejected},
                "left_out": selection.left_out,
                **exported.bundle.manifest.model_dump(mode="json"),
            }
        )
    else:
        _print(exported, folder, selection.left_out)
    if exported.rejected:
        raise typer.Exit(1)


def _print(exported: Exported, folder: Path, left_out: dict[str, str]) -> None:
    from vdeploy.triton.planning.format_selection import options_to_serve  # noqa: PLC0415  keeps --help fast

    manifest = exported.bundle.manifest
    rows = []
    for artifact in manifest.artifacts:
        parity, verdicts = artifact.parity, artifact.held_out
        rows.append(
            (
                artifact.stage,
                artifact.format,
                artifact.precision,
                f"{artifact.bytes / 1e6:.1f}",
                f"{parity.max_rel:.1e}",
                None if parity.cosine is None else f"{parity.cosine:.6f}",
                None if verdicts is None else f"{verdicts.agreement:.1%}",
                None if verdicts is None else f"{verdicts.accuracy:.1%}",
            )
        )
    columns = ("stage", "format", "found", "MB", "relative diff", "cosine", "verdicts", "accuracy")
    print_table(columns, rows)
    if exported.kept:
        print_line(f"kept from the earlier bundle of this run: {', '.join(exported.kept)}")
    for name, reason in left_out.items():
        print_line(f"left out: {name} {reason}")
    for rejection in exported.rejected:
        print_line(f"rejected: {rejection.reason}; kept aside in {rejection.folder}")
    print_line(f"bundle: {folder}")
    options = options_to_serve(manifest)
    if options is None:
        print_next("predict", "VIDEO", "--bundle", folder)
    else:
        print_next("serve", folder, *options, "--launch")
