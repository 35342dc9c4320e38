"""From a box to a position with covariance: two cues for the range, each with its own errors.

Everything about range is reckoned in inverse range ``u = 1/ρ`` (ρ horizontal, from the camera to the near
face): both cues are linear in what the image measures there, the ground cue's error stays finite at the
horizon, and a box above the horizon does no harm.

Errors come in two kinds. What differs between cameras (pixels, each camera's pitch, the unknown heading)
is a covariance. What all views of an object share (it is taller than its class, the road under it is
higher) is a vector per source, one standard deviation long: the difference of two views then loses it,
and their mean keeps it in full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.config import FuseConfig
from perception_batch.fusion.ground import Ground
from perception_batch.fusion.lens import BoxRays
from perception_batch.ontology import ObjectClass

_HEADINGS = 16  # of the unknown yaw, over half a turn
_MAX_SLOPE = math.tan(math.radians(80))  # steeper rays say nothing useful about horizontal range
_BELIEVED_SIGMAS = 3.0  # cues further apart than this: the ground is not where the plane says
_MAX_RELATIVE_SIGMA = 0.7  # an inverse range less sure than this may as well be zero: no position
_YAW_CALIBRATION_RAD = math.radians(0.3)
_CUT_BOX_FACTOR = 2.0  # detectors draw boxes of things they see half of about this much worse


@dataclass(frozen=True, slots=True)
class Sizes:
    """Size priors of N boxes, metres."""

    mean: FloatArray
    """(N, 3) length, width, height."""
    sd: FloatArray
    """(N, 3) standard deviations."""
    on_ground: npt.NDArray[np.bool_]
    """(N,) whether it stands on the ground."""

    @classmethod
    def of(cls, entries: list[ObjectClass]) -> Sizes:
        """The priors of N classes."""
        return cls(
            np.array([e.size_lwh_m for e in entries], np.float64).reshape(-1, 3),
            np.array([e.size_sd_m for e in entries], np.float64).reshape(-1, 3),
            np.array([e.on_ground for e in entries], bool),
        )


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
    """(N, 3, 3) covariance of all errors of one view: own and shared."""
    known: npt.NDArray[np.bool_]
    """(N,) whether the position is good for more than association."""
    contact_z_m: FloatArray
    """(N,) height of the low edge at the range that the box's height implies; NaN where that is unknown."""
    contact_sigma_m: FloatArray
    """(N,) standard deviation of `contact_z_m`."""


def locate(
    rays: BoxRays, sizes: Sizes, ground: Ground, settings: FuseConfig, max_range_m: FloatArray
) -> Views:
    """Position and errors of N boxes.

    Args:
        rays: of the boxes' edges.
        sizes: priors of the class that each box is taken for.
        ground: the plane that things stand on; unknown height: only box heights are used.
        settings: section `fuse`.
        max_range_m: (N,) beyond this range a position is not believed.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _locate(rays, sizes, ground, settings, max_range_m)


def _locate(
    rays: BoxRays, sizes: Sizes, ground: Ground, settings: FuseConfig, max_range_m: FloatArray
) -> Views:
    length, _, height = sizes.mean.T
    tl, th = rays.tan_low, rays.tan_high
    rise = th - tl
    cut: npt.NDArray[np.bool_] = np.asarray(rays.cut_side.any(axis=1))
    pitch = math.radians(settings.pitch_sigma_deg)
    pixels = np.hypot(settings.box_sigma_px, settings.box_sigma_fraction * rays.height_px)
    tan_sigma = rise / np.maximum(rays.height_px, 1e-3) * pixels * np.where(cut, _CUT_BOX_FACTOR, 1.0)
    seen = (
        np.isfinite(rays.azimuth_rad)
        & np.isfinite(rise)
        & (rise > 1e-6)
        & (np.abs(tl) < _MAX_SLOPE)
        & (np.abs(th) < _MAX_SLOPE)
    )

    # Seen from above, the far roof edge tops the box; from below, the far floor edge ends it: the box then
    # spans more than the near face, by about half the length (heading unknown).
    over = 0.5 * length * (np.maximum(-th, 0) + np.maximum(tl, 0))
    tall = height + over
    has_height = seen & ~rays.cut_low & ~rays.cut_high
    u_height = np.where(has_height, rise / tall, np.nan)
    height_own = 2 * (tan_sigma / rise) ** 2  # relative variance
    height_shared = (sizes.sd[:, 2] / height) ** 2

    camera_height = rays.origin_m[:, 2] - ground.z_m
    has_ground = seen & ~rays.cut_low & sizes.on_ground & (camera_height > 0.1) & (tl < 0)
    u_ground = np.where(has_ground, -tl / camera_height, np.nan)
    tan_pitch = pitch * (1 + tl**2)
    ground_own = (tan_sigma**2 + tan_pitch**2) / camera_height**2
    slope_part = (settings.slope_sigma / camera_height) ** 2

    def ground_shared(u: FloatArray) -> FloatArray:
        return (u * ground.sigma_m / camera_height) ** 2 + slope_part

    # Both errors are judged at one common range: judged each at its own, whichever cue says "far" would
    # look the more certain and win too often.
    u = np.where(has_height, u_height, u_ground)
    share = np.where(has_height, 1.0, 0.0)  # of the height cue in the mean
    both = has_height & has_ground
    for _ in range(2):
        var_h = u**2 * (height_own + height_shared)
        var_g = ground_own + ground_shared(u)
        mixed = var_g / (var_h + var_g)
        share = np.where(both, mixed, share)
        u = np.where(both, mixed * u_height + (1 - mixed) * u_ground, u)
    apart = np.where(both, (u_height - u_ground) ** 2 / (var_h + var_g), 0.0)
    # The nearer something is, the less a slope can move its contact point: a disagreement beyond all bounds
    # means that the box's bottom is not on this plane (a person on a lorry, a hill, a kerb).
    climbs = apart > _BELIEVED_SIGMAS**2
    share, u = np.where(climbs, 1.0, share), np.where(climbs, u_height, u)
    # Birge ratio (Phys. Rev. 40, 207, 1932): measurements that disagree say that the errors are larger.
    scale = np.sqrt(np.clip(apart, 1.0, 4.0))
    ground_share = np.where(share < 1, 1 - share, 0.0)
    own_u = (share * u) ** 2 * height_own + ground_share**2 * np.where(has_ground, ground_own, 0.0)
    own_sigma = np.sqrt(own_u) * scale / u  # relative
    size_sigma = share * np.sqrt(height_shared) * scale
    ground_sigma = ground_share * np.where(has_ground, np.sqrt(ground_shared(u)), 0.0) * scale / u
    relative = np.sqrt(own_sigma**2 + size_sigma**2 + ground_sigma**2)
    known = (has_height | has_ground) & (u > 0) & (relative < _MAX_RELATIVE_SIGMA)
    near = np.where(known, 1 / u, np.nan)

    # Without a usable cue the box still bounds the range: what is cut is at least as tall as it shows, and
    # stands at or before the point where the cut edge meets the ground.
    bound = np.where(rise > 1e-6, tall * (1 + 2 * np.sqrt(height_shared)) / rise, np.inf)
    contact = np.where((tl < 0) & (camera_height > 0.1) & sizes.on_ground, camera_height / -tl, np.inf)
    bound = np.minimum(np.minimum(bound, 1.3 * contact), settings.max_range_m)
    bound = np.where(np.isfinite(bound), np.maximum(bound, 1.0), settings.max_range_m)
    vague = ~known
    near = np.where(vague, 0.55 * bound, near)
    own_sigma = np.where(vague, 0.55, own_sigma)  # half the bound, either way
    size_sigma, ground_sigma = np.where(vague, 0, size_sigma), np.where(vague, 0, ground_sigma)

    depth, depth_var, aside, aside_var = _behind_the_face(rays, sizes, near, relative, cut)
    reach = near + depth
    known &= reach <= max_range_m
    along = np.stack([np.cos(rays.azimuth_rad), np.sin(rays.azimuth_rad)], axis=1)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    # A position off the ray by `aside` keeps the range to the near face.
    position = np.empty((len(near), 3))
    position[:, :2] = rays.origin_m[:, :2] + reach[:, None] * along + aside[:, None] * across
    middle = np.where(rays.cut_low | rays.cut_high, tl, 0.5 * (tl + th))
    tilt = np.where(sizes.on_ground, tl, middle)
    position[:, 2] = rays.origin_m[:, 2] + near * tilt + np.where(sizes.on_ground, 0.5 * height, 0.0)

    n = len(near)
    ray3 = np.concatenate([along, tilt[:, None]], axis=1)
    across3 = np.concatenate([across, np.zeros((n, 1))], axis=1)
    radial = np.concatenate([along, np.zeros((n, 1))], axis=1)
    z_var = near**2 * (tan_sigma**2 + tan_pitch**2)
    own = (
        ((near * own_sigma) ** 2)[:, None, None] * (ray3[:, :, None] * ray3[:, None, :])
        + depth_var[:, None, None] * (radial[:, :, None] * radial[:, None, :])
        + aside_var[:, None, None] * (across3[:, :, None] * across3[:, None, :])
    )
    own[:, 2, 2] += np.where(np.isfinite(z_var), z_var, 1.0) + 1e-6
    shared = np.zeros((n, 2, 3))
    shared[:, 0] = (near * size_sigma)[:, None] * ray3
    shared[:, 0, 2] += np.where(sizes.on_ground, 0.5 * sizes.sd[:, 2], 0.0)
    shared[:, 1] = (near * ground_sigma)[:, None] * ray3
    bearing = np.isfinite(position).all(axis=1) & np.isfinite(own).all(axis=(1, 2))
    position[~bearing] = np.nan

    standing = has_height & sizes.on_ground & (tl < -0.03) & ~cut
    contact_z = np.where(standing, rays.origin_m[:, 2] + tl / u_height, np.nan)
    contact_sigma = np.abs(tl / u_height) * np.sqrt(height_own + height_shared) + pitch / u_height
    total = own + shared.transpose(0, 2, 1) @ shared
    total = 0.5 * (total + total.transpose(0, 2, 1))  # without the last bit's asymmetry
    return Views(position, own, shared, total, known & bearing & seen, contact_z, contact_sigma)


def _behind_the_face(
    rays: BoxRays, sizes: Sizes, near: FloatArray, relative: FloatArray, cut: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """How far the centre lies behind the near face and beside the box's middle, with variances.

    The heading is unknown, but the box's width against the width that each heading would show says which
    are likely: a narrow car box is seen from behind and 4.6 m deep, a wide one from the side and 2 m deep.
    A box cut by a side of the image shows at least its width; its centre then lies beyond that side.

    Returns:
        (N,) depth, its variance, offset across (positive to the left), its variance; m and m².
    """
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
    deep = 0.5 * (length * ca + width * sa) * stretch
    deep_var = 0.25 * (length_var * ca**2 + width_var * sa**2)

    half = np.clip(0.5 * np.abs(rays.side_rad[:, 0] - rays.side_rad[:, 1]), 1e-4, 1.4)
    # Seen obliquely, the outer corners stand behind the near one, by up to half the depth.
    visible = 2 * np.tan(half)[:, None] * (near[:, None] + 0.5 * deep * np.abs(np.sin(2 * psi)))
    sigma2 = np.clip(np.where(np.isfinite(relative), relative, 1.0), 0.0, 1.0)[:, None] ** 2
    sigma2 = sigma2 + broad_var / broad**2 + 0.1**2
    off = np.log(visible / broad)
    off = np.where(cut[:, None], np.maximum(off, 0), off)
    weight = np.exp(-0.5 * np.minimum(off**2 / sigma2, 50.0)) + 1e-3
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
    edge = radians_per_px * np.hypot(2.0, 0.03 * rays.width_px) * np.where(cut, _CUT_BOX_FACTOR, 1.0)
    reach = near + depth
    aside_var = (
        reach**2 * (0.5 * edge**2 + _YAW_CALIBRATION_RAD**2)
        + (0.25 * depth * np.minimum(extent, shown) / reach) ** 2
        + np.where(cut, 0.25 * extent_var + (0.25 * hidden) ** 2, 0.0)
        + np.where(sides.all(axis=1), (0.5 * extent) ** 2, 0.0)
    )
    # What the border hides may also be nearer or farther than what shows.
    depth_var = depth_var + (0.5 * hidden) ** 2
    return depth, depth_var, aside, aside_var
