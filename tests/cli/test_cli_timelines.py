"""`vdeploy predict` on long videos and `vdeploy watch`, as a user types them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.streams import mjpeg_server
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import solid_frame, write_numbered, write_video
from tests.conftest import Done
from vdeploy.artifacts.bundle import Bundle
from vdeploy.cli.options import ScorerOptions
from vdeploy.core.errors import ClientError
from vdeploy.inference.in_process import LocalScorer
from vdeploy.live import webhook
from vdeploy.timeline.timeline import Timeline

Verb = Callable[..., Done]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle")).root


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbered(tmp_path_factory.mktemp("video") / "long.mp4", 250, g=50)


def test_a_timeline_a_plot_and_clips(vdeploy: Verb, bundle: Path, video: Path, tmp_path: Path) -> None:
    files = ("--timeline", tmp_path / "t.json", "--plot", tmp_path / "t.png", "--clips", tmp_path / "clips")
    options = ("--window", 1, "--stride", 0.5, "--threshold", 0.6, "--leave", 0.5, "--merge-gap", 0)
    code, out, err = vdeploy("predict", video, "--bundle", bundle, *files, *options)
    assert code == 0
    timeline = Timeline.from_json((tmp_path / "t.json").read_text())
    assert (timeline.window_s, timeline.stride_s, timeline.rule.enter, timeline.rule.leave) == (1.0, 0.5, 0.6, 0.5)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "clips").iterdir())) == len(timeline.events) == err.count("wrote ") >= 1
    assert out.splitlines()[0].split() == ["video", "from", "to", "peak", "at", "peak", "confidence"]


def test_several_videos_as_json(vdeploy: Verb, bundle: Path, video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video\n" * 40)
    code, out, _ = vdeploy("predict", video, broken, "--bundle", bundle, "--stride", 1, "--json")
    told = json.loads(out)
    assert code == 0
    assert [timeline["source"] for timeline in told["timelines"]] == [str(video)]
    assert told["failed"] == {str(broken): "is not a readable video"}
    assert vdeploy("predict", broken, "--bundle", bundle, "--stride", 1)[0] == 1


@pytest.mark.parametrize("options", [(), ("--window", 1)])
def test_a_deployment_while_videos_are_scored_is_warned_of(
    vdeploy: Verb,
    bundle: Path,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
) -> None:
    scorers = [LocalScorer(opened) for opened in (Bundle(bundle), make_tiny_bundle(tmp_path / "new", seed=1))]
    served: list[LocalScorer] = []

    def newest(_: ScorerOptions) -> contextlib.AbstractContextManager[LocalScorer]:
        if not served:
            raise ClientError("no Triton answers", "start it")
        return contextlib.nullcontext(served[-1])

    monkeypatch.setattr(ScorerOptions, "open", lambda _: contextlib.nullcontext(scorers[0]))
    monkeypatch.setattr(ScorerOptions, "newest", newest)
    warned = []
    for _ in range(3):
        code, _, err = vdeploy("predict", video, "--url", "door:8001", *options)
        assert code == 0
        warned.append("warning: door:8001 got another model meanwhile" in err)
        served += scorers[len(served) :][:1]
    assert warned == [False, False, True]


def test_no_event_is_said(vdeploy: Verb, bundle: Path, video: Path) -> None:
    code, out, err = vdeploy("predict", video, "--bundle", bundle, "--threshold", 1)
    assert code == 0
    assert "no event in 9 windows, the highest at 0." in out
    assert "the model's training clips are taken to last 2 s" in err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--threshold", 0.5, "--leave", 0.6), "--leave 0.6 is above the threshold of 0.5; give a lower one"),
        (("--plot", "t.txt"), "t.txt has no suffix of a picture"),
        (("--timeline", "/"), "/ cannot be written (Is a directory); choose another place"),
        (("--plot", "/proc/t.png"), "/proc/t.png cannot be written"),
        (("--clips", "/proc/clips"), "/proc/clips cannot be written"),
    ],
)
def test_wrong_calls_are_one_line(vdeploy: Verb, bundle: Path, video: Path, options: tuple, line: str) -> None:
    code, _, err = vdeploy("predict", video, "--bundle", bundle, *options)
    assert code == 1
    assert line in err
    assert len(err.splitlines()) == 1


def test_one_file_for_several_videos_is_refused(vdeploy: Verb, bundle: Path, video: Path, tmp_path: Path) -> None:
    other = write_numbered(tmp_path / "other.mp4", 5)
    code, _, err = vdeploy("predict", video, other, "--bundle", bundle, "--timeline", tmp_path / "t.json")
    assert code == 1
    assert "--timeline and --plot write one file, and 2 videos were given" in err


def test_watching_a_file_in_lines(vdeploy: Verb, bundle: Path, tmp_path: Path) -> None:
    red = write_video(tmp_path / "red.mp4", [solid_frame((250, 10, 10))] * 30)
    code, out, _ = vdeploy("watch", red, "--bundle", bundle, "--window", 0.4, "--threshold", 0, "--leave", 0)
    assert code == 0
    assert "red.mp4: connected" in out
    assert "red.mp4: event began at 0:00, probability" in out
    assert "red.mp4: event ended, 0:00 to 0:01" in out
    assert "1 events, 0 frames dropped" in out or "frames dropped, latency" in out


def test_a_watch_that_could_open_nothing_has_failed(vdeploy: Verb, bundle: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video\n" * 40)
    code, out, _ = vdeploy("watch", text, "--bundle", bundle)
    assert "text.mp4: lost," in out
    assert code == 1


def test_a_webhook_that_is_not_there_is_told_at_the_end(
    vdeploy: Verb, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_FIRST_WAIT_S", 0.01)
    red = write_video(tmp_path / "red.mp4", [solid_frame((250, 10, 10))] * 10)
    code, _, err = vdeploy("watch", red, "--bundle", bundle, "--webhook", "http://127.0.0.1:9/x")
    assert code == 0
    assert "webhook: 0 reports delivered" in err


def test_ctrl_c_ends_a_watch_in_order(bundle: Path, video: Path) -> None:
    with mjpeg_server(video) as server:
        command = [
            sys.executable,
            "-m",
            "vdeploy",
            "watch",
            f"http://127.0.0.1:{server.port}/",
            "--bundle",
            str(bundle),
        ]
        options = ["--window", "0.4", "--threshold", "0", "--leave", "0", "--json"]
        with subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            kinds = []
            for line in process.stdout:
                kinds.append(json.loads(line)["kind"])
                if kinds[-1] == "event_began":
                    process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
    assert kinds[0] == "connected"
    assert "event_ended" in kinds[-3:]
