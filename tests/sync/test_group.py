"""Grouping: a frame is used at most once, the right ones are together, and nothing is lost without a reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync.stamp_drive import MS, T0, Drive, check_accounts, frame, group, make_drive

from perception_batch.config import SyncConfig
from perception_batch.errors import SyncError
from perception_batch.sync import Synchronizer, plan_sync


@pytest.mark.parametrize("seed", range(8))
def test_staggered_cameras_without_loss_are_grouped_by_cycle(seed: int) -> None:
    drive = make_drive(seed=seed)
    grouped = group(drive.frames)
    check_accounts(drive.frames, grouped)
    assert grouped.members() == drive.truth
    assert not grouped.unused


@pytest.mark.parametrize("seed", range(8))
def test_dropped_frames_leave_gaps_and_bridges_not_shifts(seed: int) -> None:
    """5 % drops, the reference's too: every cycle with at least one frame is one timestep."""
    drive = make_drive(seed=seed, drop=0.05, cycles=200)
    grouped = group(drive.frames)
    check_accounts(drive.frames, grouped)
    assert grouped.members() == drive.truth
    missing = sum(status == "missing" for s in grouped.sets for status in s.status.values())
    assert missing == sum(6 - len(t) for t in drive.truth)


def oracle(drive: Drive, reference: str, tolerance_ns: int, offsets: dict[str, int]) -> list[dict[str, int]]:
    """O(n²): each frame asks every anchor; each anchor keeps its nearest frame of a camera."""
    anchors = sorted(f.stamp_ns for f in drive.frames if f.camera == reference)
    out: list[dict[str, int]] = [{reference: a} for a in anchors]
    for f in sorted(drive.frames, key=lambda f: f.stamp_ns):
        if f.camera == reference:
            continue
        at = f.stamp_ns - offsets[f.camera]
        best = min(range(len(anchors)), key=lambda i: abs(anchors[i] - at))
        if abs(anchors[best] - at) > tolerance_ns:
            continue
        held = out[best].get(f.camera)
        if held is None or abs(held - offsets[f.camera] - anchors[best]) > abs(at - anchors[best]):
            out[best][f.camera] = f.stamp_ns
    return out


@given(
    seed=st.integers(0, 10_000),
    cameras=st.integers(2, 5),
    stagger_ms=st.floats(0, 45),
    jitter_ms=st.floats(0, 30),
    tolerance_ms=st.floats(1, 45),
)
@settings(max_examples=80, deadline=None)
def test_equal_to_the_slow_oracle(
    seed: int, cameras: int, stagger_ms: float, jitter_ms: float, tolerance_ms: float
) -> None:
    drive = make_drive(
        seed=seed, cameras=cameras, cycles=12, stagger_ms=stagger_ms, jitter_ms=jitter_ms, drop=0.0
    )
    config = SyncConfig(tolerance_ms=tolerance_ms, reference="cam_0")
    try:
        grouped = group(drive.frames, config)
    except SyncError as error:  # jitter may shrink the median period below twice the tolerance
        assert "half the median period" in str(error)
        return
    names = sorted({f.camera for f in drive.frames})
    plan = plan_sync(
        {n: [(f.stamp_ns, f.log_ns) for f in drive.frames if f.camera == n] for n in names}, config
    )
    expected = oracle(drive, "cam_0", plan.tolerance_ns, dict(plan.offset_ns))
    assert [m for m in grouped.members() if "cam_0" in m] == expected
    check_accounts(drive.frames, grouped)


def test_one_camera_alone() -> None:
    grouped = group([frame("cam", T0 + i * 100 * MS) for i in range(28)])
    assert len(grouped.sets) == 28
    assert not grouped.unused


def test_single_frames_within_100_ms_are_one_timestep() -> None:
    offsets = (0, 8, 16, 23, 33, 43)
    grouped = group([frame(f"cam_{i}", T0 + ms * MS) for i, ms in enumerate(offsets)])
    assert len(grouped.sets) == 1
    assert len(grouped.sets[0].frames) == 6


def test_slower_camera_is_not_due_and_a_lost_frame_of_it_is_missing() -> None:
    fast = [frame("fast", T0 + round(i * 33.333 * MS)) for i in range(90)]
    slow = [frame("slow", T0 + i * 100 * MS + 2 * MS) for i in range(30) if i != 12]
    grouped = group(fast + slow)
    status = [s.status["slow"] for s in grouped.sets]
    assert len(grouped.sets) == 90
    assert status.count("ok") == 29
    assert status.count("missing") == 1
    assert status[36] == "missing"
    assert status.count("not_due") == 60


def test_faster_camera_loses_its_extra_frames_with_a_reason() -> None:
    config = SyncConfig(reference="slow")
    fast = [frame("fast", T0 + round(i * 33.333 * MS)) for i in range(30)]
    slow = [frame("slow", T0 + i * 100 * MS) for i in range(10)]
    grouped = group(fast + slow, config)
    assert len(grouped.sets) == 10
    assert all(s.status == {"fast": "ok", "slow": "ok"} for s in grouped.sets)
    assert [u.reason for u in grouped.unused] == ["not_due"] * 20


def test_a_long_outage_of_the_reference_is_bridged() -> None:
    drive = make_drive(cycles=120, jitter_ms=2)
    reference = plan_sync(
        {
            f"cam_{c}": [(f.stamp_ns, f.log_ns) for f in drive.frames if f.camera == f"cam_{c}"]
            for c in range(6)
        },
        SyncConfig(),
    ).reference
    gone = [t[reference] for t in drive.truth[40:80]]
    frames = [f for f in drive.frames if f.stamp_ns not in gone or f.camera != reference]
    grouped = group(frames, SyncConfig(reference=reference))
    check_accounts(frames, grouped)
    expected = [{k: v for k, v in t.items() if k != reference or v not in gone} for t in drive.truth]
    assert grouped.members() == expected


def test_duplicates_bad_stamps_and_late_frames_are_counted() -> None:
    good = [frame("a", T0 + i * 100 * MS) for i in range(20)] + [
        frame("b", T0 + i * 100 * MS + 3 * MS) for i in range(20)
    ]
    odd = [
        frame("a", T0 + 500 * MS, T0 + 520 * MS),  # the same stamp again
        frame("b", 0, T0 + 700 * MS, stamp_ok=False),
        frame("b", T0 + 300 * MS, T0 + 9000 * MS),  # 8.7 s late
    ]
    grouped = group(good + odd)
    check_accounts(good + odd, grouped)
    assert len(grouped.sets) == 20
    assert sorted(u.reason for u in grouped.unused) == ["bad_stamp", "duplicate", "out_of_tolerance"]


def test_a_stamp_in_the_future_does_not_wreck_the_rest() -> None:
    frames = [frame("a", T0 + i * 100 * MS) for i in range(50)]
    wild = frame("a", T0 + 3_600_000 * MS, T0 + 1234 * MS)
    grouped = group([*frames, wild])
    check_accounts([*frames, wild], grouped)
    assert len(grouped.sets) == 51
    assert grouped.sets[-1].stamp_ns == wild.stamp_ns


def test_far_from_any_timestep() -> None:
    config = SyncConfig(reference="a", tolerance_ms=5)
    frames = [frame("a", T0 + i * 100 * MS) for i in range(10)]
    frames += [frame("b", T0 + i * 100 * MS + (20 * MS if i == 4 else 0)) for i in range(10)]
    grouped = group(frames, config)
    assert [u.reason for u in grouped.unused] == ["out_of_tolerance"]
    assert grouped.sets[4].status["b"] == "missing"


@pytest.mark.parametrize(
    ("config", "kept"), [(SyncConfig(every=3), 10), (SyncConfig(rate_hz=2), 6), (SyncConfig(rate_hz=100), 30)]
)
def test_resampling_counts_what_it_passes_over(config: SyncConfig, kept: int) -> None:
    frames = [frame(c, T0 + i * 100 * MS) for i in range(30) for c in "ab"]
    grouped = group(frames, config)
    assert len(grouped.sets) == kept
    assert {u.reason for u in grouped.unused} <= {"resampled"}
    check_accounts(frames, grouped)


def test_memory_is_bounded_where_log_times_stand_still() -> None:
    """A converted log may carry one log time for all messages: the byte bound still lets timesteps out."""
    config = SyncConfig(window_mb=0.01)
    frames = [frame(c, T0 + i * 100 * MS, T0) for i in range(500) for c in "ab"]
    names = {"a", "b"}
    plan = plan_sync(
        {n: [(f.stamp_ns, f.log_ns) for f in frames if f.camera == n][:50] for n in names}, config
    )
    synchronizer = Synchronizer(plan, config)
    worst, sets = 0, []
    for f in frames:
        sets += synchronizer.push(f)
        worst = max(worst, sum(len(q) for q in synchronizer._waiting.queues.values()))
    sets += synchronizer.flush()
    assert worst < 250
    assert len(sets) == 500
    assert all(len(s.frames) == 2 for s in sets)


def test_a_stretch_begins_where_it_was_asked_to() -> None:
    """Cameras that fire after the reference must not invent a timestep before the start."""
    drive = make_drive(cycles=40, jitter_ms=1)
    start = T0 + 10 * 100 * MS + 30 * MS  # in the middle of a cycle
    frames = [f for f in drive.frames if f.stamp_ns >= start]
    grouped = group(frames, start_ns=start)
    check_accounts(frames, grouped)
    assert all(s.stamp_ns >= start for s in grouped.sets)
    assert len(grouped.sets) in (29, 30)
