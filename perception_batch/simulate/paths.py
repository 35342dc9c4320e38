"""Ways to drive and to walk: curves on the ground by arc length, with continuous curvature. NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from perception_batch.simulate.streets import (
    BLOCK_M,
    HEADINGS,
    FloatArray,
    street_angle_rad,
    street_frame,
    turn_direction,
)

FINE_M = 0.1
RIGHT_TURN_M = 18.0
"""Arc length of a right turn; its tightest radius is that over 1.5 pi/2: 7.6 m."""
LEFT_TURN_M = 26.0
"""... of a left turn: 11 m."""
LANE_CHANGE_M = 38.0


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A curve as cubic Hermite pieces between equally spaced nodes."""

    nodes: FloatArray
    """(N, 4) x, y and the unit tangent at every `step_m`."""
    step_m: float
    """Arc length from one node to the next."""

    @property
    def length_m(self) -> float:
        """Arc length from the first node to the last."""
        return (len(self.nodes) - 1) * self.step_m

    def curvature(self) -> FloatArray:
        """(N,) 1/m at the nodes, positive to the left."""
        tx, ty = self.nodes[:, 2], self.nodes[:, 3]
        yaw = np.unwrap(np.arctan2(ty, tx))
        bend: FloatArray = np.gradient(yaw, self.step_m)
        return bend


def hermite(
    a: FloatArray, b: FloatArray, step_m: FloatArray | float, u: FloatArray
) -> tuple[FloatArray, ...]:
    """A curve between nodes `a` and `b`, each (N, 4) as in `Path.nodes`, at the fractions `u` (N,).

    Returns: (N,) x, y, their first and their second derivative by arc length: x, y, dx, dy, ddx, ddy.
    """
    u2, u3 = u * u, u * u * u
    w00, w10, w01, w11 = 2 * u3 - 3 * u2 + 1, u3 - 2 * u2 + u, 3 * u2 - 2 * u3, u3 - u2
    d00, d10, d01, d11 = 6 * u2 - 6 * u, 3 * u2 - 4 * u + 1, 6 * u - 6 * u2, 3 * u2 - 2 * u
    e00, e10, e01, e11 = 12 * u - 6, 6 * u - 4, 6 - 12 * u, 6 * u - 2
    out = []
    for axis in (0, 1):
        p, m, q, n = a[:, axis], a[:, axis + 2] * step_m, b[:, axis], b[:, axis + 2] * step_m
        out.append(
            (
                w00 * p + w10 * m + w01 * q + w11 * n,
                (d00 * p + d10 * m + d01 * q + d11 * n) / step_m,
                (e00 * p + e10 * m + e01 * q + e11 * n) / step_m**2,
            )
        )
    (x, dx, ddx), (y, dy, ddy) = out
    return x, y, dx, dy, ddx, ddy


def _turn_shape() -> float:
    u = (np.arange(4000) + 0.5) / 4000
    return float(np.cos(math.pi / 2 * (u * u * (3 - 2 * u))).mean())


TURN_REACH = _turn_shape()
"""How far a quarter turn of arc length 1 gets, along its first and along its last heading alike."""


@dataclass(slots=True)
class PathMaker:
    """Builds a path piece by piece from a start."""

    x_m: float
    y_m: float
    yaw_rad: float
    length_m: float = 0.0
    _s: list[FloatArray] = field(default_factory=list)
    _xy: list[FloatArray] = field(default_factory=list)
    _yaw: list[FloatArray] = field(default_factory=list)

    def _add(self, length_m: float, yaw_at: FloatArray, yaw_mid: FloatArray) -> None:
        n = len(yaw_mid)
        steps = np.stack([np.cos(yaw_mid), np.sin(yaw_mid)], axis=1) * (length_m / n)
        xy = np.array([self.x_m, self.y_m]) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        s = self.length_m + np.linspace(0, length_m, n + 1)
        keep = slice(None) if not self._s else slice(1, None)
        self._s.append(s[keep])
        self._xy.append(xy[keep])
        self._yaw.append(yaw_at[keep])
        self.x_m, self.y_m, self.yaw_rad = float(xy[-1, 0]), float(xy[-1, 1]), float(yaw_at[-1])
        self.length_m += length_m

    def straight(self, length_m: float) -> None:
        """Straight on."""
        if length_m < -1e-6:
            raise ValueError(f"a way cannot go back, got a length of {length_m:.3f} m")
        if length_m > 1e-6:
            n = max(1, math.ceil(length_m / FINE_M))
            self._add(length_m, np.full(n + 1, self.yaw_rad), np.full(n, self.yaw_rad))

    def turn(self, angle_rad: float, length_m: float) -> None:
        """A turn whose curvature grows from 0 and goes back to 0."""
        n = math.ceil(length_m / FINE_M)
        at, mid = np.linspace(0, 1, n + 1), (np.arange(n) + 0.5) / n
        self._add(
            length_m,
            self.yaw_rad + angle_rad * (at * at * (3 - 2 * at)),
            self.yaw_rad + angle_rad * (mid * mid * (3 - 2 * mid)),
        )

    def shift(self, left_m: float, length_m: float) -> float:
        """A change of lane to the left (right where negative); returns how far it gets along its heading."""
        n = math.ceil(length_m / FINE_M)
        at, mid = np.linspace(0, 1, n + 1), (np.arange(n) + 0.5) / n
        swing = 2 * left_m / length_m
        for _ in range(6):  # the lateral way is nearly linear in the swing: fixed point iteration
            swing *= left_m / (float(np.sin(swing * np.sin(math.pi * mid) ** 2).mean()) * length_m)
        yaw = self.yaw_rad
        self._add(
            length_m,
            yaw + swing * np.sin(math.pi * at) ** 2,
            yaw + swing * np.sin(math.pi * mid) ** 2,
        )
        self.yaw_rad = yaw
        return float(np.cos(swing * np.sin(math.pi * mid) ** 2).mean()) * length_m

    def rough(self) -> tuple[FloatArray, FloatArray]:
        """(N,) arc length and (N, 2) places, every few metres."""
        return np.concatenate(self._s)[::20], np.concatenate(self._xy)[::20]

    def path(self, step_m: float = 1.0) -> Path:
        """What was built, cut to whole steps."""
        s, xy, yaw = np.concatenate(self._s), np.concatenate(self._xy), np.concatenate(self._yaw)
        at = np.arange(math.floor(s[-1] / step_m + 1e-9) + 1) * step_m
        angle = np.interp(at, s, yaw)
        nodes = np.stack(
            [np.interp(at, s, xy[:, 0]), np.interp(at, s, xy[:, 1]), np.cos(angle), np.sin(angle)], axis=1
        )
        return Path(nodes, step_m)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A junction on a way."""

    s_m: float
    """Arc length at which the way passes the stop line before it."""
    node: tuple[int, int]
    """Which junction."""
    heading: int
    """Heading on arrival."""


@dataclass(slots=True)
class LaneWalker:
    """Builds a way along lanes of the lattice."""

    maker: PathMaker
    node: tuple[int, int]
    """The junction ahead."""
    heading: int
    offset_m: float
    """From the middle of the street to the right."""
    to_node_m: float
    """How far the junction's middle is ahead."""
    crossings: list[Crossing]

    @classmethod
    def start(cls, node: tuple[int, int], heading: int, offset_m: float, to_node_m: float) -> LaneWalker:
        """At `to_node_m` before the junction `node`, heading for it."""
        ahead, right = street_frame(heading)
        x, y = np.array(node) * BLOCK_M - ahead * to_node_m + right * offset_m
        maker = PathMaker(float(x), float(y), street_angle_rad(heading))
        return cls(maker, node, heading, offset_m, to_node_m, [])

    def advance(self, to_node_m: float) -> None:
        """Straight on until the junction's middle is that far ahead (behind where negative)."""
        self.maker.straight(self.to_node_m - to_node_m)
        self.to_node_m = to_node_m

    def change(self, offset_m: float, length_m: float = LANE_CHANGE_M) -> None:
        """Into the lane at that offset."""
        self.to_node_m -= self.maker.shift(self.offset_m - offset_m, length_m)
        self.offset_m = offset_m

    def pass_junction(self, turn: str, stop_line_m: float) -> None:
        """Through the junction ahead, into the same lane of the street behind it."""
        self.crossings.append(
            Crossing(self.maker.length_m + self.to_node_m - stop_line_m, self.node, self.heading)
        )
        if turn == "straight":
            self.advance(0.0)
            after = 0.0
        else:
            sign, arc = (1, LEFT_TURN_M) if turn == "left" else (-1, RIGHT_TURN_M)
            reach = TURN_REACH * arc
            self.advance(reach - sign * self.offset_m)
            self.maker.turn(sign * math.pi / 2, arc)
            after = reach - sign * self.offset_m
        self.heading = turn_direction(self.heading, turn)
        di, dj = HEADINGS[self.heading]
        self.node = (self.node[0] + di, self.node[1] + dj)
        self.to_node_m = BLOCK_M - after
