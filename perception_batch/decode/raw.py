"""Uncompressed pixels (``sensor_msgs/Image``, ``foxglove.RawImage``), rows padded or not."""

from __future__ import annotations

import re
from typing import NamedTuple

import cv2
import numpy as np

from perception_batch.decode.bayer import PATTERNS, demosaic
from perception_batch.decode.deep import BitDepth, to_8_bits
from perception_batch.decode.undecodable import UndecodableError
from perception_batch.decode.yuv import NAMES, checked_step, decode_yuv
from perception_batch.errors import printable
from perception_batch.types import EncodedFrame, Image, RawPayload


class _Format(NamedTuple):
    """A format with all samples of a pixel side by side."""

    order: str  # of the samples: rgb, bgr, grey, or the pattern of a Bayer filter
    channels: int  # alpha included
    sample_bytes: int


# `8UCn` and `16UCn` name no order: OpenCV's own, as its users publish them (cv_bridge, Foxglove).
_LAYOUTS = {
    "rgb{}": ("rgb", 3),
    "bgr{}": ("bgr", 3),
    "{}uc3": ("bgr", 3),
    "rgba{}": ("rgb", 4),
    "bgra{}": ("bgr", 4),
    "{}uc4": ("bgr", 4),
    "mono{}": ("grey", 1),
    "{}uc1": ("grey", 1),
    **{f"bayer_{pattern}{{}}": (pattern, 1) for pattern in PATTERNS},
}
_FORMATS = {
    name.format(bits): _Format(*layout, bits // 8) for bits in (8, 16) for name, layout in _LAYOUTS.items()
}
_TO_RGB = {
    ("rgb", 4): cv2.COLOR_RGBA2RGB,
    ("bgr", 4): cv2.COLOR_BGRA2RGB,
    ("bgr", 3): cv2.COLOR_BGR2RGB,
    ("grey", 1): cv2.COLOR_GRAY2RGB,
}
ENCODINGS = (*_FORMATS, *NAMES)
# Names of pixel formats that are not decoded: depth and other numbers that are no picture, packed bits, rarer YUV.
_KNOWN_BUT_NOT = re.compile(r"(8|16|32|64)[usf]c\d|bayer_|yuv|yvyu|uyv|nv\d\d|mono|rgb|bgr|[xy]v12")


def decode_raw(frame: EncodedFrame, payload: RawPayload, bit_depth: BitDepth = "auto") -> Image:
    """(H, W, 3) RGB from raw pixels.

    Rows are `payload.step_bytes` apart; the padding of the last row may be absent. A step of zero, which
    some drivers leave there, is taken as "no padding" where the data has exactly that length. Grey becomes three
    equal channels, alpha is dropped; 16-bit samples as in `deep`, Bayer as in `bayer`, YUV as in `yuv`.

    Raises:
        UndecodableError: ``unsupported_encoding``, ``unknown_encoding``, ``no_pixels``, ``bad_step``,
            ``short_data``.
    """
    encoding = frame.encoding.lower()
    width, height = frame.width_px, frame.height_px
    if encoding not in ENCODINGS:
        raise UndecodableError(
            "unsupported_encoding" if _KNOWN_BUT_NOT.match(encoding) else "unknown_encoding",
            f"raw pixel format {printable(frame.encoding)[:40]!r}; decoded are {', '.join(ENCODINGS)}",
        )
    if width <= 0 or height <= 0:
        raise UndecodableError("no_pixels", f"the message says {width}x{height} pixels")
    data = payload.data
    buffer = np.frombuffer(np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data, np.uint8)
    if encoding in NAMES:
        return decode_yuv(encoding, buffer, width, height, payload.step_bytes)
    form = _FORMATS[encoding]
    pixel_bytes = form.channels * form.sample_bytes
    row_bytes = width * pixel_bytes
    step = checked_step(
        encoding,
        buffer,
        width,
        payload.step_bytes,
        lambda rows: rows * (height - 1) + row_bytes,
        row_bytes,
    )
    if form.sample_bytes == 1:
        pixels: Image = np.ndarray(
            (height, width, form.channels), np.uint8, buffer, strides=(step, pixel_bytes, 1)
        )
    else:
        # Without alpha, whose white would be taken for the brightest sample.
        shape, strides = (height, width, min(form.channels, 3)), (step, pixel_bytes, 2)
        words = np.ndarray(shape, ">u2" if payload.is_bigendian else "<u2", buffer, strides=strides)
        pixels = to_8_bits(np.array(words, np.uint16, order="C"), bit_depth)
    return _to_rgb(pixels, form.order)


def _to_rgb(pixels: Image, order: str) -> Image:
    """(H, W, 3) from (H, W, C), which may be a view with padded rows."""
    channels = pixels.shape[2]
    # A padded single-channel view must stay two-dimensional for OpenCV to take its row step.
    source = pixels[:, :, 0] if channels == 1 else pixels
    if order in PATTERNS:
        return demosaic(source, order)
    code = _TO_RGB.get((order, channels))
    if code is None:
        return np.ascontiguousarray(source)
    return np.asarray(cv2.cvtColor(source, code), np.uint8)
