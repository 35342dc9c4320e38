"""How road users move, and what one sighting says of them: a Kalman filter over all tracks at once.

A track's state is its place (x, y, m) and velocity over ground (m/s) on the ground plane of a fixed frame. A sighting
is ``polar(place) + noise``, see `sighting`; what it says is taken at the predicted place (an extended Kalman filter).

That a thing is taller than its class, or its road higher, is the same error in every sighting. Such errors are
"considered" (Schmidt 1966, "Application of state-space methods to navigation problems"): the filter follows the thing
where it is seen, and what sightings share is added, undiminished, to what is claimed in the end. Estimating them
beside the motion was tried: a slope or a box that errs a little more with every metre looks just like a thing of
another size, ranges came out 5 to 20 % short, and 74 % of the truth lay in the 95 % ellipse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.track.sighting import Sightings, from_polar, jacobian, polar, turned_within_half
from perception_batch.types import FloatArray

STATES = 4
PLACE, SPEED = slice(0, 2), slice(2, 4)

_WALKING_MPS = 2.0
"""Speed at which things are half at rest."""
_BELIEVED2 = 1.0
"""Sightings that surprise by more than usual are believed the less the more they do: what begins
to be hidden, or to be cut by a border, does not err like a Gaussian."""


@dataclass(frozen=True, slots=True)
class Motion:
    """How things of one class group move."""

    speed_mps: float
    """Standard deviation of a velocity of which nothing is known yet, per axis."""
    jerkiness_at_rest: float
    """Density of the white acceleration, m²/s³ (the variance that a velocity gains in a second), of what stands ..."""
    jerkiness: float
    """... and of what moves: who drives also turns and brakes."""


@dataclass(slots=True)
class Beliefs:
    """What is believed of N tracks at one time."""

    mean: FloatArray
    """(N, 4)."""
    covariance: FloatArray
    """(N, 4, 4)."""

    @classmethod
    def none(cls) -> Beliefs:
        """Of no tracks."""
        return cls(np.zeros((0, STATES)), np.zeros((0, STATES, STATES)))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one timestep's sightings taught, in the form that smoothing needs: see `smoothing`."""

    keep: FloatArray
    """(N, 4, 4) ``I - K H``: what is left of an error before the sighting; the identity where there was none."""
    information: FloatArray
    """(N, 4, 4) ``Hᵀ S⁻¹ H``."""
    pull: FloatArray
    """(N, 4) ``Hᵀ S⁻¹`` times the innovation."""


def predict(beliefs: Beliefs, seconds: float, jerkiness: FloatArray) -> None:
    """Move beliefs ahead in place.

    Args:
        beliefs: of N tracks.
        seconds: by how much.
        jerkiness: (N, 2) at rest and moving, see `Motion`.
    """
    mean, p = beliefs.mean, beliefs.covariance
    speed2 = (mean[:, SPEED] ** 2).sum(axis=1)
    moving = speed2 / (speed2 + _WALKING_MPS**2)
    jerkiness = jerkiness[:, 0] + moving * (jerkiness[:, 1] - jerkiness[:, 0])
    mean[:, PLACE] += seconds * mean[:, SPEED]
    p[:, PLACE, :] += seconds * p[:, SPEED, :]
    p[:, :, PLACE] += seconds * p[:, :, SPEED]
    # White acceleration, integrated (Bar-Shalom, Li, Kirubarajan 2001, section 6.2.2).
    for axis in (0, 1):
        p[:, axis, axis] += jerkiness * (seconds**3 / 3)
        p[:, axis, axis + 2] += jerkiness * (seconds**2 / 2)
        p[:, axis + 2, axis] += jerkiness * (seconds**2 / 2)
        p[:, axis + 2, axis + 2] += jerkiness * seconds


def begin(seen: Sightings, origin_m: FloatArray, speed_mps: FloatArray) -> Beliefs:
    """Beliefs after a first sighting each.

    Args:
        seen: M sightings.
        origin_m: (2,) the vehicle in the fixed frame.
        speed_mps: (M,) see `Motion`.
    """
    count = len(seen)
    mean = np.zeros((count, STATES))
    mean[:, PLACE] = seen.place_m
    back = from_polar(jacobian(seen.place_m, origin_m))
    p = np.zeros((count, STATES, STATES))
    p[:, PLACE, PLACE] = back @ seen.noise @ back.transpose(0, 2, 1)
    for axis in (0, 1):
        p[:, axis + 2, axis + 2] = speed_mps**2
    return Beliefs(mean, p)


def in_polar(beliefs: Beliefs, origin_m: FloatArray) -> Beliefs:
    """The same with places in polar, about the vehicle."""
    mean, p = beliefs.mean.copy(), beliefs.covariance.copy()
    slope = jacobian(mean[:, PLACE], origin_m)
    mean[:, PLACE] = polar(mean[:, PLACE], origin_m)
    p[:, PLACE, :] = slope @ p[:, PLACE, :]
    p[:, :, PLACE] = p[:, :, PLACE] @ slope.transpose(0, 2, 1)
    return Beliefs(mean, p)


def update(beliefs: Beliefs, rows: npt.NDArray[np.int64], seen: Sightings, origin_m: FloatArray) -> Lesson:
    """Learn from sightings, in place.

    Args:
        beliefs: of N tracks.
        rows: (M,) the track of each sighting, each at most once.
        seen: M sightings.
        origin_m: (2,) the vehicle in the fixed frame.
    """
    count = len(beliefs.mean)
    keep = np.zeros((count, STATES, STATES))
    keep[:, range(STATES), range(STATES)] = 1.0
    information, pull = np.zeros((count, STATES, STATES)), np.zeros((count, STATES))
    if len(rows):
        mean, p = beliefs.mean[rows], beliefs.covariance[rows]
        h = np.zeros((len(rows), 2, STATES))
        h[:, :, PLACE] = jacobian(mean[:, PLACE], origin_m)
        ht = h.transpose(0, 2, 1)
        pht = p @ ht
        apart = seen.polar - polar(mean[:, PLACE], origin_m)
        apart[:, 1] = turned_within_half(apart[:, 1])
        expected = h @ pht
        s_inverse = inverse2(expected + seen.noise)
        distance2 = (apart[:, None, :] @ s_inverse @ apart[:, :, None])[:, 0, 0]
        doubt = np.maximum(distance2 / _BELIEVED2, 1.0)
        s_inverse = inverse2(expected + doubt[:, None, None] * seen.noise)
        gain = pht @ s_inverse
        weighed = ht @ s_inverse
        beliefs.mean[rows] = mean + (gain @ apart[:, :, None])[:, :, 0]
        after = p - gain @ pht.transpose(0, 2, 1)
        beliefs.covariance[rows] = 0.5 * (after + after.transpose(0, 2, 1))
        keep[rows] -= gain @ h
        information[rows] = weighed @ h
        pull[rows] = (weighed @ apart[:, :, None])[:, :, 0]
    return Lesson(keep, information, pull)


def inverse2(matrices: FloatArray) -> FloatArray:
    """Inverses of (..., 2, 2) symmetric positive matrices."""
    xx, xy, yy = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 1]
    out = np.empty_like(matrices)
    factor = 1.0 / (xx * yy - xy * xy)
    out[..., 0, 0], out[..., 1, 1] = yy * factor, xx * factor
    out[..., 0, 1] = out[..., 1, 0] = -xy * factor
    return out
