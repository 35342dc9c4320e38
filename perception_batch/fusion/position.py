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
from perception_batch.fusion.cues import Cues, Sizes
from perception_batch.fusion.lens import BoxRays
from perception_batch.fusion.ranges import Ranges

_HEADINGS = 16  # of the unknown yaw, over half a turn
_PSI = (np.arange(_HEADINGS) + 0.5)[:, None] * (np.pi / _HEADINGS)  # a row each: sums over rows are fast
_SIN, _COS = np.sin(_PSI), np.cos(_PSI)
_BROAD, _SLIM = np.abs(_SIN), np.abs(_COS)
_BROAD2, _SLIM2, _OBLIQUE = _BROAD**2, _SLIM**2, 0.5 * np.abs(np.sin(2 * _PSI))
_YAW_CALIBRATION_RAD = math.radians(0.3)
_CUT_SIDE_FACTOR = 2.0  # as for heights: half-seen things are boxed about this much worse
_CLOSE_M = 6.0  # a thing that cannot be farther away than this is well placed by a bearing
# What touches the ground stands inside the outline: wheels behind the bumper by 0.8 to 0.9 m of a car's 4.6 m
# (its overhangs), feet under the body.
INSET_LENGTH, INSET_WIDTH = 0.17, 0.05
_INSET_SIGMA = 0.06  # of the length: overhangs differ, and roofs begin where they like
_HEADING_SIGMA_RAD = 0.2  # a velocity's direction against the body's, turning included


@dataclass(frozen=True, slots=True)
class Views:
    """Where N boxes put their objects, in the base frame."""

    position_m: FloatArray
    """(N, 3) centre of the 3-D box; a vague guess along the bearing where `known` is False; NaN where not
    even a bearing is known."""
    own_m2: FloatArray
    """(N, 2, 2) covariance of x, y by what no other view shares."""
    shared_m: FloatArray
    """(N, 2, 2) one standard deviation of x, y by what all views of the object share: its size, its ground."""
    total_m2: FloatArray
    """(N, 3, 3) covariance of all errors of one view."""
    jitter_m2: FloatArray
    """(N, 3, 3) the part of `total_m2` that is new in every image."""
    lasting_m: FloatArray
    """(N, 2, 3) the rest: one standard deviation of what stays with the object (its size, heading, the way it
    is boxed), and of what stays for a while (ground, pitch). ``total = jitter + lasting.T @ lasting``."""
    known: npt.NDArray[np.bool_]
    """(N,) whether the position is good for more than association."""
    supports: npt.NDArray[np.bool_]
    """(N,) whether it may help a view that knows the range: it does so itself, or it is bounded closely."""
    near_m: FloatArray
    """(N, 2) how near and how far the near face may plausibly be, horizontally from the camera."""
    reach_m: FloatArray
    """(N, 2) the farthest that the object's centre may plausibly be where `known` is False, else where it is."""


def locate(
    rays: BoxRays, sizes: Sizes, cues: Cues, ranges: Ranges, max_range_m: FloatArray, yaw_rad: FloatArray
) -> Views:
    """Position and errors of N boxes.

    Args:
        rays: of the boxes' edges.
        sizes: priors of the class that each box is taken for.
        cues: of the same boxes.
        ranges: of the same boxes.
        max_range_m: (N,) beyond this range a position is not believed.
        yaw_rad: (N,) heading where it is known, else NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _locate(rays, sizes, cues, ranges, max_range_m, yaw_rad)


def _locate(
    rays: BoxRays, sizes: Sizes, cues: Cues, ranges: Ranges, max_range_m: FloatArray, yaw_rad: FloatArray
) -> Views:
    height, on_ground, tl = sizes.mean[:, 2], sizes.on_ground, rays.tan_low
    near, known, relative = ranges.near_m, ranges.known, ranges.relative
    size, pitch, ground = ranges.size, ranges.pitch, ranges.ground
    depth, depth_var, aside, aside_var = _behind_the_face(rays, sizes, near, relative, yaw_rad)
    reach = near + depth
    believed = known & (reach <= max_range_m)
    # A position off the ray by `aside` keeps the range to the near face.
    n = len(near)
    ray3 = np.empty((n, 3))
    cos, sin = np.cos(rays.azimuth_rad, out=ray3[:, 0]), np.sin(rays.azimuth_rad, out=ray3[:, 1])
    middle = np.where(rays.cut_low | rays.cut_high, tl, 0.5 * (tl + rays.tan_high))
    ray3[:, 2] = np.where(on_ground, tl, middle)
    position = np.empty((n, 3))
    position[:, 0] = reach * cos - aside * sin
    position[:, 1] = reach * sin + aside * cos
    position[:, 2] = near * ray3[:, 2] + np.where(on_ground, 0.5 * height, 0.0)
    position += rays.origin_m

    ray_ray = ray3[:, :, None] * ray3[:, None, :]
    far_far = ray_ray[:, :2, :2]
    across = np.empty((n, 2))
    across[:, 0], across[:, 1] = -sin, cos
    aside_aside = (aside_var[:, None] * across)[:, :, None] * across[:, None, :]
    near2 = near**2
    z_var = near2 * ranges.low_var
    z_var = np.where(np.isfinite(z_var), z_var, 1.0) + 1e-6
    half_tall = np.where(on_ground, 0.5 * sizes.sd[:, 2], 0.0)

    own = (near2 * (ranges.boxes + pitch) + depth_var)[:, None, None] * far_far + aside_aside
    shared = np.empty((n, 2, 2))
    shared[:, 0] = (near * np.sqrt(size))[:, None] * ray3[:, :2]
    shared[:, 1] = (near * np.sqrt(ground))[:, None] * ray3[:, :2]

    jitter = (near2 * (ranges.boxes - ranges.lasting_box))[:, None, None] * ray_ray
    jitter[:, :2, :2] += aside_aside
    jitter[:, 2, 2] += z_var
    lasting = np.empty((n, 2, 3))
    lasting[:, 0] = np.sqrt(near2 * (size + ranges.lasting_box) + depth_var)[:, None] * ray3
    lasting[:, 0, 2] += half_tall
    lasting[:, 1] = (near * np.sqrt(ground + pitch))[:, None] * ray3

    total = jitter + lasting.transpose(0, 2, 1) @ lasting
    total = 0.5 * (total + total.transpose(0, 2, 1))  # without the last bit's asymmetry
    bearing = np.isfinite(position @ np.ones(3)) & np.isfinite(total.reshape(n, 9) @ np.ones(9))
    position[~bearing] = np.nan
    farthest = np.where(known, reach, ranges.bound_m + depth)
    plausible = np.empty((n, 2))
    plausible[:, 0] = np.where(known, near * np.maximum(1 - 2.5 * relative, 0.1), 0.5)
    plausible[:, 1] = np.where(known, near * (1 + 2.5 * relative), ranges.bound_m)
    bearing &= cues.seen
    return Views(
        position,
        own,
        shared,
        total,
        jitter,
        lasting,
        believed & bearing,
        (believed | (ranges.bound_m < _CLOSE_M)) & bearing,
        plausible,
        rays.origin_m[:, :2] + farthest[:, None] * ray3[:, :2],
    )


@dataclass(frozen=True, slots=True)
class Sketch:
    """About where N boxes put their objects, whatever these are headed: enough to tell tracks apart."""

    place_m: FloatArray
    """(N, 2) in the base frame; NaN where not even a bearing is known."""
    cover_m2: FloatArray
    """(N, 3) its covariance: xx, yy, xy."""


def sketch(rays: BoxRays, sizes: Sizes, ranges: Ranges, rows: npt.NDArray[np.int64]) -> Sketch:
    """Places of N boxes by their ranges and widths.

    Args:
        rays: of the boxes' edges.
        sizes: as of `locate`; may be of more than these boxes.
        ranges: in step with `sizes`.
        rows: (N,) which of `sizes` and `ranges` are theirs.
    """
    near, (length, width, _) = ranges.near_m[rows], sizes.mean[rows].T
    relative_var = (ranges.boxes + ranges.size + ranges.pitch + ranges.ground)[rows]
    cut = rays.cut_side[:, 0] | rays.cut_side[:, 1]
    side_on = np.abs(rays.side_rad[:, 0] - rays.side_rad[:, 1]) * near
    side_on = np.minimum(np.maximum((side_on - width) / np.maximum(length - width, 0.5), 0.0), 1.0)
    side_on = np.where(cut, 0.5, side_on)
    end_on = 1 - side_on
    depth = (0.5 - INSET_LENGTH) * length * end_on + (0.5 - INSET_WIDTH) * width * side_on
    # In between it is either, more or less turned.
    unsure = (0.1 + 0.5 * side_on * end_on) * np.maximum(length - width, 0.3 * length)
    far2 = near**2 * relative_var + unsure**2
    reach = near + depth
    # Calibration and edges, and that a turned thing's middle in the image is not its own.
    beside2 = (0.012 * reach) ** 2 + (0.25 * width) ** 2 + np.where(cut, (0.4 * length) ** 2, 0.0)
    cos, sin = np.cos(rays.azimuth_rad), np.sin(rays.azimuth_rad)
    place = np.empty((len(near), 2))
    place[:, 0], place[:, 1] = reach * cos, reach * sin
    place += rays.origin_m[:, :2]
    cover = np.empty((len(near), 3))
    cos2, sin2 = cos**2, sin**2
    cover[:, 0] = far2 * cos2 + beside2 * sin2
    cover[:, 1] = far2 * sin2 + beside2 * cos2
    cover[:, 2] = (far2 - beside2) * cos * sin
    return Sketch(place, cover)


def _behind_the_face(
    rays: BoxRays, sizes: Sizes, near: FloatArray, relative: FloatArray, yaw_rad: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """How far the centre lies behind the near face and beside the box's middle, with variances.

    Where the heading is unknown, the box's width against the width that each heading would show says which
    are likely: a narrow car box is seen from behind and 4.6 m deep, a wide one from the side and 2 m deep.
    A box cut by a side of the image shows at least its width; its centre then lies beyond that side.

    Returns:
        (N,) depth, its variance, offset across (positive to the left), its variance; m and m².
    """
    length, width = sizes.mean[:, 0], sizes.mean[:, 1]
    length_var, width_var = sizes.sd[:, 0] ** 2, sizes.sd[:, 1] ** 2
    broad = length * _BROAD + width * _SLIM
    broad_var = length_var * _BROAD2 + width_var * _SLIM2
    # The near face is a plane across the optical axis in a flat image, so depth counts along that axis.
    sin_axis, cos_axis = np.sin(rays.off_axis_rad), np.cos(rays.off_axis_rad)
    sa, ca = np.abs(_SIN * cos_axis + _COS * sin_axis), np.abs(_COS * cos_axis - _SIN * sin_axis)
    stretch = 1 / np.maximum(cos_axis, 0.5)
    standing = sizes.on_ground
    long_part = np.where(standing, 0.5 - INSET_LENGTH, 0.5) * stretch * length
    wide_part = np.where(standing, 0.5 - INSET_WIDTH, 0.5) * stretch * width
    deep = long_part * ca + wide_part * sa
    deep_var = (0.25 * length_var + (_INSET_SIGMA * length) ** 2) * ca**2 + 0.25 * width_var * sa**2

    one, other = rays.side_rad.T
    half = np.minimum(np.maximum(0.5 * np.abs(one - other), 1e-4), 1.4)
    # Seen obliquely, the outer corners stand behind the near one, by up to half the depth.
    visible = 2 * np.tan(half) * (near + deep * _OBLIQUE)
    sigma2 = np.minimum(np.where(np.isfinite(relative), relative, 1.0), 1.0) ** 2 + 0.1**2
    cut = rays.cut_side[:, 0] | rays.cut_side[:, 1]
    off = np.maximum(np.log(visible / broad), np.where(cut, 0.0, -np.inf))
    doubt = np.minimum(off**2 / (sigma2 + broad_var / broad**2), 50.0)
    weight = np.exp(-0.5 * doubt) + 1e-3
    headed = np.isfinite(yaw_rad).nonzero()[0]
    if len(headed):
        turn = yaw_rad[headed] - rays.azimuth_rad[headed]
        turned = _SIN * np.cos(turn) - _COS * np.sin(turn)
        doubt = np.minimum((turned / _HEADING_SIGMA_RAD) ** 2, 50.0)
        weight[:, headed] *= np.exp(-0.5 * doubt) + 1e-3
    weight /= weight.sum(axis=0)
    depth = (weight * deep).sum(axis=0)
    depth_var = (weight * ((deep - depth) ** 2 + deep_var)).sum(axis=0)
    extent = (weight * broad).sum(axis=0)
    shown = (weight * visible).sum(axis=0)

    radians_per_px2 = (2 * half / np.maximum(rays.width_px, 1e-3)) ** 2
    # Each edge errs on its own, so the middle errs by 1/sqrt(2); a long thing's middle in the image is not
    # its centre either (its near half looks wider): by a fraction of depth times width over range.
    edge2 = radians_per_px2 * (4.0 + (0.03 * rays.width_px) ** 2)
    edge2 *= np.where(cut, _CUT_SIDE_FACTOR**2, 1.0)
    reach = near + depth
    aside_var = (
        reach**2 * (0.5 * edge2 + _YAW_CALIBRATION_RAD**2)
        + (0.38 * depth * np.minimum(extent, shown) / reach) ** 2  # two thirds of a half: see the inset
    )
    aside = np.zeros(len(near))
    rows = cut.nonzero()[0]
    if len(rows):
        cuts = rays.cut_side[rows]
        extent, hidden = extent[rows], np.maximum(extent[rows] - shown[rows], 0)
        spread = (broad[:, rows] - extent) ** 2 + broad_var[:, rows]
        extent_var = (weight[:, rows] * spread).sum(axis=0)
        toward = np.where(cuts, np.sign(rays.side_rad[rows]), 0).sum(axis=1)  # 0 where both sides are cut
        aside[rows] = 0.5 * hidden * toward
        aside_var[rows] += 0.25 * extent_var + (0.25 * hidden) ** 2
        aside_var[rows] += np.where(cuts.all(axis=1), (0.5 * extent) ** 2, 0.0)
        # What the border hides may also be nearer or farther than what shows.
        depth_var[rows] += (0.5 * hidden) ** 2
    return depth, depth_var, aside, aside_var


def symmetric(matrices: FloatArray) -> FloatArray:
    """Without the last bit's asymmetry."""
    return 0.5 * (matrices + matrices.swapaxes(1, 2))
