"""Which sighting is which track: gated by what both claim, and assigned for all of them together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_batch.assignment import assignment
from perception_batch.track.sighting import BoolArray, IntArray, Sightings, turned_within_half
from perception_batch.types import FloatArray

_RELABELLED = 1.0
"""What another class of the same group costs, as a squared Mahalanobis distance."""
_UNLIKE = 4.0
"""What boxes without anything in common cost, where one camera saw both of late ..."""
_ELSEWHERE = 6.0
"""... and on top of it where they do not even touch."""
_ALIKE = 0.4
"""Likeness from which a box belongs to a track wherever its place seems."""
_HIDDEN = (-0.3, 1.2)
"""How much farther away, as a logarithm, something looks that is the same in the image: parts of it are hidden."""
_ALONE = 8.0
"""What leaving both a track and a sighting alone costs more than the gate."""
_ROUNDING = 1.0 + 1e-6


@dataclass(frozen=True, slots=True)
class Expected:
    """Where N tracks should be seen from the vehicle."""

    polar: FloatArray
    """(2, N) about the vehicle."""
    cover: FloatArray
    """(3, N) covariance of `polar`."""
    width_rad: FloatArray
    """(N,) how wide they should look."""
    group: IntArray
    """(N,) number of the class group."""
    label: IntArray
    """(N,) number of the class."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs of a track and an object that may be one, by track."""

    tracks: IntArray
    """(P,)."""
    objects: IntArray
    """(P,)."""
    worth: FloatArray
    """(P,) what taking them for one is worth, above zero."""
    gated: BoolArray
    """(P,) whether the object's place is one that the track may have."""


def distances2(
    expected: Expected, seen: Sightings, width_rad: FloatArray, i: IntArray, j: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Squared Mahalanobis distances of P pairs of a track and a sighting; NaN without a place.

    What a thing's size and the ground get wrong does not widen them: its next sighting errs as the last one did.

    Args:
        expected: of N tracks.
        seen: M sightings.
        width_rad: (M,) how wide they look.
        i: (P,) tracks.
        j: (P,) sightings.

    Returns:
        (P,) distances, and (P,) what a track that claims more room than the sighting's own pays for it: minus
        twice the logarithm of the likelihood, as far as it depends on the track. Without it, who was lost longest would be the
        best guess for everything. And (P,) the logarithm of how many times as far as its track the sighting seems.
    """
    noise = seen.noise
    xx, xy, yy = expected.cover.take(i, axis=1) + noise.take(j, axis=1)
    yy += hidden_rad2(expected.width_rad[i], width_rad[j])
    dx, dy = seen.polar.take(j, axis=1) - expected.polar.take(i, axis=1)
    dy = turned_within_half(dy)
    determinant = np.maximum(xx * yy - xy * xy, 1e-300)
    distance2: FloatArray = (dx * (yy * dx - 2 * xy * dy) + xx * dy * dy) / determinant
    own = np.maximum(noise[0] * noise[2] - noise[1] * noise[1], 1e-300)
    return distance2, np.log(np.maximum(determinant / own[j], 1.0)), dx


def hidden_rad2(expected_rad: FloatArray, width_rad: FloatArray) -> FloatArray:
    """Variance of the bearing of what shows less than its width: most often one of its ends is hidden."""
    hidden: FloatArray = np.maximum(expected_rad - width_rad, 0.0)
    return (0.5 * hidden) ** 2


def may_be(expected: Expected, seen: Sightings, gate_sigma: float) -> BoolArray:
    """(N, M) False where a sighting is beyond the gate in its range alone or in its bearing alone."""
    limit = gate_sigma**2 * _ROUNDING
    cover, noise = expected.cover, seen.noise
    dx = seen.polar[0] - expected.polar[0][:, None]
    dy = turned_within_half(seen.polar[1] - expected.polar[1][:, None])
    at_most = cover[2] + hidden_rad2(expected.width_rad, np.zeros(1))
    near: BoolArray = dx * dx <= (limit * cover[0])[:, None] + limit * noise[0]
    near &= dy * dy <= (limit * at_most)[:, None] + limit * noise[2]
    return near


def pairs(
    expected: Expected,
    seen: Sightings,
    width_rad: FloatArray,
    alike: tuple[FloatArray, BoolArray],
    kinds: tuple[IntArray, IntArray],
    gate_sigma: float,
) -> Pairs:
    """Which tracks and objects may be one, and what that is worth.

    Args:
        expected: of N tracks.
        seen: M objects.
        width_rad: (M,) how wide they look.
        alike: (N, M) and (N, M) see `likeness`.
        kinds: (M,) numbers of the objects' class groups, (M,) and of their classes.
        gate_sigma: as configured.
    """
    limit = gate_sigma**2
    group, label = kinds
    likeness, by_both = alike
    may = likeness >= _ALIKE
    may |= may_be(expected, seen, gate_sigma)
    may &= expected.group[:, None] == group
    at = may.ravel().nonzero()[0]
    i = at // len(label)
    j = at - i * len(label)  # much faster than a remainder
    distance2, room, farther = distances2(expected, seen, width_rad, i, j)
    known = likeness.ravel()[at]
    told = by_both.ravel()[at]
    cost = _UNLIKE * (told * (1 - known)) + _ELSEWHERE * (told & (known < 0.02))
    cost += _RELABELLED * (expected.label[i] != label[j])
    gated = distance2 <= limit
    unplaced = np.isnan(farther)
    cost += np.where(gated, distance2, limit) + np.where(unplaced, 0.0, room)
    in_image = (known >= _ALIKE) & (unplaced | ((farther >= _HIDDEN[0]) & (farther <= _HIDDEN[1])))
    worth = limit + _ALONE - cost
    good = ((gated | in_image) & (worth > 0)).nonzero()[0]
    return Pairs(i[good], j[good], worth[good], gated[good])


def assign(found: Pairs, among: IntArray) -> IntArray:
    """Which pairs of those `among` them are taken for one: each track and object once at most, together worth most."""
    return among[assignment(found.tracks[among], found.objects[among], found.worth[among])]
