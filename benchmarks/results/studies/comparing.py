"""What a comparison of two benchmarks finds, and what it takes for a change though it is none."""

from __future__ import annotations

from benchmarks.results.markdown import percent, table
from benchmarks.results.study import Blocks, Found, Step, Study

__all__ = ["COMPARING"]

_WINDOWS = 10
"""As many as the table shows of what the record holds."""


def _comparing(found: Found) -> Blocks:
    if power := found.get("simulated"):
        yield (
            f"Simulated noise, {power['tries']} tries, {power['rows']} rows of {_WINDOWS} windows, a slowdown of "
            f"{percent(power['slowdown'])}, limit {percent(power['limit'])}:"
        )
        yield table(
            ("simulated machine", "false alarm", "found in one slowed row", "found where all rows are slowed"),
            [
                (rate["machine"], *(percent(rate[key], 1) for key in ("false_alarm", "found_one", "found_any")))
                for rate in power["rates"]
                if rate["windows"] == _WINDOWS
            ],
        )
    if reruns := found.get("reruns"):
        pairs = reruns["pairs"]
        alarms, hits = (sum(bool(pair[key]) for pair in pairs) for key in ("false_alarms", "found"))
        largest = max((abs(change) for pair in pairs for change in pair["changes"]), default=0.0)
        yield (
            f"Reruns of one bundle: a false regression in {alarms} of {len(pairs)} pairs, with changes of up to "
            f"{percent(largest, 1)}; windows that were stretched by {percent(reruns['slowdown'])} were found in {hits} "
            f"of {len(pairs)}."
        )


COMPARING = Study(
    "comparing",
    "Telling change from noise",
    (
        Step("simulated", "python -m benchmarks.compare_power"),
        Step("reruns", "python -m benchmarks.compare_reruns {bundle} --seconds 2 --what extractor,classifier,pipeline"),
    ),
    _comparing,
)
