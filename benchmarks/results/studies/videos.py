"""Long videos: what sliding windows save, and how well events are found."""

from __future__ import annotations

from typing import Any

from benchmarks.results.markdown import table
from benchmarks.results.study import Blocks, Found, Step, Study, single

__all__ = ["EVENTS", "STREAMS", "TIMELINE"]

_RULES = {
    "chosen": "chosen on other videos",
    "chosen_on_its_own_videos": "the same, on those that it was chosen on",
    "default": "usual rule",
}


def _setting(found: dict[str, Any]) -> str:
    clips = "generated clips" if found["clips"] == "generated" else f"clips of {found['clips']}"
    return f"{clips}, `{found['format']}` at {found['frame_px']} px, windows of {found['window_s']:g} s"


def _timeline(found: dict[str, Any]) -> Blocks:
    long, memory = found["long"], found["peak_mb"]
    yield (
        f"A video of {long['duration_s']:g} s of {_setting(found)} every {found['stride_s']:g} s: {long['windows']} "
        f"windows in {long['seconds']:g} s, {found['times_real_time']:g} times real time. Peak memory: "
        f"{memory['minute']:g} MB for a video of one minute, {memory['long']:g} MB for the whole one."
    )
    yield f"Of {found['piece_s']:g} s, sliding windows against each window by itself, decoding included:"
    yield table(
        ("window every, s", "windows", "sliding, s", "each by itself, s", "ratio", "largest difference"),
        [
            (
                f"{both['stride_s']:g}",
                f"{both['windows']:g}",
                f"{both['sliding_s']:g}",
                f"{both['alone_s']:g}",
                f"{both['ratio']:.1f}x",
                f"{both['difference']:.1g}",
            )
            for both in found["both_ways"]
        ],
    )


def _events(found: dict[str, Any]) -> Blocks:
    yield (
        f"{found['videos']} videos of {found['minutes_each']:g} minutes with {found['fights']} fights, "
        f"{_setting(found)} every {found['stride_s']:g} s. An event counts if it shares with a fight at least the "
        "given part of what both cover (IoU), or every tenth of a second counts by itself."
    )
    rows = [
        (rule, _counted(counted), *(f"{measures[key]:.3f}" for key in ("precision", "recall", "f1")))
        for name, rule in _RULES.items()
        for counted, measures in found[name].items()
        if counted != "rule"
    ]
    yield table(("rule", "counted by", "precision", "recall", "F1"), rows)


def _streams(found: Found) -> Blocks:
    yield (
        "Single frames of streams to a Triton on the same machine, which keeps the windows and scores one with each "
        "frame, in turns with a client that keeps them itself."
    )
    yield table(
        (
            *("extractor", "streams", "server keeps, ms a frame", "client keeps", "ratio"),
            *("keeper and classifier", "frames an execution", "largest difference"),
        ),
        [
            (
                each["format"],
                row["streams"],
                f"{row['server_ms']:.1f}",
                f"{row['client_ms']:.1f}",
                f"{row['server_ms'] / row['client_ms']:.2f}",
                f"{row['light_share']:.1%}".replace("%", " %"),
                f"{row['frames_per_execution']:.1f}",
                f"{row['difference']:.1g}",
            )
            for each in found.values()
            for row in each["rows"]
        ],
    )


def _counted(name: str) -> str:
    return name.replace("iou_", "IoU ")


TIMELINE = single(
    "timeline", "Long videos", "python -m benchmarks.timeline --bundle {bundle} {data} --format onnx-int8", _timeline
)
EVENTS = single(
    "events",
    "Events in long videos",
    "python -m benchmarks.events --bundle {bundle} {data} --format onnx-int8",
    _events,
)
STREAMS = Study(
    "streams",
    "Windows that the server keeps",
    tuple(
        Step(name, f"python -m benchmarks.streams {{bundle}} --frames 32 --format {name}")
        for name in ("onnx-fp32", "onnx-int8")
    ),
    _streams,
)
