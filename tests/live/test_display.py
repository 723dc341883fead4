"""What people see of a watch: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vdeploy.live import display
from vdeploy.live.display import LineDisplay, TableDisplay, open_display
from vdeploy.live.report import Report
from vdeploy.timeline.events import Event, Window

REPORTS = (
    Report("connected", "door"),
    Report("window", "door", window=Window(0.0, 2.0, 0.75), latency_ms=40.0, dropped_frames=3),
    Report("window", "door", window=Window(1.0, 3.0, 0.25), latency_ms=60.0, dropped_frames=3),
    Report("event_began", "door", event=Event(0.0, 2.0, 1.0, 0.75, 0.75)),
    Report("lost", "yard", message="yard sends nothing any more; tried again in 0.5 s"),
    Report("scorer_lost", message="no Triton answers"),
)


def shown(*reports: Report, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False)
    with open_display(console, ["door", "yard"], 0.5) as opened:
        assert isinstance(opened, TableDisplay if terminal else LineDisplay)
        for report in reports:
            opened.show(report)
    return console.file.getvalue()


def test_a_terminal_shows_a_table():
    text = shown(*REPORTS, terminal=True)
    last = text[text.rindex("source") :]
    assert "EVENT" in last
    assert "0.25" in last
    assert "50 ms" in last
    assert "█████" in last
    assert "lost" in last
    assert "no Triton answers" in last


def test_elsewhere_there_are_lines():
    lines = shown(*REPORTS, terminal=False).splitlines()
    assert lines[0].endswith("door: connected")
    assert lines[1].endswith("door: event began at 0:00, probability 0.75")
    assert lines[2].endswith("yard: lost, yard sends nothing any more; tried again in 0.5 s")
    assert lines[3].endswith("scorer: lost, no Triton answers")
    assert lines[4] == "door: violence 0.25, 2 windows, 1 events, 3 frames dropped, latency 50 ms"
    assert lines[5] == "yard: 0 windows, 0 events, 0 frames dropped"


def test_an_event_that_ended_and_a_server_that_is_back():
    over = Report("event_ended", "door", event=Event(61.0, 66.5, 62.0, 0.9, 0.8))
    back = Report("scorer_back"), Report("scorer_back", message="threshold 0.50 -> 0.62", threshold=0.62)
    lines = shown(REPORTS[3], over, *back, Report("ended", "door"), terminal=False).splitlines()
    assert lines[1].endswith("door: event ended, 1:01 to 1:06.5 (5.5 s), peak 0.90, mean 0.80")
    assert lines[2].endswith("scorer: back")
    assert lines[3].endswith("scorer: back, threshold 0.50 -> 0.62")
    assert lines[4].endswith("door: ended")


def test_a_table_has_the_colours_of_the_threshold_that_a_report_gives():
    window = Report("window", "door", window=Window(0.0, 2.0, 0.55))
    changed = Report("scorer_changed", message="threshold 0.50 -> 0.62", threshold=0.62)
    opened, colours = TableDisplay(Console(file=io.StringIO()), ["door"], 0.5), []
    for report in (window, changed):
        opened.show(report)
        colours.append(opened._row(opened._board.sources["door"])[2].style)
    assert colours == ["red", "blue"]
    assert opened._console.file.getvalue().strip().endswith("scorer: another version scores, threshold 0.50 -> 0.62")
    assert not opened._board.message, "nothing is wrong"


def test_sources_are_summed_up_now_and_then(monkeypatch):
    monkeypatch.setattr(display, "_SUMMARY_EVERY_S", 0.0)
    lines = shown(REPORTS[1], terminal=False).splitlines()
    assert lines.count("yard: 0 windows, 0 events, 0 frames dropped") == 2


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_is_one_line_of_json_without_what_does_not_apply(report):
    text = report.to_json()
    assert "\n" not in text
    assert "null" not in text
    assert report.to_dict()["kind"] == report.kind
