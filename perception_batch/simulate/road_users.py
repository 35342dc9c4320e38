"""Fills the plan of a cycle: who starts where, which way, at which speed; those who cross on foot."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from perception_batch.simulate.ego_drive import (
    CYCLE_HEADINGS,
    CYCLE_NODES,
    STEP_S,
    EgoCycle,
    plan_cycle,
)
from perception_batch.simulate.paths import LaneWalker, Path, PathMaker
from perception_batch.simulate.streets import (
    BLOCK_M,
    CROSSING_M,
    HEADINGS,
    KERB_M,
    LANE_OFFSETS_M,
    MIDDLE_CROSSING_M,
    STOP_LINE_M,
    FloatArray,
    random_of,
    street_angle_rad,
    street_frame,
    turn_direction,
)
from perception_batch.simulate.traffic import (
    FAR_M,
    KINDS,
    LONGEST_STEPS,
    SIGHT_M,
    Kind,
    TrafficPlan,
    Trip,
    node_on_route,
    route_node,
)

VEHICLE_MIX = (("car", 0.74), ("truck", 0.06), ("bus", 0.04), ("motorcycle", 0.07), ("bicycle", 0.09))
WALK_OFFSET_M = 11.9
"""Where those who cross walk along the street before and after."""
PLACES_STEP_M = 4.0


def _places() -> tuple[FloatArray, list[tuple[tuple[int, int], int, float]]]:
    """(N, 2) points on the streets around the way, and for each the junction ahead, heading and distance to it."""
    points, what = [], []
    for index in range(-1, len(CYCLE_NODES) + 2):
        node = route_node(index)
        for heading in range(4):
            ahead, _ = street_frame(heading)
            for to_node in np.arange(16.0, BLOCK_M, PLACES_STEP_M):
                points.append(np.array(node) * BLOCK_M - ahead * to_node)
                what.append((node, heading, float(to_node)))
    return np.array(points), what


class Filler:
    """Draws road users until the plan is as full as asked for."""

    def __init__(self, plan: TrafficPlan, random: np.random.Generator) -> None:
        self.plan = plan
        self.random = random
        self.points, self.what = _places()

    def _way(
        self, kind: Kind, node: tuple[int, int], heading: int, offset: float, to_node: float
    ) -> LaneWalker:
        way = LaneWalker.start(node, heading, offset, to_node)
        turns = 0
        while way.maker.length_m < 420:
            turn = "straight"
            if kind.turns and turns < 2 and self.random.random() < 0.3:
                turn = "left" if offset == LANE_OFFSETS_M[0] else "right"
                turns += 1
            way.pass_junction(turn, STOP_LINE_M)
        way.advance(20.0)
        return way

    def _useful(self, way: LaneWalker, first: int, speed_mps: float) -> bool:
        """Whether it would come near if it kept three quarters of its speed."""
        s, xy = way.maker.rough()
        steps = np.minimum(s / (0.75 * speed_mps * STEP_S), LONGEST_STEPS - 1).astype(np.intp)
        d = np.hypot(*(xy - self.plan.ego_xy(first, LONGEST_STEPS)[steps]).T)
        return bool(d.min() < 50)

    def add_vehicle(self, kind: Kind, first: int) -> bool:
        """One attempt at a random place at the edge of sight."""
        d = np.hypot(*(self.points - self.plan.ego_xy(first, 1)[0]).T)
        ring = np.flatnonzero((d > SIGHT_M + 6) & (d < FAR_M - 3))
        if not len(ring):
            return False
        node, heading, to_node = self.what[int(self.random.choice(ring))]
        offset = float(self.random.choice(kind.offsets_m))
        speed = float(self.random.uniform(*kind.speed_mps))
        way = self._way(kind, node, heading, offset, to_node)
        if not self._useful(way, first, speed):
            return False
        start = 0.0 if self._red_soon(way, first) else 0.9 * speed
        trip = self.plan.drive(kind, way.maker.path(1.0), way.crossings, first, speed, start)
        return self.plan.accept(trip)

    def _red_soon(self, way: LaneWalker, first: int) -> bool:
        """Whether it starts too near to a red light to brake for it."""
        crossing = way.crossings[0]
        on_route = node_on_route(crossing.node)
        if on_route is None or crossing.s_m > 45:
            return False
        cycle, k = on_route
        time_s = first * STEP_S - cycle * self.plan.cycle.duration_s
        return self.plan.cycle.signals[k].aspect(time_s, crossing.heading) != "green"

    def add_overtaker(self, kind: Kind, index: int, window_s: tuple[float, float]) -> bool:
        """Someone faster on the inner lane, who passes the own vehicle before junction `index`, in a time window."""
        ahead, right = street_frame(CYCLE_HEADINGS[index % len(CYCLE_NODES)])
        node = np.array(route_node(index)) * BLOCK_M
        for _ in range(14):
            target_s = float(self.random.uniform(*window_s))
            speed, gap = float(self.random.uniform(15.8, 17.2)), SIGHT_M + float(self.random.uniform(3, 9))
            first = round((target_s - gap / (speed - 11.0)) / STEP_S)
            for _ in range(4):
                ego = self.plan.ego_xy(first, 1)[0]
                if abs(float((node - ego) @ right)) > LANE_OFFSETS_M[1] + 1:
                    break
                trip = self._overtake(kind, index, float((node - ego) @ ahead) + gap, first, speed)
                lead = (trip.track()[:, :2] - self.plan.ego_xy(first, len(trip.s_m))) @ ahead
                at = round(target_s / STEP_S) - first
                if not 0 < at < len(lead):
                    break
                if abs(lead[at]) < 3.0 and self.plan.accept(trip):
                    return True
                # Too late or too early: it starts that much earlier or later.
                first += round(float(lead[at]) / (speed - 11.0) / STEP_S)
        return False

    def _overtake(self, kind: Kind, index: int, to_node_m: float, first: int, speed: float) -> Trip:
        """Straight on along the inner lane, from `to_node_m` before a junction of the way."""
        heading = CYCLE_HEADINGS[index % len(CYCLE_NODES)]
        di, dj = HEADINGS[heading]
        i, j = route_node(index)
        back = int((to_node_m - 17.0) // BLOCK_M)
        way = LaneWalker.start(
            (i - back * di, j - back * dj), heading, LANE_OFFSETS_M[0], to_node_m - back * BLOCK_M
        )
        while way.maker.length_m < 800:
            way.pass_junction("straight", STOP_LINE_M)
        way.advance(20.0)
        return self.plan.drive(kind, way.maker.path(1.0), way.crossings, first, speed, speed)

    def add_waiting(self, index: int) -> bool:
        """A car that waits at the red light before the own vehicle comes, on its lane."""
        cycle = self.plan.cycle
        node, heading = CYCLE_NODES[index], CYCLE_HEADINGS[index]
        kind = KINDS["car"]
        front = 0.77 * kind.most_lwh_m[0]
        ahead, right = street_frame(heading)
        to_node = STOP_LINE_M + 0.7 + front
        place = np.array(node) * BLOCK_M - ahead * to_node + right * LANE_OFFSETS_M[1]
        ego = self.plan.ego_xy(0, cycle.steps)
        d = np.hypot(*(ego - place).T)
        when = [
            step
            for step in np.flatnonzero((d > SIGHT_M + 1) & (d < FAR_M))
            if cycle.signals[index].aspect(step * STEP_S, heading) == "red"
            and d[min(step + 5, len(d) - 1)] < d[step]
        ]
        for first in when[:: max(1, len(when) // 8)]:
            way = LaneWalker.start(node, heading, LANE_OFFSETS_M[1], to_node)
            for turn in ("straight", "right", "straight", "straight"):
                way.pass_junction(turn, STOP_LINE_M)
            way.advance(20.0)
            trip = self.plan.drive(kind, way.maker.path(1.0), way.crossings, int(first), 15.5, 0.0)
            if self.plan.accept(trip):
                return True
        return False

    def add_walker(self, index: int, arm: int, *, middle: bool, begin_s: float) -> bool:
        """One attempt at someone who crosses the street that leaves junction `index` in direction `arm`.

        At the junction, or half way to the next one; `begin_s` is when they step off the pavement.
        """
        kind = KINDS["person"]
        speed = float(self.random.uniform(*kind.speed_mps))
        node = np.array(route_node(index)) * BLOCK_M
        ahead, right = street_frame(arm)
        low, high = MIDDLE_CROSSING_M if middle else CROSSING_M
        along = float(self.random.uniform(low + 0.5, high - 0.5))
        side = int(self.random.choice((-1, 1)))
        before = float(self.random.uniform(3, 25))
        # Along the pavement from further out, over the street, and away again; turns of 1.6 m arc.
        comes = 1 if middle and self.random.random() < 0.5 else -1
        goes = 1 if middle and self.random.random() < 0.5 else -1
        x, y = node + right * side * WALK_OFFSET_M + ahead * (along - comes * before)
        # Walking direction `comes` along `ahead`, -1 towards the junction.
        yaw = street_angle_rad(arm if comes > 0 else (arm + 2) % 4)
        maker = PathMaker(float(x), float(y), yaw)
        reach = 0.62 * 1.6
        maker.straight(before - reach)
        over = math.atan2(*(-side * right)[::-1])
        first_turn = math.remainder(over - yaw, 2 * math.pi)
        maker.turn(first_turn, 1.6)
        maker.straight(2 * WALK_OFFSET_M - 2 * reach)
        away = street_angle_rad((arm + 2) % 4 if goes > 0 else arm)
        maker.turn(math.remainder(away - over, 2 * math.pi), 1.6)
        maker.straight(float(self.random.uniform(8, 30)) if goes < 0 or middle else 4.0)
        path = maker.path(0.25)
        kerb_s = before - reach + 1.6 + (WALK_OFFSET_M - reach - KERB_M) - 0.6
        return self._walk(kind, path, speed, kerb_s, begin_s)

    def _walk(self, kind: Kind, path: Path, speed: float, kerb_s: float, begin_s: float) -> bool:
        """Walks to the kerb, waits there until `begin_s`, walks to the end of the way, and stands."""
        plan = self.plan
        arrive = round((begin_s - kerb_s / speed - self.random.uniform(0, 5)) / STEP_S)
        begin = round(begin_s / STEP_S)
        # There from when the own vehicle is still far until it is far again.
        place = path.nodes[len(path.nodes) // 2, :2]
        lowest = -plan.cycle.steps
        ego = plan.ego_xy(lowest, 3 * plan.cycle.steps)
        near = np.flatnonzero(np.hypot(*(ego - place).T) < SIGHT_M + 40)
        # The stretch of time around `begin`.
        around = near[(near > begin - lowest - LONGEST_STEPS) & (near < begin - lowest + LONGEST_STEPS)]
        if not len(around):
            return False
        first, last = int(around[0]) + lowest, int(around[-1]) + lowest
        s, v = 0.0, 0.0
        out_s, out_v = [], []
        stop_s = path.length_m - 0.3
        for step in range(first, last):
            out_s.append(s)
            out_v.append(v)
            target = speed if step >= arrive else 0.0
            if step < begin and s > kerb_s - v * v / (2 * 0.8) - v * STEP_S:
                target = 0.0
            if s > stop_s - v * v / (2 * 0.8) - v * STEP_S:
                target = 0.0
            accel = min(max((target - v) / STEP_S, -0.8), 0.8)
            s, v = s + v * STEP_S + accel * STEP_S**2 / 2, max(0.0, v + accel * STEP_S)
        return plan.accept(Trip(kind, path, first, np.array(out_s), np.array(out_v)))

    def fill_walkers(self, density: float) -> None:
        """People over the zebras: at the lights when the street has red, half way whenever it is free."""
        cycle = self.plan.cycle
        for index in range(len(CYCLE_NODES)):
            ego = self.plan.ego_xy(0, cycle.steps)
            node = np.array(route_node(index)) * BLOCK_M
            close = np.flatnonzero(np.hypot(*(ego - node).T) < 70) * STEP_S
            if not len(close):
                continue
            signal = cycle.signals[index]
            for arm in range(4):
                for green in signal.greens(close[0] - 20, close[-1] + 5, (arm + 1) % 4):
                    for _ in range(int(self.random.poisson(2.0 * density))):
                        self.add_walker(
                            index, arm, middle=False, begin_s=green + float(self.random.uniform(0.5, 5))
                        )
            out = turn_direction(
                CYCLE_HEADINGS[index], ("right", "straight", "left", "straight", "straight")[index]
            )
            for _ in range(int(self.random.poisson(2.0 * density))):
                self.add_walker(
                    index, out, middle=True, begin_s=float(self.random.uniform(close[0] + 8, close[-1] + 12))
                )

    def fill(self, density: float) -> None:
        """All of it."""
        cycle = self.plan.cycle
        self.add_waiting(3)
        self.add_overtaker(KINDS["car"], len(CYCLE_NODES), (cycle.duration_s + 0.8, cycle.duration_s + 3.2))
        # In front of the own vehicle while it waits at the first light.
        before = cycle.signals[0].offset_s - 22.0
        shown = sum(
            self.add_walker(0, arm, middle=False, begin_s=before + float(self.random.uniform(7, 11)))
            for arm in (2, 2, 2, 0)
        )
        if not shown:
            self.add_walker(0, 2, middle=False, begin_s=before + 11)
        self.fill_walkers(density)
        self.add_overtaker(KINDS["motorcycle"], 4, (cycle.duration_s - 13.0, cycle.duration_s - 5.0))
        names = [name for name, _ in VEHICLE_MIX]
        shares = np.array([share for _, share in VEHICLE_MIX])
        wanted, accepted = round(cycle.duration_s * 1.1 * density), 0
        for _ in range(round(wanted * 16)):
            kind = KINDS[str(self.random.choice(names, p=shares))]
            accepted += self.add_vehicle(kind, int(self.random.integers(cycle.steps)))
            if accepted >= wanted:
                break


@lru_cache(maxsize=4)
def plan_traffic(seed: int, density: float) -> tuple[EgoCycle, tuple[Trip, ...]]:
    """The cycle of the own vehicle and all who move in it. Kept for a few worlds, for it takes a second."""
    cycle = plan_cycle(random_of(seed, 1))
    plan = TrafficPlan(cycle, random_of(seed, 2))
    Filler(plan, random_of(seed, 3)).fill(density)
    return cycle, tuple(plan.trips)
