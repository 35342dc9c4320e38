"""Light of day, dusk and night."""

from __future__ import annotations

from typing import Literal

import numpy as np

from perception_batch.simulate.scene import Light

TimeOfDay = Literal["day", "dusk", "night"]
TIMES_OF_DAY: tuple[TimeOfDay, ...] = ("day", "dusk", "night")


def light_of(time_of_day: TimeOfDay) -> Light:
    """The light of a time of day.

    Raises:
        ValueError: there is no such time of day.
    """
    if time_of_day not in TIMES_OF_DAY:
        raise ValueError(f"time of day is {time_of_day!r}, allowed are {', '.join(TIMES_OF_DAY)}")

    def towards(x: float, y: float, z: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        v = np.array([x, y, z])
        unit: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = v / np.linalg.norm(v)
        return unit

    if time_of_day == "day":
        return Light(towards(-0.45, -0.5, 0.8), 0.62, 0.48, (88, 142, 208), (205, 219, 232), 330.0, False)
    if time_of_day == "dusk":
        return Light(towards(0.85, 0.35, 0.22), 0.42, 0.34, (62, 74, 128), (236, 164, 112), 240.0, False)
    return Light(towards(0.3, -0.5, 0.8), 0.24, 0.09, (9, 12, 27), (36, 40, 58), 150.0, True)
