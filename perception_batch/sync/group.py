"""Encoded frames to timesteps: nearest to a reference camera, streaming, with bounded memory.

The result depends on the sequence of frames alone. A frame waits until log time has passed its stamp by the
usual delay and a window of a few periods; then nothing that matters for it can still come.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from perception_batch.config import SyncConfig
from perception_batch.sync.plan import SyncPlan
from perception_batch.types import EncodedFrame, FrameSet, FrameStatus, UnusedFrame, UnusedReason

_FOREVER_NS = 1 << 62
_LATENCIES = 256  # recent delays that say how late a frame may usually come


@dataclass(frozen=True, slots=True, order=True)
class _Pending:
    """A frame on the reference's clock; ordered by time, then by arrival."""

    time_ns: int
    sequence: int
    frame: EncodedFrame


@dataclass(slots=True)
class _Anchor:
    """A timestep in the making."""

    time_ns: int
    reference: _Pending | None
    members: dict[str, _Pending]


class Synchronizer:
    """Groups the frames of one drive; `push` them in log order, then `flush`.

    Args:
        plan: made by `plan_sync`.
        settings: the `sync` section.
        start_ns: no timestep is made before it where the reference has no frame.
        stop_ns: nor at or after it.
    """

    def __init__(
        self, plan: SyncPlan, settings: SyncConfig, start_ns: int | None = None, stop_ns: int | None = None
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._start = -_FOREVER_NS if start_ns is None else start_ns
        self._stop = _FOREVER_NS if stop_ns is None else stop_ns
        self._pending: dict[str, list[_Pending]] = {name: [] for name in plan.cameras}
        self._pending_bytes = 0
        self._limit_bytes = round(settings.window_mb * 1e6)
        self._anchors: list[_Anchor] = []
        self._last_anchor_ns: int | None = None  # the newest made, emitted or not
        self._settled_ns = -_FOREVER_NS  # anchors up to here are made
        self._last_seen = {name: plan.first_ns[name] - plan.offset_ns[name] for name in plan.first_ns}
        self._unused: list[UnusedFrame] = []
        self._latencies: deque[int] = deque([plan.latency_ns], maxlen=_LATENCIES)
        self._latency_ns = plan.latency_ns
        self._pushed = 0
        self._index = 0
        self._counted = 0
        self._next_due_ns: int | None = None

    def push(self, frame: EncodedFrame) -> list[FrameSet]:
        """Take one frame; give the timesteps that it completes."""
        if frame.unused:
            self._drop(frame, frame.unused)
            return []
        time_ns = frame.stamp_ns - self._plan.offset_ns[frame.camera]
        self._pushed += 1
        self._watch_latency(frame.log_ns - time_ns)
        if time_ns <= self._settled_ns - self._plan.tolerance_ns:
            self._drop(frame, "out_of_tolerance")  # too late: its timesteps are settled
            return []
        queue = self._pending[frame.camera]
        pending = _Pending(time_ns, self._pushed, frame)
        if queue and pending < queue[-1]:
            insort(queue, pending)
        else:
            queue.append(pending)
        self._pending_bytes += frame.size_bytes
        limit = frame.log_ns - self._latency_ns - self._plan.window_ns
        if self._pending_bytes > self._limit_bytes:
            limit = max(limit, self._middle_of_pending())
        step = self._plan.period_ns[self._plan.reference] or self._plan.tolerance_ns
        if limit < self._settled_ns + step // 2:
            return []
        return self._settle(limit)

    def flush(self) -> list[FrameSet]:
        """The timesteps that were still waiting, at the end of the log."""
        return self._settle(_FOREVER_NS)

    def take_unused(self) -> tuple[UnusedFrame, ...]:
        """Frames settled as unused since the last timestep; after `flush`, the rest."""
        unused, self._unused = tuple(self._unused), []
        return unused

    def _drop(self, frame: EncodedFrame, reason: UnusedReason) -> None:
        self._unused.append(UnusedFrame.of(frame, reason))

    def _watch_latency(self, delay_ns: int) -> None:
        if abs(delay_ns - self._latency_ns) < 5_000_000_000:  # a bad stamp does not count
            self._latencies.append(delay_ns)
        if self._pushed % 64 == 0:
            self._latency_ns = max(self._latencies)

    def _middle_of_pending(self) -> int:
        times = sorted(p.time_ns for queue in self._pending.values() for p in queue)
        return times[len(times) // 2]

    def _settle(self, limit: int) -> list[FrameSet]:
        """Make the anchors up to `limit`, give frames to them, and emit those that nothing can change."""
        self._make_anchors(limit)
        self._settled_ns = max(self._settled_ns, limit)
        self._assign(limit - self._plan.tolerance_ns if limit < _FOREVER_NS else limit)
        ready = limit - 2 * self._plan.tolerance_ns if limit < _FOREVER_NS else limit
        out: list[FrameSet] = []
        while self._anchors and self._anchors[0].time_ns <= ready:
            frame_set = self._emit(self._anchors.pop(0))
            if frame_set is not None:
                out.append(frame_set)
        return out

    def _make_anchors(self, limit: int) -> None:
        """Anchors at the reference's frames, and at its expected times where it lost one."""
        plan = self._plan
        queue = self._pending[plan.reference]
        period = plan.period_ns[plan.reference]
        too_close = period // 2 if period else plan.tolerance_ns
        taken = 0
        for pending in queue:
            if pending.time_ns > limit:
                break
            taken += 1
            self._pending_bytes -= pending.frame.size_bytes
            last = self._last_anchor_ns
            if last is not None and pending.time_ns - last < too_close:
                self._drop(pending.frame, "duplicate")
                continue
            self._bridge(pending.time_ns, pending.time_ns)
            self._add_anchor(_Anchor(pending.time_ns, pending, {plan.reference: pending}))
        del queue[:taken]
        self._bridge(queue[0].time_ns if queue else None, limit)

    def _add_anchor(self, anchor: _Anchor) -> None:
        self._anchors.append(anchor)
        self._last_anchor_ns = anchor.time_ns

    def _bridge(self, next_ns: int | None, limit: int) -> None:
        """Make anchors up to `limit` between the last one and the reference's next frame at `next_ns`.

        With the next frame known, the gap is divided evenly; before the first it is counted back by the
        period; without one in the window, an unmatched frame of a camera of the same rate stands for the
        reference (its own offset already taken off).
        """
        plan, last = self._plan, self._last_anchor_ns
        period, tolerance = plan.period_ns[plan.reference], plan.tolerance_ns
        if not period or (last is not None and next_ns is not None and next_ns - last < 1.5 * period):
            return
        low = -_FOREVER_NS if last is None else last + tolerance
        high = limit if next_ns is None else min(limit, next_ns - tolerance)
        expected: set[int] = set()
        for time_ns, name in self._candidates(low, high):
            if last is not None and next_ns is not None:
                steps = round((next_ns - last) / period)
                k = round((time_ns - last) * steps / (next_ns - last))
                if not 0 < k < steps:
                    continue
                at = last + round(k * (next_ns - last) / steps)
            elif next_ns is not None:
                at = next_ns - round((next_ns - time_ns) / period) * period
                if at >= next_ns:
                    continue
            else:
                at = self._free_running(time_ns, name, expected)
            if abs(time_ns - at) <= tolerance and at <= limit and self._start <= at < self._stop:
                expected.add(at)
        for at in sorted(expected):
            self._add_anchor(_Anchor(at, None, {}))

    def _candidates(self, low: int, high: int) -> list[tuple[int, str]]:
        """(time, camera) of the other cameras' frames in (low, high], in order."""
        found: list[tuple[int, str]] = []
        for name, queue in self._pending.items():
            if name != self._plan.reference:
                for pending in queue:
                    if pending.time_ns > high:
                        break
                    if pending.time_ns > low:
                        found.append((pending.time_ns, name))
        return sorted(found)

    def _free_running(self, time_ns: int, name: str, made: set[int]) -> int:
        """Where the reference would be, by a camera of the same rate alone; far away if that says nothing."""
        period = self._plan.period_ns[self._plan.reference]
        if abs(self._plan.period_ns[name] - period) > 0.2 * period:
            return _FOREVER_NS
        last = max(made) if made else self._last_anchor_ns
        if last is None or time_ns - last >= 0.6 * period:
            return time_ns
        return _FOREVER_NS if time_ns - last > self._plan.tolerance_ns else last

    def _assign(self, limit: int) -> None:
        """Give each frame up to `limit` to its nearest anchor, or drop it with a reason."""
        times = [anchor.time_ns for anchor in self._anchors]
        for name, queue in self._pending.items():
            if name == self._plan.reference:
                continue
            taken = 0
            for pending in queue:
                if pending.time_ns > limit:
                    break
                taken += 1
                self._pending_bytes -= pending.frame.size_bytes
                anchor = self._nearest(times, pending.time_ns)
                if anchor is None or abs(pending.time_ns - anchor.time_ns) > self._plan.tolerance_ns:
                    self._drop(pending.frame, self._why_unmatched(name, anchor, pending.time_ns))
                    continue
                rival = anchor.members.get(name)
                if rival is None:
                    anchor.members[name] = pending
                    continue
                closer, other = pending, rival
                if abs(rival.time_ns - anchor.time_ns) <= abs(pending.time_ns - anchor.time_ns):
                    closer, other = rival, pending
                anchor.members[name] = closer
                self._drop(other.frame, "not_due" if self._is_faster(name) else "duplicate")
            del queue[:taken]

    def _nearest(self, times: list[int], time_ns: int) -> _Anchor | None:
        i = bisect_left(times, time_ns)
        near = [k for k in (i - 1, i) if 0 <= k < len(times)]
        if not near:
            return None
        return self._anchors[min(near, key=lambda k: (abs(times[k] - time_ns), k))]

    def _is_faster(self, name: str) -> bool:
        period, reference = self._plan.period_ns[name], self._plan.period_ns[self._plan.reference]
        return bool(period and reference and period < 0.75 * reference)

    def _why_unmatched(self, name: str, anchor: _Anchor | None, time_ns: int) -> UnusedReason:
        if self._is_faster(name):
            return "not_due"
        period = self._plan.period_ns[self._plan.reference]
        near = anchor is not None and abs(time_ns - anchor.time_ns) <= (period or self._plan.tolerance_ns)
        return "out_of_tolerance" if near else "no_anchor"

    def _emit(self, anchor: _Anchor) -> FrameSet | None:
        """The timestep of an anchor; None where `every` or `rate_hz` passes over it."""
        status: dict[str, FrameStatus] = {}
        for name in self._plan.cameras:
            if name in anchor.members:
                status[name] = "ok"
                self._last_seen[name] = anchor.members[name].time_ns
            else:
                status[name] = "missing" if self._is_due(name, anchor.time_ns) else "not_due"
        stamp_ns = anchor.time_ns if anchor.reference is None else anchor.reference.frame.stamp_ns
        frames = {name: anchor.members[name].frame for name in self._plan.cameras if name in anchor.members}
        if not self._is_wanted(stamp_ns):
            for frame in frames.values():
                self._drop(frame, "resampled")
            return None
        frame_set = FrameSet(self._index, stamp_ns, frames, status, self.take_unused())
        self._index += 1
        return frame_set

    def _is_due(self, name: str, time_ns: int) -> bool:
        """Whether a camera slower than the reference should have fired at this timestep."""
        period, reference = self._plan.period_ns[name], self._plan.period_ns[self._plan.reference]
        if not period or not reference or period <= 1.5 * reference or name not in self._last_seen:
            return True
        since = time_ns - self._last_seen[name]
        return abs(since - round(since / period) * period) <= reference / 2

    def _is_wanted(self, stamp_ns: int) -> bool:
        self._counted += 1
        if (self._counted - 1) % self._settings.every:
            return False
        if self._settings.rate_hz is None:
            return True
        step = round(1e9 / self._settings.rate_hz)
        if self._next_due_ns is None:
            self._next_due_ns = stamp_ns
        if stamp_ns < self._next_due_ns - min(self._plan.tolerance_ns, step // 2):
            return False
        while self._next_due_ns <= stamp_ns + step // 2:
            self._next_due_ns += step
        return True


def synchronize(frames: Iterable[EncodedFrame], synchronizer: Synchronizer) -> Iterator[FrameSet]:
    """All timesteps of a stream of frames; ask `take_unused` for what is left when it has ended."""
    for frame in frames:
        yield from synchronizer.push(frame)
    yield from synchronizer.flush()


def spread_ns(frame_set: FrameSet) -> int:
    """Time from the first to the last exposure of a timestep, ns; 0 with fewer than two frames."""
    stamps = sorted(frame.stamp_ns for frame in frame_set.frames.values())
    return sum(b - a for a, b in pairwise(stamps))
