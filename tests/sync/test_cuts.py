"""The same data cut anywhere gives the same timesteps, given the plan and reading that begins its lead-in early."""

from __future__ import annotations

import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync.stamp_drive import MS, T0, TOPIC, frame, samples_of

from perception_batch.config import SyncConfig
from perception_batch.sync import Synchronizer, plan_sync, synchronize
from perception_batch.types import EncodedFrame, Trigger

Anchors = Literal["reference", "grid", "tightest", "trigger"]


def random_rig(seed: int) -> tuple[list[EncodedFrame], list[Trigger]]:
    """Up to six cameras, some slower or faster, with jitter, drops, outages, duplicates, late messages and drift."""
    rng = random.Random(seed)
    period = rng.choice([33.3, 50.0, 100.0])
    frames, triggers = [], []
    seconds = rng.uniform(4, 9)
    for c in range(rng.randint(1, 6)):
        own = period * rng.choice([1, 1, 1, 1, 2, 3, 0.5])
        phase, jitter, drop = (
            rng.uniform(0, 0.5) * period,
            rng.choice([0, 0.02, 0.06]) * period,
            rng.choice([0, 0.05, 0.2]),
        )
        out_from, out_s = rng.uniform(0, seconds), rng.choice([0, 0, 0.5, 2.0])
        drift = rng.choice([0, 0, 30e-6])
        for i in range(int(seconds * 1000 / own)):
            since = i * own + phase + rng.uniform(-jitter, jitter)
            if rng.random() < drop or out_from <= since / 1e3 < out_from + out_s:
                continue
            stamp = T0 + round(since * (1 + drift) * MS)
            frames.append(frame(f"cam_{c}", stamp, stamp + round(rng.uniform(5, 30) * MS)))
            if rng.random() < 0.01:
                frames.append(frame(f"cam_{c}", stamp + rng.choice([0, 1000]), stamp + 40 * MS))
    for i in range(int(seconds * 1000 / period)):
        if rng.random() > 0.03:
            stamp = T0 + round(i * period * MS)
            triggers.append(Trigger(stamp, stamp + 3 * MS))
    return frames, triggers


@pytest.mark.parametrize("anchor", ["reference", "grid", "tightest", "trigger"])
@given(
    seed=st.integers(0, 100_000),
    part=st.floats(0, 0.6),
    policy=st.sampled_from(["keep", "drop", "hold"]),
    rate=st.sampled_from([None, None, 4.0]),
)
@settings(max_examples=60, deadline=None)
def test_a_late_start_finds_the_same_timesteps(
    anchor: Anchors, seed: int, part: float, policy: Literal["keep", "drop", "hold"], rate: float | None
) -> None:
    frames, triggers = random_rig(seed)
    if len({f.camera for f in frames}) == 0 or len(triggers) < 2:
        return
    config = SyncConfig(anchor=anchor, trigger_topic=TOPIC, policy=policy, rate_hz=rate, drift="correct")
    plan = plan_sync(samples_of(frames), config, triggers=[(t.stamp_ns, t.log_ns) for t in triggers])

    def run(items: list[EncodedFrame | Trigger]) -> list[tuple[int, dict[str, int], dict[str, str]]]:
        sets = synchronize(sorted(items, key=lambda x: x.log_ns), Synchronizer(plan, config))
        return [(s.stamp_ns, {n: f.stamp_ns for n, f in s.frames.items()}, dict(s.status)) for s in sets]

    items = [*frames, *triggers]
    last = max(f.stamp_ns for f in frames)
    cut_ns = T0 + round((last - T0) * part) + plan.lead_in_ns
    whole = [x for x in run(items) if x[0] >= cut_ns]
    late = [x for x in run([x for x in items if x.stamp_ns >= cut_ns - plan.lead_in_ns]) if x[0] >= cut_ns]
    assert late == whole


@pytest.mark.parametrize("anchor", ["reference", "grid", "tightest", "trigger"])
@given(seed=st.integers(0, 100_000))
@settings(max_examples=25, deadline=None)
def test_nothing_is_lost_or_used_twice(anchor: Anchors, seed: int) -> None:
    frames, triggers = random_rig(seed)
    if not frames or len(triggers) < 2:
        return
    config = SyncConfig(anchor=anchor, trigger_topic=TOPIC)
    plan = plan_sync(samples_of(frames), config, triggers=[(t.stamp_ns, t.log_ns) for t in triggers])
    synchronizer = Synchronizer(plan, config)
    sets = list(synchronize(sorted([*frames, *triggers], key=lambda x: x.log_ns), synchronizer))
    unused = [u for s in sets for u in s.unused] + list(synchronizer.take_unused())
    used = [f for s in sets for f in s.frames.values()]
    assert len({id(f) for f in used}) == len(used)
    got = sorted([(f.camera, f.stamp_ns) for f in used] + [(u.camera, u.stamp_ns) for u in unused])
    assert got == sorted((f.camera, f.stamp_ns) for f in frames)
    for s in sets:
        times = [plan.time_ns(n, f.stamp_ns) for n, f in s.frames.items()]
        if anchor == "tightest" and all(plan.period_ns[n] >= 0.75 * plan.step_ns for n in s.frames):
            assert max(times) - min(times) <= plan.tolerance_ns
        elif anchor != "tightest":
            assert all(abs(t - s.stamp_ns) <= plan.tolerance_ns for t in times)


@pytest.mark.parametrize("anchor", ["reference", "grid", "tightest", "trigger"])
@given(seed=st.integers(0, 100_000), stride=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_when_it_is_asked_does_not_matter(anchor: Anchors, seed: int, stride: int) -> None:
    """Log times that come in bunches settle other numbers of frames at once, and change nothing."""
    frames, triggers = random_rig(seed)
    if not frames or len(triggers) < 2:
        return
    config = SyncConfig(anchor=anchor, trigger_topic=TOPIC)
    plan = plan_sync(samples_of(frames), config, triggers=[(t.stamp_ns, t.log_ns) for t in triggers])
    items = sorted([*frames, *triggers], key=lambda x: x.log_ns)

    def run(every: int) -> list[tuple[int, dict[str, int]]]:
        synchronizer = Synchronizer(plan, config)
        synchronizer._stride_ns *= every  # it looks less often
        return [
            (s.stamp_ns, {n: f.stamp_ns for n, f in s.frames.items()})
            for s in synchronize(items, synchronizer)
        ]

    assert run(stride) == run(1)
