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
from perception_batch.fusion.cues import Cues, Sizes
from perception_batch.fusion.lens import BoxRays
from perception_batch.fusion.surface import GroundUnder

_BELIEVED_SIGMAS = 3.0  # cues further apart than this: the ground is not where the plane says
_MAX_RELATIVE_SIGMA = 0.7  # an inverse range less sure than this may as well be zero: no position


@dataclass(frozen=True, slots=True)
class Ranges:
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

    def take(self, rows: npt.NDArray[np.int64]) -> Ranges:
        """The given rows, in that order."""
        return Ranges(*(getattr(self, name)[rows] for name in self.__slots__))


def find_ranges(rays: BoxRays, sizes: Sizes, cues: Cues, under: GroundUnder, settings: FuseConfig) -> Ranges:
    """Ranges of N boxes; arguments as of `position.locate`."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _find(rays, sizes, cues, under, settings)


def _find(rays: BoxRays, sizes: Sizes, cues: Cues, under: GroundUnder, settings: FuseConfig) -> Ranges:
    on_ground, tl = sizes.on_ground, rays.tan_low
    rise = rays.tan_high - tl
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
    return Ranges(near, known, bound, relative, boxes, lasting_box, size, pitch, ground, tan_var + pitch_var)
