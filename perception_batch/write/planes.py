"""Pictures as encoders want them: brightness, and colour in half the rows and columns (4:2:0)."""

from __future__ import annotations

from typing import Any

import numpy as np

from perception_batch.types import Image

_STRIP = 64
"""Rows that are converted at once: what lies between the steps stays in the processor's cache."""
BT709 = 1
"""Number of BT.709 for matrix, primaries and transfer alike (ITU-T H.273)."""
_RED, _BLUE = 0.2126, 0.0722
"""Shares of brightness (ITU-R BT.709-6, 3.2); the rest is green's."""


class Planes:
    """Converts RGB pictures of one size to BT.709, limited range: what players assume of H.264, and what the tags say.

    By OpenCV: FFmpeg's swscale, which PyAV has for it, needs half as much time again, and threads of its own.
    """

    def __init__(self, size_wh: tuple[int, int]) -> None:
        """Make room.

        Args:
            size_wh: width and height of the pictures, px; even.
        """
        width, height = size_wh
        self._size_wh = size_wh
        rows = min(_STRIP, height)
        self._whole = np.empty((rows, width, 3), np.uint8)
        self._half = np.empty((rows // 2, width // 2, 3), np.uint8)
        self._matrix = _matrix()

    def __call__(self, picture: Image) -> Any:
        """PyAV's picture of a (H, W, 3) uint8 RGB one."""
        import av
        import cv2

        width, height = self._size_wh
        frame = av.VideoFrame(width, height, "yuv420p")
        luma, *rest = (
            np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in frame.planes
        )
        for top in range(0, height, _STRIP):
            end = min(top + _STRIP, height)
            whole, half = self._whole[: end - top], self._half[: (end - top) // 2]
            cv2.transform(picture[top:end], self._matrix, dst=whole)
            cv2.extractChannel(whole, 0, luma[top:end])
            cv2.resize(whole, half.shape[1::-1], dst=half, interpolation=cv2.INTER_AREA)
            for channel, plane in enumerate(rest, 1):
                cv2.extractChannel(half, channel, plane[top // 2 : end // 2])
        frame.colorspace, frame.color_range = BT709, 1
        return frame


def _matrix() -> np.ndarray[Any, np.dtype[np.float32]]:
    """(3, 4) from RGB, 0..255, to Y, 16..235, and Cb and Cr, 16..240."""
    luma = np.array([_RED, 1 - _RED - _BLUE, _BLUE])
    blue = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - _BLUE))
    red = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - _RED))
    scaled = np.stack([luma, blue, red]) * np.array([[219.0], [224.0], [224.0]]) / 255
    return np.concatenate([scaled, [[16.0], [128.0], [128.0]]], axis=1).astype(np.float32)
