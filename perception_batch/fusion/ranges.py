"""How far N boxes are: two cues for the range, each with its own errors, made into one.

Both cues are reckoned in inverse range ``u = 1/ρ`` (see `cues`), where the ground cue's error stays finite at
the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.config import FuseConfig
from perception_batch.fusion.columns import Columns
from perception_batch.fusion.cues import Cues
from perception_batch.fusion.lens import BoxRays
from perception_batch.fusion.sizes import Sizes
from perception_batch.fusion.surface import GroundUnder

_BELIEVED_SIGMAS = 3.0  # cues further apart than this: the ground is not where the plane says
_MAX_RELATIVE_SIGMA = 0.7  # an inverse range less sure than this may as well be zero: no position


@dataclass(frozen=True, slots=True)
class Ranges(Columns):
    """Horizontal ranges of N boxes, from the camera to the near face. Variances are relative to the range."""

    near_m: FloatArray
    """(N,) the range; a guess where `known` is False."""
    known: npt.NDArray[np.bool_]
    """(N,) whether a cue tells it."""
    bound_m: FloatArray
    """(N,) it is hardly ever farther, whatever `known` says."""
    relative: FloatArray
    """(N,) standard deviation by all that follows, where `known`."""
    boxes: FloatArray
    """(N,) variance by how the box is drawn."""
    lasting_box: FloatArray
    """(N,) the part of `boxes` that is drawn alike in every image."""
    size: FloatArray
    """(N,) variance by the class's spread of sizes."""
    pitch: FloatArray
    """(N,) by the camera's own pitch."""
    ground: FloatArray
    """(N,) by the ground's height and slope."""
    low_var: FloatArray
    """(N,) variance of the low edge's slope, the camera's pitch included."""


def find_ranges(rays: BoxRays, sizes: Sizes, cues: Cues, under: GroundUnder, settings: FuseConfig) -> Ranges:
    """Ranges of N boxes; arguments as of `position.locate`."""
    tl, has_height, u_height = rays.tan_low, cues.has_height, cues.u_height
    z_var, slope_var = under.z_sigma_m**2, under.slope_sigma**2
    pitch_var = (under.pitch_sigma * (1 + tl**2)) ** 2
    low_var = cues.tan_var + pitch_var

    camera_height = rays.origin_m[2] - under.z_m
    drop = under.slope - tl  # how steeply the ray falls towards the ground
    falls = sizes.on_ground & (camera_height > 0.1) & (drop > 0)
    has_ground = cues.has_low & falls
    u_contact = drop / camera_height
    over_height = 1 / camera_height**2

    # Both errors are judged at one common range: judged each at its own, whichever cue says "far" would
    # look the more certain and win too often.
    both = has_height & has_ground
    relative_h = cues.jitter + cues.bias + sizes.height_relative
    fixed_g, growing_g = (low_var + slope_var) * over_height, z_var * over_height
    share = has_height.astype(np.float64)  # of the height cue in the mean
    u = np.where(has_height, u_height, np.where(has_ground, u_contact, np.nan))
    ground_u = np.where(both, u_contact, u)
    off = u - ground_u
    for _ in range(2):
        u2 = u**2
        var_g = fixed_g + u2 * growing_g
        var = u2 * relative_h + var_g
        share = np.where(both, var_g / var, share)
        u = ground_u + share * off
    apart = np.where(both, off**2 / var, 0.0)
    # The nearer something is, the less a slope can move its contact point: a disagreement beyond all bounds
    # means that the box's bottom is not on this plane (a person on a lorry, a hill, a kerb).
    climbs = (apart > _BELIEVED_SIGMAS**2).nonzero()[0]
    share[climbs], u[climbs] = 1.0, u_height[climbs]
    # Birge ratio (Phys. Rev. 40, 207, 1932): measurements that disagree say that the errors are larger.
    scale2 = np.minimum(np.maximum(apart, 1.0), 4.0)
    share_h, u2 = share**2 * scale2, u**2
    # All of these are relative variances of the range; what the low edge tells counts where the ground is asked.
    by_ground = np.empty((3, len(u)))
    by_ground[0], by_ground[1] = cues.tan_var, pitch_var
    np.add(slope_var, u2 * z_var, out=by_ground[2])
    by_ground *= (1 - share) ** 2 * scale2 * over_height / u2
    np.copyto(by_ground, 0.0, where=~(has_ground & (share < 1)))
    kinds = np.empty((4, len(u)))
    lasting, size, pitch, ground = kinds
    tan_g, pitch[:], ground[:] = by_ground
    np.multiply(share_h, sizes.height_relative, out=size)
    np.multiply(share_h, cues.bias, out=lasting)
    boxes = share_h * cues.jitter + lasting + tan_g
    lasting += 0.5 * tan_g
    np.minimum(lasting, boxes, out=lasting)
    relative = np.sqrt(size + boxes + pitch + ground)
    known = (has_height | has_ground) & (u > 0) & (relative < _MAX_RELATIVE_SIGMA) & ~cues.bearing_only

    # Without a usable cue the box still bounds the range: what is cut is at least as tall as it shows, and
    # stands at or before the point where the cut edge meets the ground.
    rise = rays.tan_high - tl
    bound = np.where(rise > 1e-6, cues.tall_m * sizes.tallest / rise, np.inf)
    bound = np.minimum(bound, np.where(falls, 1.3 / u_contact, np.inf))
    bound = np.maximum(np.minimum(bound, settings.max_range_m), 1.0)
    near = np.where(known, 1 / u, 0.55 * bound)
    boxes = np.where(known, boxes, 0.55**2)  # half the bound, either way
    np.copyto(kinds, 0.0, where=~known)
    return Ranges(near, known, bound, relative, boxes, lasting, size, pitch, ground, low_var)
