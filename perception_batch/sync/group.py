"""Encoded frames to timesteps, streaming, with bounded memory.

The result depends on the sequence of frames alone. A frame waits until log time has passed its stamp by the usual
delay and the plan's window; then nothing that matters for it can still come. What comes later still is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from perception_batch.config import SyncConfig
from perception_batch.sync.anchors import AnchorMaker, GridAnchors, TightestAnchors, TriggerAnchors
from perception_batch.sync.phase import FASTER, SLOWER
from perception_batch.sync.plan import PHASE_KEEPS, SyncPlan
from perception_batch.sync.reference import ReferenceAnchors
from perception_batch.sync.selection import Selection
from perception_batch.sync.waiting import FOREVER_NS, Anchor, Arrival, Waiting
from perception_batch.types import (
    EncodedFrame,
    FrameSet,
    FrameStatus,
    Trigger,
    UnusedFrame,
    UnusedReason,
)

_LATENCIES = 256  # recent delays that say how late a frame may usually come
_BAD_DELAY_NS = 5_000_000_000
_MOST_TRIGGERS = 20_000  # that may wait where no frame comes


class Synchronizer:
    """Groups the frames of one drive; `push` them in log order, then `flush`.

    Args:
        plan: made by `plan_sync`.
        settings: the `sync` section.
        start_ns: no timestep is made before it, unless the reference has a frame there.
        stop_ns: nor at or after it.
        ranges: half-open ranges of timesteps that are used, sorted and disjoint; None: all.
        counted: timesteps before the first, where a drive is taken up midway, so that `sync.every` goes on.
    """

    def __init__(
        self,
        plan: SyncPlan,
        settings: SyncConfig,
        start_ns: int | None = None,
        stop_ns: int | None = None,
        *,
        ranges: Sequence[tuple[int, int]] | None = None,
        counted: int = 0,
    ) -> None:
        self._plan = plan
        self._start = -FOREVER_NS if start_ns is None else start_ns
        self._stop = FOREVER_NS if stop_ns is None else stop_ns
        self._waiting = Waiting(plan)
        self._limit_bytes = round(settings.window_mb * 1e6)
        self._triggers = TriggerAnchors()
        self._maker = self._make_maker()
        self._selection = Selection(plan, settings, ranges, counted)
        self._hold_ns = round(settings.hold_max_age_ms * 1e6) if settings.policy == "hold" else 0
        self._anchors: list[Anchor] = []
        self._times: list[int] = []  # of `_anchors`
        self._settled_ns = -FOREVER_NS  # frames up to here were looked at
        self._next_ns = -FOREVER_NS  # when it is worth looking again
        self._stride_ns = max(plan.step_ns, plan.tolerance_ns)
        self._latencies: deque[int] = deque([plan.latency_ns], maxlen=_LATENCIES)
        self._delay_ns = plan.latency_ns + plan.window_ns
        self._constant = {name: ppm == 0 for name, ppm in plan.corrected_ppm.items()}
        self._pushed = 0
        self._index = 0
        self._last_seen = {name: plan.time_ns(name, first) for name, first in plan.first_ns.items()}
        self._slow = {name: plan.period_ns[name] for name in plan.cameras if self._is_slower(name)}
        self._fast = {name for name in plan.cameras if self._is_faster(name)}
        self._extra = {name: self._why_extra(name) for name in plan.cameras}
        self._to_hold: dict[str, Arrival] = {}
        self.late_triggers = 0
        """Triggers that came after the frames of their time were grouped, or twice."""

    def push(self, frame: EncodedFrame) -> list[FrameSet]:
        """Take one frame; give the timesteps that it completes."""
        if frame.unused:
            self._waiting.drop(frame, frame.unused)
            return []
        camera, stamp_ns = frame.camera, frame.stamp_ns
        plan = self._plan
        time_ns = (
            stamp_ns - plan.offset_ns[camera] if self._constant[camera] else plan.time_ns(camera, stamp_ns)
        )
        if time_ns <= self._settled_ns - plan.tolerance_ns:
            self._waiting.drop(frame, "out_of_tolerance")  # too late: its timesteps are settled
        else:
            self._waiting.add((time_ns, self._pushed, frame, frame.size_bytes))
        return self._advance(frame.log_ns, time_ns)

    def push_trigger(self, trigger: Trigger) -> list[FrameSet]:
        """Take a message of `sync.trigger_topic`; give the timesteps that it completes. Other anchors ignore it."""
        if self._plan.anchor != "trigger":
            return []
        if not self._start <= trigger.stamp_ns < self._stop:
            return []
        if trigger.stamp_ns <= self._settled_ns or not self._triggers.push(trigger.stamp_ns):
            self.late_triggers += 1
        return self._advance(trigger.log_ns, trigger.stamp_ns)

    def flush(self) -> list[FrameSet]:
        """The timesteps that were still waiting, at the end of the log."""
        return self._settle(FOREVER_NS)

    def take_unused(self) -> tuple[UnusedFrame, ...]:
        """Frames settled as unused since the last timestep; after `flush`, the rest."""
        return self._waiting.take_unused()

    def give_back(self, unused: Iterable[UnusedFrame]) -> None:
        """Take records of unused frames again, from timesteps that did not go on; `take_unused` gives them."""
        self._waiting.give_back(tuple(unused))

    # ------------------------------------------------------------------ when

    def _advance(self, log_ns: int, time_ns: int) -> list[FrameSet]:
        """Settle what has waited long enough at this log time."""
        self._pushed += 1
        delay_ns = log_ns - time_ns
        if abs(delay_ns - self._latencies[-1]) < _BAD_DELAY_NS:  # a bad stamp does not count
            self._latencies.append(delay_ns)
        if self._pushed % 64 == 0:
            self._delay_ns = max(self._latencies) + self._plan.window_ns
        limit = log_ns - self._delay_ns
        if self._waiting.size_bytes > self._limit_bytes:
            limit = max(limit, self._waiting.middle_ns())
        elif limit < self._next_ns and self._triggers.count < _MOST_TRIGGERS:
            return []
        return self._settle(limit) if limit > self._settled_ns else []

    def _settle(self, limit: int) -> list[FrameSet]:
        """Make the timesteps up to `limit`, give frames to them, and emit those that nothing can change."""
        self._next_ns = limit + self._stride_ns
        made, complete = self._maker.make(limit)
        self._settled_ns = max(self._settled_ns, limit)
        self._anchors += made
        self._times += [anchor.time_ns for anchor in made]
        tolerance = self._plan.tolerance_ns
        if complete < FOREVER_NS:
            self._assign(complete - tolerance)
            ready = bisect_left(self._times, complete - 2 * tolerance + 1)
        else:
            self._assign(FOREVER_NS)
            ready = len(self._anchors)
        done = self._anchors[:ready]
        del self._anchors[:ready], self._times[:ready]
        return [frame_set for anchor in done if (frame_set := self._emit(anchor)) is not None]

    # ------------------------------------------------------------------ which timestep

    def _assign(self, limit: int) -> None:
        """Give each frame up to `limit` to its nearest timestep, or drop it with a reason."""
        times, anchors, tolerance = self._times, self._anchors, self._plan.tolerance_ns
        count, ties_later = len(times), self._plan.anchor == "grid"
        for name, queue in self._waiting.queues.items():
            if not queue or queue[0][0] > limit:
                continue
            for arrival in self._waiting.take(name, limit):
                time_ns = arrival[0]
                i = bisect_left(times, time_ns)
                if i == count:
                    i -= 1
                elif i:
                    before, after = time_ns - times[i - 1], times[i] - time_ns
                    i -= before < after or (before == after and not ties_later)
                if i < 0 or abs(times[i] - time_ns) > tolerance:
                    self._waiting.drop(
                        arrival[2], self._why_unmatched(name, times[i] if count else None, time_ns)
                    )
                    continue
                members = anchors[i].members
                rival = members.get(name)
                if rival is None:
                    members[name] = arrival
                    continue
                at = times[i]
                closer, other = arrival, rival
                if abs(rival[0] - at) <= abs(time_ns - at):
                    closer, other = rival, arrival
                members[name] = closer
                self._waiting.drop(other[2], self._extra[name])

    def _why_unmatched(self, name: str, nearest_ns: int | None, time_ns: int) -> UnusedReason:
        if name in self._fast:
            return "not_due"
        near = nearest_ns is not None and abs(time_ns - nearest_ns) <= self._stride_ns
        return "out_of_tolerance" if near else "no_anchor"

    def _why_extra(self, name: str) -> UnusedReason:
        """Why the farther of two frames of a camera at one timestep is not used."""
        if name in self._fast:
            return "not_due"
        return "resampled" if self._plan.anchor == "grid" else "duplicate"

    # ------------------------------------------------------------------ out

    def _emit(self, anchor: Anchor) -> FrameSet | None:
        """The timestep; None where it is empty, outside what was asked for, or not selected."""
        members, stamp_ns = anchor.members, anchor.stamp_ns
        if not members:
            return None
        if not anchor.is_real and not self._start <= stamp_ns < self._stop:
            for arrival in members.values():
                self._waiting.drop(arrival[2], "no_anchor")
            return None
        status: dict[str, FrameStatus] = {}
        frames: dict[str, EncodedFrame] = {}
        for name in self._plan.cameras:
            if name in members:
                status[name] = "ok"
                frames[name] = members[name][2]
            else:
                status[name] = "missing" if self._is_due(name, anchor.time_ns) else "not_due"
        for name in self._slow:
            if name in members:
                self._last_seen[name] = members[name][0]
        reason = self._selection.why_not(stamp_ns, status)
        if reason is not None:
            for frame in frames.values():
                self._waiting.drop(frame, reason)
            return None
        if self._hold_ns:
            self._hold(anchor, frames, status)
        frame_set = FrameSet(self._index, stamp_ns, frames, status, self._waiting.take_unused())
        self._index += 1
        return frame_set

    def _hold(self, anchor: Anchor, frames: dict[str, EncodedFrame], status: dict[str, FrameStatus]) -> None:
        """Put the last frame used of a missing camera in its place, unless it is too old."""
        for name, state in status.items():
            if state == "ok":
                self._to_hold[name] = anchor.members[name]
            elif state == "missing" and name in self._to_hold:
                time_ns, _, frame, _ = self._to_hold[name]
                if anchor.time_ns - time_ns <= self._hold_ns:
                    frames[name], status[name] = frame, "held"
                else:
                    del self._to_hold[name]

    def _is_due(self, name: str, time_ns: int) -> bool:
        """Whether a camera slower than the timesteps should have fired at this one.

        Its last frame tells; where that is too long ago, one timestep a period is taken, wherever reading began.
        """
        period = self._slow.get(name)
        if period is None:
            return True
        seen = self._last_seen.get(name)
        if seen is None or abs(time_ns - seen) > PHASE_KEEPS * period:
            return time_ns // period != (time_ns - self._plan.step_ns) // period
        since = time_ns - seen
        return abs(since - round(since / period) * period) <= self._plan.step_ns / 2

    # ------------------------------------------------------------------ what the plan says

    def _make_maker(self) -> AnchorMaker:
        plan = self._plan
        if plan.anchor == "grid":
            return GridAnchors(plan, self._waiting)
        if plan.anchor == "tightest":
            return TightestAnchors(plan, self._waiting, self._limit_bytes)
        return self._triggers if plan.anchor == "trigger" else ReferenceAnchors(plan, self._waiting)

    def _is_faster(self, name: str) -> bool:
        period, step = self._plan.period_ns[name], self._plan.step_ns
        return bool(period and step and period < FASTER * step)

    def _is_slower(self, name: str) -> bool:
        period, step = self._plan.period_ns[name], self._plan.step_ns
        return bool(period and step and period > SLOWER * step)


def synchronize(items: Iterable[EncodedFrame | Trigger], synchronizer: Synchronizer) -> Iterator[FrameSet]:
    """All timesteps of a stream of frames; ask `take_unused` for what is left when it has ended."""
    for item in items:
        yield from synchronizer.push_trigger(item) if isinstance(item, Trigger) else synchronizer.push(item)
    yield from synchronizer.flush()


def spread_ns(frame_set: FrameSet) -> int:
    """Time from the first to the last exposure of a timestep's own frames, ns; 0 with fewer than two."""
    stamps = [f.stamp_ns for name, f in frame_set.frames.items() if frame_set.status[name] != "held"]
    return max(stamps) - min(stamps) if stamps else 0
