"""The page: whole without the net, safe whatever a name holds, and it says what was not measured and why."""

from __future__ import annotations

import re
import sys

import pytest

from testing.html_page import HtmlPage
from tests.benchmark.records import PEAKS, make_benchmark, make_row
from vdeploy.benchmark.record import Shares
from vdeploy.benchmark.report.page import render_page, write_page
from vdeploy.core.errors import BenchmarkError, MissingExtraError


def read(page):
    parsed = HtmlPage(page)
    return parsed, parsed.words


def timed(name, latency, precision="fp32", batch=1, **values):
    rate = 1000 * batch / latency
    figures = {"p90_ms": latency, "p95_ms": latency, "p99_ms": latency, "clips_per_s": rate, "frames_per_s": 16 * rate}
    return make_row(name=name, precision=precision, batch=batch, windows_ms=(latency,) * 5, **{**figures, **values})


ROWS = (
    timed("onnx-int8", 360, "int8", accuracy=0.95, agreement=1.0, held_out_clips=100, gflops=1700.0, peak_share=0.9),
    timed("onnx-int8", 2700, "int8", batch=8),
    timed("onnx-fp32", 1400, accuracy=0.96, gflops=300.0, peak_share=0.75),
    timed("TensorFlow, model.predict", 1800, accuracy=0.96, peer=True),
    timed("TensorFlow, XLA", 1900, peer=True, settled=False, spread=0.31),
    timed("Triton", 380, "int8", where="127.0.0.1:8001", transport="grpc", queue_ms=1.5, compute_ms=361.0),
    timed("Triton", 700, "int8", where="127.0.0.1:8001", transport="grpc", concurrency=4, clips_per_s=5.4),
    timed("onnx-int8", 420, "int8", what="video", shares=Shares(decode=0.13, extract=0.86, classify=0.01)),
    timed("onnx-fp32", 0.25, what="classifier"),
    make_row(name="tensorrt-int8", precision="int8", status="absent", reason="this machine has no NVIDIA GPU"),
    make_row(name="tflite-fp32", status="failed parity", reason="features differ by 0.31"),
)
BENCHMARK = make_benchmark(ROWS)


@pytest.fixture(scope="module")
def page():
    return render_page(BENCHMARK)


@pytest.fixture(scope="module")
def text(page):
    return read(page)[1]


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(page):
    reader, _ = read(page)
    assert not reader.tags("script")
    addresses = [address for name in ("src", "href", "xlink:href") for address in reader.attributes(name)]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_the_headline_names_the_fastest_and_how_much_faster_it_is(text):
    assert (
        "On 2 cores of Some CPU, Triton does 5.40 clips per second, "
        "700 ms for a call of 1 clip with 4 concurrent callers: "
        "9.72\N{MULTIPLICATION SIGN} the throughput of TensorFlow, model.predict." in text
    )


def test_each_precision_has_a_tile(text):
    assert "int8 5.40 clips/s Triton onnxruntime at 127.0.0.1:8001 over grpc, 4 callers, batch 1; median 700 ms" in text
    assert (
        "fp32 0.714 clips/s onnx-fp32 onnxruntime, batch 1; median 1,400 ms 1.29\N{MULTIPLICATION SIGN} TensorFlow"
        in text
    )


def test_there_is_a_chart_for_each_question_that_the_rows_answer(page, text):
    for title in ("Latency and accuracy", "Throughput and batch", "Throughput and callers"):
        assert title in text
    assert page.count("<svg") == 3
    few = render_page(make_benchmark([timed("onnx-fp32", 10)]))
    assert "<svg" not in few
    assert "What to choose" not in few


def test_arithmetic_stands_beside_the_peak(page, text):
    assert "1,700 90% of peak" in text
    assert f"width: {100 * 300 / 1700:.1f}%" in page
    assert f"width: {100 * PEAKS[0].gflops / 1700:.1f}%" in page
    without = render_page(make_benchmark(ROWS, peaks=()))
    assert 'class="limit"' not in without


def test_arithmetic_that_is_known_of_a_stage_only_is_shown_of_that():
    extractor = timed("onnx-fp32", 1390, what="extractor", gflops=310.0, peak_share=0.775, size_bytes=80_400)
    page = render_page(make_benchmark([timed("onnx-fp32", 1400), extractor]))
    assert "Extractor: frames to features: 10<sup>9</sup> operations per second" in page
    assert "80.4 kB" in page


def test_a_row_that_did_not_settle_is_grey_and_not_ranked(page):
    [grey] = re.findall(r'<tr class="unsettled">(.*?)</tr>', page, re.DOTALL)
    assert "TensorFlow, XLA" in grey
    assert "did not settle" in grey
    bold = re.findall(r'<tr class="best">(.*?)</tr>', page, re.DOTALL)
    assert len(bold) == 4
    assert not any("XLA" in row for row in bold)


def test_what_is_missing_is_said_with_the_reason(text):
    assert "pipeline tensorrt-int8, batch 1 absent this machine has no NVIDIA GPU" in text
    assert "pipeline tflite-fp32, batch 1 failed parity features differ by 0.31" in text


def test_the_shares_of_a_video_can_be_read_and_heard(page):
    assert 'aria-label="decode 13.0%, extract 86.0%, classify 1.0%"' in page


def test_the_environment_is_told(text):
    for part in (
        "Some CPU, 2 cores",
        "2,601 MHz",
        "17.2 GB",
        "onnxruntime 1.30",
        "fp32 400 GFLOP/s a product of matrices",
    ):
        assert part in text


def test_columns_that_nothing_fills_are_left_out(page):
    classifier = page[page.index("Classifier: features to probabilities") :]
    table = classifier[: classifier.index("</table>")]
    assert "Clips/s" in table
    assert "Accuracy" not in table
    assert "Queue" not in table


def test_another_reference_can_be_asked_for():
    assert "the throughput of onnx-fp32" in read(render_page(BENCHMARK, "onnx-fp32"))[1]
    with pytest.raises(BenchmarkError, match="no row is called 'nothing'"):
        render_page(BENCHMARK, "nothing")


def test_nothing_measured_is_a_page_as_well():
    _, text = read(render_page(make_benchmark(ROWS[-2:])))
    assert "No row has settled" in text
    assert "this machine has no NVIDIA GPU" in text


def test_names_cannot_break_the_page(tmp_path):
    name = '<script>alert("1")</script> & $x_1$ \x00 \ud800'
    rows = [timed(name, 10 * batch, batch=batch, accuracy=0.9) for batch in (1, 2)]
    broken = make_row(name="b", status="error", reason=name)
    write_page(tmp_path / "page.html", make_benchmark([*rows, broken], run=name, bundle=name, command=name))
    reader, text = read((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not reader.tags("script")
    assert '<script>alert("1")</script> & $x_1$ \N{REPLACEMENT CHARACTER}' in text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BenchmarkError, match=r"cannot write .*choose another file"):
        write_page(tmp_path / "file" / "page.html", BENCHMARK)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match="report"):
        render_page(BENCHMARK)
