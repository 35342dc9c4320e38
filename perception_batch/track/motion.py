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
from functools import cache

import numpy as np

from perception_batch.track.sighting import (
    IntArray,
    Sightings,
    Views,
    from_polar,
    slopes,
    turned,
    turned_within_half,
)
from perception_batch.types import FloatArray

STATES = 4
BELIEFS = 14
PLACE, SPEED = slice(0, 2), slice(2, 4)
_FIRST, _SECOND = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3]), np.array([0, 1, 2, 3, 1, 2, 3, 2, 3, 3])
"""Row and column of each entry of a covariance that `Beliefs.table` keeps: those on and above the diagonal."""
_ENTRY = np.array([4, 5, 6, 7, 5, 8, 9, 10, 6, 9, 11, 12, 7, 10, 12, 13])
"""The row of `Beliefs.table` for each entry of a (4, 4) covariance, row by row."""
PLACE_COVER, _ACROSS_Y, SPREAD = np.array([4, 5, 8]), np.array([5, 8, 9, 10]), np.array([4, 8, 11, 13])
"""Its rows for the covariance of the place (xx, xy, yy), for what y shares with each number, and for the variances."""

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


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What is believed of N tracks at one time."""

    table: FloatArray
    """(14, N) the mean, then the entries of the covariance on and above its diagonal, row by row."""

    @property
    def mean(self) -> FloatArray:
        """(4, N)."""
        return self.table[:STATES]

    @property
    def covariance(self) -> FloatArray:
        """(4, 4, N), copied."""
        return self.table.take(_ENTRY, axis=0).reshape(STATES, STATES, -1)

    @property
    def place_m2(self) -> FloatArray:
        """(3, N) covariance of the place: xx, xy, yy; copied."""
        return self.table.take(PLACE_COVER, axis=0)

    def __len__(self) -> int:
        count: int = self.table.shape[1]
        return count


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one timestep's sightings taught N tracks, in the form that smoothing needs: see `smoothing`.

    H is a sighting's derivative by the state, S the covariance of its innovation, K the gain. H knows the place only,
    so of ``K H`` and of ``Hᵀ S⁻¹ H`` only what belongs to the place is kept. All is zero where there was no sighting.
    """

    table: FloatArray
    """(3, 6, N) ``K`` and below it ``Hᵀ S⁻¹`` for the place, times: the innovation; H's column of x; that of y."""

    @property
    def taken(self) -> FloatArray:
        """(2, 4, N) transpose of ``K H``: what is taken from an error before the sighting."""
        return self.table[1:, :STATES]

    @property
    def told(self) -> FloatArray:
        """(3, 2, N) ``Hᵀ S⁻¹`` times the innovation; and the two columns of ``Hᵀ S⁻¹ H``."""
        return self.table[:, STATES:]


@cache
def _drift() -> tuple[FloatArray, FloatArray, FloatArray]:
    """(14, 14) matrices a, b, c: moving beliefs by t seconds without noise is ``(a + b t + c t²) @ table``."""
    parts = np.zeros((3, BELIEFS, BELIEFS))
    step = np.zeros((2, STATES, STATES))  # of t⁰ and t¹, of the mean
    step[0] = np.eye(STATES)
    step[1, PLACE, SPEED] = np.eye(2)
    parts[:2, :STATES, :STATES] = step
    for row, (i, j) in enumerate(zip(_FIRST, _SECOND, strict=True), STATES):
        for k in range(STATES):
            for m in range(STATES):
                entry = _ENTRY[STATES * k + m]
                for p in (0, 1):
                    for q in (0, 1):
                        parts[p + q, row, entry] += step[p, i, k] * step[q, j, m]
    return parts[0], parts[1], parts[2]


def predict(beliefs: Beliefs, seconds: float, jerkiness: FloatArray) -> Beliefs:
    """Beliefs some time later.

    Args:
        beliefs: of N tracks.
        seconds: how much later.
        jerkiness: (2, N) at rest and moving, see `Motion`.
    """
    x_mps, y_mps = beliefs.mean[SPEED]
    speed2 = x_mps * x_mps + y_mps * y_mps
    moving = speed2 / (speed2 + _WALKING_MPS**2)
    at_rest, fast = jerkiness
    stays, once, twice = _drift()
    table = (stays + seconds * once + seconds**2 * twice) @ beliefs.table
    # White acceleration, integrated (Bar-Shalom, Li, Kirubarajan 2001, section 6.2.2).
    noise = np.zeros((BELIEFS, 1))
    noise[4] = noise[8] = seconds**3 / 3
    noise[6] = noise[10] = seconds**2 / 2
    noise[11] = noise[13] = seconds
    table += noise * (at_rest + moving * (fast - at_rest))
    return Beliefs(table)


def begin(seen: Sightings, origin_m: FloatArray, speed_mps: FloatArray) -> Beliefs:
    """Beliefs after a first sighting each.

    Args:
        seen: M sightings.
        origin_m: (2, 1) the vehicle in the fixed frame.
        speed_mps: (M,) see `Motion`.
    """
    beliefs = Beliefs(np.zeros((BELIEFS, len(seen))))
    beliefs.mean[PLACE] = seen.place_m
    beliefs.table[PLACE_COVER] = turned(from_polar(slopes(seen.place_m, origin_m)), seen.noise)
    beliefs.table[SPREAD[2:]] = speed_mps**2
    return beliefs


def update(beliefs: Beliefs, columns: IntArray, seen: Sightings, views: Views) -> Lesson:
    """Learn from sightings, in place.

    Args:
        beliefs: of N tracks.
        columns: (M,) the track of each sighting, each at most once.
        seen: M sightings.
        views: of these tracks' places, from where the sightings are polar about.
    """
    lesson = Lesson(np.zeros((3, STATES + 2, len(beliefs))))
    count = len(columns)
    if not count:
        return lesson
    table = beliefs.table.take(columns, axis=1)
    across_x, across_y = table[4:8], table.take(_ACROSS_Y, axis=0)
    x, y = views.slope
    # The columns of P Hᵀ, and below them those of Hᵀ for the place.
    both = np.empty((2, STATES + 2, count))
    both[0, :STATES], both[1, :STATES] = x * across_x + y * across_y, x * across_y - y * across_x
    both[0, 4], both[0, 5], both[1, 4], both[1, 5] = x, y, -y, x
    along, across = both
    # H P Hᵀ.
    (sxx, sxy), syy = x * both[:, 0] + y * both[:, 1], x * across[1] - y * across[0]
    nxx, nxy, nyy = seen.noise
    a0, a1 = seen.polar - views.polar
    a1 = turned_within_half(a1)
    xx, xy, yy = sxx + nxx, sxy + nxy, syy + nyy
    distance2 = (a0 * (a0 * yy - 2 * a1 * xy) + a1 * a1 * xx) / (xx * yy - xy * xy)
    doubt = np.maximum(distance2 / _BELIEVED2, 1.0)
    xx, xy, yy = sxx + doubt * nxx, sxy + doubt * nxy, syy + doubt * nyy
    factor = 1.0 / (xx * yy - xy * xy)
    ixx, ixy, iyy = factor * yy, -factor * xy, factor * xx
    gain0, gain1 = along * ixx + across * ixy, along * ixy + across * iyy
    new = np.empty((3, STATES + 2, count))
    new[0], new[1], new[2] = gain0 * a0 + gain1 * a1, gain0 * x - gain1 * y, gain0 * y + gain1 * x
    table[:STATES] += new[0, :STATES]
    one, other = _FIRST, _SECOND
    table[STATES:] -= gain0.take(one, 0) * along.take(other, 0) + gain1.take(one, 0) * across.take(other, 0)
    beliefs.table[:, columns] = table
    lesson.table[:, :, columns] = new
    return lesson
