"""What is decided about a drive's clocks before its frames are grouped, from a sample of stamps.

The plan is made once, from the head of the log, and frozen: a drive that is cut into pieces is grouped
alike in each. Offsets found here group frames; they never change a stamp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.config import SyncConfig
from perception_batch.errors import SyncError, printable

DEFAULT_TOLERANCE_NS = 100_000_000
_STAMPS_USED = 2000  # of each camera; more do not change a median

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """How the frames of a drive are grouped."""

    cameras: tuple[str, ...]
    """All selected cameras, in the order of output."""
    reference: str
    """The camera whose frames make the timesteps."""
    tolerance_ns: int
    """Largest distance of a frame from its timestep, after its camera's offset."""
    period_ns: Mapping[str, int]
    """Median time between frames, by camera; 0 where there are fewer than two frames."""
    offset_ns: Mapping[str, int]
    """Constant offset to the reference, by camera: the median phase of its frames."""
    jitter_ns: Mapping[str, int]
    """Spread of the phase about the offset, by camera: 1.4826 times its median absolute deviation."""
    first_ns: Mapping[str, int]
    """First stamp of the sample, by camera; tells when a slow camera is due. Absent without a frame."""
    latency_ns: int
    """Largest usual delay from a stamp to its log time in the sample."""
    window_ns: int
    """How long a frame waits for others, beyond the latency."""
    notes: tuple[str, ...]
    """What the user should know, one line each."""


def plan_sync(
    samples: Mapping[str, Sequence[tuple[int, int]]], settings: SyncConfig, cameras: Sequence[str] = ()
) -> SyncPlan:
    """Decide reference, offsets and tolerance from a sample of (stamp_ns, log_ns) pairs of each camera.

    Args:
        samples: by camera; a camera without a frame in the sample has an empty list.
        settings: the `sync` section.
        cameras: order of the cameras; default the order of `samples`.

    Raises:
        SyncError: the reference is unknown or has no frames, or the tolerance is not below half its period.
    """
    names = tuple(cameras) or tuple(samples)
    stamps = {name: _unique([stamp for stamp, _ in samples.get(name, ())]) for name in names}
    period = {name: _period(stamps[name]) for name in names}
    notes: list[str] = []
    reference = _choose_reference(stamps, period, settings.reference)
    offset: dict[str, int] = {}
    jitter: dict[str, int] = {}
    for name in names:
        phase, spread = _phase(stamps[name], stamps[reference], period[name], period[reference])
        shorter = min((p for p in (period[name], period[reference]) if p), default=0)
        if name != reference and shorter and spread > 0.2 * shorter:
            notes.append(
                f"{printable(name)} has no constant phase to {printable(reference)} "
                f"(spread {spread / 1e6:.1f} ms): grouped without an offset"
            )
            phase = 0
        offset[name], jitter[name] = phase, spread
    if not period[reference]:
        offset = dict.fromkeys(names, 0)
        notes.append(
            f"{printable(reference)} has a single frame in the sample, so no period: tolerance "
            f"{DEFAULT_TOLERANCE_NS // 1_000_000} ms and no estimated offsets"
        )
    notes += [f"{printable(name)} has no frame in the sample" for name in names if not len(stamps[name])]
    tolerance = _tolerance(settings, period[reference], reference)
    delays = [log - stamp - offset[name] for name in names for stamp, log in samples.get(name, ())]
    return SyncPlan(
        cameras=names,
        reference=reference,
        tolerance_ns=tolerance,
        period_ns=period,
        offset_ns=offset,
        jitter_ns=jitter,
        first_ns={name: int(stamps[name][0]) for name in names if len(stamps[name])},
        latency_ns=_usual_largest(delays),
        window_ns=round(2.5 * period[reference]) + 2 * tolerance + 100_000_000,
        notes=tuple(notes),
    )


def _unique(stamps: Sequence[int]) -> IntArray:
    return np.unique(np.asarray(stamps[:_STAMPS_USED], np.int64))


def _period(stamps: IntArray) -> int:
    gaps = np.diff(stamps)
    return int(np.median(gaps)) if len(gaps) else 0


def _usual_largest(delays_ns: list[int]) -> int:
    """Largest delay, leaving out those that are more than 5 s from the median (bad stamps)."""
    if not delays_ns:
        return 0
    middle = sorted(delays_ns)[len(delays_ns) // 2]
    return max(d for d in delays_ns if abs(d - middle) <= 5_000_000_000)


def _nearest_difference(a: IntArray, b: IntArray) -> IntArray:
    """For each of `a`, its distance from the nearest of `b` (both sorted, not empty)."""
    i = np.searchsorted(b, a)
    before, after = b[np.clip(i - 1, 0, len(b) - 1)], b[np.clip(i, 0, len(b) - 1)]
    return np.where(np.abs(a - before) <= np.abs(a - after), a - before, a - after)


def _phase(
    camera: IntArray, reference: IntArray, camera_period: int, reference_period: int
) -> tuple[int, int]:
    """Median phase of `camera` after `reference` and its robust spread, both ns.

    The slower of the two is compared with the nearest frames of the faster. Differences are unwrapped about
    their circular mean first, so a stagger near half a period does not fall apart into two halves.
    """
    if not len(camera) or not len(reference):
        return 0, 0
    if camera_period and reference_period and camera_period < 0.75 * reference_period:
        difference, period = -_nearest_difference(reference, camera), camera_period
    else:
        difference, period = _nearest_difference(camera, reference), reference_period
    if period:
        angle = difference * (2 * math.pi / period)
        centre = math.atan2(np.sin(angle).mean(), np.cos(angle).mean()) * period / (2 * math.pi)
        difference = np.rint((difference - centre + period / 2) % period - period / 2 + centre).astype(
            np.int64
        )
    middle = float(np.median(difference))
    return round(middle), round(1.4826 * float(np.median(np.abs(difference - middle))))


def _choose_reference(stamps: Mapping[str, IntArray], period: Mapping[str, int], wanted: str) -> str:
    """The named camera, or of the fast and complete ones that with the smallest largest phase to the others."""
    seen = [name for name in stamps if len(stamps[name])]
    if wanted != "auto":
        if wanted not in stamps:
            raise SyncError(
                f"sync.reference is {printable(wanted)!r}; the cameras are {', '.join(map(printable, stamps))}"
            )
        if wanted not in seen:
            raise SyncError(
                f"sync.reference {printable(wanted)!r} has no frame in the sampled part of the log"
            )
        return wanted
    if not seen:
        raise SyncError("no camera has a frame in the sampled part of the log: nothing to synchronise")
    most = max(len(stamps[name]) for name in seen)
    # One frame more or less is the sample's edge; a slower or lossy camera has clearly fewer than the most.
    complete = [name for name in seen if len(stamps[name]) >= 0.8 * most - 1]

    def cost(name: str) -> tuple[int, int, str]:
        phases = [abs(_phase(stamps[c], stamps[name], period[c], period[name])[0]) for c in seen if c != name]
        return round(max(phases, default=0) / 1e6), -len(stamps[name]), name

    return min(complete, key=cost)


def _tolerance(settings: SyncConfig, period_ns: int, reference: str) -> int:
    if settings.tolerance_ms == "auto":
        return min(round(0.45 * period_ns), DEFAULT_TOLERANCE_NS) if period_ns else DEFAULT_TOLERANCE_NS
    tolerance = round(settings.tolerance_ms * 1e6)
    if period_ns and 2 * tolerance >= period_ns:
        raise SyncError(
            f"sync.tolerance_ms is {settings.tolerance_ms:g}; it must stay below {period_ns / 2e6:.1f}, half the "
            f"median period of the reference {printable(reference)}, or a frame could belong to two timesteps"
        )
    return tolerance
