"""From a box to a position with covariance: two cues for the range, each with its own errors.

Both cues are reckoned in inverse range ``u = 1/ρ`` (see `cues`), where the ground cue's error stays finite at
the horizon.

Errors come in kinds. What differs between cameras (pixels, each camera's pitch, the unknown heading) is a
covariance. What all views of an object share (it is taller than its class, the road under it is higher) is a
vector per source, one standard deviation long: the difference of two views then loses it, and their mean keeps
it in full. Over time the line is drawn elsewhere: a pitch and a heading stay, pixels do not. So every view has
its errors twice, split by cameras for the association and split by time for the tracks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.config import FuseConfig
from perception_batch.fusion.cues import Cues, Sizes
from perception_batch.fusion.lens import BoxRays
from perception_batch.fusion.surface import GroundUnder

_HEADINGS = 16  # of the unknown yaw, over half a turn
_BELIEVED_SIGMAS = 3.0  # cues further apart than this: the ground is not where the plane says
_MAX_RELATIVE_SIGMA = 0.7  # an inverse range less sure than this may as well be zero: no position
_YAW_CALIBRATION_RAD = math.radians(0.3)
_CUT_SIDE_FACTOR = 2.0  # as for heights: half-seen things are boxed about this much worse
_CLOSE_M = 6.0  # a thing that cannot be farther away than this is well placed by a bearing
# What touches the ground stands inside the outline: wheels behind the bumper by 0.8 to 0.9 m of a car's 4.6 m
# (its overhangs), feet under the body.
_INSET_LENGTH, _INSET_WIDTH = 0.17, 0.05
_INSET_SIGMA = 0.06  # of the length: overhangs differ, and roofs begin where they like
_HEADING_SIGMA_RAD = 0.2  # a velocity's direction against the body's, turning included


@dataclass(frozen=True, slots=True)
class Views:
    """Where N boxes put their objects, in the base frame."""

    position_m: FloatArray
    """(N, 3) centre of the 3-D box; a vague guess along the bearing where `known` is False; NaN where not
    even a bearing is known."""
    own_m2: FloatArray
    """(N, 3, 3) covariance of what no other view shares."""
    shared_m: FloatArray
    """(N, 2, 3) one standard deviation of what all views of the object share: its size, its ground."""
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
    rays: BoxRays,
    sizes: Sizes,
    cues: Cues,
    under: GroundUnder,
    settings: FuseConfig,
    max_range_m: FloatArray,
    yaw_rad: FloatArray,
) -> Views:
    """Position and errors of N boxes.

    Args:
        rays: of the boxes' edges.
        sizes: priors of the class that each box is taken for.
        cues: of the same boxes.
        under: the ground under each; unknown height: only box heights are used.
        settings: section `fuse`.
        max_range_m: (N,) beyond this range a position is not believed.
        yaw_rad: (N,) heading where it is known, else NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _locate(rays, sizes, cues, under, settings, max_range_m, yaw_rad)


def _locate(
    rays: BoxRays,
    sizes: Sizes,
    cues: Cues,
    under: GroundUnder,
    settings: FuseConfig,
    max_range_m: FloatArray,
    yaw_rad: FloatArray,
) -> Views:
    height, on_ground = sizes.mean[:, 2], sizes.on_ground
    tl, th = rays.tan_low, rays.tan_high
    rise = th - tl
    cut = rays.cut_side[:, 0] | rays.cut_side[:, 1]
    has_height, u_height = cues.has_height, cues.u_height

    camera_height = rays.origin_m[:, 2] - under.z_m
    drop = under.slope - tl  # how steeply the ray falls towards the ground
    has_ground = cues.has_low & on_ground & (camera_height > 0.1) & (drop > 0)
    u_ground = np.where(has_ground, drop / camera_height, np.nan)
    pitch_var = (under.pitch_sigma * (1 + tl**2)) ** 2
    tan_var = cues.tan_sigma**2
    over_height = 1 / camera_height**2
    slope_var = under.slope_sigma**2

    # Both errors are judged at one common range: judged each at its own, whichever cue says "far" would
    # look the more certain and win too often.
    u = np.where(has_height, u_height, u_ground)
    share = np.where(has_height, 1.0, 0.0)  # of the height cue in the mean
    both = has_height & has_ground
    relative_h = cues.jitter + cues.bias + cues.size
    fixed_g = (tan_var + pitch_var + slope_var) * over_height
    for _ in range(2):
        var_h = u**2 * relative_h
        var_g = fixed_g + (u * under.z_sigma_m) ** 2 * over_height
        mixed = var_g / (var_h + var_g)
        share = np.where(both, mixed, share)
        u = np.where(both, mixed * u_height + (1 - mixed) * u_ground, u)
    apart = np.where(both, (u_height - u_ground) ** 2 / (var_h + var_g), 0.0)
    # The nearer something is, the less a slope can move its contact point: a disagreement beyond all bounds
    # means that the box's bottom is not on this plane (a person on a lorry, a hill, a kerb).
    climbs = apart > _BELIEVED_SIGMAS**2
    share, u = np.where(climbs, 1.0, share), np.where(climbs, u_height, u)
    # Birge ratio (Phys. Rev. 40, 207, 1932): measurements that disagree say that the errors are larger.
    scale2 = np.clip(apart, 1.0, 4.0)
    share_h = (share**2) * scale2
    share_g = np.where(has_ground & (share < 1), (1 - share) ** 2 * scale2 * over_height / u**2, 0.0)
    tan_g = np.where(share_g > 0, share_g * tan_var, 0.0)
    # All of these are relative variances of the range.
    size = share_h * cues.size
    boxes = share_h * (cues.jitter + cues.bias) + tan_g
    lasting_box = np.minimum(share_h * cues.bias + 0.5 * tan_g, boxes)
    pitch = np.where(share_g > 0, share_g * pitch_var, 0.0)
    ground = np.where(share_g > 0, share_g * (slope_var + (u * under.z_sigma_m) ** 2), 0.0)
    relative = np.sqrt(size + boxes + pitch + ground)
    known = (has_height | has_ground) & (u > 0) & (relative < _MAX_RELATIVE_SIGMA) & ~cues.bearing_only
    near = np.where(known, 1 / u, np.nan)

    # Without a usable cue the box still bounds the range: what is cut is at least as tall as it shows, and
    # stands at or before the point where the cut edge meets the ground.
    bound = np.where(rise > 1e-6, cues.tall_m * (1 + 2 * np.sqrt(cues.size)) / rise, np.inf)
    contact = np.where((drop > 0) & (camera_height > 0.1) & on_ground, camera_height / drop, np.inf)
    bound = np.minimum(np.minimum(bound, 1.3 * contact), settings.max_range_m)
    bound = np.where(np.isfinite(bound), np.maximum(bound, 1.0), settings.max_range_m)
    near = np.where(known, near, 0.55 * bound)
    boxes = np.where(known, boxes, 0.55**2)  # half the bound, either way
    lasting_box, size, pitch, ground = (
        np.where(known, part, 0.0) for part in (lasting_box, size, pitch, ground)
    )

    depth, depth_var, aside, aside_var = _behind_the_face(rays, sizes, near, relative, cut, yaw_rad)
    reach = near + depth
    believed = known & (reach <= max_range_m)
    along = np.stack([np.cos(rays.azimuth_rad), np.sin(rays.azimuth_rad)], axis=1)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    # A position off the ray by `aside` keeps the range to the near face.
    position = np.empty((len(near), 3))
    position[:, :2] = rays.origin_m[:, :2] + reach[:, None] * along + aside[:, None] * across
    middle = np.where(rays.cut_low | rays.cut_high, tl, 0.5 * (tl + th))
    tilt = np.where(on_ground, tl, middle)
    position[:, 2] = rays.origin_m[:, 2] + near * tilt + np.where(on_ground, 0.5 * height, 0.0)

    n = len(near)
    ray3 = np.concatenate([along, tilt[:, None]], axis=1)
    ray_ray = ray3[:, :, None] * ray3[:, None, :]
    far_far = along[:, :, None] * along[:, None, :]
    aside_aside = aside_var[:, None, None] * (across[:, :, None] * across[:, None, :])
    z_var = near**2 * (tan_var + pitch_var)
    z_var = np.where(np.isfinite(z_var), z_var, 1.0) + 1e-6
    half_tall = np.where(on_ground, 0.5 * sizes.sd[:, 2], 0.0)
    near2 = near**2

    own = (near2 * (boxes + pitch))[:, None, None] * ray_ray
    own[:, :2, :2] += depth_var[:, None, None] * far_far + aside_aside
    own[:, 2, 2] += z_var
    shared = np.zeros((n, 2, 3))
    shared[:, 0] = (near * np.sqrt(size))[:, None] * ray3
    shared[:, 0, 2] += half_tall
    shared[:, 1] = (near * np.sqrt(ground))[:, None] * ray3

    jitter = (near2 * (boxes - lasting_box))[:, None, None] * ray_ray
    jitter[:, :2, :2] += aside_aside
    jitter[:, 2, 2] += z_var
    lasting = np.zeros((n, 2, 3))
    lasting[:, 0] = np.sqrt(near2 * (size + lasting_box) + depth_var)[:, None] * ray3
    lasting[:, 0, 2] += half_tall
    lasting[:, 1] = (near * np.sqrt(ground + pitch))[:, None] * ray3

    total = jitter + lasting.transpose(0, 2, 1) @ lasting
    total = 0.5 * (total + total.transpose(0, 2, 1))  # without the last bit's asymmetry
    bearing = np.isfinite(position).all(axis=1) & np.isfinite(own).all(axis=(1, 2))
    position[~bearing] = np.nan
    farthest = np.where(known, reach, bound + depth)
    reach_xy = rays.origin_m[:, :2] + farthest[:, None] * along
    nearest = np.where(known, near * np.maximum(1 - 2.5 * relative, 0.1), 0.5)
    return Views(
        position,
        own,
        shared,
        total,
        jitter,
        lasting,
        believed & bearing & cues.seen,
        (believed | (bound < _CLOSE_M)) & bearing & cues.seen,
        np.stack([nearest, np.where(known, near * (1 + 2.5 * relative), bound)], axis=1),
        reach_xy,
    )


def _behind_the_face(
    rays: BoxRays,
    sizes: Sizes,
    near: FloatArray,
    relative: FloatArray,
    cut: npt.NDArray[np.bool_],
    yaw_rad: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """How far the centre lies behind the near face and beside the box's middle, with variances.

    Where the heading is unknown, the box's width against the width that each heading would show says which
    are likely: a narrow car box is seen from behind and 4.6 m deep, a wide one from the side and 2 m deep.
    A box cut by a side of the image shows at least its width; its centre then lies beyond that side.

    Returns:
        (N,) depth, its variance, offset across (positive to the left), its variance; m and m².
    """
    on_ground = sizes.on_ground.astype(np.float64)
    psi = (np.arange(_HEADINGS) + 0.5) * (np.pi / _HEADINGS)
    s, c = np.abs(np.sin(psi)), np.abs(np.cos(psi))
    length, width = sizes.mean[:, 0:1], sizes.mean[:, 1:2]
    length_var, width_var = sizes.sd[:, 0:1] ** 2, sizes.sd[:, 1:2] ** 2
    broad = length * s + width * c
    broad_var = length_var * s**2 + width_var * c**2
    # The near face is a plane across the optical axis in a flat image, so depth counts along that axis.
    axis_psi = psi + rays.off_axis_rad[:, None]
    sa, ca = np.abs(np.sin(axis_psi)), np.abs(np.cos(axis_psi))
    stretch = 1 / np.maximum(np.cos(rays.off_axis_rad), 0.5)[:, None]
    inset = on_ground * np.array([[_INSET_LENGTH], [_INSET_WIDTH]])
    deep = ((0.5 - inset[0])[:, None] * length * ca + (0.5 - inset[1])[:, None] * width * sa) * stretch
    deep_var = 0.25 * (length_var * ca**2 + width_var * sa**2) + (_INSET_SIGMA * length * ca) ** 2

    half = np.clip(0.5 * np.abs(rays.side_rad[:, 0] - rays.side_rad[:, 1]), 1e-4, 1.4)
    # Seen obliquely, the outer corners stand behind the near one, by up to half the depth.
    visible = 2 * np.tan(half)[:, None] * (near[:, None] + 0.5 * deep * np.abs(np.sin(2 * psi)))
    sigma2 = np.clip(np.where(np.isfinite(relative), relative, 1.0), 0.0, 1.0)[:, None] ** 2
    sigma2 = sigma2 + broad_var / broad**2 + 0.1**2
    off = np.log(visible / broad)
    off = np.where(cut[:, None], np.maximum(off, 0), off)
    weight = np.exp(-0.5 * np.minimum(off**2 / sigma2, 50.0)) + 1e-3
    headed = np.isfinite(yaw_rad)
    if headed.any():
        turned = np.sin(psi - np.where(headed, yaw_rad - rays.azimuth_rad, 0.0)[:, None])
        told = np.exp(-0.5 * np.minimum((turned / _HEADING_SIGMA_RAD) ** 2, 50.0)) + 1e-3
        weight = np.where(headed[:, None], weight * told, weight)
    weight /= weight.sum(axis=1, keepdims=True)
    depth = (weight * deep).sum(axis=1)
    depth_var = (weight * ((deep - depth[:, None]) ** 2 + deep_var)).sum(axis=1)

    extent = (weight * broad).sum(axis=1)
    extent_var = (weight * ((broad - extent[:, None]) ** 2 + broad_var)).sum(axis=1)
    shown = (weight * visible).sum(axis=1)
    hidden = np.where(cut, np.maximum(extent - shown, 0), 0)
    sides = rays.cut_side
    toward = np.sign(rays.side_rad)
    direction = np.where(sides, toward, 0).sum(axis=1)  # 0 where both sides are cut
    aside = 0.5 * hidden * direction
    radians_per_px = 2 * half / np.maximum(rays.width_px, 1e-3)
    # Each edge errs on its own, so the middle errs by 1/sqrt(2); a long thing's middle in the image is not
    # its centre either (its near half looks wider): by a fraction of depth times width over range.
    edge = radians_per_px * np.hypot(2.0, 0.03 * rays.width_px) * np.where(cut, _CUT_SIDE_FACTOR, 1.0)
    reach = near + depth
    aside_var = (
        reach**2 * (0.5 * edge**2 + _YAW_CALIBRATION_RAD**2)
        + (0.38 * depth * np.minimum(extent, shown) / reach) ** 2  # two thirds of a half: see the inset
        + np.where(cut, 0.25 * extent_var + (0.25 * hidden) ** 2, 0.0)
        + np.where(sides.all(axis=1), (0.5 * extent) ** 2, 0.0)
    )
    # What the border hides may also be nearer or farther than what shows.
    depth_var = depth_var + (0.5 * hidden) ** 2
    return depth, depth_var, aside, aside_var
