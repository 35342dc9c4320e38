"""What is kept of tracks on the ground plane, a column each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_batch.track import motion
from perception_batch.track.lives import Life
from perception_batch.track.motion import BELIEFS, PLACE_COVER, Beliefs
from perception_batch.track.sighting import IntArray
from perception_batch.types import FloatArray

HEIGHT_WALK = 0.3
"""m²/s, how fast the height of a thing's centre over the fixed frame's zero may change: slopes, at speed."""
NUMBERS = BELIEFS + 9
GROUP, LABEL, BORN, SEEN, PLACED, VERDICT, NUMBER = range(7)
"""Rows of `Rows.facts`."""
OPEN, REAL, GHOST = range(3)
_TOLD = np.array([0, 1, BELIEFS + 6, *PLACE_COVER, BELIEFS + 7, 2, 3])


@dataclass(slots=True)
class Rows:
    """What is kept of N tracks; `take` and `append` keep all of it in step."""

    table: FloatArray
    """(23, N) beliefs, and what follows, row by row."""
    facts: IntArray
    """(7, N) what follows then, and the numbers of the lives."""
    lives: list[Life]

    @classmethod
    def none(cls, count: int = 0) -> Rows:
        """Of no tracks, or of `count` that are still to be filled in."""
        return cls(np.zeros((NUMBERS, count)), np.zeros((7, count), np.int64), [])

    @property
    def beliefs(self) -> Beliefs:
        """Of the motion."""
        return Beliefs(self.table[:BELIEFS])

    @property
    def jerkiness(self) -> FloatArray:
        """(2, N) see `motion.predict`."""
        return self.table[BELIEFS : BELIEFS + 2]

    @property
    def lasting(self) -> FloatArray:
        """(3, N) see `Sightings`."""
        return self.table[BELIEFS + 2 : BELIEFS + 5]

    @property
    def bearing_rad(self) -> FloatArray:
        """(N,) in the base frame, when last seen."""
        return self.table[BELIEFS + 5, :]

    @property
    def height_m(self) -> FloatArray:
        """(N,) of the centres in the fixed frame."""
        return self.table[BELIEFS + 6, :]

    @property
    def height_m2(self) -> FloatArray:
        """(N,) variances of `height_m`."""
        return self.table[BELIEFS + 7, :]

    @property
    def width_m(self) -> FloatArray:
        """(N,) as far as it has shown itself of late."""
        return self.table[BELIEFS + 8, :]

    @property
    def group(self) -> IntArray:
        """(N,) number of the class group."""
        return self.facts[GROUP, :]

    @property
    def label(self) -> IntArray:
        """(N,) number of the class."""
        return self.facts[LABEL, :]

    @property
    def born_ns(self) -> IntArray:
        """(N,) of the first sighting."""
        return self.facts[BORN, :]

    @property
    def seen_ns(self) -> IntArray:
        """(N,) of the last sighting."""
        return self.facts[SEEN, :]

    @property
    def placed_ns(self) -> IntArray:
        """(N,) of the last sighting with a position."""
        return self.facts[PLACED, :]

    @property
    def verdict(self) -> IntArray:
        """(N,) `OPEN`, `REAL` or `GHOST`."""
        return self.facts[VERDICT, :]

    def places(self, columns: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of M `columns`: (3, M) where they are in the fixed frame, (4, M) its covariance (xx, xy, yy, zz), (2, M) velocities."""
        own = self.table.take(_TOLD, axis=0).take(columns, axis=1)
        return own[:3], own[3:7], own[7:]

    def __len__(self) -> int:
        return len(self.lives)

    def take(self, columns: IntArray) -> Rows:
        """Those of `columns`, copied."""
        every = self.lives
        lives = [every[i] for i in columns.tolist()]
        return Rows(self.table.take(columns, axis=1), self.facts.take(columns, axis=1), lives)

    def append(self, new: Rows) -> Rows:
        """These and then the new ones."""
        return Rows(
            np.concatenate([self.table, new.table], axis=1),
            np.concatenate([self.facts, new.facts], axis=1),
            self.lives + new.lives,
        )

    def later(self, seconds: float) -> Rows:
        """All of it some time later, copied."""
        out = Rows(self.table.copy(), self.facts.copy(), self.lives)
        if self.lives:
            out.table[:BELIEFS] = motion.predict(self.beliefs, seconds, self.jerkiness).table
            out.height_m2[:] += HEIGHT_WALK * seconds
        return out
