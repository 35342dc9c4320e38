"""Which YUV a picture is, and YUV to RGB.

The rules, for raw pixels and for video alike:

- Matrix and range are what the stream's tags say. Untagged pictures are limited range, BT.709 from 720 lines up and
  BT.601 below: what encoders and players assume. BT.2020's constant-luminance form is read as the other.
- ``R'G'B'`` is the standard's formula, rounded and clipped (within one level). Luma below black counts as black.
- A colour sample belongs to the whole of its two or four pixels; nothing is interpolated between samples.

BT.601 in limited range is OpenCV's own conversion, 0.5 ms for 1280x720 on one core where the others take 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.types import Image

Matrix = Literal["bt601", "bt709", "bt2020"]

# Weights of red and blue in luma: ITU-R BT.601-7 2.5.1, BT.709-6 3.2, BT.2020-2 table 4.
_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
# ITU-T H.273 table 4 (FFmpeg's AVCOL_SPC_*). 4 and 7, FCC and SMPTE 240M, are nearest to these.
_MATRIX_OF_TAG: dict[int, Matrix] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
    10: "bt2020",
}
_FULL_TAG = 2  # FFmpeg's AVCOL_RANGE_JPEG; 1 is limited, 0 unspecified
_HD_LINES = 720
_BLACK = np.uint8(16)  # luma in limited range


@dataclass(frozen=True, slots=True)
class ColorRule:
    """How a picture's YUV becomes RGB."""

    matrix: Matrix
    """The standard whose luma weights it uses."""
    full_range: bool
    """True: 0..255 are black to white. False: 16..235, colour 16..240."""

    def __repr__(self) -> str:
        return f"ColorRule({self.matrix}, {'full' if self.full_range else 'limited'})"


def choose_colors(height_px: int, colorspace: int | None = None, color_range: int | None = None) -> ColorRule:
    """The rule for a picture of `height_px` lines.

    Args:
        height_px: lines of the picture.
        colorspace: the matrix tag as FFmpeg and ITU-T H.273 number it; None, 2 (unspecified) and numbers
            that name no such matrix leave the choice to the lines.
        color_range: FFmpeg's number: 1 limited, 2 full; None and any other: limited.
    """
    by_lines: Matrix = "bt709" if height_px >= _HD_LINES else "bt601"
    matrix = by_lines if colorspace is None else _MATRIX_OF_TAG.get(int(colorspace), by_lines)
    return ColorRule(matrix, color_range is not None and int(color_range) == _FULL_TAG)


@lru_cache(maxsize=8)
def yuv_to_rgb_matrix(rule: ColorRule) -> npt.NDArray[np.float64]:
    """(3, 4) ``[R G B] = A @ [Y U V 1]`` for 8-bit values, not rounded, not clipped (ITU-T H.273, 8.3)."""
    red, blue = _WEIGHTS[rule.matrix]
    green = 1 - red - blue
    luma, color, black = (1.0, 1.0, 0.0) if rule.full_range else (255 / 219, 255 / 224, 16.0)
    from_u, from_v = 2 * (1 - blue) * color, 2 * (1 - red) * color
    matrix = np.array(
        [[luma, 0, from_v], [luma, -from_u * blue / green, -from_v * red / green], [luma, from_u, 0]]
    )
    result = np.hstack([matrix, -(matrix @ [black, 128.0, 128.0])[:, None]])
    result.setflags(write=False)
    return result


def rgb_from_planes(luma: Image, u: Image, v: Image, rule: ColorRule) -> Image:
    """(H, W, 3) RGB from three planes; (H, W) luma.

    `u` and `v` are alike: (H, W), or half of it (rounded up) along either or both axes: 4:4:4, 4:2:2, 4:2:0.
    Planes may be views with padded rows.
    """
    return rgb_from_two_planes(luma, cast(Image, cv2.merge([u, v])), rule)


def rgb_from_two_planes(luma: Image, color: Image, rule: ColorRule, u_first: bool = True) -> Image:
    """(H, W, 3) RGB from (H, W) luma and a plane of U and V in turn.

    `color` is (h, w, 2); h is H or half of it (rounded up), w likewise: NV12, NV16, NV24; with `u_first`
    False NV21, NV42. Planes may be views with padded rows.
    """
    height, width = luma.shape
    half = color.shape[0] != height and color.shape[1] != width
    if is_opencvs_own(rule) and half and not (height % 2 or width % 2):
        code = cv2.COLOR_YUV2RGB_NV12 if u_first else cv2.COLOR_YUV2RGB_NV21
        return _pixels(cv2.cvtColorTwoPlane(luma, color, code))
    if color.shape[:2] != (height, width):
        across = 2 if color.shape[1] != width else 1
        down = 2 if color.shape[0] != height else 1
        size = (color.shape[1] * across, color.shape[0] * down)
        color = cast(Image, cv2.resize(color, size, interpolation=cv2.INTER_NEAREST))[:height, :width]
    if not rule.full_range:
        luma = np.maximum(luma, _BLACK)
    merged: Image = np.empty((height, width, 3), np.uint8)
    cv2.mixChannels([luma, color], [merged], [0, 0, 1, 1, 2, 2] if u_first else [0, 0, 2, 1, 1, 2])
    return _pixels(cv2.transform(merged, yuv_to_rgb_matrix(rule)))


def is_opencvs_own(rule: ColorRule) -> bool:
    """True where OpenCV's YUV conversions do it."""
    return rule.matrix == "bt601" and not rule.full_range


def _pixels(image: Any) -> Image:
    return np.asarray(image, np.uint8)
