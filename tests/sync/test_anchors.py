"""What makes the timesteps: each kind against what belongs together, and against slow, obvious ways."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync.stamp_drive import (
    MS,
    T0,
    TOPIC,
    Drive,
    check_accounts,
    frame,
    group,
    group_drive,
    make_drive,
    plan_of,
    run,
    samples_of,
)

from perception_batch.config import SyncConfig
from perception_batch.simulate.settings import Faults, SimulateSettings
from perception_batch.simulate.timing import plan as fire
from perception_batch.sync import Synchronizer, plan_sync
from perception_batch.sync.partition import Tightest, boundaries, partition
from perception_batch.types import EncodedFrame, Trigger

Anchors = Literal["reference", "grid", "tightest", "trigger"]


def simulated(seed: int, **faults: float) -> Drive:
    """A minute of the simulator's clock and trigger, without its pictures."""
    drive = Drive([], [], [])
    for cycle in fire(SimulateSettings(duration_s=60, seed=seed, faults=Faults(**faults))):
        drive.triggers.append(Trigger(cycle.cycle_ns, cycle.cycle_ns + 2 * MS))
        shots = [shot for shot in cycle.shots if shot.log_ns]
        drive.frames.extend(frame(shot.camera, shot.stamp_ns, shot.log_ns) for shot in shots)
        if shots:
            drive.truth.append({shot.camera: shot.stamp_ns for shot in shots})
    return drive


@pytest.mark.parametrize("anchor", ["reference", "tightest", "trigger"])
@pytest.mark.parametrize("seed", range(3))
def test_every_timestep_holds_exactly_what_belongs_together(anchor: Anchors, seed: int) -> None:
    """42 ms of stagger, jitter of 5 ms standard deviation, 5 % of all cameras' frames lost."""
    drive = simulated(seed, stagger_ms=42.0, jitter_ms=5.0, drop=0.05)
    config = SyncConfig(anchor=anchor, trigger_topic=TOPIC)
    grouped = group_drive(drive, config)
    check_accounts(drive.frames, grouped)
    assert grouped.members() == drive.truth
    assert not grouped.unused
    # What the head of the log tells is enough for that.
    head = plan_of(
        Drive(
            [f for f in drive.frames if f.stamp_ns < drive.triggers[100].stamp_ns], [], drive.triggers[:100]
        ),
        config,
    )
    assert run([*drive.frames, *drive.triggers], Synchronizer(head, config)).members() == drive.truth


@pytest.mark.parametrize("delay_ms", [0.0, 15.0, 30.0, 60.0, 85.0])
def test_cameras_of_one_burst_stay_together_whatever_their_delay_after_the_trigger(delay_ms: float) -> None:
    drive = make_drive(delay_ms=delay_ms, drop=0.05, seed=3)
    grouped = group_drive(drive, SyncConfig(anchor="trigger", trigger_topic=TOPIC))
    check_accounts(drive.frames, grouped)
    # The last cycle's burst may belong to a trigger that never came, and the first one's to one before the log.
    whole = [m for m in grouped.members() if m in drive.truth]
    assert len(whole) >= len(drive.truth) - 1
    assert len(grouped.sets) - len(whole) <= 1


def test_a_trigger_makes_its_timestep_and_nothing_else_does() -> None:
    drive = make_drive(cycles=30, jitter_ms=2)
    some = [t for i, t in enumerate(drive.triggers) if i not in (7, 8, 20)]
    late = Trigger(some[3].stamp_ns, some[3].log_ns + 5000 * MS)
    synchronizer = Synchronizer(
        plan_of(drive, config := SyncConfig(anchor="trigger", trigger_topic=TOPIC)), config
    )
    grouped = run([*drive.frames, *some, late], synchronizer)
    check_accounts(drive.frames, grouped)
    assert [s.stamp_ns for s in grouped.sets] == [t.stamp_ns for t in some]
    assert {u.reason for u in grouped.unused} <= {"no_anchor", "out_of_tolerance"}
    assert len(grouped.unused) == 18
    assert synchronizer.late_triggers == 1


def test_triggers_without_frames_do_not_pile_up() -> None:
    config = SyncConfig(anchor="trigger", trigger_topic=TOPIC)
    drive = make_drive(cycles=20)
    synchronizer = Synchronizer(plan_of(drive, config), config)
    for i in range(30_000):
        assert synchronizer.push_trigger(Trigger(T0 + i * MS, T0 + i * MS)) == []
    assert synchronizer._triggers.count < 20_001


def test_other_anchors_ignore_triggers() -> None:
    synchronizer = Synchronizer(plan_of(drive := make_drive(cycles=20), SyncConfig()), SyncConfig())
    assert run([*drive.frames, *drive.triggers], synchronizer).members() == drive.truth


# ---------------------------------------------------------------------- grid


@given(
    seed=st.integers(0, 10_000),
    hz=st.sampled_from([3.0, 7.0, 10.0, 16.0]),
    stagger_ms=st.floats(0, 45),
    drop=st.floats(0, 0.3),
)
@settings(max_examples=40, deadline=None)
def test_grid_is_the_nearest_frame_of_each_window(
    seed: int, hz: float, stagger_ms: float, drop: float
) -> None:
    drive = make_drive(seed=seed, cameras=3, cycles=40, stagger_ms=stagger_ms, drop=drop)
    config = SyncConfig(anchor="grid", grid_hz=hz)
    plan = plan_sync(samples_of(drive.frames), config)
    step = round(1e9 / hz)
    windows: dict[int, dict[str, int]] = {}
    for f in drive.frames:
        at = plan.time_ns(f.camera, f.stamp_ns)
        k = (at + step // 2) // step
        if abs(at - k * step) > plan.tolerance_ns:
            windows.setdefault(k, {})
            continue
        own = windows.setdefault(k, {})
        rival = own.get(f.camera)
        if rival is None or abs(at - k * step) < abs(plan.time_ns(f.camera, rival) - k * step):
            own[f.camera] = f.stamp_ns
    grouped = run(drive.frames, Synchronizer(plan, config))
    check_accounts(drive.frames, grouped)
    expected = [(k * step, own) for k, own in sorted(windows.items()) if own]
    assert [(s.stamp_ns, m) for s, m in zip(grouped.sets, grouped.members(), strict=True)] == expected


def test_a_grid_of_the_reference_has_a_round_rate() -> None:
    drive = make_drive(cameras=2, cycles=100, jitter_ms=3.0, period_ms=99.9)
    plan = plan_sync(samples_of(drive.frames), SyncConfig(anchor="grid"))
    assert plan.step_ns == 100 * MS
    assert plan.tolerance_ns == 50 * MS
    assert all(s.stamp_ns % (100 * MS) == 0 for s in group(drive.frames, SyncConfig(anchor="grid")).sets)


# ---------------------------------------------------------------------- tightest


def all_groupings(entries: Sequence[tuple[int, str]], limit: int) -> Iterator[list[list[int]]]:
    """Every way to put entries into groups, contiguous or not, within the rules."""

    def extend(i: int, groups: list[list[int]]) -> Iterator[list[list[int]]]:
        if i == len(entries):
            yield [list(g) for g in groups]
            return
        time, camera = entries[i]
        for g in groups:
            if time - entries[g[0]][0] <= limit and all(entries[k][1] != camera for k in g):
                g.append(i)
                yield from extend(i + 1, groups)
                g.pop()
        groups.append([i])
        yield from extend(i + 1, groups)
        groups.pop()

    yield from extend(0, [])


def cost(entries: Sequence[tuple[int, str]], groups: Sequence[Sequence[int]]) -> tuple[int, int]:
    return len(groups), sum(entries[g[-1]][0] - entries[g[0]][0] for g in groups)


def random_entries(seed: int, n: int, limit: int, span: int) -> list[tuple[int, str]]:
    """Frames of four cameras, two of one camera farther apart than the limit."""
    rng = random.Random(seed)
    last: dict[str, int] = {}
    out = []
    for time in sorted(rng.randrange(span) for _ in range(n)):
        camera = rng.choice("abcd")
        if time - last.get(camera, -span) > limit:
            last[camera] = time
            out.append((time, camera))
    return out


@given(seed=st.integers(0, 10**6), limit=st.integers(0, 30), span=st.integers(10, 120))
@settings(max_examples=150, deadline=None)
def test_no_grouping_at_all_is_tighter(seed: int, limit: int, span: int) -> None:
    entries = random_entries(seed, 9, limit, span)
    best = min((cost(entries, g) for g in all_groupings(entries, limit)), default=(0, 0))
    ends = boundaries(partition(entries, limit)[0], len(entries))
    groups = [list(range(a, b)) for a, b in zip([0, *ends], ends, strict=False)]
    assert cost(entries, groups) == best
    for g in groups:
        assert len({entries[i][1] for i in g}) == len(g)


@given(seed=st.integers(0, 10**6), limit=st.integers(5, 30), span=st.integers(500, 4000))
@settings(max_examples=60, deadline=None)
def test_the_stream_gives_the_optimum_of_the_whole(seed: int, limit: int, span: int) -> None:
    """Dense trains without any pause: boundaries must be found certain on the way."""
    entries = random_entries(seed, 600, limit, span)
    stream = Tightest(limit)
    got = [group for time, camera in entries for group in stream.add(time, camera)]
    most_open = len(stream.open)
    got += stream.close()
    ends = boundaries(partition(entries, limit)[0], len(entries))
    assert got == [entries[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert most_open < 300


def test_tightest_is_globally_so_where_nearest_is_not() -> None:
    """Groups begin where the whole is tightest, not where the first frame happens to be."""
    a, b = [0, 40, 80, 120], [36, 76, 116, 156]
    frames = [frame("a", T0 + t * MS) for t in a] + [frame("b", T0 + t * MS) for t in b]
    grouped = group(frames, SyncConfig(anchor="tightest", offsets_ms={"a": 0, "b": 0}, tolerance_ms=10))
    assert [sorted((t - T0) // MS for t in m.values()) for m in grouped.members()] == [
        [0],
        [36, 40],
        [76, 80],
        [116, 120],
        [156],
    ]


def test_a_faster_camera_joins_the_tightest_groups() -> None:
    fast = [frame("fast", T0 + round(i * 33.333 * MS)) for i in range(60)]
    slow = [frame(c, T0 + i * 100 * MS + d * MS) for i in range(20) for c, d in (("a", 0), ("b", 5))]
    grouped = group(fast + slow, SyncConfig(anchor="tightest", reference="a"))
    check_accounts(fast + slow, grouped)
    assert len(grouped.sets) == 20
    assert all(set(s.frames) == {"a", "b", "fast"} for s in grouped.sets)
    assert {u.reason for u in grouped.unused} == {"not_due"}


def test_memory_of_the_tightest_is_bounded_too() -> None:
    """Cameras without a common phase leave no pause: the byte bound still lets timesteps out."""
    config = SyncConfig(anchor="tightest", window_mb=0.02)
    rng = random.Random(1)
    frames: list[EncodedFrame] = []
    for c in range(6):
        at = float(rng.uniform(0, 100))
        for _ in range(300):
            at += 100 + rng.uniform(-20, 20)
            frames.append(frame(f"cam_{c}", T0 + round(at * MS)))
    plan = plan_sync(samples_of(frames), config)
    synchronizer = Synchronizer(plan, config)
    worst, sets = 0, []
    for f in sorted(frames, key=lambda f: f.log_ns):
        sets += synchronizer.push(f)
        held = sum(len(q) for q in synchronizer._waiting.queues.values()) + len(synchronizer._maker._frames)  # type: ignore[attr-defined]
        worst = max(worst, held)
    sets += synchronizer.flush()
    unused = [u for s in sets for u in s.unused] + list(synchronizer.take_unused())
    assert worst < 500
    assert sum(len(s.frames) for s in sets) + len(unused) == len(frames)
