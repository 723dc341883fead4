"""One page of several models: whose row is whose, and what must not be compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from testing.html_page import HtmlPage
from tests.benchmark.records import ENVIRONMENT, PEAKS, make_benchmark, make_row
from vdeploy.benchmark.record import Peak, save_benchmark
from vdeploy.benchmark.report.page import render_page
from vdeploy.benchmark.report.several_models import join_benchmarks
from vdeploy.cli.app import app
from vdeploy.core.errors import BenchmarkError


def timed(name, latency, precision="fp32", **values):
    return make_row(
        name=name, precision=precision, windows_ms=(latency,) * 5, clips_per_s=1000 / latency, frames_per_s=1, **values
    )


def model(run, latency, accuracy, **values):
    rows = (
        timed("onnx-fp32", latency, accuracy=accuracy, agreement=1.0),
        timed("onnx-int8", latency / 3, "int8", accuracy=accuracy - 0.01, agreement=0.99),
        timed("Triton", latency / 2, "int8", where="127.0.0.1:8001", accuracy=accuracy - 0.01, transport="grpc"),
    )
    usual = {"run": run, "bundle": f"bundles/{run}", "sha256": {"weights": run}, "held_out_sha256": "a" * 64}
    return Path(f"{run}.json"), make_benchmark(rows, **{**usual, **values})


ORIGINAL, PRUNED, STUDENT = model("vgg19", 1200, 0.97), model("pruned", 450, 0.96), model("student", 90, 0.93)


@pytest.fixture(scope="module")
def page():
    return render_page(join_benchmarks([ORIGINAL, PRUNED, STUDENT]))


@pytest.fixture(scope="module")
def text(page):
    return HtmlPage(page).words


def test_all_models_are_in_one_picture_and_the_front_names_them(page):
    [picture] = re.findall(r'<svg[^>]*id="pareto.*?</svg>|<svg.*?</svg>', page, re.DOTALL)
    labels = re.findall(r"(\w+): (onnx-int8|onnx-fp32|Triton)", picture)
    assert labels == [
        *(("student", "onnx-int8"), ("student", "onnx-fp32")),
        *(("pruned", "onnx-int8"), ("vgg19", "onnx-int8"), ("vgg19", "onnx-fp32")),
    ]
    assert {f"--series-{number}" for number in (1, 2, 3)} <= set(re.findall(r"--series-\d", picture))
    [key] = re.findall(r'<p class="key">(.*?)</p>', page, re.DOTALL)
    assert re.findall(r"series-(\d).*?</i>(\w+)", key) == [("1", "vgg19"), ("2", "pruned"), ("3", "student")]


def test_the_best_of_each_model_is_a_tile_with_its_ratio_to_the_first_model(text):
    assert "The fastest row of each model" in text
    assert "student 33.3 clips/s student: onnx-int8" in text
    assert "40.0\N{MULTIPLICATION SIGN} vgg19: onnx-fp32" in text
    assert "8.00\N{MULTIPLICATION SIGN} vgg19: onnx-fp32" in text


def test_each_model_says_what_it_is(text):
    for name in ("vgg19", "pruned", "student"):
        assert f"Bundle bundles/{name}" in text


def test_every_row_of_every_model_is_in_the_table(text):
    for name in ("vgg19", "pruned", "student"):
        for row in ("onnx-fp32", "onnx-int8", "Triton"):
            assert text.count(f"{name}: {row}") >= 1


def test_agreement_with_references_of_their_own_is_no_common_measure():
    rows = (timed("onnx-fp32", 5, agreement=1.0),)
    unknown = [(path, one.model_copy(update={"rows": rows})) for path, one in (ORIGINAL, PRUNED)]
    assert "<svg" not in render_page(join_benchmarks(unknown))
    assert "Latency and agreement" in render_page(unknown[0][1])


def test_accuracies_of_other_clips_are_said_to_be(text):
    caution = "It is not known whether the models were judged on the same clips"
    assert caution not in text
    for digest in (None, "b" * 64):
        other = model("pruned", 450, 0.96, held_out_sha256=digest)
        assert caution in HtmlPage(render_page(join_benchmarks([ORIGINAL, other]))).words
    assert caution not in HtmlPage(render_page(ORIGINAL[1])).words


def test_runs_of_one_name_are_told_apart_by_their_bundles():
    joined = join_benchmarks(
        [
            model("mine", 10, 0.9, bundle="bundles/a/mine", sha256={"weights": "1"}),
            model("mine", 20, 0.9, bundle="bundles/b/mine", sha256={"weights": "2"}),
        ]
    )
    assert list(joined.models) == ["a/mine", "b/mine"]
    same = [model("mine", 10, 0.9, bundle="mine", sha256={"weights": str(number)}) for number in (1, 2)]
    assert list(join_benchmarks(same).models) == ["mine 1", "mine 2"]


def test_versions_and_peaks_are_of_all_runs():
    later = ENVIRONMENT.model_copy(update={"versions": {**ENVIRONMENT.versions, "onnxruntime": "1.31"}})
    peaks = (PEAKS[0].model_copy(update={"gflops": 500.0}), Peak(data_type="bf16", gflops=700.0, how="a product"))
    joined = join_benchmarks([ORIGINAL, model("pruned", 450, 0.96, environment=later, peaks=peaks)])
    assert joined.benchmark.environment.versions["onnxruntime"] == "1.30 and 1.31"
    assert {peak.data_type: peak.gflops for peak in joined.benchmark.peaks} == {
        "fp32": 500.0,
        "int8": 1600.0,
        "bf16": 700.0,
    }


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            [model("pruned", 450, 0.96, environment=ENVIRONMENT.model_copy(update={"cpu": "Another CPU"}))],
            r"vgg19.json and pruned.json are of different machines \(cpu: Some CPU and Another CPU\)",
        ),
        (
            [model("pruned", 450, 0.96, environment=ENVIRONMENT.model_copy(update={"threads": 1}))],
            r"different machines \(threads: 2 and 1\).*measure all on one machine with the same --threads",
        ),
        ([ORIGINAL], "are of the same bundle; compare them: vdeploy benchmark compare"),
        ([model(f"m{number}", 10, 0.9) for number in range(6)], "a page shows 6 models at most, not 7"),
    ],
)
def test_what_cannot_be_compared_is_refused(others, message):
    with pytest.raises(BenchmarkError, match=message):
        join_benchmarks([ORIGINAL, *others])


def test_the_command_takes_several_files(tmp_path):
    files = []
    for path, benchmark in (ORIGINAL, PRUNED):
        save_benchmark(tmp_path / path, benchmark)
        files.append(str(tmp_path / path))
    done = CliRunner().invoke(app, ["benchmark", "page", *files, "--out", str(tmp_path / "all.html")])
    assert done.exit_code == 0, done.output
    assert "pruned: onnx-int8" in (tmp_path / "all.html").read_text(encoding="utf-8")
    assert str(CliRunner().invoke(app, ["benchmark", "page", *files]).exception) == (
        "several results have no page yet; say where it goes: --out FILE.html"
    )
    asked = ["benchmark", "page", *files, "--out", str(tmp_path / "b.html"), "--against", "pruned: onnx-fp32"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert "pruned: onnx-fp32" in (tmp_path / "b.html").read_text(encoding="utf-8")
