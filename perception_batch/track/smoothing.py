"""What hindsight says of the last timesteps: the modified Bryson-Frazier smoother over all tracks at once.

Going back in time it carries, for each track, what later sightings say of its filtered state (Bierman 1973,
"Fixed interval smoothing with discrete measurements", Int. J. Control 18). It gives what Rauch, Tung and Striebel's
form gives, and inverts nothing larger than the sightings' own 2 x 2 covariances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.track.motion import PLACE, STATES, Beliefs, Lesson
from perception_batch.types import FloatArray


@dataclass(frozen=True, slots=True)
class Moment:
    """All tracks at one timestep, filtered."""

    beliefs: Beliefs
    """After the timestep's sightings, of N tracks."""
    lesson: Lesson
    """What those taught the first K of them; tracks that began here were taught nothing."""
    seconds: float
    """Since the moment before."""
    survivors: npt.NDArray[np.int64]
    """(K,) columns of the moment before that are columns 0 to K - 1 here; later ones are tracks that began here."""


@dataclass(frozen=True, slots=True)
class Smoothed:
    """N tracks in hindsight, of several moments one after the other."""

    mean: FloatArray
    """(4, N) x, y and velocity."""
    place_m2: FloatArray
    """(3, N) covariance of x, y: xx, xy, yy."""


def smooth(moments: Sequence[Moment], count: int) -> Smoothed:
    """The first `count` moments in the light of all after them; the very last is as filtered."""
    told: list[FloatArray] = []
    # Of each track (4, 5): what is said for another state, and beside it how weighty that is (4, 4).
    after = np.zeros((STATES, 1 + STATES, len(moments[-1].beliefs) if moments else 0))
    for number in range(len(moments) - 1, -1, -1):
        if number < count:
            told.append(after)
        if number:
            after = _back(moments[number], after, len(moments[number - 1].beliefs))
    if not told:
        return Smoothed(np.zeros((STATES, 0)), np.zeros((3, 0)))
    beliefs = Beliefs(np.concatenate([moment.beliefs.table for moment in moments[:count]], axis=1))
    return _corrected(beliefs, np.concatenate(told[::-1], axis=2))


def _corrected(beliefs: Beliefs, after: FloatArray) -> Smoothed:
    p = beliefs.covariance
    mean = beliefs.mean + np.add.reduce(p * after[:, 0], axis=1)
    rows = p[PLACE]
    weighed = np.add.reduce(rows[:, :, None] * after[None, :, 1:], axis=1)
    place = beliefs.place_m2
    place[0] -= np.add.reduce(weighed[0] * rows[0])
    place[1] -= np.add.reduce(weighed[0] * rows[1])
    place[2] -= np.add.reduce(weighed[1] * rows[1])
    return Smoothed(mean, place)


def _back(moment: Moment, after: FloatArray, before: int) -> FloatArray:
    """From after this moment's sightings to after those of the moment before, which has `before` tracks."""
    known = len(moment.survivors)
    taken = moment.lesson.taken[:, :, :known]
    # (I - K H)ᵀ from the left, I - K H from the right, and what the sighting says.
    here = after[:, :, :known].copy()
    place, weight_place, weight_speed = here[PLACE], here[:, 1:3], here[:, 3:5]
    place -= np.add.reduce(taken[:, :, None] * here, axis=1)
    weight_place -= np.add.reduce(here[:, None, 1:] * taken, axis=2)
    said = place[:, :3]
    said += moment.lesson.told[:, :, :known].transpose(1, 0, 2)
    # The transpose of the motion, from the left, and the motion from the right.
    speed = here[2:]
    speed += moment.seconds * place
    weight_speed += moment.seconds * weight_place
    if known == before:  # survivors keep their order
        return here
    earlier = np.zeros((STATES, 1 + STATES, before))
    earlier[:, :, moment.survivors] = here
    return earlier
