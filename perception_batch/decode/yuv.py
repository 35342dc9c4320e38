"""Raw YUV as messages carry it: packed, semi-planar, planar. Matrix and range as in `color_matrix`.

Layout of an image of W x H, where `step` is the bytes from one luma row to the next (of packed forms: one row):

- ``uyvy``, ``yuyv``: per two pixels U Y V Y, or Y U Y V. An odd width takes a whole last group.
- ``nv12``, ``nv21``: H rows of luma, then ceil(H/2) rows of ceil(W/2) pairs U V (``nv21``: V U), `step` bytes
  apart, rounded up to even.
- ``nv24``: H rows of luma, then H rows of W pairs U V, twice `step` apart.
- ``i420``: H rows of luma, then U, then V: ceil(H/2) rows of ceil(W/2), half of `step` apart, rounded up.

That is what V4L2, Foxglove and FFmpeg lay out. Drivers disagree on `step` for planes, so where the data are too short
for it and have exactly the length of an unpadded image, they are one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np

from perception_batch.decode.color_matrix import (
    choose_colors,
    is_opencvs_own,
    rgb_from_planes,
    rgb_from_two_planes,
)
from perception_batch.decode.undecodable import UndecodableError
from perception_batch.types import Image

# Of the four bytes of two pixels: where luma, U and V stand; and OpenCV's own conversion.
_PACKED = {
    "uyvy": ((1, 3), 0, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuyv": ((0, 2), 1, 3, cv2.COLOR_YUV2RGB_YUY2),
}
_ALIASES = {"yuv422": "uyvy", "yuv422_yuy2": "yuyv", "yuv420p": "i420"}
NAMES = ("uyvy", "yuv422", "yuyv", "yuv422_yuy2", "nv12", "nv21", "nv24", "i420", "yuv420p")


def decode_yuv(encoding: str, buffer: Image, width: int, height: int, step: int) -> Image:
    """(H, W, 3) RGB.

    Args:
        encoding: one of `NAMES`.
        buffer: (N,) the message's bytes; more than needed is fine.
        width: pixels, > 0.
        height: pixels, > 0.
        step: bytes from luma row to luma row; 0: not padded.

    Raises:
        UndecodableError: ``bad_step``, ``short_data``.
    """
    form = _ALIASES.get(encoding, encoding)
    if form in _PACKED:
        return _from_packed(form, buffer, width, height, step)
    return _from_planes(form, buffer, width, height, step)


def _from_packed(form: str, buffer: Image, width: int, height: int, step: int) -> Image:
    luma_at, u_at, v_at, code = _PACKED[form]
    pairs = -(-width // 2)
    step = checked_step(form, buffer, width, step, lambda rows: rows * (height - 1) + 4 * pairs, 4 * pairs)
    rule = choose_colors(height)
    if is_opencvs_own(rule):
        rows: Image = np.ndarray((height, 2 * pairs, 2), np.uint8, buffer, strides=(step, 2, 1))
        return np.ascontiguousarray(np.asarray(cv2.cvtColor(rows, code), np.uint8)[:, :width])
    groups: Image = np.ndarray((height, pairs, 4), np.uint8, buffer, strides=(step, 4, 1))
    luma: Image = np.empty((height, pairs, 2), np.uint8)
    color: Image = np.empty((height, pairs, 2), np.uint8)
    cv2.mixChannels([groups], [luma, color], [luma_at[0], 0, luma_at[1], 1, u_at, 2, v_at, 3])
    return rgb_from_two_planes(luma.reshape(height, 2 * pairs)[:, :width], color, rule)


def _from_planes(form: str, buffer: Image, width: int, height: int, step: int) -> Image:
    half = form != "nv24"
    columns, rows = (-(-width // 2), -(-height // 2)) if half else (width, height)
    planes = 2 if form == "i420" else 1
    color_bytes = columns * (2 if planes == 1 else 1)

    def color_step(luma_step: int) -> int:
        if form == "i420":
            return -(-luma_step // 2)
        return luma_step + luma_step % 2 if half else 2 * luma_step

    def needed(luma_step: int) -> int:
        return luma_step * height + color_step(luma_step) * (rows * planes - 1) + color_bytes

    step = checked_step(form, buffer, width, step, needed, width)
    between, start = color_step(step), step * height
    luma: Image = np.ndarray((height, width), np.uint8, buffer, strides=(step, 1))
    rule = choose_colors(height)
    if form == "i420":
        u, v = (
            cast(
                Image, np.ndarray((rows, columns), np.uint8, buffer, start + k * rows * between, (between, 1))
            )
            for k in range(2)
        )
        return rgb_from_planes(luma, u, v, rule)
    color: Image = np.ndarray((rows, columns, 2), np.uint8, buffer, start, (between, 2, 1))
    return rgb_from_two_planes(luma, color, rule, u_first=form != "nv21")


def checked_step(
    encoding: str,
    buffer: Image,
    width: int,
    step: int,
    needed: Callable[[int], int],
    row_bytes: int,
) -> int:
    """The step to use: as given, or that of unpadded rows where the length of the data says so.

    Args:
        encoding: for messages.
        buffer: the message's bytes.
        width: pixels.
        step: as the message has it.
        needed: bytes that the image takes for a step.
        row_bytes: bytes of a row without padding.

    Raises:
        UndecodableError: ``bad_step``, ``short_data``.
    """
    if step == 0 and buffer.size == needed(row_bytes):
        return row_bytes
    if step < row_bytes:
        raise UndecodableError(
            "bad_step", f"rows {step} bytes apart, but {width} px of {encoding} take {row_bytes}"
        )
    if buffer.size >= needed(step):
        return step
    if encoding.startswith(("nv", "i4")) and buffer.size == needed(row_bytes):
        return row_bytes
    raise UndecodableError(
        "short_data",
        f"{buffer.size} bytes, but {width} px wide {encoding} with a step of {step} takes {needed(step)}",
    )
