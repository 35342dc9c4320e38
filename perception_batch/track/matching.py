"""Which sighting is which track: gated by what both claim, and assigned for all of them together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_batch.track.motion import Beliefs
from perception_batch.track.sighting import Sightings, turned_within_half
from perception_batch.types import FloatArray

IntArray = npt.NDArray[np.int64]

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


def distances2(beliefs: Beliefs, seen: Sightings, hidden_rad2: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Squared Mahalanobis distances of sightings from tracks; `beliefs` are in polar, see `motion.in_polar`.

    What a thing's size and the ground get wrong does not widen them: its next sighting errs as the last one did.

    Returns:
        (N, M) distances, and (N, M) what a track that claims more room than the sighting's own pays for it: minus
        twice the logarithm of the likelihood, as far as it depends on the track. Without it, who was lost longest would be the
        best guess for everything.
    """
    cover, noise = beliefs.covariance, seen.noise  # entry by entry: each is one array without gaps
    xx = cover[:, None, 0, 0] + noise[None, :, 0, 0]
    xy = cover[:, None, 0, 1] + noise[None, :, 0, 1]
    yy = cover[:, None, 1, 1] + noise[None, :, 1, 1] + hidden_rad2
    dx = seen.polar[None, :, 0] - beliefs.mean[:, None, 0]
    dy = turned_within_half(seen.polar[None, :, 1] - beliefs.mean[:, None, 1])
    determinant = np.maximum(xx * yy - xy * xy, 1e-300)
    distance2: FloatArray = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant
    own = np.maximum(noise[:, 0, 0] * noise[:, 1, 1] - noise[:, 0, 1] ** 2, 1e-300)
    return distance2, np.log(np.maximum(determinant / own, 1.0))


def farther(beliefs: Beliefs, seen: Sightings) -> FloatArray:
    """(N, M) logarithm of how many times as far as its track a sighting seems; `beliefs` are in polar."""
    return np.subtract(seen.polar[None, :, 0], beliefs.mean[:, None, 0])


def costs(distance2: FloatArray, farther: FloatArray, alike: FloatArray, gate_sigma: float) -> FloatArray:
    """(N, M) what taking a sighting for a track costs; infinite where it is out of the question.

    Args:
        distance2: (N, M) see `distances2`; infinite for sightings without a place.
        farther: (N, M) see `farther`; NaN for sightings without a place.
        alike: (N, M) see `likeness`; NaN where the image says nothing.
        gate_sigma: as configured.
    """
    known = np.where(np.isnan(alike), 1.0, alike)
    unlike = _UNLIKE * (1 - known) + _ELSEWHERE * (known < 0.02)
    limit = gate_sigma**2
    hidden = np.isnan(farther) | ((farther >= _HIDDEN[0]) & (farther <= _HIDDEN[1]))
    in_image = np.where((alike >= _ALIKE) & hidden, limit + unlike, np.inf)
    cost: FloatArray = np.where(distance2 <= limit, distance2 + unlike, in_image)
    return cost


def relabelled(track_label: IntArray, label: IntArray) -> FloatArray:
    """(N, M) what it costs to take a sighting of one class for a track of another."""
    return np.where(track_label[:, None] != label[None, :], _RELABELLED, 0.0)


def assign(cost: FloatArray, gate_sigma: float) -> tuple[IntArray, IntArray]:
    """Rows and columns of the assignment that costs least, where leaving a pair alone has its price too."""
    from scipy.optimize import linear_sum_assignment

    none = np.zeros(0, np.int64)
    worth = np.maximum(gate_sigma**2 + _ALONE - cost, 0.0)
    rows, columns = np.flatnonzero(worth.any(axis=1)), np.flatnonzero(worth.any(axis=0))
    if not len(rows):
        return none, none
    part = worth[np.ix_(rows, columns)]
    chosen_rows, chosen_columns = linear_sum_assignment(part, maximize=True)
    good = part[chosen_rows, chosen_columns] > 0
    return rows[chosen_rows[good]], columns[chosen_columns[good]]
