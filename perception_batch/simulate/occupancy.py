"""Where on the ground those who were let into the plan of a cycle are at each of its steps, and who blocks a way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.simulate.paths import Path
from perception_batch.simulate.streets import FloatArray

_REACH_M = 12.0
"""Those whose whole way keeps farther than this from a path do not matter to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Occupant:
    """One road user's boxes."""

    first: int
    """Its first step."""
    boxes: FloatArray
    """(T, 5) at each step: middle x, y, yaw, half length, half width."""
    points: FloatArray
    """(T, 3, 2) the middles of its rear, of itself and of its front."""


class Occupancy:
    """All who are in the plan so far."""

    def __init__(self) -> None:
        self._occupants: list[Occupant] = []
        self._bounds = np.empty((64, 6))
        # Lowest x, y, highest x, y, first step, step after the last; rows beyond the occupants' number are spare.

    def add(self, first: int, boxes: FloatArray) -> None:
        """One more: its (T, 5) boxes from a step on."""
        heading = np.stack([np.cos(boxes[:, 2]), np.sin(boxes[:, 2])], axis=1)
        points = np.stack([boxes[:, :2] + k * boxes[:, 3:4] * heading for k in (-1.0, 0.0, 1.0)], axis=1)
        number = len(self._occupants)
        if number == len(self._bounds):
            self._bounds = np.concatenate([self._bounds, np.empty_like(self._bounds)])
        low, high = boxes[:, :2].min(axis=0), boxes[:, :2].max(axis=0)
        self._bounds[number] = (*low, *high, first, first + len(boxes))
        self._occupants.append(Occupant(first, boxes, points))

    def near(self, first: int, count: int, path: Path) -> Iterator[tuple[Occupant, int, int]]:
        """Those who may come near a path within some steps, each with the steps, from start to stop, when it is there."""
        low, high = path.nodes[:, :2].min(axis=0) - _REACH_M, path.nodes[:, :2].max(axis=0) + _REACH_M
        bounds = self._bounds[: len(self._occupants)]
        may = (bounds[:, :2] < high).all(axis=1) & (bounds[:, 2:4] > low).all(axis=1)
        may &= (bounds[:, 4] < first + count) & (bounds[:, 5] > first)
        for number in np.flatnonzero(may).tolist():
            one = self._occupants[number]
            yield one, max(first, one.first), min(first + count, one.first + len(one.boxes))


class Way:
    """A path that others may block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A grid of 1 m over the path: much faster than a tree for as many points as these.
        self._low = path.nodes[:, :2].min(axis=0) - 6
        cells = np.floor(path.nodes[:, :2] - self._low).astype(np.intp)
        self._size = cells.max(axis=0) + 7
        self._grid = np.full((int(self._size[0]), int(self._size[1])), -1, np.intp)
        numbers = np.arange(len(cells))
        for di, dj in _DISC:  # nearer nodes overwrite further ones
            self._grid[cells[:, 0] + di, cells[:, 1] + dj] = numbers

    def _nearest_node(self, points: FloatArray) -> npt.NDArray[np.intp]:
        """(N,) for each point (N, 2) a node of the way within some 4 m, -1 where there is none."""
        found = np.full(len(points), -1, np.intp)
        inside = ((points >= self._low) & (points < self._low + self._size)).all(axis=1)
        at = (points[inside] - self._low).astype(np.intp)
        found[inside] = self._grid[at[:, 0], at[:, 1]]
        return found

    def blocked(self, others: Occupancy, first: int, count: int, half_width_m: float) -> list[list[float]]:
        """Arc length of the nearest point of each who is on the way at each of `count` steps; inf while it is not.

        Those who never are in that time are left out; each step's list has the same order.
        """
        near = list(others.near(first, count, self._path))
        if not near:
            return [[]] * count
        flat = np.concatenate([one.points[a - one.first : b - one.first] for one, a, b in near]).reshape(
            -1, 2
        )
        index = self._nearest_node(flat)
        known = np.flatnonzero(index >= 0)
        row = known // 3
        wide = np.concatenate([one.boxes[a - one.first : b - one.first, 4] for one, a, b in near])[row]
        flat, index = flat[known], index[known]
        nodes = self._path.nodes[index]
        offset = flat - nodes[:, :2]
        lateral = np.abs(nodes[:, 2] * offset[:, 1] - nodes[:, 3] * offset[:, 0])
        blocks = lateral < half_width_m + wide + 0.2
        if not blocks.any():
            return [[]] * count
        where_m = (index * self._path.step_m + (nodes[:, 2:] * offset).sum(axis=1))[blocks]
        row = row[blocks]
        # Row by row of the joined boxes: whose it is, and at which step.
        whose = np.repeat(np.arange(len(near)), [b - a for _, a, b in near])[row]
        step = np.concatenate([np.arange(a - first, b - first) for _, a, b in near])[row]
        who, column = np.unique(whose, return_inverse=True)
        nearest = np.full((count, len(who)), np.inf)
        np.minimum.at(nearest, (step, column), where_m)
        rows: list[list[float]] = nearest.tolist()
        return rows


_DISC = np.array(
    sorted(
        ((i, j) for i in range(-4, 5) for j in range(-4, 5) if i * i + j * j <= 17),
        key=lambda ij: -(ij[0] ** 2 + ij[1] ** 2),
    )
)
"""Steps on a grid of 1 m, the furthest first."""
