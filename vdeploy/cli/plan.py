"""`vdeploy plan`: how many servers a load needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.event_options import StrideOption, WindowOption
from vdeploy.cli.options import JsonOption, print_json, print_line, print_table

if TYPE_CHECKING:
    from vdeploy.benchmark.capacity.plan import Need


def plan(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundle folders.")],
    cameras: Annotated[int | None, typer.Option(min=1, max=10**9, help="Number of cameras.")] = None,
    clips_per_second: Annotated[
        float | None, typer.Option(min=1e-6, max=1e12, help="Clips a second, instead of cameras.")
    ] = None,
    window: WindowOption = None,
    stride: StrideOption = None,
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="Frames a second of a camera.")] = 25.0,
    slo_p99_ms: Annotated[
        float, typer.Option(min=1, max=3_600_000, help="Milliseconds that 99 % of the requests may take.")
    ] = 1000.0,
    formats: Annotated[
        str | None,
        typer.Option("--format", help="Formats, separated by commas. [default: all measured ones]", show_default=False),
    ] = None,
    measured: Annotated[
        list[Path] | None,
        typer.Option(help="Result of vdeploy benchmark --out, of this machine or another. May be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compute how many servers cameras or clips need, from measured speeds, within a latency objective."""
    from vdeploy.artifacts.bundle import Bundle  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.capacity.plan import camera_load, plan_capacity  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.record import load_benchmark  # noqa: PLC0415  keeps --help fast
    from vdeploy.formats import parse_formats  # noqa: PLC0415  keeps --help fast

    if (cameras is None) == (clips_per_second is None):
        raise typer.BadParameter("give either --cameras or --clips-per-second")
    wanted = {entry.name for entry in parse_formats(formats)} if formats else None
    benchmarks = [load_benchmark(file) for file in measured or ()]
    found = []
    for path in bundles:
        bundle = Bundle(path)
        load = clips_per_second or camera_load(bundle.manifest, cameras or 0, window, stride, fps)
        needs = plan_capacity(bundle, load, slo_p99_ms, benchmarks, wanted, of_cameras=cameras is not None)
        found.append((path, load, needs))
    if json:
        print_json(
            [
                {"bundle": str(path), "clips_per_s": load, "needs": [need.to_dict() for need in needs]}
                for path, load, needs in found
            ]
        )
        return
    for path, load, needs in found:
        _print(path, load, needs, slo_p99_ms)
    print_line(
        "p99 by the formula of Pollaczek and Khinchine, and by simulation, of Poisson arrivals shared among the servers"
    )


def _print(path: Path, load: float, needs: list[Need], slo_ms: float) -> None:
    rows = []
    for need in needs:
        figure = need.figure
        span = f" ({need.least} to {need.most})" if need.least != need.most else ""
        rows.append(
            (
                figure.format,
                figure.precision,
                f"{need.servers}{span}" if need.servers else "none holds it",
                f"{need.per_server:.3g}",
                None if need.busy is None else f"{100 * need.busy:.0f}%",
                None if need.p99_ms is None else f"{need.p99_ms:.0f}",
                None if need.simulated_ms is None else f"{need.simulated_ms:.0f}",
                f"{figure.source}, {figure.machine}",
            )
        )
    columns = ("format", "precision", "servers", "clips/s each", "busy", "p99 ms", "simulated", "measured by")
    print_table(columns, rows, title=f"{path}: {load:.4g} clips/s, p99 within {slo_ms:g} ms")
