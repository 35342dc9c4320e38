"""Whether two boxes look at one place: the stretch of bearings that one spans, seen from the other's camera.

A position with its covariance says little for a box that shows a corner of something: two rays in opposite
directions both begin at the vehicle. Bearings do say it, and they are sharp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.columns import Columns
from perception_batch.fusion.lens import BoxRays

_SLACK_RAD = 0.02  # calibration and the pixels of a small box
_SLACK_SHARE = 0.15  # of the box's width: detectors' edges
_WIDEST_RAD = 1.2  # what a border may hide, at most
_USUAL_SHARE = 0.25  # of the farthest place; where only a bound is known, it is hardly ever nearer than this
_TOO_NEAR_M = 1.0  # places this near to a camera have no bearing worth comparing


@dataclass(frozen=True, slots=True)
class Spans(Columns):
    """Where N boxes are, as their cameras see it; see `BoxRays`."""

    azimuth_rad: FloatArray
    """(N,)."""
    side_rad: FloatArray
    """(2, N)."""
    cut_side: npt.NDArray[np.bool_]
    """(2, N)."""
    origin_m: FloatArray
    """(3, N)."""

    @classmethod
    def of(cls, rays: BoxRays) -> Spans:
        """Of boxes with these rays."""
        return cls(rays.azimuth_rad, rays.side_rad, rays.cut_side, rays.origin_m)


def facing(
    spans: Spans,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    nearest_m: FloatArray,
    farthest_m: FloatArray,
    length_m: FloatArray,
) -> npt.NDArray[np.bool_]:
    """(M,) whether the bearings of pairs of boxes meet, from either box's camera.

    Args:
        spans: of all N boxes.
        first: (M,) one box of each pair.
        second: (M,) the other.
        nearest_m: (N,) how near the object may be to the box's camera.
        farthest_m: (N,) how far.
        length_m: (N,) how long it may be.
    """
    of = np.empty((2, len(first)), np.int64)
    of[0], of[1] = first, second
    farthest = farthest_m.take(of)
    nearest = np.maximum(nearest_m.take(of), _USUAL_SHARE * farthest)
    length = length_m.take(of)
    ends = _span(spans, of, np.maximum(length[0], length[1]) / np.maximum(nearest, _TOO_NEAR_M))
    azimuth = spans.azimuth_rad.take(of)
    # What each box spans, between two ranges, has to overlap the other box as that one's camera sees it.
    # The middle at its farthest comes first: the other bearings are counted the short way round from it.
    bearing = np.empty((3, *of.shape))
    np.multiply(ends[0] + ends[1], 0.5, out=bearing[0])
    bearing[1:] = ends
    bearing += azimuth
    origin = spans.origin_m[:2].take(of, 1)
    offset = origin - origin[:, ::-1]
    range_m = np.empty((2, 1, *of.shape))
    range_m[0], range_m[1] = farthest, nearest
    x = offset[0] + range_m * np.cos(bearing)
    y = offset[1] + range_m * np.sin(bearing)
    close = np.logical_or.reduce((x * x + y * y < _TOO_NEAR_M**2).reshape(6, *of.shape), 0)
    angles = (np.arctan2(y, x) - azimuth[::-1]).reshape(6, *of.shape)
    middle = _short_way(angles[0])
    angles = middle + _short_way(angles - angles[0])
    low, high = ends[:, ::-1]
    meets = (np.minimum.reduce(angles, 0) <= high) & (np.maximum.reduce(angles, 0) >= low)
    meets |= close
    both: npt.NDArray[np.bool_] = meets[0] & meets[1]
    return both


def _span(spans: Spans, of: npt.NDArray[np.int64], hidden_rad: FloatArray) -> FloatArray:
    """(2, ...) right and left end of the boxes `of` against their middle's bearing, with slack and what borders hide."""
    one, other = spans.side_rad.take(of, 1)
    cut_one, cut_other = spans.cut_side.take(of, 1)
    slack = _SLACK_RAD + _SLACK_SHARE * np.abs(one - other)
    hidden = np.minimum(hidden_rad, _WIDEST_RAD)
    swapped = one > other
    ends = np.empty((2, *of.shape))
    np.minimum(one, other, out=ends[0])
    np.maximum(one, other, out=ends[1])
    ends[0] -= slack + hidden * np.where(swapped, cut_other, cut_one)
    ends[1] += slack + hidden * np.where(swapped, cut_one, cut_other)
    return ends


def _short_way(angle_rad: FloatArray) -> FloatArray:
    """Angles in [-pi, pi]."""
    way: FloatArray = angle_rad - 2 * np.pi * np.rint(angle_rad / (2 * np.pi))
    return way
