"""Events of sources while the threshold of the model changes."""

from __future__ import annotations

import pytest

from vdeploy.cli.event_options import EventOptions
from vdeploy.live.judge import Judge
from vdeploy.live.report import Report
from vdeploy.timeline.events import Event, EventRule, Window
from vdeploy.timeline.sliding import ScoredWindow


def test_an_event_that_is_going_on_does_so_under_the_new_rule() -> None:
    judge = Judge(["door"], lambda _: 3, EventRule.at, 0.5)

    def add(start_s: float, probability: float) -> dict[str, Report]:
        window = ScoredWindow(0, Window(start_s, start_s + 1, probability))
        return {report.kind: report for report in judge.add(window, None)}

    assert [*add(0, 0.55)] == ["window", "event_began"]
    assert judge.change(0.62) == "threshold 0.50 -> 0.62"
    assert judge.change(0.62) == ""
    assert [*add(1, 0.5)] == [*add(2, 0.45)] == ["window"]
    last = add(5, 0.55)
    assert [*last] == ["window", "event_ended"], "a window of 0.55 begins no event any more"
    assert last["event_ended"].event == Event(0, 2, 0.5, 0.55, 0.525), "0.8 of 0.62 lies between 0.45 and 0.5"
    assert not list(judge.finish())


@pytest.mark.parametrize(
    ("options", "message", "enter"),
    [
        (EventOptions(threshold=0.5), "", 0.5),
        (EventOptions(), "threshold 0.50 -> 0.25", 0.25),
        (EventOptions(leave=0.4), "threshold 0.50 is kept, as --leave 0.4 is above the threshold of 0.25", 0.5),
    ],
)
def test_what_the_user_gave_stays(options: EventOptions, message: str, enter: float) -> None:
    judge = Judge(["door"], lambda _: 0, options.rule, 0.5)
    assert judge.change(0.25) == message
    assert judge.rule.enter == enter
    assert judge.change(0.5) == ("threshold 0.25 -> 0.50" if enter == 0.25 else "")
