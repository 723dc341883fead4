"""False alarms and power of `vdeploy benchmark compare` on simulated noise.

    python -m benchmarks.compare_power [--tries 400] [--json] [--out FILE]

Two runs of ten rows are drawn from the same noise, compared at the default limit, and compared again with a slowdown of
10 % in one row, and in all of them. The noise of a row is that of a shared machine, on the logarithm
of the windows' medians: autoregressive noise of first order, a drift over the run, an offset from run to run, and
windows disturbed by other work, which are about 10 % to 65 % slower.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.output import add_output_options, report_result
from vdeploy.benchmark.compare.comparison import DEFAULT_LIMIT, compare
from vdeploy.benchmark.record import Benchmark, Environment, Row

ROWS = 10
SLOWDOWN = 1.10
WINDOWS = (6, 10, 20, 40)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Noise of a machine in the windows of a row; standard deviations of the logarithm.

    Attributes:
        name: Kind of machine.
        spread: Of the autoregressive noise.
        correlation: Between neighbouring windows.
        drift: Of the change from the middle of a run to either end.
        run: Of the offset of a row from run to run.
        disturbed: Share of the windows that something else slowed down.
    """

    name: str
    spread: float
    correlation: float = 0.0
    drift: float = 0.0
    run: float = 0.005
    disturbed: float = 0.0

    def draw(self, random: np.random.Generator, windows: int) -> npt.NDArray[np.float64]:
        """Medians of windows around 10 ms, ``float64[windows]``."""
        steps = random.standard_normal(windows)
        noise = np.empty(windows)
        noise[0] = steps[0]
        for index in range(1, windows):
            noise[index] = self.correlation * noise[index - 1] + math.sqrt(1 - self.correlation**2) * steps[index]
        logs = self.spread * noise + self.run * random.standard_normal()
        logs += self.drift * random.standard_normal() * np.linspace(-1, 1, windows)
        logs += np.where(random.random(windows) < self.disturbed, random.uniform(0.1, 0.5, windows), 0)
        return 10 * np.exp(logs)


MACHINES = (
    Noise("quiet", 0.005, correlation=0.3, drift=0.002),
    Noise("usual", 0.01, correlation=0.3, drift=0.005, run=0.007, disturbed=0.1),
    Noise("hot", 0.01, correlation=0.6, drift=0.02, run=0.01),
    Noise("shared", 0.02, correlation=0.5, drift=0.01, run=0.007, disturbed=0.1),
    Noise("restless", 0.03, correlation=0.8, drift=0.02, run=0.015, disturbed=0.15),
)


@dataclasses.dataclass(frozen=True)
class Rates:
    """Shares of the tries.

    Attributes:
        machine: Name of the noise.
        windows: Windows of a row.
        false_alarm: Some row was called slower, and none was.
        found_one: One of the rows was 10 % slower, and was called so.
        found_any: All rows were 10 % slower, and at least one was called so.
        wrong_row: One of the rows was 10 % slower, and another was called so.
    """

    machine: str
    windows: int
    false_alarm: float
    found_one: float
    found_any: float
    wrong_row: float


def simulate(noise: Noise, windows: int, tries: int, seed: int = 0) -> Rates:
    """Compares pairs of simulated runs."""
    random = np.random.default_rng(seed)
    outcomes = np.zeros((tries, 4))
    for outcome in outcomes:
        before, after = (np.array([noise.draw(random, windows) for _ in range(ROWS)]) for _ in range(2))
        one = after.copy()
        one[0] *= SLOWDOWN
        none, first, every = (slower_rows(before, each) for each in (after, one, SLOWDOWN * after))
        outcome[:] = bool(none), 0 in first, bool(every), bool(first - {0})
    return Rates(noise.name, windows, *(float(share) for share in outcomes.mean(axis=0)))


def slower_rows(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> set[int]:
    """Which rows are called slower, of two runs ``float64[rows, windows]``."""
    changes = compare(as_benchmark(before), as_benchmark(after)).changes
    return {index for index, change in enumerate(changes) if change.verdict == "slower"}


def as_benchmark(rows: npt.NDArray[np.float64]) -> Benchmark:
    """Simulated windows as a benchmark."""
    environment = Environment(
        cpu="simulated",
        cores=1,
        threads=1,
        clocks_mhz=(),
        memory_bytes=None,
        gpu=None,
        driver=None,
        system="",
        python="",
        versions={},
        load_average=(0, 0, 0),
    )
    return Benchmark(
        created="",
        command="",
        vdeploy_version="",
        bundle="",
        run="",
        sha256={},
        clip_frames=16,
        clip_size=224,
        layer="avg",
        environment=environment,
        peaks=(),
        rows=tuple(
            Row(
                what="pipeline",
                where="in process",
                name=f"row {index}",
                format="onnx-fp32",
                precision="fp32",
                runtime="simulated",
                batch=1,
                threads=1,
                status="ok",
                settled=True,
                p50_ms=float(np.median(windows)),
                windows_ms=tuple(windows.tolist()),
            )
            for index, windows in enumerate(rows)
        ),
    )


def as_text(rates: Sequence[Rates], tries: int) -> str:
    """The simulation as a table."""
    lines = [
        f"{tries} tries, {ROWS} rows, limit {DEFAULT_LIMIT:.0%}, slowdown {SLOWDOWN - 1:.0%}",
        f"{'machine':10} windows  false alarm  found in 1 row  found in all rows  wrong row",
    ]
    lines += [
        f"{rate.machine:10} {rate.windows:7} {rate.false_alarm:12.2%} {rate.found_one:15.1%} {rate.found_any:18.1%} "
        f"{rate.wrong_row:10.2%}"
        for rate in rates
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs the simulation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tries", type=int, default=400, help="comparisons of each kind")
    add_output_options(parser)
    options = parser.parse_args()
    if options.tries < 1:
        parser.error("--tries must be at least 1")
    rates = [simulate(noise, windows, options.tries) for noise in MACHINES for windows in WINDOWS]
    result = {
        "tries": options.tries,
        "rows": ROWS,
        "limit": DEFAULT_LIMIT,
        "slowdown": round(SLOWDOWN - 1, 3),
        "rates": [dataclasses.asdict(rate) for rate in rates],
    }
    report_result(options, result, as_text(rates, options.tries))


if __name__ == "__main__":
    main()
