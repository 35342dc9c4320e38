"""How well a drive's cameras can be grouped: all stamps are read first, so the plan is exact, then they are grouped.

A run plans from the head of the log, because it reads each byte once. Here only the stamps are kept, some twenty
bytes a frame; where the two plans differ, a note says so.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.errors import printable
from perception_batch.job import OpenDrive
from perception_batch.read import Surveyor
from perception_batch.sync import (
    HISTOGRAM_EDGES_MS,
    FigureMaker,
    SyncFigures,
    SyncPlan,
    plan_sync,
    spread_ns,
    synchronize,
)
from perception_batch.types import (
    CameraLens,
    CameraMount,
    EgoPose,
    EncodedFrame,
    FrameSet,
    LidarSweep,
    StillPayload,
    Trigger,
    UnusedFrame,
)

IntArray = npt.NDArray[np.int64]
_MARKS = ("", "bad_stamp", "lead_in")
_DIFFERS_NS = 2_000_000  # of two estimates of an offset


@dataclass(frozen=True, slots=True)
class SyncLook:
    """What grouping all frames of a log showed."""

    plan: SyncPlan
    """Made from all stamps."""
    figures: SyncFigures
    """How well it went."""
    first_stamp_ns: int
    """Second 0."""
    frames: Mapping[str, int]
    """By camera: messages in the log, those with a wild stamp too."""
    grouped_ns: Mapping[str, IntArray]
    """By camera: (N, 2) stamp of each frame that a timestep has, and how long after the timestep it is."""
    unused_ns: Mapping[str, IntArray]
    """By camera: (N,) stamps of frames that no timestep has."""
    spreads_ns: IntArray
    """(N, 2) stamp and spread of each timestep with two frames or more."""
    notes: tuple[str, ...]
    """The plan's, and where a run's plan would differ."""


class _Stamps:
    """Every frame and trigger of a log by its times alone, in log order."""

    def __init__(self, cameras: tuple[str, ...]) -> None:
        self._cameras = cameras
        self._number = {name: i for i, name in enumerate(cameras)}
        self._who, self._mark = array("i"), array("b")
        self._stamp, self._log = array("q"), array("q")

    def add(self, item: EncodedFrame | Trigger) -> None:
        self._who.append(-1 if isinstance(item, Trigger) else self._number[item.camera])
        self._mark.append(0 if isinstance(item, Trigger) else _MARKS.index(item.unused))
        self._stamp.append(item.stamp_ns)
        self._log.append(item.log_ns)

    def pairs(self, camera: str | None) -> IntArray:
        """(N, 2) stamp and log time of a camera's frames, wild stamps left out; None: of the triggers."""
        own = np.array(self._who) == (-1 if camera is None else self._number[camera])
        own &= np.array(self._mark) != _MARKS.index("bad_stamp")
        return np.stack([np.array(self._stamp, np.int64)[own], np.array(self._log, np.int64)[own]], axis=1)

    def counts(self) -> dict[str, int]:
        who = np.array(self._who)
        return {name: int((who == i).sum()) for name, i in self._number.items()}

    def items(self) -> Iterator[EncodedFrame | Trigger]:
        nothing = StillPayload(b"")
        for who, mark, stamp, log in zip(self._who, self._mark, self._stamp, self._log, strict=True):
            if who < 0:
                yield Trigger(stamp, log)
            else:
                unused: Any = _MARKS[mark]
                yield EncodedFrame(self._cameras[who], stamp, log, nothing, "", 0, 0, 0, stamp, unused)


class _Gathering:
    """Keeps of the timesteps what is drawn."""

    def __init__(self, plan: SyncPlan) -> None:
        self.maker = FigureMaker(plan)
        self.grouped = {name: array("q") for name in plan.cameras}
        self.unused = {name: array("q") for name in plan.cameras}
        self.spreads = array("q")

    def add(self, frame_set: FrameSet) -> None:
        self.maker.add(frame_set)
        self._leave(frame_set.unused)
        for name, frame in frame_set.frames.items():
            if frame_set.status[name] != "held":
                self.grouped[name].extend((frame.stamp_ns, frame.stamp_ns - frame_set.stamp_ns))
        if sum(frame_set.status[name] != "held" for name in frame_set.frames) > 1:
            self.spreads.extend((frame_set.stamp_ns, spread_ns(frame_set)))

    def end(self, unused: tuple[UnusedFrame, ...]) -> None:
        self.maker.add_unused(unused)
        self._leave(unused)

    def _leave(self, unused: tuple[UnusedFrame, ...]) -> None:
        for frame in unused:
            if frame.reason != "bad_stamp":
                self.unused[frame.camera].append(frame.stamp_ns)


def look_at_sync(opened: OpenDrive, surveyors: Mapping[str, Surveyor] | None = None) -> SyncLook:
    """Read all of the log (no image is decoded), plan from all stamps, and group; `surveyors` see each frame.

    Raises:
        SyncError: the settings do not fit the whole log.
    """
    stamps = _Stamps(opened.selected)
    for item in opened.log.stream(opened.selected, *opened.span_ns):
        if isinstance(item, EgoPose | LidarSweep | CameraMount | CameraLens):
            continue
        stamps.add(item)
        if surveyors is not None and isinstance(item, EncodedFrame):
            surveyors[item.camera].take(item)
    samples = {name: stamps.pairs(name) for name in opened.selected}
    plan = plan_sync(
        samples,
        opened.settings,
        opened.selected,
        triggers=stamps.pairs(None),
        known=opened.log.cameras.keys(),
    )
    synchronizer = opened.synchronizer(plan)
    gathering = _Gathering(plan)
    for frame_set in synchronize(stamps.items(), synchronizer):
        gathering.add(frame_set)
    gathering.end(synchronizer.take_unused())
    notes = [*plan.notes, *_run_differs(opened.plan, plan)]
    if synchronizer.late_triggers:
        notes.append(f"{synchronizer.late_triggers} triggers came too late, or twice, and made no timestep")
    return SyncLook(
        plan=plan,
        figures=gathering.maker.result(),
        first_stamp_ns=opened.head.first_stamp_ns,
        frames=stamps.counts(),
        grouped_ns={name: _pairs(own) for name, own in gathering.grouped.items()},
        unused_ns={name: np.array(own, np.int64) for name, own in gathering.unused.items()},
        spreads_ns=_pairs(gathering.spreads),
        notes=tuple(dict.fromkeys(notes)),
    )


def _pairs(flat: array[int]) -> IntArray:
    return np.array(flat, np.int64).reshape(-1, 2)


def _run_differs(of_head: SyncPlan, exact: SyncPlan) -> list[str]:
    """Where a run, which sees the head of the log first, would group otherwise than is shown here."""
    first = "a run plans from the first seconds of the log"
    if of_head.reference != exact.reference:
        other, own = printable(of_head.reference), printable(exact.reference)
        return [
            f"{first}, where it takes {other} as the reference, not {own}: set sync.reference to {own} for it"
        ]
    notes = []
    tolerances = of_head.tolerance_ns / 1e6, exact.tolerance_ns / 1e6
    if abs(tolerances[0] - tolerances[1]) > 1:
        notes.append(
            f"{first}, where the tolerance comes out as {tolerances[0]:.1f} ms, not {tolerances[1]:.1f} ms: set "
            "sync.tolerance_ms to have it as shown here"
        )
    for name, offset_ns in exact.offset_ns.items():
        if abs(of_head.offset_ns[name] - offset_ns) > max(_DIFFERS_NS, 3 * exact.jitter_ns[name]):
            key = printable(name)
            notes.append(
                f"{first}, where {key} lies {of_head.offset_ns[name] / 1e6:+.1f} ms from the reference, not "
                f"{offset_ns / 1e6:+.1f} ms: set sync.offsets_ms.{key} to have it as shown here"
            )
    return notes


def sync_facts(look: SyncLook) -> dict[str, Any]:
    """The figures as plain JSON: null where a number is not known."""
    figures = look.figures
    return {
        "anchor": figures.anchor,
        "reference": figures.reference,
        "tolerance_ms": figures.tolerance_ms,
        "step_ms": look.plan.step_ns / 1e6,
        "timesteps": figures.timesteps,
        "complete": figures.complete,
        "incomplete": figures.timesteps - figures.complete,
        "spread_ms": _by_percentile(figures.spread_ms),
        "aligned_ms": _by_percentile(figures.aligned_ms),
        "histogram": [
            {"from_ms": low, "to_ms": _known(high), "timesteps": count}
            for low, high, count in zip(
                HISTOGRAM_EDGES_MS, HISTOGRAM_EDGES_MS[1:], figures.histogram, strict=False
            )
        ],
        "cameras": {name: _camera_facts(look, name) for name in figures.cameras},
        "tolerances": [
            {
                "tolerance_ms": row.tolerance_ms,
                "is_allowed": row.is_allowed,
                "complete": _known(row.complete, 4),
                "complete_without_offsets": _known(row.complete_without_offsets, 4),
                "matched": {name: _known(share, 4) for name, share in row.matched.items()},
            }
            for row in figures.tolerances
        ],
        "unused": dict(figures.unused),
        "recommendation": {
            "settings": dict(figures.recommendation.settings),
            "reasons": list(figures.recommendation.reasons),
        },
        "notes": list(look.notes),
    }


def _camera_facts(look: SyncLook, name: str) -> dict[str, Any]:
    camera, after = look.figures.cameras[name], look.grouped_ns[name][:, 1]
    return {
        "frames": look.frames[name],
        "coverage": _known(camera.coverage, 6),
        **{str(state): count for state, count in camera.status.items()},
        "period_ms": camera.period_ms,
        "offset_ms": camera.offset_ms,
        "jitter_ms": camera.jitter_ms,
        "after_ms": float(np.median(after)) / 1e6 if len(after) else None,
        "drift_ppm": round(camera.drift_ppm, 3),
        "drift_sd_ppm": _known(camera.drift_sd_ppm, 3),
        "gaps": [
            {
                "start_ns": gap.start_ns,
                "stop_ns": gap.stop_ns,
                "time_s": round((gap.start_ns - look.first_stamp_ns) / 1e9, 3),
                "duration_s": round((gap.stop_ns - gap.start_ns) / 1e9, 3),
                "missing": gap.missing,
            }
            for gap in camera.gaps
        ],
    }


def _by_percentile(values: Mapping[int, float]) -> dict[str, float]:
    return {"max" if p == 100 else f"p{p}": value for p, value in values.items()}


def _known(value: float, digits: int = 9) -> float | None:
    """A number that JSON can hold; None for infinity and NaN."""
    return round(value, digits) if math.isfinite(value) else None
