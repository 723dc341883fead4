"""`benchmark compare`, `page` and `scale` from the command line, beside the command that needs no name."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from testing.tiny_bundle import make_tiny_bundle
from tests.benchmark.records import ENVIRONMENT, make_benchmark, make_row, steady
from vdeploy.benchmark.compare.comparison import DEFAULT_LIMIT
from vdeploy.benchmark.record import save_benchmark
from vdeploy.cli.app import app
from vdeploy.cli.benchmark_compare import REGRESSION
from vdeploy.core.errors import BenchmarkError, BundleError, UserError

RUNNER = CliRunner()


def call(*arguments):
    return RUNNER.invoke(app, ["benchmark", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def files(tmp_path):
    """Writes benchmarks of rows whose latencies are given, and returns the paths."""

    def write(**latencies):
        paths = []
        for run, name in enumerate(("before.json", "after.json")):
            rows = [
                make_row(name=row, windows_ms=steady(values[run], spread=0.005, seed=10 * run + index))
                for index, (row, values) in enumerate(latencies.items())
                if values[run]
            ]
            environment = ENVIRONMENT.model_copy(update={"threads": 2 - run})
            save_benchmark(tmp_path / name, make_benchmark(rows, environment=environment))
            paths.append(tmp_path / name)
        return paths

    return write


def test_a_regression_has_an_exit_code_of_its_own(files):
    done = call("compare", *files(a=(10, 10), b=(10, 11.5), c=(10, 8), d=(5, None), e=(None, 5)))
    assert done.exit_code == REGRESSION == 3
    lines = {line.split("  ")[0]: line.rstrip() for line in done.stdout.splitlines()}
    assert lines["pipeline a, batch 1"].endswith("same")
    assert lines["pipeline b, batch 1"].endswith("slower")
    assert lines["pipeline c, batch 1"].endswith("faster")
    assert "different: threads: 2, then 1" in lines
    assert "only before: pipeline d, batch 1" in lines
    assert "only after: pipeline e, batch 1" in lines
    assert done.stdout.endswith(f"1 row slower by more than {100 * DEFAULT_LIMIT:g} %\n")


def test_a_tolerated_slowdown_is_none(files):
    paths = files(a=(10, 11.5), b=(10, 10))
    assert call("compare", *paths, "--limit", 30).exit_code == 0
    assert "no rows slower by more than 30 %" in call("compare", *paths, "--limit", 30).stdout
    assert call("compare", *reversed(paths)).exit_code == 0
    assert call("compare", *paths, "--limit", "-1").exit_code == 2


def test_rows_that_cannot_be_judged_are_counted(tmp_path, files):
    before, after = files(a=(10, 10), b=(10, 10))
    restless = make_row(name="b", windows_ms=steady(10), settled=False)
    save_benchmark(after, make_benchmark([make_row(name="a", windows_ms=steady(10, spread=0.5)), restless]))
    done = call("compare", before, after)
    assert "not judged: did not settle after" in done.stdout
    assert "2 of 2 could not be decided" in done.stdout


def test_noise_without_bounds_is_unknown(files):
    before, after = files(a=(10, 10))
    save_benchmark(after, make_benchmark([make_row(name="a", windows_ms=(1e-5, 10.0, 1e5, 1e9))]))
    assert "to unknown" in call("compare", before, after).stdout


def test_json_is_the_only_output(files):
    done = call("compare", *files(a=(10, 12)), "--json")
    assert done.exit_code == REGRESSION
    assert json.loads(done.stdout)["regressions"] == ["pipeline a, batch 1"]


def test_files_that_are_none_are_refused(files, tmp_path):
    before, _ = files(a=(10, 10))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(BenchmarkError, match="is no benchmark"):
        call("compare", before, tmp_path / "other.json")
    with pytest.raises(BenchmarkError, match="cannot be read"):
        call("compare", tmp_path / "nowhere.json", before)


def test_a_page_of_an_earlier_result(files, tmp_path):
    before, _ = files(a=(10, 10))
    assert call("page", before).stdout == f"written: {tmp_path / 'before.html'}\n"
    assert call("page", before, "--out", tmp_path / "deep" / "page.html", "--against", "a").exit_code == 0
    for page in (tmp_path / "before.html", tmp_path / "deep" / "page.html"):
        assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(BenchmarkError, match="no row is called 'z'"):
        call("page", before, "--against", "z")


def test_scale_prints_a_table_and_writes_files(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle").root
    done = call("scale", bundle, "--batch", "2,4", "--seconds", 0, "--out", tmp_path / "out")
    lines = done.stdout.splitlines()
    assert lines[0] == "classifier, onnx-fp32"
    assert [line.split()[0] for line in lines[1:4]] == ["batch", "2", "4"]
    assert lines[-1] == f"written: {tmp_path / 'out' / 'scaling.json'}, {tmp_path / 'out' / 'scaling.svg'}"
    report = json.loads(call("scale", bundle, "--batch", "2", "--seconds", 0, "--json").stdout)
    assert report["kind"] == "vdeploy scaling"


def test_what_is_no_verb_is_a_bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("nowhere", "./compare"):
        with pytest.raises(BundleError, match=f"{name.removeprefix('./')} is no bundle"):
            call(name)
    assert call("--seconds", "-1", "nowhere").exit_code == 2
    assert "Missing argument 'BUNDLE'" in call().output


def test_help_tells_of_the_other_verbs():
    text = " ".join(call("--help").stdout.split())
    assert "benchmark [OPTIONS]" in text
    for part in ("--html", "compare BEFORE.json", "page RESULT.json", "scale RUN_OR_BUNDLE"):
        assert part in text
    assert "measure [OPTIONS]" not in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from vdeploy.cli.app import app; "
        "calls = [CliRunner().invoke(app, ['benchmark', *verb, '--help']) "
        "for verb in ([], ['compare'], ['page'], ['scale'])]; "
        "assert all(call.exit_code == 0 for call in calls); "
        "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'scipy', 'jinja2', 'onnxruntime'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_place_that_cannot_be_written_is_refused_before_measuring(tmp_path, option):
    bundle = make_tiny_bundle(tmp_path / "bundle").root
    with pytest.raises(UserError, match="cannot be written"):
        call(bundle, option, tmp_path)
