"""Timesteps at the frames of the reference camera, and where it lost one, at the time where it would have been."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter

from perception_batch.sync.partition import Tightest
from perception_batch.sync.plan import SyncPlan
from perception_batch.sync.waiting import FOREVER_NS, Anchor, Waiting

_TIME = itemgetter(0)
_LIKE = 0.2  # a camera's period may differ by so much of the reference's to stand for it
_GAP = 1.5  # of a period: longer between two frames of the reference, one is missing
_LONG = 2.5  # of a period: longer, and the two ends say no more where the lost ones were


class ReferenceAnchors:
    """The reference's own frames; two that are too close are a duplicate.

    A gap of one lost frame is bridged halfway, if another camera has a frame there. In a longer one, and before the first and
    after the last frame, the frames of cameras of the same rate are grouped as tightly as can be, and each group
    is a timestep: what is found depends on the frames around it alone, not on how long ago the gap began.
    """

    def __init__(self, plan: SyncPlan, waiting: Waiting) -> None:
        self._plan, self._waiting = plan, waiting
        period = self._period = plan.period_ns[plan.reference]
        self._too_close = period // 2 if period else plan.tolerance_ns
        self._alike = [
            name
            for name in plan.cameras
            if name != plan.reference and abs(plan.period_ns[name] - period) <= _LIKE * period
        ]
        self._last_real: int | None = None
        self._last_ns = -FOREVER_NS  # newest timestep of any kind
        self._groups = Tightest(max(1, min(2 * plan.tolerance_ns, period // 2 - 1)))
        self._seen_ns = -FOREVER_NS  # frames up to here are in `_groups`

    def make(self, limit_ns: int) -> tuple[list[Anchor], int]:
        """As `AnchorMaker.make`."""
        plan, period = self._plan, self._period
        out: list[Anchor] = []
        for arrival in self._waiting.take(plan.reference, limit_ns):
            time_ns = arrival[0]
            if self._last_real is not None and time_ns - self._last_real < self._too_close:
                self._waiting.drop(arrival[2], "duplicate")
                continue
            if time_ns <= self._last_ns:  # so late that its place was bridged
                self._waiting.drop(arrival[2], "out_of_tolerance")
                continue
            if period:
                self._bridge(time_ns, out)
            out.append(Anchor(time_ns, arrival[2].stamp_ns, True, {plan.reference: arrival}))
            self._last_real = self._last_ns = time_ns
            self._seen_ns = max(self._seen_ns, time_ns + period // 2)
        if not period or limit_ns >= FOREVER_NS:
            if period:
                self._group(FOREVER_NS, out)
            return out, limit_ns
        if self._last_real is not None and limit_ns < self._last_real + round(_LONG * period):
            # The next frame of the reference decides whether, and where, something is missing.
            return out, min(limit_ns, self._last_real + period // 2 - 1)
        return out, self._group_before(limit_ns - period // 2, out)

    def _bridge(self, next_ns: int, out: list[Anchor]) -> None:
        """Timesteps between the last frame of the reference and its next."""
        last, period = self._last_real, self._period
        if last is not None and next_ns - last < _GAP * period:
            return
        if last is None or next_ns - last > _LONG * period:
            self._group(next_ns - period // 2, out)
            return
        at = (last + next_ns) // 2
        reach = min(self._plan.tolerance_ns, (next_ns - last) // 4)
        for name, queue in self._waiting.queues.items():
            if name != self._plan.reference:
                i = bisect_left(queue, at - reach, key=_TIME)
                if i < len(queue) and queue[i][0] <= at + reach:
                    self._add(at, out)
                    return

    def _add(self, at_ns: int, out: list[Anchor]) -> None:
        out.append(Anchor(at_ns, at_ns, False, {}))
        self._last_ns = at_ns

    def _group(self, until_ns: int, out: list[Anchor]) -> None:
        """Group the frames before `until_ns`, where the gap ends."""
        self._feed(until_ns, out)
        for group in self._groups.close():
            self._add_group(group, out)

    def _group_before(self, until_ns: int, out: list[Anchor]) -> int:
        """Group the frames before `until_ns` in a gap that goes on; the time up to which timesteps are complete."""
        self._feed(until_ns, out)
        for group in self._groups.close_before(until_ns):
            self._add_group(group, out)
        return (self._groups.open[0][0] if self._groups.open else until_ns) - 1

    def _feed(self, until_ns: int, out: list[Anchor]) -> None:
        entries: list[tuple[int, str]] = []
        for name in self._alike:
            queue = self._waiting.queues[name]
            start = bisect_right(queue, self._seen_ns, key=_TIME)
            stop = bisect_left(queue, until_ns, key=_TIME)
            entries += [(arrival[0], name) for arrival in queue[start:stop]]
        self._seen_ns = max(self._seen_ns, until_ns - 1)
        for time_ns, name in sorted(entries):
            for group in self._groups.add(time_ns, name):
                self._add_group(group, out)

    def _add_group(self, group: list[tuple[int, str]], out: list[Anchor]) -> None:
        """A timestep at the middle of a group, unless it is too close to the one before."""
        at = group[(len(group) - 1) // 2][0]
        if at - self._last_ns >= self._too_close:
            self._add(at, out)
