"""A video decoder's picture to RGB, by its own tags or the rules of `color_matrix`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.decode.color_matrix import (
    ColorRule,
    choose_colors,
    rgb_from_planes,
    rgb_from_two_planes,
    yuv_to_rgb_matrix,
)
from perception_batch.types import Image

if TYPE_CHECKING:
    import av

_FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG
# Intermediate results that stay in the cache and in memory that is at hand take half the time.
_STRIP_ROWS = 64


def picture_to_rgb(picture: av.VideoFrame) -> Image:
    """(H, W, 3) uint8 RGB. May be called for one picture by several threads at once, where its transfer
    and primaries are untagged, as `pictures` leaves them.

    Matrix and range: `choose_colors`. More than eight bits are scaled to eight. Rotation and aspect tags are
    ignored: the pixels stay as the sensor gave them, as the calibration expects.

    Raises:
        ValueError: a pixel format that FFmpeg cannot convert.
    """
    name = picture.format.name
    tagged = _FULL_RANGE if name.startswith("yuvj") else int(picture.color_range)
    rule = choose_colors(picture.height, int(picture.colorspace), tagged)
    bits = picture.format.components[0].bits
    if bits == 8 and len(picture.planes) == 3 and name.startswith("yuv"):
        return _from_planes(picture, rule)
    if name in ("nv12", "nv21"):
        return rgb_from_two_planes(_plane(picture, 0), _pairs(picture), rule, u_first=name == "nv12")
    if name == "gray":
        luma = _plane(picture, 0)
        grey = np.full(((luma.shape[0] + 1) // 2, (luma.shape[1] + 1) // 2), 128, np.uint8)
        return rgb_from_planes(luma, grey, grey, rule)
    if picture.format.is_rgb:
        return np.asarray(_converted(picture, "rgb24").to_ndarray(), np.uint8)
    if bits > 8 and name.endswith("le") and name.startswith(("yuv4", "gray")):
        return _from_deep(picture, bits, rule)
    planes = _converted(picture, "yuv444p16le" if bits > 8 else "yuv444p")
    if bits > 8:
        return _from_deep(planes, 16, rule)
    return _from_planes(planes, rule)


def _from_planes(picture: av.VideoFrame, rule: ColorRule) -> Image:
    luma, u, v = (_plane(picture, i) for i in range(3))
    height, width = luma.shape
    if 2 * u.shape[1] < width:  # a colour sample for four pixels
        u, v = (plane.repeat(4, 1)[:, :width] for plane in (u, v))
    if height <= _STRIP_ROWS:
        return rgb_from_planes(luma, u, v, rule)
    down = 2 if u.shape[0] != height else 1
    rgb: Image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP_ROWS):
        stop = top + _STRIP_ROWS
        color = slice(top // down, stop // down)
        rgb[top:stop] = rgb_from_planes(luma[top:stop], u[color], v[color], rule)
    return rgb


def _plane(picture: av.VideoFrame, index: int) -> Image:
    """(h, w) view of a plane; its rows are padded."""
    plane = picture.planes[index]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def _pairs(picture: av.VideoFrame) -> Image:
    """(h, w, 2) view of NV12's second plane."""
    plane = picture.planes[1]
    height, width = (picture.height + 1) // 2, (picture.width + 1) // 2
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return cast(Image, rows[:height, : 2 * width].reshape(height, width, 2))


def _deep_plane(picture: av.VideoFrame, index: int) -> npt.NDArray[np.uint16]:
    plane = picture.planes[index]
    rows = np.frombuffer(plane, "<u2").reshape(plane.height, plane.line_size // 2)
    return cast("npt.NDArray[np.uint16]", rows[:, : plane.width])


def _from_deep(picture: av.VideoFrame, bits: int, rule: ColorRule) -> Image:
    """RGB from planes of more than eight bits (H.273, 8.3: limited range is 16..235 times a power of two)."""
    luma = _deep_plane(picture, 0)
    unit = 1 << bits - 8
    if len(picture.planes) == 1:
        u = v = np.full((1, 1), 128 * unit, np.uint16)
    else:
        u, v = _deep_plane(picture, 1), _deep_plane(picture, 2)
    height, width = luma.shape
    color = cv2.merge([u, v])
    across, down = -(-width // color.shape[1]), -(-height // color.shape[0])
    if (across, down) != (1, 1):
        size = (color.shape[1] * across, color.shape[0] * down)
        color = cv2.resize(color, size, interpolation=cv2.INTER_NEAREST)[:height, :width]
    black = 0 if rule.full_range else 16 * unit
    scale = 255 / ((1 << bits) - 1) if rule.full_range else 1 / unit
    linear = yuv_to_rgb_matrix(rule)[:, :3] * scale
    offset = -(linear @ [black, 128 * unit, 128 * unit])
    merged = np.empty((height, width, 3), np.uint16)
    cv2.mixChannels([np.maximum(luma, np.uint16(black)), color], [merged], [0, 0, 1, 1, 2, 2])
    deep = cv2.transform(merged, np.hstack([linear, offset[:, None]]))
    return np.asarray(np.minimum(deep, 255), np.uint8)


def _converted(picture: av.VideoFrame, name: str) -> av.VideoFrame:
    from av.video.reformatter import VideoReformatter

    # A converter of its own: the one that a picture keeps must not be used by two threads. It writes the picture's
    # tags into it again for a moment: the same ones, so other threads see no difference.
    return VideoReformatter().reformat(picture, format=name, interpolation="POINT", threads=1)
