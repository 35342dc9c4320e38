"""How well a drive's frames were grouped, and what to set: figures as data, nothing is printed here."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perception_batch.errors import printable
from perception_batch.sync.group import spread_ns
from perception_batch.sync.phase import FASTER, SLOWER, IntArray, nearest_difference
from perception_batch.sync.plan import SyncPlan
from perception_batch.types import FrameSet, FrameStatus, UnusedFrame

TOLERANCES_MS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)
HISTOGRAM_EDGES_MS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, math.inf)
PERCENTILES = (50, 95, 99, 100)
_ENOUGH = 20  # frames of the reference to recommend a tolerance from


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which a camera lost frames."""

    start_ns: int
    """Its last frame before."""
    stop_ns: int
    """Its first frame after."""
    missing: int
    """Frames that its period would have put between them."""


@dataclass(frozen=True, slots=True)
class ToleranceRow:
    """What a tolerance would give."""

    tolerance_ms: float
    """Largest distance from the reference's frame."""
    is_allowed: bool
    """Below half the reference's period."""
    matched: Mapping[str, float]
    """By camera: share of its frames with a frame of the reference that near; NaN without frames."""
    complete: float
    """Share of the reference's frames with every camera of its rate or a higher one that near; NaN without any."""
    complete_without_offsets: float
    """The same with raw stamps."""


@dataclass(frozen=True, slots=True)
class CameraFigures:
    """One camera over the drive; clocks and phases as in `SyncPlan`."""

    frames: int
    """Frames with a plausible stamp."""
    status: Mapping[FrameStatus, int]
    """Timesteps by what it was in them."""
    coverage: float
    """Share of the timesteps at which it was due that have its own frame; NaN where never due."""
    period_ms: float
    """Median over the drive; 0 below two frames."""
    offset_ms: float
    """Groups its frames."""
    jitter_ms: float
    """Robust standard deviation of its phase."""
    drift_ppm: float
    """Its clock against the reference's."""
    drift_sd_ppm: float
    """Standard error; infinite where it cannot be told."""
    gaps: tuple[Gap, ...]
    """Longer than one and a half periods, in order of time."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Settings that suit the drive."""

    settings: Mapping[str, str | float]
    """Keys of the `sync` section."""
    reasons: tuple[str, ...]
    """Why, one line each."""


@dataclass(frozen=True, slots=True)
class SyncFigures:
    """How well a drive's frames were grouped."""

    anchor: str
    """What made the timesteps."""
    reference: str
    """The camera that the others are compared with."""
    tolerance_ms: float
    """In force."""
    timesteps: int
    """How many."""
    complete: int
    """Those that no due camera is missing in."""
    spread_ms: Mapping[int, float]
    """By percentile (100: the largest): time from first to last exposure; empty where no timestep has two frames."""
    aligned_ms: Mapping[int, float]
    """The same with each camera's offset taken off: what is left is jitter."""
    histogram: tuple[int, ...]
    """Timesteps by spread, between neighbours of `HISTOGRAM_EDGES_MS`."""
    cameras: Mapping[str, CameraFigures]
    """By name."""
    tolerances: tuple[ToleranceRow, ...]
    """For `TOLERANCES_MS`."""
    unused: Mapping[str, int]
    """Frames that no timestep has, by reason."""
    recommendation: Recommendation
    """What to set."""
    notes: tuple[str, ...]
    """Of the plan."""


class FigureMaker:
    """Gathers the figures of a drive as its timesteps come by; eight bytes a frame and sixteen a timestep."""

    def __init__(self, plan: SyncPlan) -> None:
        self._plan = plan
        self._stamps = {name: array("q") for name in plan.cameras}
        self._spreads, self._aligned = array("q"), array("q")
        self._status: Counter[tuple[str, FrameStatus]] = Counter()
        self._unused: Counter[str] = Counter()
        self._timesteps = self._complete = 0

    def add(self, frame_set: FrameSet) -> None:
        """Count a timestep and the unused frames that came with it."""
        self._timesteps += 1
        self._complete += "missing" not in frame_set.status.values()
        self._status.update(frame_set.status.items())
        self.add_unused(frame_set.unused)
        own = [(name, f.stamp_ns) for name, f in frame_set.frames.items() if frame_set.status[name] != "held"]
        for name, stamp_ns in own:
            self._stamps[name].append(stamp_ns)
        if len(own) > 1:
            self._spreads.append(spread_ns(frame_set))
            times = [self._plan.time_ns(name, stamp_ns) for name, stamp_ns in own]
            self._aligned.append(max(times) - min(times))

    def add_unused(self, unused: Iterable[UnusedFrame]) -> None:
        """Count frames that no timestep has; also those of `Synchronizer.take_unused` at the end."""
        for frame in unused:
            self._unused[frame.reason] += 1
            if frame.reason != "bad_stamp":  # it would make gaps of years
                self._stamps[frame.camera].append(frame.stamp_ns)

    def result(self) -> SyncFigures:
        """The figures of all that was added."""
        plan = self._plan
        stamps = {name: np.unique(np.array(own, np.int64)) for name, own in self._stamps.items()}
        spreads, aligned = np.array(self._spreads, np.int64), np.array(self._aligned, np.int64)
        counts = np.histogram(spreads / 1e6, HISTOGRAM_EDGES_MS)[0]
        return SyncFigures(
            anchor=plan.anchor,
            reference=plan.reference,
            tolerance_ms=plan.tolerance_ns / 1e6,
            timesteps=self._timesteps,
            complete=self._complete,
            spread_ms=percentiles_ms(spreads),
            aligned_ms=percentiles_ms(aligned),
            histogram=tuple(int(n) for n in counts),
            cameras={name: self._camera(name, stamps[name]) for name in plan.cameras},
            tolerances=tolerance_table(plan, stamps),
            unused=dict(sorted(self._unused.items())),
            recommendation=recommend(plan, stamps),
            notes=plan.notes,
        )

    def _camera(self, name: str, stamps: IntArray) -> CameraFigures:
        plan = self._plan
        states: tuple[FrameStatus, ...] = ("ok", "missing", "not_due", "held")
        status = {state: self._status[name, state] for state in states}
        due = status["ok"] + status["missing"] + status["held"]
        period = int(np.median(np.diff(stamps))) if len(stamps) > 1 else 0
        return CameraFigures(
            frames=len(self._stamps[name]),
            status=status,
            coverage=status["ok"] / due if due else math.nan,
            period_ms=period / 1e6,
            offset_ms=plan.offset_ns[name] / 1e6,
            jitter_ms=plan.jitter_ns[name] / 1e6,
            drift_ppm=plan.drift_ppm[name],
            drift_sd_ppm=plan.drift_sd_ppm[name],
            gaps=find_gaps(stamps, period),
        )


def percentiles_ms(values_ns: IntArray) -> dict[int, float]:
    """`PERCENTILES` of durations, ms, each a value that occurs; empty without any."""
    if not len(values_ns):
        return {}
    found = np.percentile(values_ns, PERCENTILES, method="nearest")
    return {p: float(v) / 1e6 for p, v in zip(PERCENTILES, found, strict=True)}


def find_gaps(stamps: IntArray, period_ns: int) -> tuple[Gap, ...]:
    """Where sorted stamps are farther apart than one and a half periods."""
    if not period_ns or len(stamps) < 2:
        return ()
    width = np.diff(stamps)
    return tuple(
        Gap(int(stamps[i]), int(stamps[i + 1]), max(1, round(int(width[i]) / period_ns) - 1))
        for i in np.flatnonzero(2 * width > 3 * period_ns)
    )


def tolerance_table(
    plan: SyncPlan, stamps: Mapping[str, IntArray], tolerances_ms: Sequence[float] = TOLERANCES_MS
) -> tuple[ToleranceRow, ...]:
    """What each tolerance would give, by nearness to the reference's frames.

    Args:
        plan: its offsets are taken off, and its drifts where it corrects them.
        stamps: by camera, sorted ns.
        tolerances_ms: one row each.
    """
    anchors = _times(plan, plan.reference, stamps[plan.reference])
    period = plan.period_ns[plan.reference]
    matched, near, near_raw = {}, {}, {}
    for name, own in stamps.items():
        if not len(own) or not len(anchors):
            continue
        times = _times(plan, name, own)
        matched[name] = np.abs(nearest_difference(times, anchors))
        if name != plan.reference and not (period and plan.period_ns[name] > SLOWER * period):
            near[name] = np.abs(nearest_difference(anchors, times))
            near_raw[name] = np.abs(nearest_difference(stamps[plan.reference], own))
    rows = []
    for tolerance_ms in tolerances_ms:
        limit = round(tolerance_ms * 1e6)
        rows.append(
            ToleranceRow(
                tolerance_ms,
                not period or 2 * limit < period,
                {n: float((matched[n] <= limit).mean()) if n in matched else math.nan for n in stamps},
                _all_near(near, limit, len(anchors)),
                _all_near(near_raw, limit, len(anchors)),
            )
        )
    return tuple(rows)


def _times(plan: SyncPlan, name: str, stamps: IntArray) -> IntArray:
    """`SyncPlan.time_ns` for many."""
    drifted = np.rint((stamps - plan.epoch_ns) * (plan.corrected_ppm[name] / 1e6)).astype(np.int64)
    return np.asarray(stamps - plan.offset_ns[name] - drifted)


def _all_near(near: Mapping[str, IntArray], limit_ns: int, n: int) -> float:
    if not n:
        return math.nan
    together = np.ones(n, bool)
    for distance in near.values():
        together &= distance <= limit_ns
    return float(together.mean())


def recommend(plan: SyncPlan, stamps: Mapping[str, IntArray]) -> Recommendation:
    """Settings for the `sync` section, with reasons.

    The tolerance holds 99.9 % of the distances that are shorter than half a period, and half as much again.
    """
    reasons: list[str] = []
    settings: dict[str, str | float] = {"anchor": plan.anchor, "reference": plan.reference}
    period = plan.period_ns[plan.reference]
    anchors = _times(plan, plan.reference, stamps[plan.reference])
    distances = [
        np.abs(nearest_difference(_times(plan, name, own), anchors))
        for name, own in stamps.items()
        if name != plan.reference and len(own) and len(anchors) and plan.period_ns[name] >= FASTER * period
    ]
    if not distances:
        return Recommendation(settings, ("one camera alone: every frame is a timestep",))
    flat = np.concatenate(distances)
    flat = flat[flat <= 0.45 * period] if period else flat
    if len(anchors) < _ENOUGH:
        reasons.append(
            f"{len(anchors)} frame(s) of {printable(plan.reference)} are too few to tell a tolerance from"
        )
    elif len(flat):
        most_ms = float(np.percentile(flat, 99.9)) / 1e6
        wanted = max(1.0, math.ceil(1.5 * most_ms))
        settings["tolerance_ms"] = min(wanted, math.floor(0.45 * period / 1e5) / 10)
        reasons.append(
            f"99.9 % of the frames lie within {most_ms:.1f} ms of their timestep, offsets taken off; "
            f"{settings['tolerance_ms']:g} ms leaves room and stays below half of {period / 1e6:.1f} ms"
        )
    span_ns = max((int(own[-1] - own[0]) for own in stamps.values() if len(own)), default=0)
    for name, ppm in plan.drift_ppm.items():
        moved_ns = ppm * span_ns / 1e6
        if abs(ppm) > 3 * plan.drift_sd_ppm[name] and abs(moved_ns) > plan.tolerance_ns / 4:
            settings["drift"] = "correct"
            reasons.append(
                f"the clock of {printable(name)} runs {ppm:+.1f} ppm against the others': {moved_ns / 1e6:+.1f} ms over this drive"
            )
    return Recommendation(settings, tuple(reasons))
