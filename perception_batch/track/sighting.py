"""Sightings as cameras make them: a direction, and a range whose error is a share of it.

A box that is drawn a tenth too high is a tenth too near, at any range. In the logarithm of the range such errors are
the same for the near and the far, so that a filter neither trusts what looks near too much nor takes a far thing's
uncertainty for a near one's. All polar values here are (logarithm of the range in metres, bearing in radians) about
the vehicle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import SE3
from perception_batch.types import FloatArray, FusedObject

_PERSISTENT = 0.5
"""Share of what is an image's own that stays for a while: a detector that draws a box too wide does so again."""
_CHANGING = 0.3
"""Share of what sightings share that changes between them: other cues, other parts of the road."""
_ANY_RANGE = 100.0
"""Variance of a logarithm of which nothing is known."""
_PART_RAD2 = 0.02**2
"""Half of a car's width at 50 m: the middle of what shows is not the middle of the thing."""
NEAREST_M = 0.5
"""Ranges below are taken for this: the logarithm ends at the vehicle's own origin."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """M objects with a position, at one timestep."""

    place_m: FloatArray
    """(M, 2) in the fixed frame."""
    polar: FloatArray
    """(M, 2) about the vehicle, with bearings in the fixed frame."""
    noise: FloatArray
    """(M, 2, 2) covariance of `polar`, as far as it is new in every sighting."""
    lasting: FloatArray
    """(M, 2, 2) covariance of `polar`, as far as it is the same again in the next sighting."""
    height_m: FloatArray
    """(M,) of the centres in the fixed frame."""
    height_m2: FloatArray
    """(M,) variances of `height_m`."""

    def __len__(self) -> int:
        return len(self.place_m)

    def take(self, rows: Any) -> Sightings:
        """Those of `rows`."""
        parts = (self.place_m, self.polar, self.noise, self.lasting, self.height_m, self.height_m2)
        return Sightings(*(part[rows] for part in parts))

    def bearing_only(self, which: npt.NDArray[np.bool_]) -> Sightings:
        """The same, with nothing said of the range of those of `which`, and a bearing as of a part of the thing."""
        noise = self.noise.copy()
        noise[which, 0, 0] = _ANY_RANGE
        noise[which, 0, 1] = noise[which, 1, 0] = 0.0
        noise[which, 1, 1] += _PART_RAD2
        return replace(self, noise=noise)


def sightings(objects: Sequence[FusedObject], odom_SE3_base: SE3) -> Sightings:
    """Objects with positions, in the fixed frame."""
    n = len(objects)
    turn = odom_SE3_base.rotation
    place, own, shared = np.zeros((n, 3)), np.zeros((n, 3, 3)), np.zeros((n, 2, 3))
    if n:
        np.concatenate([o.position_m for o in objects], out=place.reshape(-1))
        np.concatenate([o.own_m2 for o in objects], out=own.reshape(-1, 3))
        np.concatenate([o.shared_m for o in objects], out=shared.reshape(-1, 3))
    place = place @ turn.T + odom_SE3_base.translation_m
    lacking = ~np.isfinite(own.reshape(n, 9) @ np.ones(9) + shared.reshape(n, 6) @ np.ones(6))
    if lacking.any():  # a fuser that does not tell them apart: all of it may be new in every image
        whole = np.array([o.covariance_m2 for o in objects]).reshape(n, 3, 3)
        own, shared = (
            np.where(lacking[:, None, None], whole, own),
            np.where(lacking[:, None, None], 0, shared),
        )
    own, shared = turn @ own @ turn.T, shared @ turn.T
    height_m2 = own[:, 2, 2] + (shared[:, :, 2] ** 2).sum(axis=1)
    flat = place[:, :2]
    origin = odom_SE3_base.translation_m[:2]
    slope = jacobian(flat, origin)
    own = slope @ own[:, :2, :2] @ slope.transpose(0, 2, 1)
    # A covariance that a fuser rounds to nothing must not stop the filter: a millimetre at a metre.
    own[:, (0, 1), (0, 1)] += 1e-6
    shared = shared[:, :, :2] @ slope.transpose(0, 2, 1)
    common = shared.transpose(0, 2, 1) @ shared
    return Sightings(
        flat,
        polar(flat, origin),
        own + _CHANGING * common,
        common + _PERSISTENT * own,
        place[:, 2],
        np.maximum(height_m2, 1e-6),
    )


def polar(place_m: FloatArray, origin_m: FloatArray) -> FloatArray:
    """(N, 2) polar of (N, 2) places about an origin (2,)."""
    off = place_m - origin_m
    out = np.empty((len(off), 2))
    np.log(np.maximum(np.hypot(off[:, 0], off[:, 1]), NEAREST_M), out=out[:, 0])
    np.arctan2(off[:, 1], off[:, 0], out=out[:, 1])
    return out


def jacobian(place_m: FloatArray, origin_m: FloatArray) -> FloatArray:
    """(N, 2, 2) derivative of `polar` by the place."""
    off = place_m - origin_m
    reach = np.hypot(off[:, 0], off[:, 1])
    here = reach <= 1e-9
    if here.any():  # at the origin any direction will do
        off, reach = np.where(here[:, None], (1.0, 0.0), off), np.where(here, 1.0, reach)
        scale = np.where(here, 1 / NEAREST_M, 1 / (reach * np.maximum(reach, NEAREST_M)))
    else:
        scale = 1 / (reach * np.maximum(reach, NEAREST_M))
    out = np.empty((len(off), 2, 2))
    x, y = scale * off[:, 0], scale * off[:, 1]
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 0], out[:, 1, 1] = x, y, -y, x
    return out


def from_polar(slope: FloatArray) -> FloatArray:
    """Inverses of (N, 2, 2) jacobians: their rows are orthogonal and equally long."""
    back: FloatArray = slope.transpose(0, 2, 1) / (slope[:, :1, :] ** 2).sum(axis=2, keepdims=True)
    return back


def turned_within_half(angles_rad: FloatArray) -> FloatArray:
    """Angles as their equals from -π to π."""
    return angles_rad - 2 * np.pi * np.rint(angles_rad * (0.5 / np.pi))
