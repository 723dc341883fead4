"""Events are cut out to the frame, and nothing half-written stays."""

from __future__ import annotations

import cv2
import pytest

from testing.videos import read_number, solid_frame, write_numbered, write_video
from vdeploy.core.errors import TimelineError
from vdeploy.timeline.cutting import cut_events
from vdeploy.timeline.timeline import Event, EventRule, Timeline
from vdeploy.timeline.writing import open_writer


def timeline(video, *spans: tuple[float, float]) -> Timeline:
    events = tuple(Event(start, end, start, 0.9, 0.8) for start, end in spans)
    return Timeline(str(video), 20.0, 2.0, 1.0, 8.0, EventRule(), (), events)


def numbers(file) -> list[int]:
    capture = cv2.VideoCapture(str(file))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    found = []
    while True:
        done, picture = capture.read()
        if not done:
            return found
        found.append(read_number(picture))


@pytest.mark.parametrize("options", [{"g": 50, "bf": 2}, {"g": 600}, {"g": 1}])
def test_events_are_cut_to_the_frame(tmp_path, options):
    video = write_numbered(tmp_path / "v.mp4", 500, **options)
    spans = ((10.0, 14.0), (0.0, 1.0), (19.0, 21.0))
    files = list(cut_events(video, timeline(video, *spans), tmp_path / "cut"))
    assert [file.name for file in files] == [
        "v-event01-00h00m10s.mp4",
        "v-event02-00h00m00s.mp4",
        "v-event03-00h00m19s.mp4",
    ]
    assert numbers(files[0]) == list(range(250, 350))
    assert numbers(files[1]) == list(range(25))
    assert numbers(files[2]) == list(range(475, 500))
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == sorted(file.name for file in files)


def test_a_margin_shows_what_came_before_and_after(tmp_path):
    video = write_numbered(tmp_path / "v.mp4", 500)
    (file,) = cut_events(video, timeline(video, (1.0, 2.0)), tmp_path, margin_s=0.4)
    assert numbers(file) == list(range(15, 60))


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    video = write_video(
        tmp_path / "v.avi", [solid_frame((9, 9, 9), 65, 49)] * 30, codec="mjpeg", pixel_format="yuvj444p"
    )
    (file,) = cut_events(video, timeline(video, (0.0, 1.0)), tmp_path)
    capture = cv2.VideoCapture(str(file))
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)


def test_an_event_that_the_video_does_not_hold(tmp_path):
    video = write_numbered(tmp_path / "v.mp4", 50)
    with pytest.raises(TimelineError, match=r"no frame of .* lies between 10\.0 and 12\.0 s; give the timeline's"):
        list(cut_events(video, timeline(video, (10.0, 12.0)), tmp_path / "cut"))
    assert not list((tmp_path / "cut").iterdir())


def test_no_event_no_file(tmp_path):
    video = write_numbered(tmp_path / "v.mp4", 50)
    assert list(cut_events(video, timeline(video), tmp_path / "cut")) == []


def test_a_file_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(TimelineError, match=r"x\.mp4 cannot be written \(No such file or directory\); check the folder"),
        open_writer(tmp_path / "absent" / "x.mp4", 25.0, 64, 48),
    ):
        pass
