"""What is kept of tracks on the ground plane, a row each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.track import motion
from perception_batch.track.lives import Life
from perception_batch.track.motion import Beliefs
from perception_batch.types import FloatArray

IntArray = npt.NDArray[np.int64]

HEIGHT_WALK = 0.3
"""m²/s, how fast the height of a thing's centre over the fixed frame's zero may change: slopes, at speed."""


@dataclass(slots=True)
class Rows:
    """What is kept of N tracks; `take` and `append` keep all of it in step."""

    beliefs: Beliefs
    lives: list[Life]
    jerkiness: FloatArray
    """(N, 2) see `motion.predict`."""
    group: IntArray
    """(N,) number of the class group."""
    lasting: FloatArray
    """(N, 2, 2) see `Sightings`."""
    bearing_rad: FloatArray
    """In the base frame, when last seen."""
    height_m: FloatArray
    """Of the centres in the fixed frame."""
    height_m2: FloatArray
    """Variances of `height_m`."""
    width_m: FloatArray
    """As far as it has shown itself of late."""

    @classmethod
    def none(cls) -> Rows:
        empty = np.zeros(0)
        return cls(
            Beliefs.none(),
            [],
            np.zeros((0, 2)),
            np.zeros(0, np.int64),
            np.zeros((0, 2, 2)),
            empty,
            empty,
            empty,
            empty,
        )

    def take(self, rows: IntArray) -> Rows:
        """Those of `rows`, copied."""
        return Rows(
            Beliefs(self.beliefs.mean[rows], self.beliefs.covariance[rows]),
            [self.lives[i] for i in rows.tolist()],
            self.jerkiness[rows],
            self.group[rows],
            self.lasting[rows],
            self.bearing_rad[rows],
            self.height_m[rows],
            self.height_m2[rows],
            self.width_m[rows],
        )

    def append(self, new: Rows) -> Rows:
        """These and then the new ones."""
        return Rows(
            Beliefs(
                np.concatenate([self.beliefs.mean, new.beliefs.mean]),
                np.concatenate([self.beliefs.covariance, new.beliefs.covariance]),
            ),
            self.lives + new.lives,
            np.concatenate([self.jerkiness, new.jerkiness]),
            np.concatenate([self.group, new.group]),
            np.concatenate([self.lasting, new.lasting]),
            np.concatenate([self.bearing_rad, new.bearing_rad]),
            np.concatenate([self.height_m, new.height_m]),
            np.concatenate([self.height_m2, new.height_m2]),
            np.concatenate([self.width_m, new.width_m]),
        )

    def coast(self, seconds: float) -> None:
        """All of it later by `seconds`, in place."""
        motion.predict(self.beliefs, seconds, self.jerkiness)
        self.height_m2 += HEIGHT_WALK * seconds
