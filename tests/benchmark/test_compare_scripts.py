"""The scripts that show what a comparison finds, simulated and on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare_power import MACHINES, Rates, as_text
from benchmarks.compare_reruns import as_text as pairs_as_text
from benchmarks.compare_reruns import slowed
from testing.tiny_bundle import make_tiny_bundle
from tests.benchmark.records import make_benchmark, make_row

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_machine_is_drawn_reproducibly_around_ten_milliseconds(machine):
    windows = machine.draw(np.random.default_rng(0), 200)
    assert (windows == machine.draw(np.random.default_rng(0), 200)).all()
    assert np.median(windows) == pytest.approx(10, rel=0.05)


def test_a_slowdown_is_injected_into_what_was_measured():
    rows = [make_row(windows_ms=(1.0, 2.0)), make_row(name="b", status="absent")]
    slow, absent = slowed(make_benchmark(rows)).rows
    assert slow.windows_ms == pytest.approx((1.1, 2.2))
    assert slow.p50_ms == pytest.approx(1.65)
    assert absent == rows[1]


def test_the_tables_say_what_was_counted():
    line = as_text([Rates(MACHINES[0].name, 10, 0.01, 0.9, 1.0, 0.005)], 200).splitlines()[-1]
    assert line.split() == ["quiet", "10", "1.00%", "90.0%", "100.0%", "0.50%"]
    pair = {"judged": 3, "not_judged": 1, "false_alarms": ["a"], "found": 2, "changes": [0.01, -0.04]}
    first, last = pairs_as_text([pair]).splitlines()
    assert first.endswith("false alarms: a; slowed by 10 %: 2 rows found; largest change 4.0%")
    assert last == "false alarms in 1 of 1 pairs, slowdown found in 1"


@pytest.mark.parametrize("arguments", [("compare_power", "--tries", "0"), ("compare_reruns", "b", "--reruns", "1")])
def test_numbers_that_make_no_sense_are_refused(arguments):
    script, *options = arguments
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", *options], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    assert "must be at least" in done.stderr


@pytest.mark.slow
def test_a_bundle_is_measured_again_and_compared(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle").root
    keep, page = tmp_path / "runs", tmp_path / "page.html"
    options = ["--reruns", "2", "--keep", keep, "--json", "--seconds", "0.2", "--what", "classifier", "--html", page]
    command = [sys.executable, "-m", "benchmarks.compare_reruns", bundle, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, cwd=ROOT)
    [pair] = json.loads(done.stdout)["pairs"]
    assert pair["judged"] + pair["not_judged"] == 1
    assert sorted(file.name for file in keep.iterdir()) == ["run00.json", "run01.json"]
    assert "Classifier: features to probabilities" in page.read_text(encoding="utf-8")
