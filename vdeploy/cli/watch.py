"""`vdeploy watch`: score cameras and streams live."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.event_options import EventOptions
from vdeploy.cli.option_groups import expand_groups
from vdeploy.cli.options import ScorerOptions

if TYPE_CHECKING:
    from vdeploy.inference.scorer import BundleScorer
    from vdeploy.live.report import Report

_FOR_WEBHOOK = frozenset(
    {"event_began", "event_ended", "lost", "ended", "scorer_lost", "scorer_back", "scorer_changed"}
)


@expand_groups
def watch(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Files, rtsp:// or http:// addresses, /dev/videoN or N.")
    ],
    *,
    where: ScorerOptions,
    server_windows: Annotated[
        bool,
        typer.Option(
            "--server-windows",
            help="Send single frames and let the server keep the windows; needs a repository of serve --streams.",
        ),
    ] = False,
    events: EventOptions,
    webhook: Annotated[str | None, typer.Option(help="Address to post events and failures to, as JSON.")] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            min=0, help="Consecutive failures after which a stream is given up. [default: never]", show_default=False
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port at which Prometheus may read windows, events, dropped frames and the drift of the scores. "
            "[default: none]",
            show_default=False,
        ),
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option(help="Address of that port. [default: 127.0.0.1]", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each report.")] = False,
) -> None:
    """Score cameras, streams or files live until they end or Ctrl-C; late frames are dropped.

    The exit code is 1 if none of them could be opened.
    """
    from vdeploy.core.lazy_imports import require  # noqa: PLC0415  keeps --help fast
    from vdeploy.core.progress import say  # noqa: PLC0415  keeps --help fast
    from vdeploy.live.source import parse_sources  # noqa: PLC0415  keeps --help fast
    from vdeploy.live.watcher import watch as watch_sources  # noqa: PLC0415  keeps --help fast
    from vdeploy.live.webhook import Webhook  # noqa: PLC0415  keeps --help fast

    if metrics_host is not None and metrics_port is None:
        raise typer.BadParameter("--metrics-host is the address of a port: give --metrics-port as well")
    chosen, kinds = parse_sources(sources), set()
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        again = functools.partial(where.open, server_windows=server_windows)
        opened = [stack.enter_context(again())]
        enter = events.rule(opened[0].threshold).enter

        metrics = None
        if metrics_port is not None:
            require("prometheus_client", extra="gateway", purpose="watch --metrics-port")
            from vdeploy.live.metrics import WatchMetrics, serve_metrics  # noqa: PLC0415  of an extra

            metrics = WatchMetrics([source.name for source in chosen], opened[0])
            stack.enter_context(serve_metrics(metrics, metrics_host or "127.0.0.1", metrics_port))

        @contextlib.contextmanager
        def counted(opening: contextlib.AbstractContextManager[BundleScorer]) -> Iterator[BundleScorer]:
            with opening as scorer:
                if metrics:
                    metrics.use(scorer)
                yield scorer

        def connect() -> contextlib.AbstractContextManager[BundleScorer]:
            return counted(contextlib.nullcontext(opened.pop()) if opened else again())

        hook = stack.enter_context(Webhook(webhook)) if webhook else None
        show = stack.enter_context(_output([source.name for source in chosen], enter, json=json))
        stack.enter_context(_stopped_by_signals(stop))
        for report in watch_sources(
            chosen,
            connect,
            window_s=events.window,
            stride_s=events.stride,
            rule=events.rule,
            newest=(lambda: counted(where.newest())) if where.url is not None else None,
            retries=retries,
            stop=stop,
        ):
            show(report)
            if metrics:
                metrics.take(report)
            kinds.add(report.kind)
            if hook and report.kind in _FOR_WEBHOOK:
                hook.send(report)
    if hook and hook.failed:
        say(f"webhook: {hook.delivered} reports delivered, {hook.failed} not; {hook.last_error}")
    if "lost" in kinds and "connected" not in kinds and not stop.is_set():
        raise typer.Exit(1)


@contextlib.contextmanager
def _output(names: list[str], threshold: float, *, json: bool) -> Iterator[Callable[[Report], object]]:
    """Yields the function that shows reports on stdout: as lines of JSON or in a display."""
    if json:
        yield lambda report: (sys.stdout.write(report.to_json() + "\n"), sys.stdout.flush())
        return
    from rich.console import Console  # noqa: PLC0415  keeps --help fast

    from vdeploy.live.display import open_display  # noqa: PLC0415  keeps --help fast

    with open_display(Console(highlight=False), names, threshold) as display:
        yield display.show


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Ends the watch in order at the first SIGINT, SIGTERM or SIGHUP; a second signal has its default effect."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}

    def end(_number: int, _frame: object) -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        restore()
