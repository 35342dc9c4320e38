"""Who moves where and when over one cycle of the own vehicle's drive: vehicles, cyclists, people who cross.

Road users come one after another. Each drives along lanes like the intelligent driver model (Treiber et al. 2000,
arXiv:cond-mat/0002177) behind whoever came before it and is on its way, slows for turns and stops at red lights.
Nobody reacts to those who come later: whoever would touch another's box is not let in. As every cycle is like the
first one, moved on, freedom from collisions over one cycle (and its neighbours) holds for the whole drive, and
leaving out some of the road users in some cycles keeps it.

Road users appear and disappear more than `SIGHT_M` from the own vehicle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from perception_batch.ontology import DEFAULT_CLASSES
from perception_batch.simulate.ego_drive import (
    CYCLE_NODES,
    CYCLE_STEP,
    CYCLE_STEP_M,
    EGO_REAR_M,
    EGO_SIZE_LWH_M,
    STEP_S,
    EgoCycle,
    ego_track,
)
from perception_batch.simulate.occupancy import Occupancy, Way
from perception_batch.simulate.paths import Crossing, Path
from perception_batch.simulate.streets import (
    CYCLE_OFFSET_M,
    LANE_OFFSETS_M,
    FloatArray,
)

SIGHT_M = 130.0
FAR_M = 145.0
"""Beyond this a road user is taken away."""
LONGEST_STEPS = 420
BLOCK_STEPS = 70
REAR_AXLE = 0.27
"""The rear axle follows the way; it lies this share of the length behind the middle."""
WALK_OFFSET_M = 11.9
"""Where those who cross walk along the street before and after."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a road user may be like."""

    label: str
    """Its class."""
    most_lwh_m: tuple[float, float, float]
    """No one of this kind is larger."""
    speed_mps: tuple[float, float]
    """Range of the speeds that they like."""
    offsets_m: tuple[float, ...]
    """Lanes that they use."""
    turns: bool
    """Whether they turn at junctions."""
    accel_mps2: float
    """How fast they speed up."""


def _most(label: str, times_sd: float) -> tuple[float, float, float]:
    entry = DEFAULT_CLASSES[label]
    length, width, height = (
        m + times_sd * s for m, s in zip(entry["size_lwh_m"], entry["size_sd_m"], strict=True)
    )
    return (length, width, height)


SIZE_SPREAD = {"car": 1.8, "truck": 1.4, "bus": 0.9, "motorcycle": 1.8, "bicycle": 1.8, "person": 1.5}
"""Sizes are drawn within that many standard deviations of the class's mean."""

KINDS = {
    "car": Kind("car", _most("car", 1.8), (9.0, 13.0), LANE_OFFSETS_M, True, 1.8),
    "truck": Kind("truck", _most("truck", 1.4), (8.5, 11.5), LANE_OFFSETS_M[1:], False, 1.2),
    "bus": Kind("bus", _most("bus", 0.9), (8.5, 11.0), LANE_OFFSETS_M[1:], False, 1.1),
    "motorcycle": Kind("motorcycle", _most("motorcycle", 1.8), (10.0, 14.0), LANE_OFFSETS_M, True, 2.2),
    "bicycle": Kind("bicycle", _most("bicycle", 1.8), (4.5, 6.5), (CYCLE_OFFSET_M,), False, 0.9),
    "person": Kind("person", _most("person", 1.5), (1.15, 1.6), (), False, 0.8),
}


@dataclass(frozen=True, slots=True, eq=False)
class Trip:
    """One road user's motion in the first cycle."""

    kind: Kind
    path: Path
    """Way of the rear axle (of the middle, for people)."""
    first_step: int
    """When it appears."""
    s_m: FloatArray
    """(T,) arc length at each step."""
    v_mps: FloatArray
    """(T,) speed at each step; the acceleration is constant from one step to the next."""

    def track(self) -> FloatArray:
        """(T, 4) x, y, yaw and speed at each step."""
        place = np.clip(self.s_m / self.path.step_m, 0, len(self.path.nodes) - 1.001)
        i = place.astype(np.intp)
        u = (place - i)[:, None]
        node = self.path.nodes[i] * (1 - u) + self.path.nodes[i + 1] * u
        return np.column_stack([node[:, 0], node[:, 1], np.arctan2(node[:, 3], node[:, 2]), self.v_mps])


def route_node(index: int) -> tuple[int, int]:
    """Junction number `index` on the own vehicle's way, from any cycle."""
    cycle, k = divmod(index, len(CYCLE_NODES))
    i, j = CYCLE_NODES[k]
    return i + cycle * CYCLE_STEP[0], j + cycle * CYCLE_STEP[1]


def node_on_route(node: tuple[int, int]) -> tuple[int, int] | None:
    """Cycle and place in the cycle of a junction, None where the own vehicle never comes."""
    for k, (i, j) in enumerate(CYCLE_NODES):
        cycle, rest = divmod(node[0] - i, CYCLE_STEP[0])
        if rest == 0 and node[1] - j == cycle * CYCLE_STEP[1]:
            return cycle, k
    return None


def _overlap(a: FloatArray, b: FloatArray) -> bool:
    """Whether any box of `a` (N, 5: x, y, yaw, half length, half width) touches its partner of `b`."""
    d = b[:, :2] - a[:, :2]
    apart = np.zeros(len(a), bool)
    for own, other in ((a, b), (b, a)):
        c, s = np.cos(own[:, 2]), np.sin(own[:, 2])
        turn = other[:, 2] - own[:, 2]
        tc, ts = np.abs(np.cos(turn)), np.abs(np.sin(turn))
        along, across = np.abs(d[:, 0] * c + d[:, 1] * s), np.abs(d[:, 1] * c - d[:, 0] * s)
        apart |= along > own[:, 3] + other[:, 3] * tc + other[:, 4] * ts
        apart |= across > own[:, 4] + other[:, 3] * ts + other[:, 4] * tc
    return not bool(apart.all())


class TrafficPlan:
    """Fills a cycle with road users."""

    def __init__(self, cycle: EgoCycle, random: np.random.Generator) -> None:
        self.cycle = cycle
        self.random = random
        self.trips: list[Trip] = []
        self._occupancy = Occupancy()
        n = cycle.steps
        self._ego_first = -2 * n
        self._ego = ego_track(cycle, np.arange(-2 * n, 4 * n))
        middle = EGO_SIZE_LWH_M[0] / 2 - EGO_REAR_M
        self._occupy(self._ego_first, self._ego, middle, EGO_SIZE_LWH_M[0], EGO_SIZE_LWH_M[1], copies=(0,))

    def ego_xy(self, first: int, count: int) -> FloatArray:
        """(count, 2) of the own rear axle from a step on."""
        start = first - self._ego_first
        return self._ego[start : start + count, :2]

    def _boxes(self, track: FloatArray, middle_m: float, length_m: float, width_m: float) -> FloatArray:
        yaw = track[:, 2]
        return np.column_stack(
            [
                track[:, 0] + middle_m * np.cos(yaw),
                track[:, 1] + middle_m * np.sin(yaw),
                yaw,
                np.full(len(yaw), length_m / 2),
                np.full(len(yaw), width_m / 2),
            ]
        )

    def _occupy(
        self,
        first: int,
        track: FloatArray,
        middle_m: float,
        length_m: float,
        width_m: float,
        copies: tuple[int, ...],
    ) -> None:
        boxes = self._boxes(track, middle_m, length_m, width_m)
        for copy in copies:
            moved = boxes.copy()
            moved[:, :2] += copy * CYCLE_STEP_M
            self._occupancy.add(first + copy * self.cycle.steps, moved)

    def accept(self, trip: Trip) -> bool:
        """Lets a road user in unless it would touch another or never comes near."""
        if len(trip.s_m) < 5 or not self._out_of_sight(trip):
            return False
        length, width, _ = trip.kind.most_lwh_m
        middle = 0.0 if trip.kind.label == "person" else REAR_AXLE * length
        track = trip.track()
        count = len(track)
        mine = self._boxes(track, middle, length + 0.7, width + 0.24)
        # Its own neighbours in time, one cycle earlier and later, count too.
        shift = self.cycle.steps
        if count > shift:
            return False
        for one, start, stop in self._occupancy.near(trip.first_step, count, trip.path):
            other = one.boxes[start - one.first : stop - one.first]
            own = mine[start - trip.first_step : stop - trip.first_step]
            d = np.hypot(other[:, 0] - own[:, 0], other[:, 1] - own[:, 1])
            near = d < np.hypot(own[:, 3], own[:, 4]) + np.hypot(other[:, 3], other[:, 4])
            if near.any() and _overlap(own[near], other[near]):
                return False
        self.trips.append(trip)
        self._occupy(trip.first_step, track, middle, length, width, copies=(-2, -1, 0, 1, 2))
        return True

    def _out_of_sight(self, trip: Trip) -> bool:
        """Whether it appears and disappears far away, and comes near in between."""
        track = trip.track()
        ego = self.ego_xy(trip.first_step, len(track))
        d = np.hypot(track[:, 0] - ego[:, 0], track[:, 1] - ego[:, 1])
        return bool(d[0] > SIGHT_M and d[-1] > SIGHT_M and d.min() < 60)

    def drive(
        self,
        kind: Kind,
        path: Path,
        crossings: list[Crossing],
        first: int,
        speed_mps: float,
        start_mps: float,
    ) -> Trip:
        """One road user's speeds, from the start of its way until it is far away."""
        count = LONGEST_STEPS
        length, width, _ = kind.most_lwh_m
        front = (0.5 + REAR_AXLE) * length
        ego = self.ego_xy(first, count).tolist()
        # Speeds that turns allow, with 2.2 m/s² sideways, and braking for them with 1.5 m/s².
        allowed: list[float] = np.minimum(
            speed_mps, np.sqrt(2.2 / np.maximum(np.abs(path.curvature()), 1e-6))
        ).tolist()
        nodes = path.nodes[:, :2].tolist()
        way = Way(path)
        for i in range(len(allowed) - 2, -1, -1):
            if allowed[i] > allowed[i + 1]:
                allowed[i] = min(allowed[i], math.sqrt(allowed[i + 1] ** 2 + 2 * 1.5 * path.step_m))
        stops = []
        for crossing in crossings:
            on_route = node_on_route(crossing.node)
            if on_route is not None:
                cycle, k = on_route
                stops.append(
                    (crossing.s_m, self.cycle.signals[k], cycle * self.cycle.duration_s, crossing.heading)
                )
        s, v = 0.0, min(start_mps, allowed[0])
        out_s, out_v = [s], [v]
        last_s = path.length_m - 2.0
        for step in range(count - 1):
            if step % BLOCK_STEPS == 0:  # most trips end long before the longest one
                obstacles = way.blocked(self._occupancy, first + step, BLOCK_STEPS + 1, width / 2)
            time_s = (first + step) * STEP_S
            i = min(int(s / path.step_m), len(nodes) - 2)
            x, y = nodes[i][0] - ego[step][0], nodes[i][1] - ego[step][1]
            if step > 3 and x * x + y * y > FAR_M * FAR_M:
                break
            limit = allowed[min(i + max(1, round(v * 0.4)), len(allowed) - 1)]
            accel = min(kind.accel_mps2 * (1 - (v / limit) ** 4), (limit - v) / 0.8) if v <= limit else -1.8
            nearest, place = -1, math.inf
            for number, other_s in enumerate(obstacles[step % BLOCK_STEPS]):
                if s < other_s < place:
                    nearest, place = number, other_s
            if nearest >= 0:
                # How fast it goes along the way: 0 where it only crosses it.
                rate = (obstacles[step % BLOCK_STEPS + 1][nearest] - place) / STEP_S
                other_v = rate if 0 < rate < 20 else 0.0
                accel = min(accel, _follow(kind, v, limit, place - (s + front), v - other_v))
            for line_s, signal, shift_s, heading in stops:
                to_line = line_s - 0.6 - (s + front)
                if to_line > -0.5 and to_line < 60 and signal.aspect(time_s - shift_s, heading) != "green":
                    needed = v * v / (2 * max(to_line, 0.3))
                    if needed < (3.0 if signal.aspect(time_s - shift_s, heading) == "yellow" else 5.0):
                        accel = min(accel, _follow(kind, v, limit, to_line + 1.5, v))
            accel = max(-5.0, min(accel, kind.accel_mps2))
            if v + accel * STEP_S < 0:
                accel = -v / STEP_S
            s, v = s + v * STEP_S + accel * STEP_S**2 / 2, max(0.0, v + accel * STEP_S)
            if s > last_s:
                break
            out_s.append(s)
            out_v.append(v)
        return Trip(kind, path, first, np.array(out_s), np.array(out_v))


def _follow(kind: Kind, v: float, wanted: float, gap_m: float, closing_mps: float) -> float:
    """Acceleration of the intelligent driver model behind something `gap_m` ahead."""
    braking = 2.2
    want = 2.0 + max(0.0, v * 1.1 + v * closing_mps / (2 * math.sqrt(kind.accel_mps2 * braking)))
    accel = kind.accel_mps2 * (1 - (v / max(wanted, 0.5)) ** 4 - (want / max(gap_m, 0.4)) ** 2)
    return float(accel)
