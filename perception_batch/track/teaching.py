"""What the sightings of a timestep teach their tracks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from perception_batch.track import motion
from perception_batch.track.close_by import CloseBy
from perception_batch.track.motion import PLACE, Lesson
from perception_batch.track.rows import IntArray, Rows
from perception_batch.track.sighting import Sightings, polar
from perception_batch.types import FloatArray

_WIDTH_MEMORY_S = 2.0
"""How long a thing is taken to be as wide as it once showed itself: things turn."""
_BOUND_SIGMA = 0.2
"""Of the logarithm of the range of what is known by its bound alone: the same again in its next sighting."""


def teach(
    rows: Rows,
    index: IntArray,
    what: Sightings,
    width_rad: FloatArray,
    unranged: npt.NDArray[np.bool_],
    hidden: npt.NDArray[np.bool_],
    near: Mapping[int, CloseBy],
    origin_m: FloatArray,
    seconds: float,
) -> Lesson:
    """Update tracks, in place.

    Args:
        rows: all tracks, at the timestep.
        index: (M,) the row of each sighting.
        what: M sightings; written to.
        width_rad: (M,) how wide they look.
        unranged: (M,) those of which only the bearing counts.
        hidden: (M,) those of whose range little is known.
        near: what is close by, by row; none of `index`.
        origin_m: (2,) the vehicle in the fixed frame.
        seconds: since the timestep before.
    """
    reach = polar(rows.beliefs.mean[index, PLACE], origin_m)[:, 0]
    what.noise[:, 1, 1] += hidden_rad2(rows.width_m[index], reach, width_rad)
    width_m = width_rad * np.exp(reach)
    left = math.exp(-seconds / _WIDTH_MEMORY_S)
    rows.width_m[index] = width_m + left * np.maximum(rows.width_m[index] - width_m, 0.0)
    told = what.bearing_only(unranged) if unranged.any() else what
    lesson = (
        _with_near(rows, index, told, near, origin_m)
        if near
        else motion.update(rows.beliefs, index, told, origin_m)
    )
    ranged = ~unranged
    index, height_m, height_m2 = index[ranged], what.height_m[ranged], what.height_m2[ranged]
    clear = ~hidden[ranged]
    rows.lasting[index[clear]] = what.lasting[ranged][clear]
    share = rows.height_m2[index] / (rows.height_m2[index] + height_m2)
    rows.height_m[index] += share * (height_m - rows.height_m[index])
    rows.height_m2[index] *= 1 - share
    return lesson


def _with_near(
    rows: Rows, index: IntArray, told: Sightings, near: Mapping[int, CloseBy], origin_m: FloatArray
) -> Lesson:
    """Sightings about the vehicle, and those of near things about their cameras."""
    own = np.array(list(near), np.int64)
    from_m = np.array([item.from_m for item in near.values()])
    noise = np.array([item.noise for item in near.values()])
    reach = polar(rows.beliefs.mean[own, PLACE], from_m)[:, 0]
    noise[:, 1, 1] += hidden_rad2(rows.width_m[own], reach, np.array([n.width_rad for n in near.values()]))
    nothing = np.zeros(len(own))
    both = Sightings(
        np.concatenate([told.place_m, np.full((len(own), 2), np.nan)]),
        np.concatenate([told.polar, np.array([item.polar for item in near.values()])]),
        np.concatenate([told.noise, noise]),
        np.concatenate([told.lasting, np.zeros((len(own), 2, 2))]),
        np.concatenate([told.height_m, nothing]),
        np.concatenate([told.height_m2, nothing]),
    )
    rows.lasting[own, 0, 0] = np.maximum(rows.lasting[own, 0, 0], _BOUND_SIGMA**2)
    about = np.concatenate([np.broadcast_to(origin_m, (len(index), 2)), from_m])
    return motion.update(rows.beliefs, np.concatenate([index, own]), both, about)


def hidden_rad2(width_m: FloatArray, log_range: FloatArray, width_rad: FloatArray) -> FloatArray:
    """Variance of the bearing of what shows less than its width: most often one of its ends is hidden."""
    hidden: FloatArray = np.maximum(width_m * np.exp(-log_range) - width_rad, 0.0)
    return (0.5 * hidden) ** 2
