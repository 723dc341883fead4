"""`vdeploy benchmark compare`: finds rows that became slower."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.options import JsonOption, print_json, print_line, print_table

if TYPE_CHECKING:
    from vdeploy.benchmark.compare.comparison import Change, Comparison

REGRESSION = 3
"""Exit code where a row became slower than the limit allows."""

_MOST_SHOWN = 10.0


def benchmark_compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE.json", help="File that vdeploy benchmark --out wrote.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.json", help="A later file.")],
    limit: Annotated[float, typer.Option(min=0, metavar="PCT", help="Tolerated slowdown, in per cent.")] = 3.0,
    json: JsonOption = False,
) -> None:
    """Distinguish changes from noise; exit code 3 where a row is slower than the limit with certainty."""
    from vdeploy.benchmark.compare.comparison import compare  # noqa: PLC0415  keeps --help fast
    from vdeploy.benchmark.record import load_benchmark  # noqa: PLC0415  keeps --help fast

    comparison = compare(load_benchmark(before), load_benchmark(after), limit / 100)
    if json:
        print_json(comparison.to_dict())
    else:
        _print(comparison)
    if comparison.regressions:
        raise typer.Exit(REGRESSION)


def _print(comparison: Comparison) -> None:
    columns = ("row", "before ms", "after ms", "change", "interval", "verdict")
    print_table(columns, [_cells(change) for change in comparison.changes])
    for difference in comparison.differences:
        print_line(f"different: {difference}")
    for row in comparison.only_before:
        print_line(f"only before: {row}")
    for row in comparison.only_after:
        print_line(f"only after: {row}")
    count = len(comparison.regressions)
    open_ones = sum(change.verdict in {"unclear", "not judged"} for change in comparison.changes)
    rows = "1 row" if count == 1 else f"{count or 'no'} rows"
    undecided = f"; {open_ones} of {len(comparison.changes)} could not be decided" if open_ones else ""
    print_line(f"{rows} slower by more than {100 * comparison.limit:.3g} %{undecided}")


def _cells(change: Change) -> tuple[str | None, ...]:
    times = [None if value is None else f"{value:.3g}" for value in (change.before_ms, change.after_ms)]
    if change.ratio is None or change.interval is None:
        return (change.label, *times, None, None, f"{change.verdict}: {change.reason}")
    low, high = change.interval
    return (change.label, *times, _percent(change.ratio), f"{_percent(low)} to {_percent(high)}", change.verdict)


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.1%}" if ratio < _MOST_SHOWN else "unknown"
