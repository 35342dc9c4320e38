"""What is decided about a drive's clocks before its frames are grouped, from a sample of stamps.

The plan is made once and frozen: a drive that is cut into pieces is grouped alike in each. Offsets and drifts found
here group frames; they never change a stamp.

What stamps cannot tell: a stagger beyond half a period from the shorter one the other way round, and a camera that
fires 40 ms late from one whose driver stamps 40 ms late. The first is settled by `sync.offsets_ms`, the second by
`cameras.<name>.stamp_offset_ms`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from perception_batch.config import SyncConfig
from perception_batch.errors import printable
from perception_batch.sync.clocks import Clocks, compare_clocks
from perception_batch.sync.demands import (
    DEFAULT_TOLERANCE_NS,
    check_overlap,
    check_settings,
    choose_reference,
    grid_step,
    tolerance,
)
from perception_batch.sync.sample import Pairs, Sample

PHASE_KEEPS = 4
"""Periods for which the last frame of a slow camera tells when its next ones are due."""


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """How the frames of a drive are grouped."""

    cameras: tuple[str, ...]
    """All selected cameras, in the order of output."""
    anchor: str
    """What makes the timesteps: ``reference``, ``grid``, ``tightest`` or ``trigger``."""
    reference: str
    """The camera whose clock the others are compared with; whose frames make the timesteps of anchor ``reference``."""
    step_ns: int
    """Usual time between timesteps: the reference's period, the trigger's, or the grid's; 0 where unknown."""
    tolerance_ns: int
    """Largest distance of a frame from its timestep (``tightest``: of two frames of one), after the offsets."""
    period_ns: Mapping[str, int]
    """Median time between frames, by camera; 0 where there are fewer than two frames."""
    offset_ns: Mapping[str, int]
    """By camera, at `epoch_ns`: how long after the reference (the trigger) it fires; configured, or its usual phase."""
    jitter_ns: Mapping[str, int]
    """Spread of the phase about the offset, by camera: 1.4826 times its median absolute deviation."""
    drift_ppm: Mapping[str, float]
    """By camera: how much faster its clock runs than the reference's (the trigger's); 0 where it cannot be told."""
    drift_sd_ppm: Mapping[str, float]
    """Standard error of `drift_ppm`; infinite where the sample is too short to tell."""
    corrected_ppm: Mapping[str, float]
    """The drift that grouping takes off, by camera; 0 unless `sync.drift` says so and it is beyond three errors."""
    epoch_ns: int
    """First stamp of the train that makes the timesteps, in the sample."""
    first_ns: Mapping[str, int]
    """First stamp of the sample, by camera; tells when a slow camera is due. Absent without a frame."""
    latency_ns: int
    """Largest usual delay from a stamp to its log time in the sample."""
    window_ns: int
    """How long a frame waits for others, beyond the latency."""
    lead_in_ns: int
    """Reading that begins this long before a time gives from there on the timesteps that reading it all gives."""
    notes: tuple[str, ...]
    """What the user should know, one line each."""

    def time_ns(self, camera: str, stamp_ns: int) -> int:
        """When the reference would have fired with the camera's frame of this stamp."""
        time_ns = stamp_ns - self.offset_ns[camera]
        ppm = self.corrected_ppm[camera]
        return time_ns - round((stamp_ns - self.epoch_ns) * ppm / 1e6) if ppm else time_ns


def plan_sync(
    samples: Mapping[str, Pairs],
    settings: SyncConfig,
    cameras: Sequence[str] = (),
    *,
    triggers: Pairs = (),
    known: Collection[str] = (),
    duration_ns: int = 0,
) -> SyncPlan:
    """Decide reference, offsets and tolerance from a sample of (stamp_ns, log_ns) pairs of each camera.

    Args:
        samples: by camera; a camera without a frame in the sample has an empty list. The head of the log, or all
            of it, or stretches of it: what drifts shows in long ones only.
        settings: the `sync` section.
        cameras: order of the cameras; default the order of `samples`.
        triggers: the same of the topic `settings.trigger_topic`; only anchor ``trigger`` looks at them.
        known: further cameras of the log, which settings may name although they are not selected.
        duration_ns: length of the drive, to tell what a drift will have become at its end; 0: as the sample.

    Raises:
        SyncError: a setting names what is not there, the tolerance is not below half the timesteps' period, or
            a camera's stamps and the reference's have no time in common.
    """
    names = tuple(cameras) or tuple(samples)
    check_settings(settings, names, known)
    own = {name: Sample.of(samples.get(name, ())) for name in names}
    reference = choose_reference(own, settings.reference)
    train = Sample.of(triggers) if settings.anchor == "trigger" else own[reference]
    notes = [f"{printable(name)} has no frame in the sample" for name in names if not len(own[name])]
    notes += check_overlap(own, reference, settings, train)
    step = grid_step(settings, own[reference].period_ns) if settings.anchor == "grid" else train.period_ns
    tolerance_ns = tolerance(settings, step, reference, own[reference].period_ns)
    clocks = compare_clocks(own, train, reference, settings, notes)
    if not train.period_ns:
        notes.append(_no_period(reference, settings))
    notes += _about_drift(clocks, settings, tolerance_ns, duration_ns or train.span_ns)
    period = {name: own[name].period_ns for name in names}
    delays = [own[name].delays_ns + clocks.offset_ns[name] for name in names]
    if settings.anchor == "trigger":
        delays.append(train.delays_ns)
    wait = round(2.5 * step) if settings.anchor == "reference" else 0
    window_ns = wait + 2 * tolerance_ns + 100_000_000
    slow = max((p for p in period.values() if p > step), default=0)
    held = round(settings.hold_max_age_ms * 1e6) if settings.policy == "hold" else 0
    return SyncPlan(
        cameras=names,
        anchor=settings.anchor,
        reference=reference,
        step_ns=step,
        tolerance_ns=tolerance_ns,
        period_ns=period,
        offset_ns=clocks.offset_ns,
        jitter_ns=clocks.jitter_ns,
        drift_ppm=clocks.drift_ppm,
        drift_sd_ppm=clocks.drift_sd_ppm,
        corrected_ppm=clocks.corrected_ppm,
        epoch_ns=clocks.epoch_ns,
        first_ns={name: int(own[name].stamps_ns[0]) for name in names if len(own[name])},
        latency_ns=Sample.usual_largest(delays),
        window_ns=window_ns,
        lead_in_ns=2 * window_ns + (PHASE_KEEPS + 1) * slow + held + max(map(abs, clocks.offset_ns.values())),
        notes=tuple(notes),
    )


def _no_period(reference: str, settings: SyncConfig) -> str:
    one = f"topic {printable(settings.trigger_topic)} has a single message"
    if settings.anchor != "trigger":
        one = f"{printable(reference)} has a single frame"
    return f"{one} in the sample, so no period: tolerance {DEFAULT_TOLERANCE_NS // 1_000_000} ms and no estimated offsets"


def _about_drift(clocks: Clocks, settings: SyncConfig, tolerance_ns: int, duration_ns: int) -> list[str]:
    """Lines on clocks that run apart, where that matters for this drive."""
    notes = []
    for name, ppm in clocks.drift_ppm.items():
        sd = clocks.drift_sd_ppm[name]
        moved_ns, unsure_ns = ppm * duration_ns / 1e6, sd * duration_ns / 1e6
        who = f"{printable(name)}: its clock runs {ppm:+.1f} ppm (+-{sd:.1f}) against the others'"
        if clocks.corrected_ppm[name]:
            if unsure_ns > tolerance_ns / 2:
                notes.append(
                    f"{who}, taken off; over {duration_ns / 1e9:.0f} s that is uncertain by {unsure_ns / 1e6:.0f} ms: "
                    "a sample over the whole drive tells better"
                )
        elif abs(ppm) > 3 * sd and abs(moved_ns) > tolerance_ns / 4:
            notes.append(
                f"{who}: {moved_ns / 1e6:.0f} ms over {duration_ns / 1e9:.0f} s of a tolerance of {tolerance_ns / 1e6:.0f} ms; "
                "sync.drift: correct takes it off"
            )
        elif settings.drift == "correct" and 3 * unsure_ns > tolerance_ns / 2:
            small = "a drift" if math.isinf(sd) else f"a drift below {3 * sd:.0f} ppm"
            notes.append(
                f"{printable(name)}: {small} cannot be told from this sample and is not corrected; "
                "a sample over the whole drive tells better"
            )
    return notes
