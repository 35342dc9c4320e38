"""From a box and its range to a position with covariance.

Errors come in kinds. What differs between cameras (pixels, each camera's pitch, the unknown heading) is a
covariance. What all views of an object share (it is taller than its class, the road under it is higher) is a
vector per source, one standard deviation long: the difference of two views then loses it, and their mean keeps
it in full. Over time the line is drawn elsewhere: a pitch and a heading stay, pixels do not. So every view has
its errors twice, split by cameras for the association (on the ground plane) and split by time for the tracks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.columns import Columns
from perception_batch.fusion.cues import Cues
from perception_batch.fusion.lens import BoxRays
from perception_batch.fusion.ranges import Ranges
from perception_batch.fusion.sizes import COS_PSI, INSET_LENGTH, INSET_WIDTH, SIN_PSI, Sizes

_OBLIQUE = np.abs(SIN_PSI * COS_PSI)  # half of |sin 2ψ|
_YAW_CALIBRATION_RAD = math.radians(0.3)
_CUT_SIDE_FACTOR = 2.0  # as for heights: half-seen things are boxed about this much worse
_CLOSE_M = 6.0  # a thing that cannot be farther away than this is well placed by a bearing
_SKEW = 0.38  # of depth times width over range: two thirds of a half, see the inset ...
_SKEW_HEADED = 0.17  # ... and what is left of it where the heading is known
_LEAST_M = 0.5  # no corner is nearer to a camera
_HEADING_SIGMA_RAD = 0.2  # a velocity's direction against the body's, turning included


@dataclass(frozen=True, slots=True)
class Views(Columns):
    """Where N boxes put their objects, in the base frame. Every error but one's own is along the ray or across it."""

    position_m: FloatArray
    """(3, N) centre of the 3-D box; a vague guess along the bearing where `known` is False; NaN where not
    even a bearing is known."""
    ray: FloatArray
    """(3, N) direction of the ray that it lies on, of length 1 in the plane."""
    plane: FloatArray
    """(7, N) on the ground plane: covariance xx, yy, xy by what no other view shares; one standard deviation (x, y) by
    the object's size, then by the ground, which all views of the object share."""
    jitter: FloatArray
    """(3, N) variance that is new in every image: along the ray, across it, and upwards; m²."""
    lasting: FloatArray
    """(3, N) one standard deviation of what stays with the object (its size, heading, the way it is boxed), along the
    ray and upwards besides; and of what stays for a while (ground, pitch), along the ray; m."""
    known: npt.NDArray[np.bool_]
    """(N,) whether the position is good for more than association."""
    supports: npt.NDArray[np.bool_]
    """(N,) whether it may help a view that knows the range: it does so itself, or it is bounded closely."""
    near_m: FloatArray
    """(2, N) how near and how far the near face may plausibly be, horizontally from the camera."""
    reach_m: FloatArray
    """(2, N) the farthest that the object's centre may plausibly be where `known` is False, else where it is."""


@dataclass(frozen=True, slots=True)
class Stance(Columns):
    """What is known of the places of N boxes before they are headed anywhere: all that `locate` needs."""

    table: FloatArray
    """(29, N) range to the near face, and its bound; azimuth; variance of the middle's bearing; height of the centre;
    variance of the depth end on, and from the side; sign of the azimuth of both sides; x, y of the camera; then as in `Views`:
    the ray (3), the errors that all views share (4), variances along the ray (by all that no other view shares; what
    of it is new in every image; upwards what is new; what stays with the object), what lasts (upwards, along the ray
    for a while), how near and how far; bearing half way between both sides less the azimuth, 0 where a side is cut;
    half the length and half the width."""
    flags: npt.NDArray[np.bool_]
    """(6, N) whether the range is known; `Cues.seen`; whether it is bounded closely; whether a side is cut, and which."""
    faces: FloatArray
    """(7, 16, N) by heading: how far the centre lies behind the near face, its square, squares of the cosine and the
    sine of the heading against the line of sight, how broad the thing is, how broad it shows, and 1."""
    broad_relative: FloatArray
    """(16, N) see `Sizes`."""
    likely: FloatArray
    """(16, N) how likely each heading is by the box's width."""


_ALONG = slice(0, 9)
_FROM, _RAY, _SHARED, _VARIANCE, _LASTING, _NEAR, _BODY = (
    slice(9, 11), slice(11, 14), slice(14, 18), slice(18, 22), slice(22, 24), slice(24, 26), slice(26, 29),
)  # fmt: skip
"""Rows of `Stance.table`."""


def stand(rays: BoxRays, sizes: Sizes, cues: Cues, ranges: Ranges) -> Stance:
    """What N boxes tell before a heading is known.

    Args:
        rays: of the boxes' edges.
        sizes: priors of the class that each box is taken for.
        cues: of the same boxes.
        ranges: of the same boxes.
    """
    near, known, relative = ranges.near_m, ranges.known, ranges.relative
    n, near2 = len(near), near * near
    table, flags = np.empty((29, n)), np.empty((6, n), bool)
    half = np.minimum(np.maximum(0.5 * np.abs(rays.side_rad[0] - rays.side_rad[1]), 1e-4), 1.4)
    # Each edge errs on its own, so the middle errs by 1/sqrt(2).
    edge2 = (2 * half / np.maximum(rays.width_px, 1e-3)) ** 2 * (4.0 + (0.03 * rays.width_px) ** 2)
    edge2 *= np.where(rays.cut, _CUT_SIDE_FACTOR**2, 1.0)
    ray = table[_RAY]
    ray[:2] = rays.toward
    upright = sizes.on_ground | rays.cut_low | rays.cut_high
    ray[2] = np.where(upright, rays.tan_low, 0.5 * (rays.tan_low + rays.tan_high))
    table[0], table[1], table[2] = near, ranges.bound_m, rays.azimuth_rad
    table[3] = 0.5 * edge2 + _YAW_CALIBRATION_RAD**2
    table[4] = near * ray[2] + sizes.center_m + rays.origin_m[2]
    table[5], table[6] = sizes.behind_end_var, sizes.behind_side_var
    table[7:9] = np.sign(rays.side_rad)
    table[_FROM] = rays.origin_m[:2]
    shared, variance, lasting, plausible = table[_SHARED], table[_VARIANCE], table[_LASTING], table[_NEAR]
    np.multiply(near * np.sqrt(ranges.size), rays.toward, out=shared[:2])
    np.multiply(near * np.sqrt(ranges.ground), rays.toward, out=shared[2:])
    np.multiply(near2, ranges.boxes + ranges.pitch, out=variance[0])
    np.multiply(near2, ranges.boxes - ranges.lasting_box, out=variance[1])
    z_var = near2 * ranges.low_var
    variance[2] = np.where(np.isfinite(z_var), z_var, 1.0) + 1e-6
    np.multiply(near2, ranges.size + ranges.lasting_box, out=variance[3])
    table[_BODY] = (
        np.where(rays.cut, 0.0, 0.5 * (rays.side_rad[0] + rays.side_rad[1])),
        0.5 * sizes.length_m,
        0.5 * sizes.width_m,
    )
    lasting[0] = sizes.center_sigma_m
    np.multiply(near, np.sqrt(ranges.ground + ranges.pitch), out=lasting[1])
    plausible[0] = np.where(known, near * np.maximum(1 - 2.5 * relative, 0.1), 0.5)
    plausible[1] = np.where(known, near * (1 + 2.5 * relative), ranges.bound_m)
    flags[0], flags[1], flags[2] = known, cues.seen, ranges.bound_m < _CLOSE_M
    flags[3], flags[4:] = rays.cut, rays.cut_side
    return Stance(table, flags, *_faces(rays, sizes, near, relative, half))


def locate(stance: Stance, max_range_m: FloatArray, yaw_rad: FloatArray) -> Views:
    """Position and errors of N boxes.

    Args:
        stance: of the boxes.
        max_range_m: (N,) beyond this range a position is not believed.
        yaw_rad: (N,) heading where it is known, else NaN.
    """
    depth, depth_var, aside, aside_var = _behind_the_face(stance, yaw_rad)
    table = stance.table
    near, bound, above = table[0], table[1], table[4]
    ray, origin = table[_RAY], table[_FROM]
    known, seen, close = stance.flags[:3]
    n, toward = len(near), ray[:2]
    cos, sin = toward
    reach = near + depth
    # A position off the ray by `aside` keeps the range to the near face.
    position = np.empty((3, n))
    np.multiply(reach, toward, out=position[:2])
    position[0] -= aside * sin
    position[1] += aside * cos
    position[:2] += origin
    position[2] = above

    plane, jitter, lasting = np.empty((7, n)), np.empty((3, n)), np.empty((3, n))
    alone, jitter[0], jitter[2], with_object = table[_VARIANCE]
    alone = alone + depth_var
    cos2, sin2 = toward * toward
    np.add(alone * cos2, aside_var * sin2, out=plane[0])
    np.add(alone * sin2, aside_var * cos2, out=plane[1])
    np.multiply(alone - aside_var, cos * sin, out=plane[2])
    plane[3:] = table[_SHARED]
    jitter[1] = aside_var
    np.sqrt(with_object + depth_var, out=lasting[0])
    lasting[1:] = table[_LASTING]

    finite = np.add.reduce(position, 0) + np.add.reduce(jitter, 0) + np.add.reduce(lasting, 0) + ray[2]
    bearing = np.isfinite(finite)
    np.copyto(position, np.nan, where=~bearing)
    bearing &= seen
    believed = known & bearing & (reach <= max_range_m)
    farthest = np.where(known, reach, bound + depth)
    return Views(
        position,
        ray,
        plane,
        jitter,
        lasting,
        believed,
        believed | (close & bearing),
        table[_NEAR],
        origin + farthest * toward,
    )


@dataclass(frozen=True, slots=True)
class Sketch(Columns):
    """About where N boxes put their objects, whatever these are headed: enough to tell tracks apart."""

    place_m: FloatArray
    """(2, N) in the base frame; NaN where not even a bearing is known."""
    cover_m2: FloatArray
    """(3, N) its covariance: xx, yy, xy."""


def sketch(rays: BoxRays, sizes: Sizes, ranges: Ranges, rows: npt.NDArray[np.int64]) -> Sketch:
    """Places of N boxes by their ranges and widths.

    Args:
        rays: of the boxes' edges.
        sizes: as of `locate`; may be of more than these boxes.
        ranges: in step with `sizes`.
        rows: (N,) which of `sizes` and `ranges` are theirs.
    """
    near, length, width = ranges.near_m.take(rows), sizes.length_m.take(rows), sizes.width_m.take(rows)
    relative_var = (ranges.boxes + ranges.size + ranges.pitch + ranges.ground).take(rows)
    cut = rays.cut
    side_on = np.abs(rays.side_rad[0] - rays.side_rad[1]) * near
    slack = length - width
    side_on = np.minimum(np.maximum((side_on - width) / np.maximum(slack, 0.5), 0.0), 1.0)
    side_on[cut] = 0.5
    end_on = 1 - side_on
    depth = (0.5 - INSET_LENGTH) * length * end_on + (0.5 - INSET_WIDTH) * width * side_on
    # In between it is either, more or less turned.
    unsure = (0.1 + 0.5 * side_on * end_on) * np.maximum(slack, 0.3 * length)
    far2 = near**2 * relative_var + unsure**2
    reach = near + depth
    # Calibration and edges, and that a turned thing's middle in the image is not its own.
    beside2 = (0.012 * reach) ** 2 + (0.25 * width) ** 2 + (0.4 * length * cut) ** 2
    cos, sin = rays.toward
    cover = np.empty((3, len(near)))
    cos2, sin2 = cos**2, sin**2
    np.add(far2 * cos2, beside2 * sin2, out=cover[0])
    np.add(far2 * sin2, beside2 * cos2, out=cover[1])
    np.multiply(far2 - beside2, cos * sin, out=cover[2])
    return Sketch(reach * rays.toward + rays.origin_m[:2], cover)


def _faces(
    rays: BoxRays, sizes: Sizes, near: FloatArray, relative: FloatArray, half_rad: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What each of some headings would mean for N boxes, and how likely it is by the box's width: the last of `Stance`.

    The box's width against the width that each heading would show says which are likely: a narrow car box is seen
    from behind and 4.6 m deep, a wide one from the side and 2 m deep. A box cut by a side of the image shows at least
    its width.
    """
    told = np.empty((7, len(SIN_PSI), len(near)))
    deep, deep2, _, _, broad, visible, one = told
    broad[:], one[:] = sizes.broad_m, 1.0
    # The near face is a plane across the optical axis in a flat image, so depth counts along that axis.
    axis, beside = np.cos(rays.off_axis_rad), np.sin(rays.off_axis_rad)
    end_on, side_on = np.abs(COS_PSI * axis - SIN_PSI * beside), np.abs(SIN_PSI * axis + COS_PSI * beside)
    np.multiply(end_on, end_on, out=told[2])
    np.multiply(side_on, side_on, out=told[3])
    stretch = 1 / np.maximum(axis, 0.5)
    end_on *= stretch * sizes.behind_end_m
    side_on *= stretch * sizes.behind_side_m
    np.add(end_on, side_on, out=deep)
    np.multiply(deep, deep, out=deep2)
    # Seen obliquely, the outer corners stand behind the near one, by up to half the depth.
    np.multiply(deep, _OBLIQUE, out=visible)
    visible += near
    visible *= 2 * np.tan(half_rad)
    sigma2 = np.where(np.isfinite(relative), np.minimum(relative, 1.0), 1.0) ** 2 + 0.1**2
    off = visible / broad
    np.log(off, out=off)
    np.maximum(off, np.where(rays.cut, 0.0, -np.inf), out=off)
    off *= off
    off /= sigma2 + sizes.broad_relative
    return told, sizes.broad_relative, _likely(off)


def _behind_the_face(
    stance: Stance, yaw_rad: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """How far the centre lies behind the near face and beside the box's middle, with variances.

    Where the heading is unknown, it is what the likely ones say, weighted. The centre of what a side of the image cuts
    lies beyond that side.

    Returns:
        (N,) depth, its variance, offset across (positive to the left), its variance; m and m².
    """
    weight = stance.likely
    near, _, azimuth, bearing_var, _, end_var, side_var, *sides = stance.table[_ALONG]
    headed = np.isfinite(yaw_rad).nonzero()[0]
    if len(headed):
        turn = yaw_rad.take(headed) - azimuth.take(headed)
        sideways = SIN_PSI * np.cos(turn) - COS_PSI * np.sin(turn)
        weight = weight.copy()
        weight[:, headed] *= _likely((sideways / _HEADING_SIGMA_RAD) ** 2)
    sums = _weighed(stance.faces, weight)
    sums /= sums[6]
    depth, depth2, end_on, side_on, extent, shown, _ = sums
    depth_var = depth2 - depth**2 + end_var * end_on + side_var * side_on
    # A long thing's middle in the image is not its centre (its near half looks wider): by a fraction of depth times
    # width over range.
    reach = near + depth
    skew = depth * np.minimum(extent, shown) / reach
    aside_var = reach**2 * bearing_var + (_SKEW * skew) ** 2
    middle, along, across = stance.table[_BODY]
    aside = reach * middle
    cut = stance.flags[3]
    if len(headed):
        rows = headed[~cut.take(headed)]
        far, turn = reach.take(rows), (yaw_rad - azimuth - middle).take(rows)
        aside[rows] -= far * _middle_rad(far, turn, along.take(rows), across.take(rows))
        aside_var[rows] -= (_SKEW**2 - _SKEW_HEADED**2) * skew.take(rows) ** 2
    rows = cut.nonzero()[0]
    if len(rows):
        cuts = stance.flags[4:].take(rows, 1)
        extent, hidden = extent[rows], np.maximum(extent[rows] - shown[rows], 0)
        wide, share = stance.faces[4].take(rows, 1), weight.take(rows, 1)
        spread = (wide - extent) ** 2 + stance.broad_relative.take(rows, 1) * wide**2
        extent_var = np.add.reduce(share * spread, 0) / np.add.reduce(share, 0)
        # 0 where both sides are cut.
        toward = cuts[0] * sides[0][rows] + cuts[1] * sides[1][rows]
        aside[rows] = 0.5 * hidden * toward
        more = 0.25 * extent_var + (0.25 * hidden) ** 2
        aside_var[rows] += more + np.where(cuts[0] & cuts[1], (0.5 * extent) ** 2, 0.0)
        # What the border hides may also be nearer or farther than what shows.
        depth_var[rows] += (0.5 * hidden) ** 2
    return depth, depth_var, aside, aside_var


def _middle_rad(
    far_m: FloatArray, turn_rad: FloatArray, along_m: FloatArray, across_m: FloatArray
) -> FloatArray:
    """(N,) bearing half way between the outermost corners of rectangles, less that of their centres.

    Args:
        far_m: (N,) distance of the centres.
        turn_rad: (N,) heading against the line of sight.
        along_m: (N,) half the length.
        across_m: (N,) half the width.
    """
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    front, side = along_m * cos, across_m * sin
    deep = np.empty((4, len(far_m)))  # of the corners, beyond the centre
    deep[0], deep[1] = front - side, front + side
    np.negative(deep[:2], out=deep[2:])
    front, side = along_m * sin, across_m * cos
    left = np.empty_like(deep)
    left[0], left[1] = front + side, front - side
    np.negative(left[:2], out=left[2:])
    deep += far_m
    np.maximum(deep, _LEAST_M, out=deep)
    bearing = np.arctan2(left, deep)
    middle: FloatArray = 0.5 * (np.maximum.reduce(bearing, 0) + np.minimum.reduce(bearing, 0))
    return middle


def _weighed(told: FloatArray, weight: FloatArray) -> FloatArray:
    """(7, N) sums of (7, 16, N) over the headings, weighted by (16, N)."""
    if (
        told.shape[2] == 1
    ):  # a sum's order follows the memory's, which for one box is that of its timestep alone
        told, weight = told.copy(), weight.copy()
    sums: FloatArray = np.einsum("khn,hn->kn", told, weight)
    return sums


def _likely(doubt: FloatArray) -> FloatArray:
    """How likely what is off by these squares of standard deviations is, never quite impossible."""
    np.minimum(doubt, 50.0, out=doubt)
    doubt *= -0.5
    np.exp(doubt, out=doubt)
    doubt += 1e-3
    return doubt
