"""`vdeploy tune-serving`: search for the configuration that serves the most clips within a latency objective."""

from __future__ import annotations

import enum
import signal
from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, PrecisionName, print_json, print_line, print_next, print_table


class GoalName(str, enum.Enum):
    """What is searched for."""

    THROUGHPUT = "throughput"
    COST = "cost"


class LoadName(str, enum.Enum):
    """What is sent."""

    CLIPS = "clips"
    FRAMES = "frames"
    STREAMS = "streams"


_OF_A_SEARCH = ("goal", "trials", "precision", "out")


def tune_serving(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    slo_p99_ms: Annotated[
        float, typer.Option(min=1, max=3_600_000, help="Milliseconds that 99 % of the requests may take.")
    ],
    goal: Annotated[
        GoalName, typer.Option(help="Most clips a second, or most clips for a second of processor time.")
    ] = GoalName.THROUGHPUT,
    trials: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Number of measured configurations in the study at the end.")
    ] = 12,
    requests: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Requests of each rate that is tried, at least.")
    ] = 200,
    precision: Annotated[
        PrecisionName | None,
        typer.Option(help="The only precision to try. [default: all of the bundle]", show_default=False),
    ] = None,
    load: Annotated[
        LoadName,
        typer.Option(
            help="What is sent: clips; frames of cameras, as watch does; or frames of streams that the server keeps, "
            "as watch --server-windows does."
        ),
    ] = LoadName.CLIPS,
    arrivals: Annotated[
        Path | None,
        typer.Option(
            help="Recorded arrivals, seconds, one a line; replayed at every rate. [default: a Poisson process]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the Poisson process.")] = 0,
    url: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of a running server that serves BUNDLE: the rate that it holds as it is. Nothing is "
            "searched, as every configuration needs a start of the server."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of trials, page and result. [default: studies/BUNDLE-serving]", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search how to serve a bundle on this machine; serve and deploy take what was found.

    Starts a Triton for each configuration and finds the highest rate at which the objective holds. An interrupted
    search resumes.
    """
    from vdeploy.artifacts.bundle import Bundle  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.report.tuning_page import write_tuning_page  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.tuning.arrivals import poisson_arrivals, read_arrivals  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.tuning.table import COLUMNS, RATE_COLUMNS, comparison, rate_rows, table_rows  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.tuning.tune import TuningRequest, measure_server, tune_serving  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.files import write_json  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.locks import output_locks  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.write_check import refuse_unwritable  # noqa: PLC0415  keeps --help fast

    opened = Bundle(bundle)
    request = TuningRequest(
        slo_p99_ms,
        read_arrivals(arrivals) if arrivals else poisson_arrivals(seed),
        goal.value,
        trials,
        requests,
        precision.value if precision else None,
        load.value,
    )
    title = f"p99 within {slo_p99_ms:g} ms, {load.value}, {request.arrivals.name}"
    if url is not None:
        sources = {name: context.get_parameter_source(name) for name in _OF_A_SEARCH}
        named = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
        if named:
            raise typer.BadParameter(f"--url measures a server as it is: leave --{named[0]} out")
        outcome = measure_server(opened, request, url)
        if json:
            print_json({"url": url, "slo_p99_ms": slo_p99_ms, "load": load.value, **outcome.to_dict()})
            return
        print_table(RATE_COLUMNS, rate_rows(outcome), title=title)
        print_line(f"{url} holds {outcome.held}")
        return
    out = out or Path("studies") / f"{bundle.absolute().name}-serving"
    refuse_unwritable(out, folder=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the server as Ctrl-C does
    with output_locks(out, remedy="choose another --out"):
        found = tune_serving(opened, request, out)
        write_tuning_page(out / "serving.html", found, opened.manifest.run)
        write_json(out / "serving.json", found.record.model_dump(mode="json"))
    if json:
        print_json(found.to_dict())
        return
    print_table(COLUMNS, table_rows(found), title=title)
    print_line(comparison(found.record))
    print_line(f"page: {out / 'serving.html'}")
    print_line(f"kept for serve and deploy: {found.record.path}")
    print_next("serve", bundle, "--launch")
