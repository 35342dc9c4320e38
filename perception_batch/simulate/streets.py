"""The lie of the land: a lattice of streets and the height of the ground. NumPy only.

Streets run along x and along y, one every `BLOCK_M`; they meet at junctions, numbered (i, j), at (i, j) times
`BLOCK_M`. People drive on the right. Across a street, from its middle line outwards:

::

    0 ... 6.7  two lanes      6.7 ... 8.4  cycle lane      8.4 ... 10.7  parking (pavement near junctions)
    10.7 ... 15  pavement     from 15.5  buildings
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BLOCK_M = 150.0
"""From one junction to the next."""
LANE_OFFSETS_M = (1.75, 5.05)
"""Middle of the inner and of the outer lane, from the middle of the street."""
LANE_LINE_M = 3.4
LANES_EDGE_M = 6.7
CYCLE_OFFSET_M = 7.5
KERB_M = 8.4
"""Half the width of the carriageway."""
BAY_OFFSET_M = 9.55
BAY_EDGE_M = 10.7
FURNITURE_OFFSET_M = 11.0
"""Row of lamps and trees."""
PAVEMENT_EDGE_M = 15.0
FACADE_M = 15.6

CROSSING_M = (9.6, 12.8)
"""Zebra at a junction: from where to where, from the junction's middle along the street."""
STOP_LINE_M = 14.2
BAYS_M = ((34.0, 68.0), (82.0, 116.0))
"""Where cars park, from one junction along the street to the next."""
MIDDLE_CROSSING_M = (73.4, 76.6)
"""Zebra half way between two junctions."""
LEVEL_M = 20.0
"""Around each street line the ground is level across the street."""

HEADINGS: tuple[tuple[int, int], ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""East, north, west, south, as steps on the lattice."""

MAX_GRADE = 0.06


def corner_numbers(*numbers: int) -> tuple[int, ...]:
    """Numbers that may be negative as entropy for `SeedSequence`, which takes none below zero."""
    return tuple(n & 0xFFFFFFFF for n in numbers)


def random_of(seed: int, purpose: int, *numbers: int) -> np.random.Generator:
    """A generator of its own for one purpose and one place or cycle, whatever was drawn before."""
    entropy = (seed, purpose, *corner_numbers(*numbers))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


@lru_cache(maxsize=512)
def _line_height_m(seed: int, axis: int, number: int) -> float:
    # The steepest place of the blend below is 1.875 times its mean slope.
    most = MAX_GRADE * (BLOCK_M - 2 * LEVEL_M) / 1.875
    return float(random_of(seed, 11 + axis, number).uniform(-most / 2, most / 2))


@dataclass(frozen=True, slots=True)
class Ground:
    """Height of the ground: a sum of one function of x and one of y, so that streets are level across.

    Between two junctions the height goes smoothly (with a continuous second derivative) from one to the
    other; at the junctions it is level.
    """

    seed: int
    """Of the world."""
    hills: bool
    """Whether there are any; else all is at height 0."""

    def profile(self, u_m: FloatArray, axis: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Height, slope and second derivative along one axis (0: x, 1: y) at any number of places."""
        if not self.hills:
            zero = np.zeros_like(u_m)
            return zero, zero, zero
        cell = np.floor(u_m / BLOCK_M)
        first, last = int(cell.min()), int(cell.max())
        lines = np.array([_line_height_m(self.seed, axis, n) for n in range(first, last + 2)])
        index = (cell - first).astype(np.intp)
        low, rise = lines[index], lines[index + 1] - lines[index]
        span = BLOCK_M - 2 * LEVEL_M
        raw = (u_m - cell * BLOCK_M - LEVEL_M) / span
        w = np.clip(raw, 0.0, 1.0)
        # Perlin's "smootherstep", 6w^5 - 15w^4 + 10w^3: flat to the second derivative at both ends.
        height = low + rise * (w**3 * (w * (6 * w - 15) + 10))
        slope = rise / span * (30 * w**2 * (w - 1) ** 2)
        bend = rise / span**2 * (60 * w * (2 * w * w - 3 * w + 1))
        return height, slope, bend

    def height_m(self, x_m: FloatArray, y_m: FloatArray) -> FloatArray:
        """Height at any number of places."""
        height: FloatArray = self.profile(x_m, 0)[0] + self.profile(y_m, 1)[0]
        return height


def turn_direction(heading: int, turn: str) -> int:
    """Heading number after a turn `left`, `right` or `straight`."""
    return (heading + {"left": 1, "straight": 0, "right": -1}[turn]) % 4


def street_frame(heading: int) -> tuple[FloatArray, FloatArray]:
    """(2,) unit vectors along a heading and to the right of it."""
    ahead = np.array(HEADINGS[heading], np.float64)
    return ahead, np.array([ahead[1], -ahead[0]])


def street_angle_rad(heading: int) -> float:
    """Yaw of a heading, from x towards y."""
    return heading * math.pi / 2
