"""How the own vehicle drives: a fixed way over five junctions, again and again, each time further south-east.

One *cycle*: wait at a red light and turn right; straight on over a green light; change lanes and turn left;
wait at a red light behind another car; straight on. Everything is a closed form of the time within the cycle.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.simulate.paths import LaneWalker, Path
from perception_batch.simulate.signals import Signal
from perception_batch.simulate.streets import BLOCK_M, LANE_OFFSETS_M, STOP_LINE_M, FloatArray

EGO_SIZE_LWH_M = (4.6, 1.95, 1.6)
EGO_REAR_M = 0.95
"""From the rear bumper to the rear axle."""
CYCLE_NODES: tuple[tuple[int, int], ...] = ((0, 0), (0, -1), (0, -2), (1, -2), (2, -2))
"""Junctions of one cycle."""
CYCLE_HEADINGS = (0, 3, 3, 0, 0)
"""Heading on arrival at each of them."""
CYCLE_STEP = (3, -2)
"""From one cycle's junctions to the next cycle's."""
CYCLE_STEP_M = np.array(CYCLE_STEP) * BLOCK_M
STEP_S = 0.2
"""A cycle takes a whole number of these."""
QUEUE_GAP_M = 8.6
"""How far behind the stop line the own vehicle waits behind another car."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """A smooth change of speed: v0 + (v1 - v0) (3u² - 2u³), u the fraction of its time."""

    start_s: float
    s_m: float
    v0_mps: float
    v1_mps: float
    lasts_s: float

    def at(self, time_s: float) -> tuple[float, float]:
        """Arc length and speed."""
        u = (time_s - self.start_s) / self.lasts_s
        blend = u * u * (3 - 2 * u)
        done = u**3 - u**4 / 2
        rise = self.v1_mps - self.v0_mps
        return self.s_m + self.lasts_s * (self.v0_mps * u + rise * done), self.v0_mps + rise * blend


class SpeedPlan:
    """Ramps one after another."""

    def __init__(self, speed_mps: float) -> None:
        self.ramps: list[Ramp] = []
        self.time_s = 0.0
        self.s_m = 0.0
        self.speed_mps = speed_mps

    def change(self, speed_mps: float, lasts_s: float) -> None:
        """To another speed."""
        if lasts_s > 1e-9:
            self.ramps.append(Ramp(self.time_s, self.s_m, self.speed_mps, speed_mps, lasts_s))
            self.s_m, self.speed_mps = self.ramps[-1].at(self.time_s + lasts_s)
            self.time_s += lasts_s

    def keep(self, until_s_m: float) -> None:
        """At the same speed until a place."""
        if until_s_m < self.s_m - 1e-6:
            raise ValueError(f"the plan is at {self.s_m:.1f} m already, past {until_s_m:.1f} m")
        self.change(self.speed_mps, (until_s_m - self.s_m) / self.speed_mps)

    def slow_at(self, speed_mps: float, place_m: float, peak_mps2: float) -> None:
        """Keeps its speed, then brakes so as to have another speed at a place."""
        lasts = 1.5 * abs(speed_mps - self.speed_mps) / peak_mps2
        self.keep(place_m - lasts * (speed_mps + self.speed_mps) / 2)
        self.change(speed_mps, lasts)

    def wait(self, lasts_s: float) -> None:
        """Stands."""
        self.change(0.0, lasts_s)


@dataclass(frozen=True, slots=True, eq=False)
class EgoCycle:
    """The drive over one cycle, in the cycle's own place and time."""

    path: Path
    """Way of the rear axle."""
    ramps: tuple[Ramp, ...]
    starts_s: tuple[float, ...]
    """Start of each ramp."""
    steps: int
    """Duration in `STEP_S`."""
    signals: tuple[Signal, ...]
    """One for each of `CYCLE_NODES`."""

    @property
    def duration_s(self) -> float:
        """Of the cycle."""
        return self.steps * STEP_S

    def cycle_at(self, time_s: float) -> tuple[int, float]:
        """Number of the cycle, and the time within it."""
        number = math.floor(time_s / self.duration_s)
        return number, time_s - number * self.duration_s

    def progress(self, local_s: float) -> tuple[float, float]:
        """Arc length and speed at a time within the cycle."""
        ramp = self.ramps[max(0, bisect.bisect_right(self.starts_s, local_s) - 1)]
        return ramp.at(min(local_s, ramp.start_s + ramp.lasts_s))


def plan_cycle(random: np.random.Generator) -> EgoCycle:
    """The own vehicle's cycle, its speeds and waits drawn."""
    cruise = float(random.uniform(10.5, 11.5))
    fast = float(random.uniform(13.5, 14.8))
    inner, outer = LANE_OFFSETS_M
    half = BLOCK_M / 2
    front = EGO_SIZE_LWH_M[0] - EGO_REAR_M

    way = LaneWalker.start(CYCLE_NODES[0], CYCLE_HEADINGS[0], outer, half)
    plan = SpeedPlan(cruise)

    # 1. A red light, then right.
    plan.slow_at(0.0, way.maker.length_m + half - STOP_LINE_M - 0.8 - front, 2.6)
    plan.wait(float(random.uniform(5.0, 6.5)))
    leave = [plan.time_s]
    way.pass_junction("right", STOP_LINE_M)
    plan.change(5.0, 3.75)
    plan.keep(way.maker.length_m - 2.0)
    plan.change(cruise, 5.0)

    # 2. Straight over a green light, fast.
    way.pass_junction("straight", STOP_LINE_M)
    plan.keep(way.maker.length_m - 60.0)
    plan.change(fast, 3.5)
    plan.keep(way.maker.length_m)
    leave.append(plan.time_s)

    # 3. To the inner lane, left, and back to the outer lane.
    way.advance(110.0)
    way.change(inner)
    way.pass_junction("left", STOP_LINE_M)
    start = way.maker.length_m
    plan.slow_at(5.2, start - 27.0, 2.4)
    leave.append(plan.time_s)
    plan.keep(start - 2.0)
    plan.change(cruise, 5.2)
    way.advance(120.0)
    way.change(outer)
    plan.keep(way.maker.length_m)

    # 4. A red light behind another car, then straight on.
    way.advance(half)
    plan.slow_at(0.0, way.maker.length_m + half - STOP_LINE_M - QUEUE_GAP_M - front, 2.5)
    plan.wait(float(random.uniform(4.5, 7.5)))
    leave.append(plan.time_s)
    # 5. Straight on over a green light; the cycle ends where the next begins. The speeding up takes the time
    # that makes the cycle a whole number of steps.
    way.pass_junction("straight", STOP_LINE_M)
    way.pass_junction("straight", STOP_LINE_M)
    way.advance(half)
    end = way.maker.length_m
    speed_up = 6.6
    total = plan.time_s + speed_up + (end - plan.s_m - speed_up * cruise / 2) / cruise
    speed_up += 2 * (math.ceil(total / STEP_S) * STEP_S - total)
    leave.append(plan.time_s + speed_up + (end - BLOCK_M / 2 - plan.s_m - speed_up * cruise / 2) / cruise)
    plan.change(cruise, speed_up)
    plan.keep(end)

    # Right turn and straight after a wait: green comes a moment before. On the way over a green light: in its midst.
    signals = (
        Signal.green_at(leave[0] - 0.9, CYCLE_HEADINGS[0]),
        Signal.green_at(leave[1] - 9.0, CYCLE_HEADINGS[1]),
        Signal.green_at(leave[2] - 6.0, CYCLE_HEADINGS[2]),
        Signal.green_at(leave[3] - 1.9, CYCLE_HEADINGS[3]),
        Signal.green_at(leave[4] - 9.0, CYCLE_HEADINGS[4]),
    )
    steps = round(plan.time_s / STEP_S)
    ramps = tuple(plan.ramps)
    # The path goes on a little, so that its last node lies behind the end of the cycle.
    way.maker.straight(3.0)
    return EgoCycle(way.maker.path(1.0), ramps, tuple(r.start_s for r in ramps), steps, signals)


def cycle_length_m(cycle: EgoCycle) -> float:
    """Arc length of one cycle."""
    return cycle.progress(cycle.duration_s)[0]


def ego_track(cycle: EgoCycle, steps: npt.NDArray[np.integer]) -> FloatArray:
    """(N, 4) x, y, yaw and speed of the rear axle at any step numbers, before and after the cycle too."""
    out = np.empty((len(steps), 4))
    for row, step in enumerate(steps):
        number, local = divmod(int(step), cycle.steps)
        s, v = cycle.progress(local * STEP_S)
        i = min(int(s), len(cycle.path.nodes) - 2)
        a, b = cycle.path.nodes[i], cycle.path.nodes[i + 1]
        u = s - i
        x, y = a[:2] + (b[:2] - a[:2]) * u + number * CYCLE_STEP_M
        yaw = math.atan2(a[3] + (b[3] - a[3]) * u, a[2] + (b[2] - a[2]) * u)
        out[row] = x, y, yaw, v
    return out
