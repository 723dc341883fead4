"""The page in a real browser."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from testing.running_gateway import Running, running_gateway
from testing.videos import solid_frame, write_video
from tests.gateway.browser import Browser, open_browser
from vdeploy.gateway.keys import KeyFile
from vdeploy.timeline.events import EventRule, Window, find_events

CONTRASTS = """
const values = getComputedStyle(document.documentElement);
const probe = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const linear = (part) => part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
const light = (name) => {
  probe.fillStyle = values.getPropertyValue(name);
  probe.fillRect(0, 0, 1, 1);
  const [red, green, blue] = [...probe.getImageData(0, 0, 1, 1).data].map(linear);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
return arguments[0].map((pair) => {
  const [low, high] = pair.map(light).sort((one, other) => one - other);
  return (high + 0.05) / (low + 0.05);
});
"""
"""Contrast ratios of pairs of colours, by WCAG 2; text needs 4.5."""

NAMELESS = """
const controls = [...document.querySelectorAll('button, input, progress, [role=slider]')];
const named = (one) => (one.labels && one.labels.length) || one.getAttribute('aria-label') || one.textContent.trim();
return controls.filter((one) => !named(one)).map((one) => one.id);
"""
"""Elements without an accessible name."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds whose colours, and so whose scores, change slowly."""
    shades = (np.sin(np.arange(200) / 18) * 100 + 128).astype(int)
    path = tmp_path_factory.mktemp("film") / "film.webm"
    return write_video(
        path, (solid_frame((int(shade), 60, 255 - int(shade))) for shade in shades), codec="libvpx", fps=10
    )


@pytest.fixture
def judged(browser: Browser, gateway: Running, film: Path) -> Browser:
    """The page with a scored video; the threshold lies in the middle of the scores."""
    browser.open(gateway.url)
    browser.wait("about")
    browser.type("#file", str(film))
    browser.wait("timeline && ui.video.readyState >= 2")
    browser.run(
        "const all = windows.map((one) => one.probability), middle = (Math.min(...all) + Math.max(...all)) / 2; "
        "setRule({enter: middle, leave: middle})"
    )
    return browser


def test_events_are_found_as_the_detector_finds_them(browser: Browser, gateway: Running):
    browser.open(gateway.url)
    random = np.random.default_rng(0)
    for _ in range(200):
        starts = np.cumsum(random.choice([0.5, 1.0, 4.0], 40))
        scores = random.choice([0.1, 0.4, 0.45, 0.5, 0.7, 0.9], 40)
        windows = [
            Window(float(start), float(start) + 2, float(score)) for start, score in zip(starts, scores, strict=True)
        ]
        rule = EventRule(
            0.5, float(random.choice([0.4, 0.45, 0.5])), float(random.choice([0, 3])), float(random.choice([0, 1, 3]))
        )
        expected = [dataclasses.asdict(event) for event in find_events(windows, rule)]
        found = browser.run(
            "return findEvents(...arguments)", [dataclasses.asdict(one) for one in windows], dataclasses.asdict(rule)
        )
        assert found == expected


def test_a_video_is_judged_and_shown(judged: Browser, tmp_path: Path):
    count = judged.run("return events.length")
    assert count >= 2
    assert judged.run("return ui.verdict.textContent") == f"{count} events to look at"
    assert judged.run("return document.querySelectorAll('#timeline .band').length") == count
    assert judged.run("return document.querySelectorAll('#events button').length") == count
    assert judged.run("return ui.video.videoWidth") == 64
    assert not judged.complaints()
    assert len(judged.screenshot(tmp_path / "page.png")) > 10_000


def test_the_threshold_moves_the_events(judged: Browser):
    judged.run("ui.threshold.value = 0.99; ui.threshold.dispatchEvent(new Event('input'))")
    assert judged.run("return events.length") == 0
    assert judged.run("return ui.verdict.textContent") == "Nothing to look at"
    judged.run("ui.threshold.value = 0.01; ui.threshold.dispatchEvent(new Event('input'))")
    assert judged.run("return [events.length, events[0].start_s, events[0].end_s]") == [
        1,
        0,
        judged.run("return duration"),
    ]


def test_it_works_by_keyboard(judged: Browser):
    judged.run("ui.timeline.focus()")
    judged.press("Home", "Right")
    assert judged.run("return [position, ui.timeline.getAttribute('aria-valuenow')]") == [1, "1.00"]
    judged.press("End")
    assert judged.run("return position === duration")
    judged.press("p")
    start = judged.run("return events[events.length - 1].start_s")
    assert judged.run("return position") == start
    assert f"in event {judged.run('return events.length')}" in judged.run(
        "return ui.timeline.getAttribute('aria-valuetext')"
    )
    judged.wait(f"Math.abs(ui.video.currentTime - {start}) < 0.2")
    judged.press("Tab")
    assert judged.run("return document.activeElement.id") == "threshold"


def test_an_event_is_jumped_to(judged: Browser):
    judged.click("#events li:last-child button")
    assert judged.run("return position === events[events.length - 1].start_s")
    assert (
        judged.run("return document.querySelector('#events li:last-child button').getAttribute('aria-current')")
        == "true"
    )


def test_the_download_is_a_timeline(judged: Browser):
    text = judged.run(
        "return new Promise((done) => { const make = URL.createObjectURL; URL.createObjectURL = (blob) => "
        "{ blob.text().then(done); URL.createObjectURL = make; return make(blob); }; download(); })"
    )
    from vdeploy.timeline.timeline import Timeline

    timeline = Timeline.from_json(text)
    assert find_events(timeline.windows, timeline.rule) == timeline.events
    assert json.loads(text)["rule"]["enter"] == judged.run("return rule.enter")


def test_everything_has_a_name_and_enough_contrast(judged: Browser):
    nameless = judged.run(NAMELESS)
    assert nameless == []
    pairs = [
        ("--ink", "--card"),
        ("--soft", "--card"),
        ("--soft", "--ground"),
        ("--hot", "--card"),
        ("--on-accent", "--accent"),
    ]
    for scheme in ("light", "dark"):
        judged.emulate(prefers_color_scheme=scheme)
        assert min(judged.run(CONTRASTS, pairs)) >= 4.5


def test_what_cannot_be_judged_is_told(browser: Browser, gateway: Running, tmp_path: Path):
    (tmp_path / "diary.mp4").write_text("dear diary")
    browser.open(gateway.url)
    browser.wait("about")
    browser.type("#file", str(tmp_path / "diary.mp4"))
    browser.wait("!ui.problem.hidden")
    assert "not a readable video" in browser.run("return ui['problem-hint'].textContent")
    assert browser.run("return document.activeElement.id") == "choose"


def test_a_key_is_asked_for(browser: Browser, bundle_dir: Path, tmp_path: Path, film: Path):
    secret = KeyFile(tmp_path / "keys.json").add("person")
    options = ("--bundle", str(bundle_dir), "--api-keys", str(tmp_path / "keys.json"))
    with running_gateway(tmp_path / "spool", *options) as gateway:
        browser.open(gateway.url)
        browser.wait("about && !ui['key-row'].hidden")
        browser.type("#file", str(film))
        browser.wait("!ui.problem.hidden")
        assert "API key" in browser.run("return ui['problem-hint'].textContent")
        browser.type("#key", secret)
        browser.type("#file", str(film))
        browser.wait("timeline")
