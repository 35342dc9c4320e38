"""Whether two boxes look at one place: the stretch of bearings that one spans, seen from the other's camera.

A position with its covariance says little for a box that shows a corner of something: two rays in opposite
directions both begin at the vehicle. Bearings do say it, and they are sharp.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.lens import BoxRays

_SLACK_RAD = 0.02  # calibration and the pixels of a small box
_SLACK_SHARE = 0.15  # of the box's width: detectors' edges
_WIDEST_RAD = 1.2  # what a border may hide, at most
_USUAL_SHARE = 0.25  # of the farthest place; where only a bound is known, it is hardly ever nearer than this
_TOO_NEAR_M = 1.0  # places this near to a camera have no bearing worth comparing


def facing(
    rays: BoxRays,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    nearest_m: tuple[FloatArray, FloatArray],
    farthest_m: tuple[FloatArray, FloatArray],
    length_m: FloatArray,
) -> npt.NDArray[np.bool_]:
    """(M,) whether the bearings of pairs of boxes meet, from either box's camera.

    Args:
        rays: of all boxes.
        first: (M,) one box of each pair.
        second: (M,) the other.
        nearest_m: (M,) each: how near the object may be to the camera of the first, and of the second.
        farthest_m: (M,) each: how far.
        length_m: (M,) how long it may be.
    """
    usual = [np.maximum(a, _USUAL_SHARE * b) for a, b in zip(nearest_m, farthest_m, strict=True)]
    there_and_back = _meets(
        rays,
        np.concatenate([first, second]),
        np.concatenate([second, first]),
        np.concatenate(usual),
        np.concatenate(farthest_m),
        np.concatenate(usual[::-1]),
        np.concatenate([length_m, length_m]),
    )
    both: npt.NDArray[np.bool_] = there_and_back[: len(first)] & there_and_back[len(first) :]
    return both


def _meets(
    rays: BoxRays,
    of: npt.NDArray[np.int64],
    seen_by: npt.NDArray[np.int64],
    nearest_m: FloatArray,
    farthest_m: FloatArray,
    other_nearest_m: FloatArray,
    length_m: FloatArray,
) -> npt.NDArray[np.bool_]:
    """(M,) whether what the boxes `of` span, between two ranges, overlaps the boxes `seen_by` as these see it."""
    start, stop = _span(rays, of, length_m / np.maximum(nearest_m, _TOO_NEAR_M))
    low, high = _span(rays, seen_by, length_m / np.maximum(other_nearest_m, _TOO_NEAR_M))
    # The middle at its farthest comes first: the other bearings are counted the short way round from it.
    bearing = np.empty((3, 1, len(of)))
    bearing[0, 0], bearing[1, 0], bearing[2, 0] = 0.5 * (start + stop), start, stop
    bearing += rays.azimuth_rad[of]
    range_m = np.stack([farthest_m, nearest_m])
    offset = rays.origin_m[of] - rays.origin_m[seen_by]
    x = offset[:, 0] + range_m * np.cos(bearing)
    y = offset[:, 1] + range_m * np.sin(bearing)
    close = (x * x + y * y < _TOO_NEAR_M**2).any(axis=(0, 1))
    angles = (np.arctan2(y, x) - rays.azimuth_rad[seen_by]).reshape(6, -1)
    first = _short_way(angles[0])
    angles = first + _short_way(angles - angles[0])
    meets: npt.NDArray[np.bool_] = close | ((angles.min(axis=0) <= high) & (angles.max(axis=0) >= low))
    return meets


def _short_way(angle_rad: FloatArray) -> FloatArray:
    """Angles in [-pi, pi]."""
    way: FloatArray = angle_rad - 2 * np.pi * np.rint(angle_rad / (2 * np.pi))
    return way


def _span(
    rays: BoxRays, rows: npt.NDArray[np.int64], hidden_rad: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(M,) right and left end of boxes against their middle's bearing, with slack and what borders may hide."""
    one, other = rays.side_rad[rows].T
    cut_one, cut_other = rays.cut_side[rows].T
    slack = _SLACK_RAD + _SLACK_SHARE * np.abs(one - other)
    hidden = np.minimum(hidden_rad, _WIDEST_RAD)
    swapped = one > other
    cut_right, cut_left = np.where(swapped, cut_other, cut_one), np.where(swapped, cut_one, cut_other)
    return (
        np.minimum(one, other) - slack - np.where(cut_right, hidden, 0.0),
        np.maximum(one, other) + slack + np.where(cut_left, hidden, 0.0),
    )
