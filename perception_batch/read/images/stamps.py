"""Which stamps of a camera can be believed: single wild ones are set aside, a stepped clock is put right.

Stated rules, per camera, against the recorder's clock (log time), which is not exact but does not lie by much:

- A stamp is *usual* where it continues the camera's stamps (later than the last one, by at most `CONTINUES_NS`), or
  where log time less stamp is within `FAR_NS` of what is usual for the camera.
- A stamp that is not usual waits for the next frames. Where `AGREEING` frames in a row differ from the usual by the
  same amount, the clock has stepped (a rollover, a time server, a restarted driver): the step is taken off from there
  on, so that time goes on, and counted. Else the stamp is bad: the frame is counted and used by no timestep.
  How large it was is told by the camera's own period (its pictures went on in step); two cameras whose clocks step at
  the same time by nearly the same amount get the same correction.
- A stamp earlier than the one before is a late message, no step, unless it is more than `BACK_NS` earlier.

Triggers are judged as a camera's frames are; a bad one is left out and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from perception_batch.types import (
    CameraLens,
    CameraMount,
    EgoPose,
    EncodedFrame,
    LidarSweep,
    LogItem,
    Trigger,
)

CONTINUES_NS = 2_000_000_000
"""Longest gap over which stamps speak for each other, whatever the recorder's delay."""
FAR_NS = 5_000_000_000
"""Recorders deliver seconds late; a stamp that far from its usual distance to log time is not right."""
BACK_NS = 1_000_000_000
"""Messages come out of order by less than this."""
AGREEING = 3
"""Frames in a row that make a step of what would be bad stamps."""
_AGREE_NS = 1_000_000_000
_WAIT_ITEMS, _WAIT_NS = 512, 10_000_000_000
"""How long a doubtful stamp may keep others waiting."""
_FOLLOW = 32  # a usual distance follows drift and delay with this weight

Stamped: TypeAlias = EncodedFrame | Trigger


@dataclass(frozen=True, slots=True)
class ClockStep:
    """A camera's clock that jumped, and stayed; or that of the triggers."""

    camera: str
    """Name of the camera, or the triggers' topic."""
    log_ns: int
    """Log time of the first frame after the step."""
    step_ns: int
    """By how much the stamps jumped, ns; this was taken off again."""


@dataclass(slots=True)
class _Clock:
    """What is known of one camera's stamps; all stamps as the log has them, less the steps so far."""

    usual_ns: int
    last_ns: int | None = None
    step_ns: int = 0
    gaps_ns: deque[int] = field(default_factory=lambda: deque(maxlen=15))
    doubtful: list[_Waiting] = field(default_factory=list)


@dataclass(slots=True)
class _Waiting:
    """An item in the queue; None where it is left out."""

    item: LogItem | None
    settled: bool
    log_ns: int


class StampJudge:
    """Judges the stamps of a drive's frames, in log order.

    Args:
        usual_ns: by camera, the usual log time less stamp; cameras that are absent are not judged.
    """

    def __init__(self, usual_ns: dict[str, int]) -> None:
        self.steps: list[ClockStep] = []
        """Steps found so far."""
        self.bad_triggers = 0
        """Triggers that were left out so far."""
        self._clocks = {name: _Clock(usual) for name, usual in usual_ns.items()}
        self._trigger: _Clock | None = None
        self._trigger_topic = ""
        self._queue: deque[_Waiting] = deque()

    def watch_trigger(self, topic: str, usual_ns: int) -> None:
        """Judge triggers too, whose log time is usually `usual_ns` after their stamp."""
        self._trigger_topic, self._trigger = topic, _Clock(usual_ns)

    def judge(self, items: Iterable[LogItem]) -> Iterator[LogItem]:
        """The same items in the same order; wild stamps are marked ``bad_stamp``, steps taken off."""
        for item in items:
            entry = _Waiting(item, True, item.stamp_ns if isinstance(item, EgoPose) else item.log_ns)
            self._queue.append(entry)
            if (
                not isinstance(item, EgoPose | LidarSweep | CameraMount | CameraLens)
                and (clock := self._clock_of(item)) is not None
            ):
                self._look(clock, entry, item)
            self._give_up()
            yield from self._settled()
        for clock in (*self._clocks.values(), self._trigger):
            if clock is not None:
                self._condemn(clock)
        yield from self._settled()

    def _settled(self) -> Iterator[LogItem]:
        while self._queue and self._queue[0].settled:
            item = self._queue.popleft().item
            if item is not None:
                yield item

    def _clock_of(self, item: Stamped) -> _Clock | None:
        if isinstance(item, Trigger):
            return self._trigger
        return None if item.unused else self._clocks.get(item.camera)

    def _name_of(self, item: Stamped) -> str:
        return self._trigger_topic if isinstance(item, Trigger) else item.camera

    def _look(self, clock: _Clock, entry: _Waiting, frame: Stamped) -> None:
        stamp_ns = frame.stamp_ns - clock.step_ns
        if _is_usual(clock, stamp_ns, frame.log_ns):
            self._condemn(clock)
            self._accept(clock, entry, frame)
            return
        if clock.doubtful:
            first = clock.doubtful[-1].item
            if isinstance(first, Stamped):
                moved = (first.log_ns - first.stamp_ns) - (frame.log_ns - frame.stamp_ns)
                onward = frame.stamp_ns - first.stamp_ns
                if not (abs(moved) <= _AGREE_NS or 0 < onward <= CONTINUES_NS):
                    self._condemn(clock)
        entry.settled = False
        clock.doubtful.append(entry)
        if len(clock.doubtful) >= AGREEING:
            self._step(clock)

    def _accept(self, clock: _Clock, entry: _Waiting, frame: Stamped) -> None:
        stamp_ns = frame.stamp_ns - clock.step_ns
        if clock.step_ns:
            entry.item = replace(frame, stamp_ns=stamp_ns)
        entry.settled = True
        clock.usual_ns += (frame.log_ns - stamp_ns - clock.usual_ns) // _FOLLOW
        if clock.last_ns is not None and 0 < stamp_ns - clock.last_ns <= CONTINUES_NS:
            clock.gaps_ns.append(stamp_ns - clock.last_ns)
        clock.last_ns = stamp_ns if clock.last_ns is None else max(stamp_ns, clock.last_ns)

    def _step(self, clock: _Clock) -> None:
        """Those in doubt agree: their clock is another one from here on."""
        first = clock.doubtful[0].item
        if not isinstance(first, Stamped):
            raise TypeError(f"only frames and triggers are in doubt, got {type(first).__name__}")
        step_ns = self._size_of_step(clock, first)
        self.steps.append(ClockStep(self._name_of(first), first.log_ns, step_ns))
        clock.step_ns += step_ns
        waiting, clock.doubtful = clock.doubtful, []
        for entry in waiting:
            if isinstance(entry.item, Stamped):
                self._accept(clock, entry, entry.item)

    def _size_of_step(self, clock: _Clock, first: Stamped) -> int:
        stamp_ns = first.stamp_ns - clock.step_ns
        step_ns = stamp_ns - (first.log_ns - clock.usual_ns)
        if clock.last_ns is None or not clock.gaps_ns:
            return step_ns
        period_ns = sorted(clock.gaps_ns)[len(clock.gaps_ns) // 2]
        missed = max(1, round((stamp_ns - step_ns - clock.last_ns) / period_ns))
        step_ns = stamp_ns - (clock.last_ns + missed * period_ns)
        for other in reversed(self.steps):
            alike = abs(other.step_ns - step_ns) <= period_ns // 4
            if (
                other.camera != self._name_of(first)
                and alike
                and abs(other.log_ns - first.log_ns) <= _WAIT_NS
            ):
                return other.step_ns
        return step_ns

    def _condemn(self, clock: _Clock) -> None:
        for entry in clock.doubtful:
            if isinstance(entry.item, EncodedFrame):
                entry.item = replace(entry.item, unused="bad_stamp")
            elif isinstance(entry.item, Trigger):
                entry.item, self.bad_triggers = None, self.bad_triggers + 1
            entry.settled = True
        clock.doubtful = []

    def _give_up(self) -> None:
        """A camera that falls silent in doubt must not hold up the others."""
        newest = self._queue[-1]
        oldest = self._queue[0]
        if oldest.settled or (len(self._queue) < _WAIT_ITEMS and newest.log_ns - oldest.log_ns < _WAIT_NS):
            return
        if isinstance(oldest.item, Stamped) and (clock := self._clock_of(oldest.item)) is not None:
            self._condemn(clock)


def _is_usual(clock: _Clock, stamp_ns: int, log_ns: int) -> bool:
    if clock.last_ns is not None:
        onward = stamp_ns - clock.last_ns
        if 0 <= onward <= CONTINUES_NS:
            return True
        if onward < -BACK_NS:
            return False
    return abs(log_ns - stamp_ns - clock.usual_ns) <= FAR_NS
