"""Interlaced inputs of the codecs that carry field flags, and mixtures with progressive frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from testing.corpus.inputs import CorpusInput, transcoded
from testing.corpus.tools import ffmpeg

__all__ = ["interlaced_inputs"]

_KIND = "interlaced"
_FIELDS = "-vf tinterlace=interleave_{parity},setfield={field}"
_H264 = "-an -c:v libx264 -preset fast -flags +ilme+ildct -x264opts {field}=1"
_MPEG2 = "-an -c:v mpeg2video -b:v 3M -flags +ilme+ildct"
_PARITIES = (("tff", "top"), ("bff", "bottom"))


def interlaced_inputs() -> Iterator[CorpusInput]:
    """Yields inputs with both field orders."""
    for field, parity in _PARITIES:
        fields = _FIELDS.format(parity=parity, field=field)
        h264 = _H264.format(field=field)
        for suffix in ("ts", "mts", "m2ts", "mp4", "mov", "mkv", "avi", "264"):
            yield transcoded(_KIND, f"h264-{field}.{suffix}", f"SOURCE {fields} {h264}{_container(suffix)}")
        yield transcoded(_KIND, f"h264-bframes-{field}.ts", f"SOURCE {fields} {h264} -bf 3")
        for suffix in ("mpg", "vob", "ts", "mkv", "m2v", "m2ts"):
            mpeg2 = _MPEG2 + " -pix_fmt yuv420p -g 12 -bf 2"
            yield transcoded(_KIND, f"mpeg2-{field}.{suffix}", f"SOURCE {fields} {mpeg2}{_container(suffix)}")
        prores = "-an -c:v prores_ks -flags +ildct -pix_fmt yuv422p10le"
        yield transcoded(_KIND, f"prores-{field}.mov", f"SOURCE {fields} {prores}")
        yield transcoded(_KIND, f"huffyuv-{field}.avi", f"SOURCE {fields} -c:v ffvhuff -pix_fmt yuv420p")
        yield transcoded(_KIND, f"mpeg4-{field}.mp4", f"SOURCE {fields} -c:v mpeg4 -q:v 3 -flags +ilme+ildct")
        yield transcoded(_KIND, f"ffv1-{field}.mkv", f"SOURCE {fields} -c:v ffv1 -pix_fmt yuv422p")
        yield transcoded(_KIND, f"raw-{field}.mov", f"SOURCE {fields} -c:v v210 -pix_fmt yuv422p10le")
    for target, suffix in (("pal-dv", "dv"), ("ntsc-dv", "dv"), ("pal-dv", "avi"), ("pal-dv", "mov")):
        size = "720x576" if target == "pal-dv" else "720x480"
        source = f"-f lavfi -i testsrc2=s={size}:r={25 if target == 'pal-dv' else '30000/1001'}:d=0.4"
        container = " -f dv" if suffix == "dv" else f" -f {suffix}"
        yield transcoded(_KIND, f"{target}.{suffix}", f"{source} -an -target {target}{container}")
    yield CorpusInput(_KIND, "progressive-then-interlaced.ts", lambda folder, path: _mixed(folder, path, (0, 1)))
    yield CorpusInput(_KIND, "interlaced-then-progressive.ts", lambda folder, path: _mixed(folder, path, (1, 0)))
    yield CorpusInput(_KIND, "taking-turns.ts", lambda folder, path: _mixed(folder, path, (0, 1, 0, 1)))
    yield transcoded(
        _KIND, "mbaff-of-progressive.mp4", "SOURCE -c:v libx264 -flags +ilme+ildct -x264opts fake-interlaced=1"
    )
    yield transcoded(_KIND, "telecine.mkv", "SOURCE -vf telecine=pattern=23 -c:v mpeg2video -q:v 3 -flags +ilme+ildct")


def _container(suffix: str) -> str:
    return {"264": " -f h264", "vob": " -f vob", "m2v": " -f mpeg2video"}.get(suffix, "")


def _mixed(folder: Path, path: Path, order: tuple[int, ...]) -> None:
    fields = _FIELDS.format(parity="top", field="tff").split()
    parts = (
        ["-c:v", "libx264", "-bf", "0"],
        [*fields, "-c:v", "libx264", "-bf", "0", "-flags", "+ilme+ildct", "-x264opts", "tff=1"],
    )
    content = b""
    for number, which in enumerate(order):
        part = folder / f"{path.stem}-{number}.ts"
        ffmpeg("-i", folder / "source.nut", *parts[which], "-output_ts_offset", str(2 * number), part)
        content += part.read_bytes()
    path.write_bytes(content)
