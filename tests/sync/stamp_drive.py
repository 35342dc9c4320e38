"""Drives of stamps for the tests of grouping: what belongs together is known."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perception_batch.config import SyncConfig
from perception_batch.sync import Synchronizer, SyncPlan, plan_sync, synchronize
from perception_batch.types import EncodedFrame, FrameSet, StillPayload, Trigger, UnusedFrame

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
TOPIC = "/trigger"


def frame(
    camera: str, stamp_ns: int, log_ns: int | None = None, stamp_ok: bool = True, n: int = 0
) -> EncodedFrame:
    """A frame of 100 bytes; 15 ms late in the log."""
    log_ns = stamp_ns + 15 * MS if log_ns is None else log_ns
    reason = "" if stamp_ok else "bad_stamp"
    payload = StillPayload(b"x" * 100)
    return EncodedFrame(camera, stamp_ns, log_ns, payload, "jpeg", n, 4, 4, stamp_ns, reason)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Grouped:
    """What came out."""

    sets: list[FrameSet]
    unused: list[UnusedFrame]

    def members(self) -> list[dict[str, int]]:
        """Stamps by camera of each timestep."""
        return [{name: f.stamp_ns for name, f in s.frames.items()} for s in self.sets]


@dataclass(frozen=True)
class Drive:
    """What the cameras gave."""

    frames: list[EncodedFrame]
    truth: list[dict[str, int]]
    """Per cycle: the stamps that belong together."""
    triggers: list[Trigger] = field(default_factory=list)


def make_drive(
    *,
    cameras: int = 6,
    cycles: int = 60,
    period_ms: float = 100.0,
    stagger_ms: float = 42.0,
    jitter_ms: float = 5.0,
    drop: float = 0.0,
    seed: int = 0,
    delay_ms: float = 0.0,
    drift_ppm: Mapping[str, float] | None = None,
) -> Drive:
    """Staggered cameras with jitter (full width) and drops; one trigger cycle is one timestep.

    `delay_ms` lies between the trigger and the first camera; `drift_ppm` by camera is of its clock.
    """
    rng = random.Random(seed)
    frames, truth, triggers = [], [], []
    for cycle in range(cycles):
        together = {}
        cycle_ns = T0 + round(cycle * period_ms * MS)
        triggers.append(Trigger(cycle_ns, cycle_ns + 2 * MS))
        for c in range(cameras):
            if rng.random() < drop:
                continue
            name = f"cam_{c}"
            at_ms = cycle * period_ms + delay_ms + c * stagger_ms / max(1, cameras - 1)
            since = (at_ms + rng.uniform(-jitter_ms, jitter_ms) / 2) * MS
            stamp = T0 + round(since * (1 + (drift_ppm or {}).get(name, 0.0) / 1e6))
            together[name] = stamp
            frames.append(frame(name, stamp, T0 + round(since + rng.uniform(5, 30) * MS)))
        if together:
            truth.append(together)
    return Drive(frames, truth, triggers)


def samples_of(
    frames: Sequence[EncodedFrame], cameras: Sequence[str] = ()
) -> dict[str, list[tuple[int, int]]]:
    """All frames as a sample."""
    names = list(cameras) or sorted({f.camera for f in frames})
    return {n: [(f.stamp_ns, f.log_ns) for f in frames if f.camera == n and f.stamp_ok] for n in names}


def plan_of(drive: Drive, config: SyncConfig) -> SyncPlan:
    """The plan from all that a drive has."""
    return plan_sync(
        samples_of(drive.frames), config, triggers=[(t.stamp_ns, t.log_ns) for t in drive.triggers]
    )


def run(items: Sequence[EncodedFrame | Trigger], synchronizer: Synchronizer) -> Grouped:
    """Group in log order."""
    sets = list(synchronize(sorted(items, key=lambda item: item.log_ns), synchronizer))
    unused = [u for s in sets for u in s.unused] + list(synchronizer.take_unused())
    return Grouped(sets, unused)


def group(
    frames: Sequence[EncodedFrame],
    config: SyncConfig | None = None,
    cameras: Sequence[str] = (),
    start_ns: int | None = None,
    stop_ns: int | None = None,
) -> Grouped:
    """Plan from all frames, then group them in log order."""
    config = config or SyncConfig()
    plan = plan_sync(samples_of(frames, cameras), config)
    return run(frames, Synchronizer(plan, config, start_ns, stop_ns))


def group_drive(drive: Drive, config: SyncConfig) -> Grouped:
    """Plan from all that a drive has, triggers too, then group it."""
    return run([*drive.frames, *drive.triggers], Synchronizer(plan_of(drive, config), config))


def check_accounts(frames: Sequence[EncodedFrame], grouped: Grouped) -> None:
    """Every frame came out once, but for held ones; timesteps are in order."""
    used = [f for s in grouped.sets for n, f in s.frames.items() if s.status[n] != "held"]
    assert len({id(f) for f in used}) == len(used), "a frame was used twice"
    assert len(used) + len(grouped.unused) == len(frames)
    there = sorted([(f.camera, f.stamp_ns) for f in used] + [(u.camera, u.stamp_ns) for u in grouped.unused])
    assert there == sorted((f.camera, f.stamp_ns) for f in frames)
    assert [s.index for s in grouped.sets] == list(range(len(grouped.sets)))
    stamps = [s.stamp_ns for s in grouped.sets]
    assert stamps == sorted(set(stamps))
    for s in grouped.sets:
        assert {n for n, state in s.status.items() if state in ("ok", "held")} == set(s.frames)
