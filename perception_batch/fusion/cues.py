"""What a box says of range by its height alone, and where it would then touch the ground.

Everything about range is reckoned in inverse range ``u = 1/ρ`` (ρ horizontal, from the camera to the near
face): it is linear in what the image measures, and a box above the horizon does no harm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.config import FuseConfig
from perception_batch.fusion.columns import Columns
from perception_batch.fusion.lens import BoxRays
from perception_batch.fusion.sizes import Sizes

_MAX_SLOPE = math.tan(math.radians(80))  # steeper rays say nothing useful about horizontal range
_CUT_BOX_FACTOR = 2.0  # detectors draw boxes of things they see half of about this much worse
# A lower edge of which a nearer box covers this share is that box's edge as often as not.
_COVERED = 0.5
_COVERED_SIGMA = 0.15  # of the box's height: what is hidden below such an edge, one standard deviation
# A box cut by a side that is narrower than this share of the narrowest view of such a thing shows a corner of it.
_SLIVER = 0.4
_BEHIND_FISHEYE = 1.0  # slope of a ray below which a fisheye's box sits under the bumper: 45 degrees


@dataclass(frozen=True, slots=True)
class Cues(Columns):
    """What N boxes say before the ground is asked."""

    seen: npt.NDArray[np.bool_]
    """(N,) the lens reaches all of the box and the box has an extent."""
    bearing_only: npt.NDArray[np.bool_]
    """(N,) a fisheye's box on the image's border or under the bumper: no range is believed."""
    has_low: npt.NDArray[np.bool_]
    """(N,) the low edge is where the object ends, not where the view of it does."""
    has_height: npt.NDArray[np.bool_]
    """(N,) both the low and the high edge are."""
    u_height: FloatArray
    """(N,) inverse range by the box's height, 1/m; NaN without."""
    tall_m: FloatArray
    """(N,) what the box's height spans at the near face."""
    jitter: FloatArray
    """(N,) relative variance of `u_height` that is new in every image."""
    bias: FloatArray
    """(N,) relative variance of `u_height` by a box that is drawn wrong alike in every image of one object."""
    tan_var: FloatArray
    """(N,) variance of the low edge's slope, all but the camera's pitch."""
    contact_z_m: FloatArray
    """(N,) height of the low edge at the range that the box's height implies; NaN where that is unknown."""
    contact_var_m2: FloatArray
    """(N,) variance of `contact_z_m` but for the camera's pitch."""


def read_cues(rays: BoxRays, sizes: Sizes, settings: FuseConfig) -> Cues:
    """The cues of N boxes, each taken for one class. Here and in what follows boxes that say nothing divide by zero,
    and the caller has numpy keep quiet about it, once."""
    tl, th = rays.tan_low, rays.tan_high
    rise = th - tl
    cut = rays.cut
    # Slopes are NaN outside the lens.
    seen = (rise > 1e-6) & (np.abs(tl) < _MAX_SLOPE) & (np.abs(th) < _MAX_SLOPE)
    seen &= np.isfinite(rays.azimuth_rad)
    tall_px = np.maximum(rays.height_px, 1e-3)
    factor2 = (np.where(cut, _CUT_BOX_FACTOR, 1.0) / tall_px) ** 2
    bias_var = (settings.box_sigma_fraction * rays.height_px) ** 2 * factor2
    pixels_var = settings.box_sigma_px**2 * factor2 + bias_var
    covered = (rays.low_covered > _COVERED) * _COVERED_SIGMA**2
    # Seen from above, the far roof edge tops the box; from below, the far floor edge ends it: the box then
    # spans more than the near face, by about half the length (heading unknown).
    tall = sizes.height_m + 0.5 * sizes.length_m * (np.maximum(-th, 0.0) + np.maximum(tl, 0.0))
    sliver = cut & (rays.width_px < _SLIVER * sizes.narrowest * tall_px)
    has_low = seen & ~(rays.cut_low | sliver)
    has_height = has_low & ~rays.cut_high
    u_height = np.where(has_height, rise / tall, np.nan)
    jitter = 2 * pixels_var
    bias = 2 * bias_var + covered
    tan_var = rise**2 * (pixels_var + bias_var + covered)
    standing = has_height & sizes.on_ground & (tl < -0.03) & ~cut & (covered == 0)
    contact = np.where(standing, tl / u_height, np.nan)
    contact_var = contact**2 * (jitter + bias + sizes.height_relative) + tan_var / u_height**2
    bearing_only = rays.fisheye & (cut | rays.cut_low | rays.cut_high | (tl < -_BEHIND_FISHEYE))
    return Cues(
        seen,
        bearing_only,
        has_low,
        has_height,
        u_height,
        tall,
        jitter,
        bias,
        tan_var,
        rays.origin_m[2] + contact,
        contact_var,
    )
