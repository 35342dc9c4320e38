"""Uncompressed pixels (``sensor_msgs/Image``), rows padded or not.

Bayer, YUV and 16-bit formats are named as unsupported, not guessed at.
"""

from __future__ import annotations

import cv2
import numpy as np

from perception_batch.errors import DecodeError, printable
from perception_batch.types import EncodedFrame, Image, RawPayload

# Channels, and the OpenCV conversion to RGB. `8UCn` name no order: OpenCV's own, as its users publish them
# (cv_bridge, Foxglove).
_FORMATS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8uc3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "8uc4": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8uc1": (1, cv2.COLOR_GRAY2RGB),
}
_KNOWN_BUT_NOT_YET = ("bayer", "yuv", "uyvy", "yuyv", "nv12", "nv21", "nv24", "mono16", "rgb16", "bgr16")


def decode_raw(frame: EncodedFrame, payload: RawPayload) -> Image:
    """(H, W, 3) RGB from raw pixels.

    Rows are `payload.step_bytes` apart; the padding of the last row may be absent. A step of zero, which
    some drivers leave there, is taken as "no padding" where the data has exactly that length.

    Raises:
        DecodeError: ``unsupported_encoding``, ``unknown_encoding``, ``no_pixels``, ``bad_step``, ``short_data``.
    """

    def error(reason: str, detail: str) -> DecodeError:
        return DecodeError("", frame.camera, frame.stamp_ns, reason, detail)

    encoding = frame.encoding.lower()
    width, height, step = frame.width_px, frame.height_px, payload.step_bytes
    if encoding not in _FORMATS:
        known = encoding.startswith(_KNOWN_BUT_NOT_YET) or encoding[:2] in ("8s", "16", "32", "64", "8u")
        raise error(
            "unsupported_encoding" if known else "unknown_encoding",
            f"raw pixel format {printable(frame.encoding)[:40]!r}; decoded are {', '.join(_FORMATS)}",
        )
    channels, conversion = _FORMATS[encoding]
    if width <= 0 or height <= 0:
        raise error("no_pixels", f"the message says {width}x{height} pixels")
    data = payload.data
    buffer = np.frombuffer(np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data, np.uint8)
    row_bytes = width * channels
    if step == 0 and buffer.size == row_bytes * height:
        step = row_bytes
    if step < row_bytes:
        raise error("bad_step", f"rows {step} bytes apart, but {width} px of {encoding} take {row_bytes}")
    needed = step * (height - 1) + row_bytes
    if buffer.size < needed:
        raise error(
            "short_data",
            f"{buffer.size} bytes, but {width}x{height} {encoding} with a step of {step} takes {needed}",
        )
    pixels: Image = np.ndarray((height, width, channels), np.uint8, buffer, strides=(step, channels, 1))
    if conversion is None:
        return np.ascontiguousarray(pixels)
    # A padded single-channel view must stay two-dimensional for OpenCV to take its row step.
    source = pixels[:, :, 0] if channels == 1 else pixels
    return np.asarray(cv2.cvtColor(source, conversion), np.uint8)
