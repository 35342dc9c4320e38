"""What hindsight says of the last timesteps: the modified Bryson-Frazier smoother over all tracks at once.

Going back in time it carries, for each track, what later sightings say against its filtered state (Bierman 1973,
"Fixed interval smoothing with discrete measurements", Int. J. Control 18). It gives what Rauch, Tung and Striebel's
form gives, and inverts nothing larger than the sightings' own 2 x 2 covariances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.track.motion import PLACE, SPEED, STATES, Beliefs, Lesson
from perception_batch.types import FloatArray


@dataclass(frozen=True, slots=True)
class Moment:
    """All tracks at one timestep, filtered."""

    beliefs: Beliefs
    """After the timestep's sightings, of N tracks."""
    lesson: Lesson
    """What those taught; tracks that began here were taught nothing."""
    seconds: float
    """Since the moment before."""
    survivors: npt.NDArray[np.int64]
    """(K,) rows of the moment before that are rows 0 to K - 1 here; later rows are tracks that began here."""


@dataclass(frozen=True, slots=True)
class Smoothed:
    """N tracks at one timestep, in hindsight."""

    mean: FloatArray
    """(N, 4) x, y and velocity."""
    place_m2: FloatArray
    """(N, 2, 2) covariance of x, y."""


def smooth(moments: Sequence[Moment]) -> Iterator[Smoothed]:
    """Every moment in the light of those after it, the last first (it is as filtered)."""
    if not moments:
        return
    count = len(moments[-1].beliefs.mean)
    against, weight = np.zeros((count, STATES)), np.zeros((count, STATES, STATES))
    for number in range(len(moments) - 1, -1, -1):
        moment = moments[number]
        yield _corrected(moment.beliefs, against, weight)
        if number:
            before = len(moments[number - 1].beliefs.mean)
            against, weight = _back(moment, against, weight, before)


def _corrected(beliefs: Beliefs, against: FloatArray, weight: FloatArray) -> Smoothed:
    p = beliefs.covariance
    mean = beliefs.mean - (p @ against[:, :, None])[:, :, 0]
    rows = p[:, PLACE, :]
    place = p[:, PLACE, PLACE] - rows @ weight @ rows.transpose(0, 2, 1)
    return Smoothed(mean, 0.5 * (place + place.transpose(0, 2, 1)))


def _back(
    moment: Moment, against: FloatArray, weight: FloatArray, before: int
) -> tuple[FloatArray, FloatArray]:
    """From after this moment's sightings to after those of the moment before, which has `before` tracks."""
    known = len(moment.survivors)
    keep = moment.lesson.keep[:known]
    turned = keep.transpose(0, 2, 1)
    against = (turned @ against[:known, :, None])[:, :, 0] - moment.lesson.pull[:known]
    weight = turned @ weight[:known] @ keep + moment.lesson.information[:known]
    # The transpose of the motion.
    against[:, SPEED] += moment.seconds * against[:, PLACE]
    weight[:, SPEED, :] += moment.seconds * weight[:, PLACE, :]
    weight[:, :, SPEED] += moment.seconds * weight[:, :, PLACE]
    earlier, earlier_weight = np.zeros((before, STATES)), np.zeros((before, STATES, STATES))
    earlier[moment.survivors], earlier_weight[moment.survivors] = against, weight
    return earlier, earlier_weight
