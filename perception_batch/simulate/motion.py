"""All trips of a cycle at one time at once, and poses on the ground with their exact derivatives. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.simulate.ego_drive import CYCLE_STEP_M, STEP_S
from perception_batch.simulate.paths import hermite
from perception_batch.simulate.streets import FloatArray, Ground
from perception_batch.simulate.traffic import Trip


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """Motion over ground of several road users."""

    trip: npt.NDArray[np.intp]
    """(N,) which trip."""
    cycle: npt.NDArray[np.intp]
    """(N,) of which cycle."""
    x_m: FloatArray
    y_m: FloatArray
    cos: FloatArray
    """(N,) of the yaw."""
    sin: FloatArray
    speed_mps: FloatArray
    yaw_rate_radps: FloatArray
    s_m: FloatArray
    """(N,) arc length along the way."""


class TripTable:
    """The trips as flat arrays."""

    def __init__(self, trips: tuple[Trip, ...], steps_per_cycle: int) -> None:
        self.steps = steps_per_cycle
        self.first = np.array([t.first_step for t in trips], np.int64)
        self.count = np.array([len(t.s_m) for t in trips], np.int64)
        self.start = np.concatenate([[0], np.cumsum(self.count)[:-1]]).astype(np.int64)
        self.s = np.concatenate([t.s_m for t in trips])
        self.v = np.concatenate([t.v_mps for t in trips])
        self.node_start = np.concatenate([[0], np.cumsum([len(t.path.nodes) for t in trips])[:-1]]).astype(
            np.int64
        )
        self.node_count = np.array([len(t.path.nodes) for t in trips], np.int64)
        self.nodes = np.concatenate([t.path.nodes for t in trips])
        self.node_step = np.array([t.path.step_m for t in trips])

    def at(self, cycle: int, local_s: float) -> Moves:
        """Everybody who is there at a time within a cycle, those of the cycles around it too."""
        at_step = local_s / STEP_S
        rows, cycles = [], []
        for number in (cycle - 1, cycle, cycle + 1):
            k = np.floor(at_step + (cycle - number) * self.steps).astype(np.int64) - self.first
            found = np.flatnonzero((k >= 0) & (k < self.count - 1))
            rows.append(found)
            cycles.append(np.full(len(found), number, np.intp))
        trip, of = np.concatenate(rows), np.concatenate(cycles)
        since = at_step + (cycle - of) * self.steps - self.first[trip]
        k = np.clip(since.astype(np.int64), 0, self.count[trip] - 2)
        tau = (since - k) * STEP_S
        i = self.start[trip] + k
        v0 = self.v[i]
        accel = (self.v[i + 1] - v0) / STEP_S
        s = self.s[i] + v0 * tau + accel * tau * tau / 2
        v = v0 + accel * tau
        step_m = self.node_step[trip]
        place = s / step_m
        node = np.clip(place.astype(np.int64), 0, self.node_count[trip] - 2)
        j = self.node_start[trip] + node
        x, y, dx, dy, ddx, ddy = hermite(self.nodes[j], self.nodes[j + 1], step_m, place - node)
        norm = np.hypot(dx, dy)
        bend = (dx * ddy - dy * ddx) / norm**3
        speed = v * norm
        return Moves(
            trip,
            of,
            x + of * CYCLE_STEP_M[0],
            y + of * CYCLE_STEP_M[1],
            dx / norm,
            dy / norm,
            speed,
            bend * speed,
            s,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Stands:
    """Poses of boxes that stand on the ground."""

    rotation: FloatArray
    """(N, 3, 3) odom from object."""
    position_m: FloatArray
    """(N, 3) of the point at `height_m` above the ground, along the ground's normal."""
    velocity_mps: FloatArray
    """(N, 3) of that point, in odom: the exact derivative."""
    yaw_rate_radps: FloatArray
    """(N,) turn rate about the object's own z."""


def stand(
    ground: Ground,
    x: FloatArray,
    y: FloatArray,
    cos: FloatArray,
    sin: FloatArray,
    speed: FloatArray,
    yaw_rate: FloatArray,
    ahead_m: FloatArray,
    height_m: FloatArray,
) -> Stands:
    """Puts boxes on the ground, pitched and rolled with it.

    `x`, `y`, `cos`, `sin`, `speed`, `yaw_rate` (N,) are those of the point that follows the way; the box's middle
    lies `ahead_m` before it along the heading and `height_m` above the ground along its normal.
    """
    px, py = x + ahead_m * cos, y + ahead_m * sin
    vx, vy = speed * cos - ahead_m * yaw_rate * sin, speed * sin + ahead_m * yaw_rate * cos
    hx, gx, bx = ground.profile(px, 0)
    hy, gy, by = ground.profile(py, 1)
    # Normal of the ground n = m / |m|, m = (-gx, -gy, 1), and its derivative.
    m = np.stack([-gx, -gy, np.ones_like(gx)], axis=1)
    size = np.linalg.norm(m, axis=1, keepdims=True)
    n = m / size
    dm = np.stack([-bx * vx, -by * vy, np.zeros_like(gx)], axis=1)
    dn = (dm - n * (n * dm).sum(axis=1, keepdims=True)) / size
    # Heading on the ground, f = e / |e|, and how it turns to the left.
    e = np.stack([cos, sin, gx * cos + gy * sin], axis=1)
    length = np.linalg.norm(e, axis=1, keepdims=True)
    f = e / length
    left = np.cross(n, f)
    de = np.stack(
        [-yaw_rate * sin, yaw_rate * cos, bx * vx * cos + by * vy * sin + yaw_rate * (gy * cos - gx * sin)],
        axis=1,
    )
    turn = (left * de).sum(axis=1) / length[:, 0]
    position = np.stack([px, py, hx + hy], axis=1) + n * height_m[:, None]
    velocity = np.stack([vx, vy, gx * vx + gy * vy], axis=1) + dn * height_m[:, None]
    return Stands(np.stack([f, left, n], axis=2), position, velocity, turn)
