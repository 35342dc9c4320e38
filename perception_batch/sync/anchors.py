"""What makes timesteps: a trigger's stamps, a grid, or the tightest grouping. The reference's are in `reference.py`.

A maker looks at the frames that wait, up to a time by which all have come, and makes the timesteps that are certain. What
it makes depends on frames and plan alone, never on when it is asked.
"""

from __future__ import annotations

from bisect import insort
from typing import Protocol

from perception_batch.sync.partition import Tightest
from perception_batch.sync.phase import FASTER
from perception_batch.sync.plan import SyncPlan
from perception_batch.sync.waiting import FOREVER_NS, Anchor, Arrival, Waiting


class AnchorMaker(Protocol):
    """Makes timesteps of what waits."""

    def make(self, limit_ns: int) -> tuple[list[Anchor], int]:
        """The next timesteps in order, and the time up to which there will be no others.

        Args:
            limit_ns: every frame up to here has come; `FOREVER_NS` at the end.
        """
        ...


class TriggerAnchors:
    """A timestep at every stamp of a topic. A lost trigger is a lost timestep: nothing is made up."""

    def __init__(self) -> None:
        self.count = 0
        """Triggers that wait."""
        self._stamps: list[int] = []
        self._last_ns = -FOREVER_NS

    def push(self, stamp_ns: int) -> bool:
        """Take a trigger; False where it is late, or was there already."""
        if stamp_ns <= self._last_ns or stamp_ns in self._stamps[-64:]:
            return False
        insort(self._stamps, stamp_ns)
        self.count += 1
        return True

    def make(self, limit_ns: int) -> tuple[list[Anchor], int]:
        """As `AnchorMaker.make`."""
        taken = 0
        while taken < len(self._stamps) and self._stamps[taken] <= limit_ns:
            taken += 1
        stamps = self._stamps[:taken]
        del self._stamps[:taken]
        self.count -= taken
        self._last_ns = max(self._last_ns, limit_ns)
        return [Anchor(stamp, stamp, True, {}) for stamp in stamps], limit_ns


class GridAnchors:
    """Timesteps at whole multiples of a period since 1970, where any camera has a frame within half of it.

    Windows are half open; wherever reading starts, they are the same.
    """

    def __init__(self, plan: SyncPlan, waiting: Waiting) -> None:
        self._step, self._half = plan.step_ns, plan.step_ns // 2
        self._waiting = waiting
        self._next = -FOREVER_NS  # first window that is not made

    def make(self, limit_ns: int) -> tuple[list[Anchor], int]:
        """As `AnchorMaker.make`."""
        # A window is made once all its frames are there.
        end = FOREVER_NS if limit_ns >= FOREVER_NS else (limit_ns + 1 + self._half) // self._step
        found: set[int] = set()
        for queue in self._waiting.queues.values():
            for arrival in queue:
                window = (arrival[0] + self._half) // self._step
                if window >= end:
                    break
                if window >= self._next:
                    found.add(window)
        self._next = max(self._next, end)
        times = [window * self._step for window in sorted(found)]
        # Nothing before the next window's centre is made any more.
        complete = FOREVER_NS if end >= FOREVER_NS else end * self._step - 1
        return [Anchor(at, at, False, {}) for at in times], complete


class TightestAnchors:
    """Timesteps are the groups of the tightest grouping, after offsets; see `partition`.

    Cameras faster than the timesteps take no part in it: they join the group that they lie nearest to.
    """

    def __init__(self, plan: SyncPlan, waiting: Waiting, limit_bytes: int) -> None:
        self._plan, self._waiting = plan, waiting
        self._limit_bytes, self._open_bytes = limit_bytes, 0
        self._taken_ns = -FOREVER_NS
        self._tightest = Tightest(plan.tolerance_ns)
        step = plan.step_ns
        self._cameras = [
            name
            for name in plan.cameras
            if not step or not plan.period_ns[name] or plan.period_ns[name] >= FASTER * step
        ]
        self._too_close = {name: plan.period_ns[name] // 2 or plan.tolerance_ns for name in self._cameras}
        self._last = dict.fromkeys(self._cameras, -FOREVER_NS)
        self._frames: dict[tuple[int, str], Arrival] = {}
        self._last_ns = -FOREVER_NS

    def make(self, limit_ns: int) -> tuple[list[Anchor], int]:
        """As `AnchorMaker.make`."""
        arrivals: list[Arrival] = []
        for name in self._cameras:
            for arrival in self._waiting.take(name, limit_ns):
                if arrival[0] <= self._taken_ns:
                    self._waiting.drop(arrival[2], "out_of_tolerance")  # late: others of its time are grouped
                    continue
                # Such twins would also break what `partition` rests on.
                if arrival[0] - self._last[name] < max(self._too_close[name], self._tightest.limit_ns + 1):
                    self._waiting.drop(arrival[2], "duplicate")
                    continue
                self._last[name] = arrival[0]
                arrivals.append(arrival)
        arrivals.sort()
        self._taken_ns = max(self._taken_ns, limit_ns)
        groups: list[list[tuple[int, str]]] = []
        for arrival in arrivals:
            name = arrival[2].camera
            self._frames[arrival[0], name] = arrival
            self._open_bytes += arrival[3]
            groups += self._tightest.add(arrival[0], name)
            if self._open_bytes > self._limit_bytes and len(self._tightest.open) > len(self._cameras):
                groups += self._tightest.force()
                self._open_bytes = sum(self._frames[entry][3] for entry in self._tightest.open)
        groups += self._tightest.close_before(limit_ns)
        self._open_bytes = sum(self._frames[entry][3] for entry in self._tightest.open)
        complete = self._tightest.open[0][0] - 1 if self._tightest.open else limit_ns
        return [self._anchor(group) for group in groups], complete

    def _anchor(self, group: list[tuple[int, str]]) -> Anchor:
        """A timestep at the reference's frame, or else at the middle one's time."""
        members = {name: self._frames.pop((time_ns, name)) for time_ns, name in group}
        reference = members.get(self._plan.reference)
        time_ns = group[(len(group) - 1) // 2][0] if reference is None else reference[0]
        # Two groups may touch where stamps are equal; their timesteps must not.
        time_ns = self._last_ns = max(time_ns, self._last_ns + 1)
        return Anchor(time_ns, time_ns, reference is not None, members)
