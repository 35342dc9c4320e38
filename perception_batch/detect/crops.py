"""Which parts of an image are looked at again at full resolution (`detect.tiles`): for objects that are far away.

Crops are laid out in what the detector sees of the image: after `roi_px` and `rotate_deg`, upright. They depend on the
image's size, the settings and the calibration alone, so they are the same for all images of a camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import Camera
from perception_batch.geometry import DetectorView

OVERLAP = 0.2
"""Neighbouring crops share at least so much of a crop's (``NxM``: a cell's) width and height: what is no larger than
that is whole in one of them. Larger things are found in the whole image."""
# Directions in which the horizon is looked for, left and right of where the camera looks.
_AZIMUTHS_RAD = np.radians(np.arange(-85.0, 85.1, 2.5))


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the original image, and the size at which it is detected."""

    roi_px: tuple[int, int, int, int]
    """Left, top, right, bottom in the original image."""
    image_size: int
    """Long side of its input, px."""


def parse_tiles(tiles: str) -> tuple[int, int] | Literal["none", "horizon"]:
    """Columns and rows of ``NxM``, or the word. `DetectConfig` has checked it."""
    if tiles == "none":
        return "none"
    if tiles == "horizon":
        return "horizon"
    columns, _, rows = tiles.partition("x")
    return int(columns), int(rows)


def lay_out_crops(
    whole: DetectorView,
    tiles: str,
    *,
    stride: int,
    stretch: bool,
    horizon_px: npt.NDArray[np.float64] | None = None,
) -> list[Crop]:
    """The crops of images of one size, row by row from the left; none where the whole image is not scaled down.

    Args:
        whole: how the whole image becomes the detector's input.
        tiles: ``none``; ``NxM``, columns x rows; ``horizon``, a row of crops as large as the whole image's input.
        stride: height and width of inputs are multiples of this, px.
        stretch: inputs are squares of one size, whatever the crop (RT-DETR).
        horizon_px: (K, 2) points of the original image where the horizon is; none: in the middle of what is seen.
    """
    x0, y0, x1, y1 = whole.roi_px
    height, width = (x1 - x0, y1 - y0) if whole.rotate_deg in (90, 270) else (y1 - y0, x1 - x0)
    upright = DetectorView(
        whole.image_hw, whole.roi_px, whole.rotate_deg, (height, width), (0, 0), (height, width)
    )
    how = parse_tiles(tiles)
    if how == "none" or (whole.resized_hw[0] >= height and whole.resized_hw[1] >= width):
        return []
    if how == "horizon":
        crop_h, crop_w = min(whole.input_hw[0], height), min(whole.input_hw[1], width)
        lefts = _starts(width, crop_w, _count(width, crop_w))
        middles = _horizon_rows(upright, horizon_px, [left + crop_w / 2 for left in lefts])
        corners = [
            (left, min(max(round(middle - crop_h / 2), 0), height - crop_h))
            for left, middle in zip(lefts, middles, strict=True)
        ]
    else:
        columns, rows = how
        crop_h, crop_w = _cell(height, rows, stride), _cell(width, columns, stride)
        corners = [
            (left, top) for top in _starts(height, crop_h, rows) for left in _starts(width, crop_w, columns)
        ]
    # Full resolution: the long side stays as it is, or grows to the next multiple of the stride.
    size = max(whole.input_hw) if stretch else max(crop_h, crop_w)
    boxes = np.array([[left, top, left + crop_w, top + crop_h] for left, top in corners], np.float64)
    rois = np.rint(upright.to_original(boxes)).astype(int).tolist()
    return [Crop((a, b, c, d), size) for a, b, c, d in rois]


def horizon_points(camera: Camera | None, image_hw: tuple[int, int]) -> npt.NDArray[np.float64] | None:
    """Where level directions fall on a camera's images.

    Args:
        camera: lens and pose in the base frame, whose z is up; None: not calibrated.
        image_hw: of its images, px.

    Returns:
        (K, 2) x and y, px from the outer corner of the image; None where that is unknown, or the camera looks
        straight up or down.
    """
    if camera is None:
        return None
    try:
        lens = camera.intrinsics.scaled_to(image_hw[1], image_hw[0])
    except ValueError:  # of another aspect: not this camera's images
        return None
    base_R_camera = camera.base_SE3_camera.rotation
    axis = base_R_camera[:, 2]
    if math.hypot(axis[0], axis[1]) < 0.1:
        return None
    heading = math.atan2(axis[1], axis[0]) + _AZIMUTHS_RAD
    level = np.stack([np.cos(heading), np.sin(heading), np.zeros_like(heading)], 1)
    points = lens.project(level @ base_R_camera) + 0.5  # pixel centres to corners
    points = points[np.isfinite(points).all(1)]
    inside = points[(points[:, 0] >= 0) & (points[:, 0] <= image_hw[1])]
    points = inside if len(inside) else points
    return points if len(points) else None


def _horizon_rows(
    upright: DetectorView, horizon_px: npt.NDArray[np.float64] | None, columns: list[float]
) -> list[float]:
    """The horizon's row in the upright image at each of some columns."""
    if horizon_px is None:
        return [upright.input_hw[0] / 2] * len(columns)
    there = upright.to_input(np.concatenate([horizon_px, horizon_px], 1))[:, :2]
    there = there[np.argsort(there[:, 0], kind="stable")]
    rows: list[float] = np.interp(columns, there[:, 0], there[:, 1]).tolist()
    return rows


def _count(length: int, crop: int) -> int:
    """How many crops cover a length, with the overlap."""
    if crop >= length:
        return 1
    shared = OVERLAP * crop
    return math.ceil((length - shared) / (crop - shared))


def _cell(length: int, count: int, stride: int) -> int:
    """Length of one of `count` crops: its share and the overlap, in whole strides so that nothing is scaled."""
    if count == 1:
        return length
    share = length / count * (1 + OVERLAP)
    return min(length, math.ceil(share / stride) * stride)


def _starts(length: int, crop: int, count: int) -> list[int]:
    """Where `count` crops begin, evenly from one end to the other."""
    return [round(i * (length - crop) / max(count - 1, 1)) for i in range(count)]
