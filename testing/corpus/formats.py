"""Inputs of every codec, container, pixel format and size that people keep videos in."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from testing.corpus.inputs import CorpusInput, transcoded
from testing.corpus.raw_avi import write_raw_avi
from testing.corpus.tools import ffmpeg

__all__ = ["format_inputs"]

_CODECS = {
    "apng.apng": "apng -pix_fmt rgb24 -f apng",
    "av1.mp4": "libsvtav1 -preset 12 -pix_fmt yuv420p",
    "av1.webm": "libaom-av1 -cpu-used 8 -usage realtime -pix_fmt yuv420p",
    "cfhd.mov": "cfhd -pix_fmt yuv422p10le -s 192x128",
    "cinepak.mov": "cinepak -s 96x64",
    "dirac.mkv": "vc2 -pix_fmt yuv422p -s 192x128",
    "dnxhr.mov": "dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p -s 256x128",
    "dnxhr.mxf": "dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p -s 256x128",
    "ffv1.mkv": "ffv1 -pix_fmt yuv420p",
    "ffvhuff.avi": "ffvhuff -pix_fmt yuv420p",
    "flashsv.flv": "flashsv -pix_fmt bgr24",
    "flv.flv": "flv -q:v 3",
    "gif.gif": "gif",
    "h261.mkv": "h261 -s 176x144 -q:v 3",
    "h263.3gp": "h263 -s 176x144 -q:v 3",
    "h264.264": "libx264 -pix_fmt yuv420p -f h264",
    "h264.3gp": "libx264 -pix_fmt yuv420p",
    "h264.avi": "libx264 -pix_fmt yuv420p -bf 0",
    "h264.dav": "libx264 -pix_fmt yuv420p -f h264",
    "h264.f4v": "libx264 -pix_fmt yuv420p",
    "h264.flv": "libx264 -pix_fmt yuv420p",
    "h264.h264": "libx264 -pix_fmt yuv420p -f h264",
    "h264.m2ts": "libx264 -pix_fmt yuv420p",
    "h264.m4v": "libx264 -pix_fmt yuv420p",
    "h264.mkv": "libx264 -pix_fmt yuv420p -bf 3",
    "h264.mov": "libx264 -pix_fmt yuv420p",
    "h264.mp4": "libx264 -pix_fmt yuv420p -bf 3",
    "h264.mts": "libx264 -pix_fmt yuv420p -f mpegts",
    "h264.ts": "libx264 -pix_fmt yuv420p",
    "h264-open-gop.mp4": "libx264 -pix_fmt yuv420p -x264opts open-gop=1 -g 8",
    "h264-intra-refresh.ts": "libx264 -pix_fmt yuv420p -x264opts intra-refresh=1:keyint=10",
    "hevc.265": "libx265 -pix_fmt yuv420p -x265-params log-level=none -f hevc",
    "hevc.mkv": "libx265 -pix_fmt yuv420p -x265-params log-level=none",
    "hevc.mp4": "libx265 -pix_fmt yuv420p -tag:v hvc1 -x265-params log-level=none",
    "hevc.ts": "libx265 -pix_fmt yuv420p -x265-params log-level=none",
    "huffyuv.avi": "huffyuv -pix_fmt yuv422p",
    "jpeg2000.mov": "jpeg2000 -pix_fmt rgb24",
    "jpegls.avi": "jpegls -pix_fmt bgr24",
    "ljpeg.avi": "ljpeg -pix_fmt yuvj420p",
    "magicyuv.avi": "magicyuv -pix_fmt yuv420p",
    "mjpeg.avi": "mjpeg -pix_fmt yuvj420p -q:v 2",
    "mjpeg.mjpeg": "mjpeg -pix_fmt yuvj420p -q:v 2",
    "mjpeg.mov": "mjpeg -pix_fmt yuvj422p -q:v 2",
    "mpeg1.mpeg": "mpeg1video -q:v 3",
    "mpeg1.mpg": "mpeg1video -q:v 3 -bf 2",
    "mpeg2.m2v": "mpeg2video -q:v 3",
    "mpeg2.mpg": "mpeg2video -q:v 3 -bf 2",
    "mpeg2.vob": "mpeg2video -q:v 3 -f vob",
    "mpeg2.wtv": "mpeg2video -q:v 3",
    "mpeg4.avi": "mpeg4 -q:v 3",
    "mpeg4.m4v": "mpeg4 -q:v 3 -f m4v",
    "mpeg4.mp4": "mpeg4 -q:v 3 -bf 2",
    "mpeg4-bframes.avi": "mpeg4 -q:v 3 -bf 2",
    "msmpeg4v2.avi": "msmpeg4v2 -q:v 3",
    "msmpeg4v3.avi": "msmpeg4 -q:v 3",
    "msvideo1.avi": "msvideo1",
    "png.mov": "png",
    "prores.mov": "prores_ks -pix_fmt yuv422p10le",
    "prores-4444.mov": "prores_ks -pix_fmt yuva444p10le",
    "qtrle.mov": "qtrle -pix_fmt rgb24",
    "rv20.rm": "rv20 -q:v 3 -s 96x64",
    "snow.avi": "snow -q:v 3",
    "svq1.mov": "svq1 -q:v 3",
    "theora.ogv": "libtheora -q:v 8 -pix_fmt yuv420p",
    "utvideo.avi": "utvideo -pix_fmt yuv420p",
    "vp8.webm": "libvpx -cpu-used 8 -deadline realtime -b:v 1M",
    "vp9.mkv": "libvpx-vp9 -cpu-used 8 -pix_fmt yuv420p",
    "vp9.webm": "libvpx-vp9 -cpu-used 8 -pix_fmt yuv420p",
    "wmv1.wmv": "wmv1 -q:v 3",
    "wmv2.asf": "wmv2 -q:v 3",
    "wmv2.wmv": "wmv2 -q:v 3",
    "xvid.avi": "libxvid -q:v 3 -bf 2",
    "y4m.y4m": "wrapped_avframe -pix_fmt yuv420p -f yuv4mpegpipe",
    "zmbv.avi": "zmbv -pix_fmt bgr0",
}

_RAW_FORMATS = {
    "nut": (
        "gray gray10le gray12le gray14le gray16be gray16le ya8 monob monow pal8 rgb4_byte rgb8 bgr8 rgb444le"
        " rgb555le rgb565be rgb565le bgr555le bgr565le bgr24 rgb24 argb rgba abgr bgra 0rgb rgb0 bgr48le"
        " rgb48be rgb48le rgba64le gbrp gbrp10le gbrp12le gbrap yuv410p yuv411p yuv420p yuv422p yuv440p"
        " yuv444p yuva420p yuva444p yuvj420p yuvj444p yuv420p9le yuv420p10be yuv420p10le yuv420p12le"
        " yuv420p14le yuv420p16le yuv422p10le yuv422p16le yuv444p10le yuv444p16le nv12 nv21 p010le p016le"
        " yuyv422 yvyu422 uyvy422 x2rgb10le"
    ),
    "avi": "bgr24 bgra rgb555le gray yuyv422 uyvy422 yuv420p",
    "mov": "rgb24 argb yuyv422 rgb555be",
}

_SIZES = ("16x16", "33x17", "51x37", "2x2", "35x200", "402x22", "64x48", "224x224", "226x222", "640x360")


def format_inputs() -> Iterator[CorpusInput]:
    """Yields inputs of every codec, container, pixel format and size."""
    for name, codec in _CODECS.items():
        yield transcoded("codec and container", name, f"SOURCE -an -c:v {codec}")
    for suffix, names in _RAW_FORMATS.items():
        for name in names.split():
            arguments = f"SOURCE -t 0.4 -c:v rawvideo -pix_fmt {name}"
            yield transcoded("raw pixel format", f"raw-{name}.{suffix}", arguments)
    yield from _uncompressed_avi()
    for size in _SIZES:
        scaled = f"SOURCE -t 0.4 -vf scale={size.replace('x', ':')}"
        yield transcoded("size", f"{size}.mkv", f"{scaled} -c:v ffv1 -pix_fmt yuv444p")
        yield transcoded("size", f"{size}.avi", f"{scaled} -c:v mjpeg -q:v 2 -pix_fmt yuvj444p")
    yield from _colours()
    for depth in ("yuv420p10le", "yuv422p10le", "yuv444p10le"):
        yield transcoded("bit depth", f"h264-{depth}.mp4", f"SOURCE -c:v libx264 -pix_fmt {depth}")
    for depth in ("yuv420p10le", "yuv420p12le"):
        codec = "-c:v libx265 -x265-params log-level=none"
        yield transcoded("bit depth", f"hevc-{depth}.mp4", f"SOURCE {codec} -pix_fmt {depth}")
    for suffix in ("264", "ts"):
        yield CorpusInput("resolution that changes", f"resolution.{suffix}", _changing_size)


def _uncompressed_avi() -> Iterator[CorpusInput]:
    for bits in (1, 4, 8, 16, 24, 32):
        for width in (64, 37):
            for bottom_up in (True, False):
                order = "bottom-up" if bottom_up else "top-down"
                make = functools.partial(_raw_avi, width=width, bits=bits, bottom_up=bottom_up)
                yield CorpusInput("uncompressed AVI", f"bi-rgb-{bits}-{width}-{order}.avi", make)


def _colours() -> Iterator[CorpusInput]:
    for matrix in ("bt709", "bt470bg", "smpte240m", "bt2020nc"):
        for span in ("tv", "pc"):
            target = f"out_color_matrix={matrix.removesuffix('nc')}:out_range={span}"
            tags = f"-colorspace {matrix} -color_range {span}"
            arguments = f"SOURCE -vf scale={target},format=yuv420p {tags} -c:v libx264 -qp 1"
            yield transcoded("colour", f"{matrix}-{span}.mp4", arguments)


def _raw_avi(_folder: Path, path: Path, width: int, bits: int, bottom_up: bool) -> None:
    write_raw_avi(path, width=width, height=48, bits=bits, bottom_up=bottom_up)


def _changing_size(folder: Path, path: Path) -> None:
    content = b""
    for number, size in enumerate(("96:64", "64:96", "128:80")):
        part = folder / f"{path.stem}-{number}{path.suffix}"
        offset = ["-output_ts_offset", str(2 * number)] if path.suffix == ".ts" else ["-f", "h264"]
        ffmpeg("-i", folder / "source.nut", "-vf", f"scale={size}", "-c:v", "libx264", "-bf", "0", *offset, part)
        content += part.read_bytes()
    path.write_bytes(content)
