"""JPEG bytes to frames inside a TensorFlow graph, resized by the rule of `vdeploy.video.clips`."""

from __future__ import annotations

from typing import Any

from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.video.pictures import Fit

__all__ = ["decode_jpegs"]


def decode_jpegs(jpegs: Any, size: int, fit: Fit = "squeeze") -> Any:
    """Decodes and resizes images.

    Axes that are too long are shrunk by averaging areas, then axes that are too short are enlarged bilinearly, as
    `vdeploy.video.clips` does with OpenCV; TensorFlow rounds its sums elsewhere, so a few values differ by 1.

    Args:
        jpegs: ``string[N]``, JPEG files of any size, grey or in colour.
        size: Height and width of a frame in pixels.
        fit: How a picture becomes a square.

    Returns:
        ``uint8[N, size, size, 3]``, RGB.
    """
    tf = load_tensorflow()
    return tf.map_fn(
        lambda jpeg: _decode(tf, jpeg, size, fit), jpegs, fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8)
    )


def _decode(tf: Any, jpeg: Any, size: int, fit: Fit) -> Any:
    # OpenCV decodes with the slow integer transform; TensorFlow's default is a faster, less exact one.
    image = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    sides = tf.shape(image)[:2]
    wanted = tf.constant((size, size))
    if fit == "letterbox":
        longest = tf.reduce_max(sides)
        wanted = tf.maximum((2 * sides * size + longest) // (2 * longest), 1)
    smaller = tf.minimum(sides, wanted)
    averaged = _to_bytes(tf, tf.raw_ops.ResizeArea(images=image[tf.newaxis], size=smaller))
    enlarged = tf.raw_ops.ResizeBilinear(images=averaged, size=wanted, half_pixel_centers=True)
    top, left = tf.unstack((size - wanted) // 2)
    square = tf.image.pad_to_bounding_box(_to_bytes(tf, enlarged)[0], top, left, size, size)
    return tf.ensure_shape(square, (size, size, 3))


def _to_bytes(tf: Any, values: Any) -> Any:
    return tf.saturate_cast(tf.round(values), tf.uint8)
