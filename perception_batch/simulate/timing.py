"""When each camera fires, what its stamp says, and when the message reaches the log: cycle by cycle, lazily.

Every kind of chance has a random stream of its own for each camera and takes the same number of draws in every
cycle, so that switching one fault on leaves the others where they were.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from perception_batch.simulate.settings import START_NS, Faults, SimulateSettings

Status = Literal["ok", "dropped", "not_started", "frozen"]
T = TypeVar("T")

_PURPOSES = ("jitter", "drop", "burst", "duplicate", "duplicate_delay", "late", "late_delay", "log_delay")


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of ``faults.parquet``; the kinds stand in `truth_tables.FAULT_KINDS`."""

    kind: str
    """What."""
    camera: str
    """Name of the camera; empty where the whole log is meant."""
    cycle: int
    """Cycle of the picture, or in which it begins."""
    stamp_ns: int
    """Stamp of the picture's message."""
    log_ns: int
    """Log time of the message, or when the fault begins; 0 where nothing is in the log."""
    value: float
    """How much, in the kind's unit."""
    detail: str = "{}"
    """JSON object."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One camera in one cycle."""

    camera: str
    """Name of the camera."""
    status: Status
    """Only `ok` and `frozen` are in the log."""
    stamp_ns: int
    """What the message's header says (or would say)."""
    true_ns: int
    """True time of the exposure that the picture shows; of a frozen one: that of the older picture."""
    log_ns: int
    """When its message is in the log; 0 where it is not."""
    duplicate_log_ns: int
    """When it is there once more; 0 where it is not."""

    @property
    def messages(self) -> int:
        """How many image messages of it the log has."""
        return (self.log_ns > 0) + (self.duplicate_log_ns > 0)


@dataclass(frozen=True, slots=True)
class Cycle:
    """One round of the trigger."""

    index: int
    """Counts from 0."""
    cycle_ns: int
    """True time of the trigger."""
    shots: tuple[Shot, ...]
    """Every camera, in the order of the settings."""
    faults: tuple[Fault, ...]
    """What begins or happens in this cycle."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Log time of whatever reaches the recorder: it stops writing now and then and catches up afterwards."""

    bunch_ns: int
    """How long it stops; 0 for never."""
    every_ns: int
    """How often: at `START_NS` plus every multiple from the first."""

    @classmethod
    def of(cls, faults: Faults) -> Recorder:
        """As the settings say."""
        return cls(round(faults.bunch_ms * 1e6), round(faults.bunch_every_s * 1e9))

    def log_ns(self, arrival_ns: int) -> int:
        """When a message that arrives at `arrival_ns` stands in the log; the order of arrival is kept."""
        stop_ns = self.stop_before(arrival_ns)
        if not stop_ns or arrival_ns >= stop_ns + self.bunch_ns:
            return arrival_ns
        # It writes a thousand times faster than messages came.
        return stop_ns + self.bunch_ns + (arrival_ns - stop_ns) // 1000

    def stops(self) -> Iterator[int]:
        """True times at which it stops, in order and without end; none where it never does."""
        number = 1
        while self.bunch_ns:
            yield START_NS + number * self.every_ns
            number += 1

    def stop_before(self, time_ns: int) -> int:
        """When the last stop at or before `time_ns` began; 0 where there was none."""
        number = (time_ns - START_NS) // self.every_ns if self.bunch_ns else 0
        return START_NS + number * self.every_ns if number > 0 else 0


def earliest_log_ns(settings: SimulateSettings, cycle_ns: int) -> int:
    """No message of this cycle or a later one is in the log before this: all that is older may be written."""
    return cycle_ns - settings.period_ns


def plan(settings: SimulateSettings) -> Iterator[Cycle]:
    """All cycles of the drive in order of true time; memory does not grow with their number."""
    recorder = Recorder.of(settings.faults)
    cameras = [_Camera(settings, name, i, recorder) for i, name in enumerate(settings.cameras)]
    stops = recorder.stops()
    stop_ns = next(stops, None)
    for index in range(settings.cycles):
        cycle_ns = START_NS + index * settings.period_ns
        faults: list[Fault] = []
        while stop_ns is not None and stop_ns < cycle_ns + settings.period_ns:
            faults.append(
                Fault("bunch", "", index, stop_ns, stop_ns + recorder.bunch_ns, float(recorder.bunch_ns))
            )
            stop_ns = next(stops, None)
        shots = tuple(camera.shot(index, cycle_ns, faults) for camera in cameras)
        yield Cycle(index, cycle_ns, shots, tuple(faults))


class _Camera:
    """One camera's clock, trigger and luck, from cycle to cycle."""

    def __init__(self, settings: SimulateSettings, name: str, number: int, recorder: Recorder) -> None:
        faults = settings.faults
        self._faults, self._name, self._recorder = faults, name, recorder
        self._period_ns = settings.period_ns
        self._chance = {
            purpose: np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, number, i])))
            for i, purpose in enumerate(_PURPOSES)
        }
        count = len(settings.cameras)
        self._stagger_ns = round(faults.stagger_ms * 1e6 * number / (count - 1)) if count > 1 else 0
        self._offset_ns = round(faults.exposure_offset_ms.get(name, 0.0) * 1e6)
        self._jump = faults.clock_jump.get(name)
        self._drift_ppm = faults.clock_drift_ppm.get(name, 0.0)
        self._start_ns = START_NS + round(faults.late_start_s.get(name, 0.0) * 1e9)
        self._freeze = faults.freeze.get(name)
        self._in_burst = False
        self._jumped = False
        self._last_true_ns: int | None = None

    def shot(self, cycle: int, cycle_ns: int, faults: list[Fault]) -> Shot:
        """What it does in one cycle; what goes wrong is added to `faults`."""
        f, draw = self._faults, self._draws()
        trigger_ns = cycle_ns + self._stagger_ns + round(f.jitter_ms * 1e6 * draw["jitter"])
        exposure_ns = trigger_ns + self._offset_ns
        stamp_ns = self._clock(trigger_ns)

        def note(kind: str, value: float, *, log_ns: int = 0, **detail: Any) -> None:
            faults.append(
                Fault(
                    kind,
                    self._name,
                    cycle,
                    stamp_ns,
                    log_ns,
                    float(value),
                    json.dumps(detail, sort_keys=True),
                )
            )

        if cycle == 0:
            self._note_what_lasts(note)
        jumps = self._jump is not None and self._jump.offset_ms != 0 and not self._jumped
        if jumps and self._jump is not None and self._after_jump(trigger_ns):
            self._jumped = True
            note("clock_jump", round(self._jump.offset_ms * 1e6), at_ns=trigger_ns)

        # The chain of bursts goes on while a camera is off, so that a late start moves no later fault.
        lost = self._burst(draw)
        if cycle_ns < self._start_ns:
            return Shot(self._name, "not_started", stamp_ns, exposure_ns, 0, 0)
        if lost:
            note("drop", 1)
            return Shot(self._name, "dropped", stamp_ns, exposure_ns, 0, 0)

        arrival_ns = exposure_ns + round(f.log_delay_ms * 1e6 + f.log_jitter_ms * 1e6 * draw["log_delay"])
        late_ns = 0
        if draw["late"] < f.late:
            late_ns = round(f.late_ms * 1e6 * (0.5 + 0.5 * draw["late_delay"]))
        log_ns = self._recorder.log_ns(arrival_ns + late_ns)
        if late_ns:
            note("late", late_ns, log_ns=log_ns)
        if waited_ns := log_ns - arrival_ns - late_ns:
            note("bunched", waited_ns, log_ns=log_ns)
        status: Status = "ok"
        true_ns = exposure_ns
        if self._last_true_ns is not None and self._frozen(exposure_ns):
            status, true_ns = "frozen", self._last_true_ns
            note("freeze", exposure_ns - true_ns, log_ns=log_ns, true_ns=true_ns)
        else:
            self._last_true_ns = exposure_ns
        again_ns = 0
        if draw["duplicate"] < f.duplicate:
            delay_ns = 1_000_000 + round(draw["duplicate_delay"] * 0.5 * self._period_ns)
            again_ns = self._recorder.log_ns(arrival_ns + late_ns + delay_ns)
            note("duplicate", again_ns - log_ns, log_ns=again_ns)
        return Shot(self._name, status, stamp_ns, true_ns, log_ns, again_ns)

    def _draws(self) -> dict[str, float]:
        out = {purpose: float(chance.random()) for purpose, chance in self._chance.items()}
        out["jitter"] = float(np.clip(self._chance["jitter"].standard_normal(), -3, 3))
        out["log_delay"] = float(min(self._chance["log_delay"].standard_exponential(), 10))
        return out

    def _clock(self, true_ns: int) -> int:
        """What the camera's clock shows."""
        since = true_ns - START_NS
        shown = true_ns + round(since * self._drift_ppm / 1e6)
        if self._jump is not None and self._after_jump(true_ns):
            shown += round(self._jump.offset_ms * 1e6)
        return shown

    def _after_jump(self, true_ns: int) -> bool:
        return self._jump is not None and true_ns >= START_NS + round(self._jump.at_s * 1e9)

    def _frozen(self, true_ns: int) -> bool:
        if self._freeze is None:
            return False
        start_ns = START_NS + round(self._freeze.start_s * 1e9)
        return start_ns <= true_ns < start_ns + round(self._freeze.length_s * 1e9)

    def _burst(self, draw: dict[str, float]) -> bool:
        """Whether this picture is lost; runs of lost pictures have the stated mean length."""
        begins = draw["drop"] < self._faults.drop
        goes_on = self._in_burst and draw["burst"] < 1 - 1 / self._faults.drop_burst
        self._in_burst = begins or goes_on
        return self._in_burst

    def _note_what_lasts(self, note: Any) -> None:
        f = self._faults
        for kind, value in (
            ("stagger", self._stagger_ns),
            ("jitter", round(f.jitter_ms * 1e6)),
            ("exposure_offset", self._offset_ns),
            ("log_jitter", round(f.log_jitter_ms * 1e6)),
            ("clock_drift", self._drift_ppm),
            ("late_start", self._start_ns - START_NS),
        ):
            if value:
                note(kind, value)


class LogOrder(Generic[T]):
    """Holds messages until no earlier one can come any more, and gives them in the order of the log."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._count = 0

    def add(self, log_ns: int, message: T) -> None:
        """Messages of equal log time keep the order in which they were added."""
        heapq.heappush(self._heap, (log_ns, self._count, message))
        self._count += 1

    def until(self, horizon_ns: int) -> Iterator[tuple[int, T]]:
        """All that are held with a log time before `horizon_ns`, in order."""
        while self._heap and self._heap[0][0] < horizon_ns:
            log_ns, _, message = heapq.heappop(self._heap)
            yield log_ns, message

    def __len__(self) -> int:
        return len(self._heap)
