"""Inputs whose times are odd: cuts by stream copy, gaps, variable frame rates, offsets, sound longer than the video."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from testing.corpus.inputs import CorpusInput, transcoded
from testing.corpus.tools import ffmpeg

__all__ = ["timing_inputs"]


def timing_inputs() -> Iterator[CorpusInput]:
    """Yields inputs whose times are odd."""
    for suffix in ("mp4", "mov", "mkv", "ts", "m4v"):
        for start in ("0.7", "3.3", "6"):
            yield transcoded(
                "cut by stream copy", f"cut-{start}.{suffix}", f"-ss {start} LONG -t 2 -c copy", may_warn=suffix == "ts"
            )
    for start in ("1.5", "4"):
        yield transcoded(
            "cut by stream copy", f"cut-{start}-audio.mp4", f"-ss {start} LONG -ss {start} SOUND -t 2 -c:v copy"
        )
    for suffix in ("ts", "mkv", "mp4"):
        for stretch, gap in ((0.4, 60), (1.0, 5)):
            name = f"gap-{stretch}-{gap}.{suffix}"
            setpts = f"setpts=PTS+floor(T/{stretch})*{gap}/TB"
            encoder = "-c:v libx264 -g 10 -bf 0 -fps_mode passthrough"
            yield transcoded("gaps in time", name, f"SOURCE -vf {setpts} {encoder}", may_warn=True)
    wobble = "setpts=(N*40+mod(N*N*7\\,33))/1000/TB"
    slowing = "setpts=(N*20+N*N)/1000/TB"
    for suffix in ("mp4", "mkv", "mov", "webm"):
        codec = "libvpx-vp9 -cpu-used 8" if suffix == "webm" else "libx264 -bf 2"
        for name, times in (("wobble", wobble), ("slowing", slowing)):
            yield transcoded(
                "variable frame rate", f"{name}.{suffix}", f"SOURCE -vf {times} -fps_mode passthrough -c:v {codec}"
            )
    for rate in ("1", "5", "12.5", "24000/1001", "30000/1001", "50", "60", "120"):
        label = rate.replace("/", "-")
        yield transcoded("frame rate", f"rate-{label}.mp4", f"-r {rate} SOURCE -c:v libx264")
    for suffix in ("ts", "mkv", "flv", "mpg"):
        offset = f"SOURCE -c:v {_codec(suffix)} -output_ts_offset 3600"
        yield transcoded("start time", f"offset.{suffix}", offset)
    yield transcoded("start time", "negative.mkv", "SOURCE -c:v libx264 -bf 3 -avoid_negative_ts disabled")
    yield transcoded("start time", "delayed.mp4", "-itsoffset 2 SOURCE SOUND -c:v libx264", may_warn=True)
    for suffix in ("mp4", "mov", "mkv", "ts", "flv", "avi", "webm", "mpg", "asf"):
        sound = "libvorbis" if suffix == "webm" else "mp2" if suffix in ("mpg", "ts") else "libmp3lame"
        yield transcoded(
            "sound that outlasts the video", f"sound.{suffix}", f"SOURCE SOUND -c:v {_codec(suffix)} -c:a {sound}"
        )
    for suffix, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("avi", "mpeg4")):
        arguments = f"-f lavfi -i testsrc2=s=48x32:d=52 -c:v {codec} -g 25 -bf {0 if suffix == 'avi' else 2}"
        yield transcoded("long", f"long.{suffix}", arguments)
    interlaced = "-f lavfi -i testsrc2=s=48x32:d=52 -c:v libx264 -g 25 -flags +ilme+ildct -x264opts tff=1"
    yield transcoded("long", "long-interlaced.mp4", interlaced)
    fragments = "-g 8 -movflags frag_keyframe+empty_moov"
    yield transcoded("fragmented", "fragments.mp4", f"SOURCE -c:v libx264 {fragments}")
    yield transcoded("fragmented", "dash.mp4", f"SOURCE -c:v libx264 {fragments}+default_base_moof")
    yield transcoded("fragmented", "faststart.mp4", "SOURCE -c:v libx264 -movflags faststart")
    for number, cut in enumerate(((0.9, 1.9), (2.5, 0.4))):
        yield CorpusInput("cut by stream copy", f"cut-twice-{number}.mp4", functools.partial(_cut_twice, cuts=cut))


def _codec(suffix: str) -> str:
    return {
        "avi": "mpeg4",
        "asf": "wmv2",
        "flv": "flv",
        "mpg": "mpeg2video",
        "webm": "libvpx -cpu-used 8 -deadline realtime",
    }.get(suffix, "libx264")


def _cut_twice(folder: Path, path: Path, cuts: tuple[float, float]) -> None:
    """A cut of a cut, as editors of clips on telephones leave them."""
    once = folder / f"{path.stem}-once.mp4"
    ffmpeg("-ss", str(cuts[0]), "-i", folder / "long.mp4", "-t", "5", "-c", "copy", once)
    ffmpeg("-ss", str(cuts[1]), "-i", once, "-t", "2", "-c", "copy", path)
