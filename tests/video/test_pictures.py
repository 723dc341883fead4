"""Conversion of frames to RGB: the scaler by itself gives what FFmpeg's filter gives."""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest

from vdeploy.video.pictures import PictureConverter, filter_graph

MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)
"""Values of FFmpeg's ``AVColorSpace``: RGB, BT.709, unspecified, FCC, BT.470, BT.601, SMPTE 240M, BT.2020."""

RANGES = (0, 1, 2)
"""Unspecified, limited, full."""


def random_frame(pixel_format: str, size: tuple[int, int], matrix: int, colour_range: int) -> av.VideoFrame:
    random = np.random.default_rng(0)
    frame = av.VideoFrame(*size, pixel_format)
    for plane in frame.planes:
        plane.update(random.integers(0, 256, plane.buffer_size, dtype=np.uint8).tobytes())
    frame.colorspace, frame.color_range, frame.pts = matrix, colour_range, 0
    return frame


def by_filter(frame: av.VideoFrame) -> np.ndarray:
    graph = filter_graph(frame, [("format", "rgb24")])
    graph.vpush(frame)
    return graph.vpull().to_ndarray()


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("size", [(360, 288), (50, 34), (34, 2), (854, 480)])
def test_frames_of_even_size_need_no_filter(pixel_format: str, size: tuple[int, int]) -> None:
    converter = PictureConverter()
    for matrix, colour_range in itertools.product(MATRICES, RANGES):
        frame = random_frame(pixel_format, size, matrix, colour_range)
        assert np.array_equal(converter.rgb(frame), by_filter(frame)), (matrix, colour_range)
    assert converter._graph is None


@pytest.mark.parametrize(
    ("pixel_format", "size"), [("yuv420p", (65, 48)), ("yuv420p", (64, 49)), ("nv12", (64, 48)), ("gray", (64, 48))]
)
def test_other_frames_pass_the_filter(pixel_format: str, size: tuple[int, int]) -> None:
    converter = PictureConverter()
    frame = random_frame(pixel_format, size, 2, 0)
    assert np.array_equal(converter.rgb(frame), by_filter(frame))
    assert converter._graph is not None
