"""The report: one file, nothing outside it, whatever the names; and pictures that show what they are told."""

from __future__ import annotations

import base64
import dataclasses
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from testing.html_page import HtmlPage
from training.report.contact_sheet import contact_sheet
from training.report.run_report import ReportData, write_report
from training.report.training_views import ViewedClip
from vdeploy.core.errors import MissingExtraError
from vdeploy.evaluation import charts
from vdeploy.evaluation.calibration import Calibration, reliability
from vdeploy.evaluation.metrics import evaluate

if TYPE_CHECKING:
    from pathlib import Path

_NASTY = "</title><script>alert('$x^2$')</script>\" onload=\"x & <b>ü"


def _frames(seed: int, *, count: int = 16, noise: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if noise:
        return rng.integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)
    return np.repeat(np.linspace(0, 240, count).astype(np.uint8), 64 * 64 * 3).reshape(count, 64, 64, 3)


def _decoded(uri: str) -> np.ndarray:
    encoded = np.frombuffer(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")), np.uint8)
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _data(count: int = 60, **changes: Any) -> ReportData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    raw = 1 / (1 + np.exp(-(rng.normal(size=count) * 3 + (labels - 0.5) * 6)))
    p = Calibration(1.5).apply(raw)
    groups = [f"camera {index % 3}" for index in range(count)]
    wrong = np.flatnonzero((p >= 0.5) != (labels == 1))
    data = ReportData(
        name="demo",
        evaluation=evaluate(labels, p, groups=groups, bootstrap=200),
        labels=labels,
        probabilities=p,
        uncalibrated=raw,
        calibration=Calibration(1.5),
        threshold_rule="highest F1 on the validation split",
        classes=("calm", "fight"),
        created="1 May 2026",
        counts={"train": {"calm": 101, "fight": 102}, "valid": {"calm": count // 2, "fight": count // 2}},
        problems=["train/a.avi: holds no video stream"],
        recipe={
            "seed": 7,
            "limit": None,
            "classifier": {"units": [128, 64], "bidirectional": False, "head": {"dropout": 0.25}},
        },
        history=[
            {
                "epoch": 1,
                "loss": 0.7,
                "valid_loss": 0.6,
                "valid_auc": 0.8,
                "valid_accuracy": 0.7,
                "learning_rate": 1e-3,
            },
            {"epoch": 2, "loss": float("nan"), "valid_loss": None, "valid_auc": 0.9, "seconds": 3.25},
        ],
        best_epoch=2,
        mistakes=[(f"clips/{index}.avi", int(labels[index]), float(p[index]), _frames(index)) for index in wrong],
        environment={"TensorFlow": "2.21.0"},
        notes=["Lights were off in half of the clips."],
    )
    return dataclasses.replace(data, **changes)


def _write(folder: Path, data: ReportData) -> tuple[str, HtmlPage]:
    text = write_report(folder, data).read_text(encoding="utf-8")
    return text, HtmlPage(text)


def test_the_page_is_complete_and_stands_alone(tmp_path: Path) -> None:
    text, page = _write(tmp_path, _data())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert text.startswith("<!DOCTYPE html>")
    assert not page.tags("script")
    assert not page.tags("link")
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.attributes("src"))
    assert all(target.startswith("#") for name in ("href", "xlink:href") for target in page.attributes(name))
    assert not re.findall(r"url\((?!#)", text)
    assert "@import" not in text


def test_ids_are_unique_and_references_lead_somewhere(tmp_path: Path) -> None:
    text, page = _write(tmp_path, _data())
    ids = Counter(page.attributes("id"))
    assert max(ids.values()) == 1
    targets = set(re.findall(r"url\(#([^)]+)\)", text)) | {target[1:] for target in page.attributes("xlink:href")}
    assert targets
    assert targets <= set(ids)


def test_it_tells_the_figures(tmp_path: Path) -> None:
    data = _data()
    _, page = _write(tmp_path, data)
    found = data.evaluation
    low, high = found.intervals["accuracy"]
    for expected in (
        f"{found.accuracy:.1%}",
        f"{low:.1%} \N{EN DASH} {high:.1%}",
        f"{found.roc_auc:.3f}",
        f"{reliability(data.labels, data.uncalibrated).error:.3f}",
        f"{found.expected_calibration_error:.3f}",
        f"{found.confusion.tn} of 30 non-violent clips not flagged",
        f"flags\n    {1 - found.accuracy_non_violent:.1%} of the others by mistake",
        "highest F1 on the validation split",
        "the weights of epoch 2 were kept",
        "holds no video stream",
        "classifier.head",
        "128, 64",
        "bidirectionalno",
        "limitnone",
        "camera 1",
        "Lights were off in half of the clips.",
        "Keep a person in the loop",
        "clips are few",
        "TensorFlow",
    ):
        assert expected in page.text


def test_every_picture_has_a_text(tmp_path: Path) -> None:
    _, page = _write(tmp_path, _data())
    assert len(page.tags("svg")) == 7
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.tags("svg"))
    assert len(page.tags("img")) == len(_data().mistakes)
    assert all(image["alt"] for image in page.tags("img"))


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    data = _data(
        name=_NASTY,
        classes=(_NASTY, "_$1$\udce9\x00"),
        created=_NASTY,
        threshold_rule=_NASTY,
        counts={_NASTY: {_NASTY: 3}},
        problems=[_NASTY],
        recipe={_NASTY: _NASTY, "table": {_NASTY: [_NASTY]}},
        environment={_NASTY: _NASTY},
        notes=[_NASTY],
        mistakes=[(_NASTY, 1, 0.1, _frames(0))],
        suspicious=[(_NASTY, 0, 0.9, _frames(0))],
        suspicious_count=1,
        viewed=[ViewedClip(_NASTY, 1, [("plain", _frames(0))])],
        evaluation=evaluate([0, 1], [0.1, 0.2], groups=[_NASTY, "b"]),
    )
    text, page = _write(tmp_path, data)
    assert "<script" not in text
    assert not page.tags("script")
    assert not page.tags("b")
    assert not page.attributes("onload")
    assert page.text.count(_NASTY) >= 12
    assert "_$1$\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" in page.text


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "No label of a training clip looks wrong"), (14, "and 2 more, in suspicious_labels.json")],
)
def test_the_labels_to_check_are_counted(tmp_path: Path, count: int, words: str) -> None:
    shown = [(f"clip{index}.avi", 1, 0.1, _frames(1, count=2)) for index in range(min(count, 12))]
    _, page = _write(tmp_path, _data(mistakes=[], suspicious=shown, suspicious_count=count))
    assert words in " ".join(page.text.split())
    assert len(page.tags("img")) == min(count, 12)


def test_training_clips_are_shown_a_row_each_with_a_column_a_view(tmp_path: Path) -> None:
    views = [("plain", _frames(0)), ("augmented 1", _frames(0)[::-1])]
    data = _data(mistakes=[], viewed=[ViewedClip("a.avi", 1, views), ViewedClip("b.avi", 0, views)])
    _, page = _write(tmp_path, data)
    texts = [image["alt"] for image in page.tags("img")]
    assert texts == ["a.avi, plain", "a.avi, augmented 1", "b.avi, plain", "b.avi, augmented 1"]
    first, last = (_decoded(page.tags("img")[index]["src"] or "") for index in (0, 1))
    assert first.shape == (128, 3 * 128, 3)
    for strip, expected in ((first, (0, 128, 240)), (last, (240, 112, 0))):
        np.testing.assert_allclose([strip[64, 64 + 128 * index, 0] for index in range(3)], expected, atol=8)


def test_the_basics_are_enough(tmp_path: Path) -> None:
    labels, p = [0, 1, 1], [0.2, 0.4, 0.9]
    data = ReportData(name="bare", evaluation=evaluate(labels, p), labels=labels, probabilities=p)
    _, page = _write(tmp_path / "not" / "yet", data)
    headings = (
        "Training",
        "By group",
        "Labels to check",
        "Most confident errors",
        "Data",
        "Recipe",
        "Environment",
        "The same before calibration",
    )
    assert not any(re.search(rf"^\s*{heading}\s*$", page.text, re.MULTILINE) for heading in headings)
    assert len(page.tags("svg")) == 4


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_makes_a_page(tmp_path: Path, label: int) -> None:
    labels, p = [label] * 3, [0.0, 0.5, 1.0]
    data = ReportData(name="half", evaluation=evaluate(labels, p, threshold=0.6), labels=labels, probabilities=p)
    _, page = _write(tmp_path, data)
    assert "all of one class" in page.text
    assert "ROC" not in page.text.replace("ROC AUC", "")


def test_a_flawless_score_is_not_called_certain(tmp_path: Path) -> None:
    labels, p = [0, 1] * 30, [0.1, 0.9] * 30
    data = ReportData(name="best", evaluation=evaluate(labels, p), labels=labels, probabilities=p)
    _, page = _write(tmp_path, data)
    assert "the true error rate may still be up to 4.9%" in page.text


@pytest.mark.slow
def test_only_choices_made_on_the_same_clips_are_stated(tmp_path: Path) -> None:
    for tuned, split, name in ((True, "valid", "validation"), (False, "test", "test")):
        _, page = _write(tmp_path, _data(tuned_on_split=tuned, split=split))
        assert ("slightly optimistic" in page.text) is tuned
        assert re.search(rf"On 60 {name} clips", page.text)


def test_the_most_confident_errors_come_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    labels = np.repeat([0, 1], 20)
    p = np.concatenate([np.linspace(0.5, 0.99, 20), np.linspace(0.01, 0.49, 20)])
    order = np.random.default_rng(0).permutation(40)
    mistakes = [(f"clip{index}.avi", int(labels[index]), float(p[index]), _frames(1, count=2)) for index in order]
    scores = {"evaluation": evaluate(labels, p), "labels": labels, "probabilities": p, "uncalibrated": None}
    _, page = _write(tmp_path, _data(mistakes=mistakes, **scores))
    shown = re.findall(r"clip(\d+)\.avi", page.text)
    assert len(shown) == 12
    assert {int(index) for index in shown} == {*range(14, 20), *range(20, 26)}
    assert set(shown[:2]) == {"19", "20"}
    assert "and 28 more errors" in page.text


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    labels, p = np.arange(80) % 2, np.full(80, 0.3)
    groups = [f"g{index // 2}" for index in range(80)]
    _, page = _write(
        tmp_path,
        _data(evaluation=evaluate(labels, p, groups=groups), problems=[f"clip {index}: bad" for index in range(70)]),
    )
    assert "and 20 more groups" in page.text
    assert "70 problems" in page.text
    assert re.search(r"clip 49: bad\s+and 20 more\s*$", page.text, re.MULTILINE)


def test_the_worst_case_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 20_000), rng.uniform(size=20_000)
    history = [{"epoch": epoch, "loss": 1 / epoch, "valid_loss": rng.uniform()} for epoch in range(1, 301)]
    noise = _frames(0, noise=True)
    data = _data(
        evaluation=evaluate(labels, p, bootstrap=10),
        labels=labels,
        probabilities=p,
        uncalibrated=p,
        history=history,
        mistakes=[(f"{index}.avi", 0, 0.9, noise) for index in range(15)],
    )
    assert write_report(tmp_path, data).stat().st_size < 1_500_000


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_part_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"the report needs the Python package {module}; run: .*train"):
        write_report(tmp_path, _data(mistakes=[]))
    assert list(tmp_path.iterdir()) == []


def test_a_second_report_is_the_same(tmp_path: Path) -> None:
    assert _write(tmp_path, _data())[0] == _write(tmp_path, _data())[0]


def test_charts_leave_matplotlibs_settings_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    svg = charts.roc_chart([0, 1], [0.2, 0.8], 0.5)
    assert dict(matplotlib.rcParams) == before
    assert "100% of violent clips are found, with 0% false alarms" in svg
    assert "var(--calm)" in svg
    assert not re.search(r"#0[1-6]0[1-6]0[1-6]", svg)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_charts_stand_any_threshold_and_score(threshold: float) -> None:
    labels, p = [0, 1, 0, 1], [0.0, 0.0, 0.9, 0.9]
    for chart in (charts.roc_chart, charts.precision_recall_chart, charts.score_histogram):
        assert chart(labels, p, threshold).endswith("</svg>")


def test_a_contact_sheet_is_a_row_of_eight_frames_in_time() -> None:
    frames = np.zeros((16, 90, 160, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 240, 16).astype(np.uint8)[:, None, None]
    strip = _decoded(contact_sheet(frames))
    assert strip.shape == (128, 8 * 228, 3)
    middles = strip[64, 114::228].astype(int)
    expected = frames[np.linspace(0, 15, 8).round().astype(int), 0, 0].astype(int)
    assert np.abs(middles - expected).max() < 12


def test_a_short_clip_has_as_many_frames_as_it_has() -> None:
    assert _decoded(contact_sheet(_frames(0, count=3))).shape == (128, 3 * 128, 3)
