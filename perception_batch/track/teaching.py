"""What the sightings of a timestep teach their tracks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from perception_batch.track import motion
from perception_batch.track.close_by import CloseBy
from perception_batch.track.matching import hidden_rad2
from perception_batch.track.motion import PLACE, Lesson
from perception_batch.track.rows import Rows
from perception_batch.track.sighting import BoolArray, IntArray, Sightings, Views
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
    unranged: BoolArray,
    hidden: BoolArray,
    near: Mapping[int, CloseBy],
    views: Views,
    seconds: float,
) -> Lesson:
    """Update tracks, in place.

    Args:
        rows: all tracks, at the timestep.
        index: (M,) the track of each sighting.
        what: M sightings; written to.
        width_rad: (M,) how wide they look.
        unranged: (M,) those of which only the bearing counts.
        hidden: (M,) those of whose range little is known.
        near: what is close by, by track; none of `index`.
        views: of all tracks' places from the vehicle.
        seconds: since the timestep before.
    """
    of_them = views.take(index)
    range_m, before_m = of_them.range_m, rows.width_m[index]
    what.noise[2] += hidden_rad2(before_m / range_m, width_rad)
    width_m = width_rad * range_m
    left = math.exp(-seconds / _WIDTH_MEMORY_S)
    rows.width_m[index] = width_m + left * np.maximum(before_m - width_m, 0.0)
    # Whose range does not count, of that neither the height nor what lasts is learnt.
    ranged = (~unranged).nonzero()[0]
    clear = (~(unranged | hidden)).nonzero()[0]
    if len(ranged) < len(index):
        what.forget_ranges(unranged)
    lesson = (
        _with_near(rows, index, what, near, of_them)
        if near
        else motion.update(rows.beliefs, index, what, of_them)
    )
    rows.lasting[:, index[clear]] = what.lasting.take(clear, axis=1)
    of, height_m, height_m2 = index[ranged], what.height_m[ranged], what.height_m2[ranged]
    known_m, known_m2 = rows.height_m[of], rows.height_m2[of]
    share = known_m2 / (known_m2 + height_m2)
    rows.height_m[of] = known_m + share * (height_m - known_m)
    rows.height_m2[of] = known_m2 * (1 - share)
    return lesson


def _with_near(
    rows: Rows, index: IntArray, told: Sightings, near: Mapping[int, CloseBy], views: Views
) -> Lesson:
    """Sightings about the vehicle, and those of near things about their cameras."""
    items = near.values()
    own = np.array(list(near), np.int64)
    from_m = np.array([item.from_m for item in items]).T
    from_cameras = Views.of(rows.beliefs.mean[PLACE, own], from_m)
    others = Sightings.none(len(own))
    others.polar[:] = np.array([item.polar for item in items]).T
    others.noise[:] = np.array([item.noise for item in items]).T
    width_rad = np.array([item.width_rad for item in items])
    others.noise[2] += hidden_rad2(rows.width_m[own] / from_cameras.range_m, width_rad)
    rows.lasting[0, own] = np.maximum(rows.lasting[0, own], _BOUND_SIGMA**2)
    every = Views(np.concatenate([views.table, from_cameras.table], axis=1))
    return motion.update(rows.beliefs, np.concatenate([index, own]), told.and_then(others), every)
