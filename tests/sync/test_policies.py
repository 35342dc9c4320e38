"""Incomplete timesteps, and which timesteps are used at all: whatever is left out is counted, with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sync.stamp_drive import MS, T0, check_accounts, frame, group, make_drive, run, samples_of

from perception_batch.config import SyncConfig, parse_config
from perception_batch.detected_steps import DetectedStep
from perception_batch.ego_motion import Step
from perception_batch.errors import ConfigError, SyncError
from perception_batch.fused_steps import fused_steps
from perception_batch.objects import Detected
from perception_batch.stages import Profile
from perception_batch.sync import Synchronizer, plan_sync, read_events, spread_ns
from perception_batch.types import Fusion, TimestepResult, TrackSummary


def sync_config(**keys: Any) -> SyncConfig:
    """As from a settings file."""
    return parse_config({"sync": keys}, "test").sync


@pytest.mark.parametrize("policy", ["keep", "hold", {"require": 3}, {"require": ["a", "b"]}])
def test_a_policy_reads_back_from_run_json(policy: Any) -> None:
    config = sync_config(policy=policy, offsets_ms={"a": 1.5})
    assert sync_config(**config.model_dump(mode="json")) == config


def test_drop_leaves_out_what_lacks_a_camera() -> None:
    drive = make_drive(cameras=4, drop=0.1, cycles=100, seed=2)
    grouped = group(drive.frames, sync_config(policy="drop"))
    check_accounts(drive.frames, grouped)
    assert grouped.members() == [t for t in drive.truth if len(t) == 4]
    assert {u.reason for u in grouped.unused} == {"policy"}


@pytest.mark.parametrize("k", [1, 3, 4])
def test_require_so_many(k: int) -> None:
    drive = make_drive(cameras=4, drop=0.2, cycles=100, seed=2)
    grouped = group(drive.frames, sync_config(policy={"require": k}))
    check_accounts(drive.frames, grouped)
    assert grouped.members() == [t for t in drive.truth if len(t) >= k]


def test_require_these() -> None:
    drive = make_drive(cameras=4, drop=0.2, cycles=100, seed=2)
    grouped = group(drive.frames, sync_config(policy={"require": ["cam_1", "cam_3"]}))
    check_accounts(drive.frames, grouped)
    assert grouped.members() == [t for t in drive.truth if {"cam_1", "cam_3"} <= set(t)]


def test_a_slow_camera_between_its_frames_is_not_lacking() -> None:
    fast = [frame("fast", T0 + round(i * 33.333 * MS)) for i in range(90)]
    slow = [frame("slow", T0 + i * 100 * MS + 2 * MS) for i in range(30) if i != 12]
    for policy in ("drop", {"require": ["slow"]}):
        grouped = group(fast + slow, sync_config(policy=policy))
        check_accounts(fast + slow, grouped)
        assert len(grouped.sets) == 89
        assert Counter(u.reason for u in grouped.unused) == {"policy": 1}


def test_hold_shows_the_last_frame_again_until_it_is_too_old() -> None:
    lost = {5, 11, 12, 13, 14}
    frames = [frame("a", T0 + i * 100 * MS) for i in range(20)]
    frames += [frame("b", T0 + i * 100 * MS + 10 * MS) for i in range(20) if i not in lost]
    grouped = group(frames, sync_config(policy="hold", reference="a"))
    check_accounts(frames, grouped)
    status = [s.status["b"] for s in grouped.sets]
    assert [i for i, state in enumerate(status) if state == "held"] == [5, 11, 12]  # 250 ms: two periods
    assert [i for i, state in enumerate(status) if state == "missing"] == [13, 14]
    assert grouped.sets[12].frames["b"].stamp_ns == T0 + 1010 * MS
    assert spread_ns(grouped.sets[12]) == 0  # a held frame is no part of it
    assert spread_ns(grouped.sets[10]) == 10 * MS


def test_a_held_frame_has_one_row_in_the_table_of_frames() -> None:
    frames = [frame("a", T0 + i * 100 * MS) for i in range(10)]
    frames += [frame("b", T0 + i * 100 * MS) for i in range(10) if i != 5]
    grouped = group(frames, sync_config(policy="hold", reference="a"))

    class NoObjects:
        def push(self, steps: Sequence[Detected]) -> list[TimestepResult]:
            nothing = Fusion((), {}, {})
            return [
                TimestepResult(
                    step.index, step.stamp_ns, step.status, step.frame_stamps_ns, {}, nothing, None
                )
                for step in steps
            ]

        def flush(self) -> list[TimestepResult]:
            return []

        def take_finished(self) -> list[TrackSummary]:
            return []

    for broken in ({}, {"b": "broken_jpeg"}):
        found = (DetectedStep(Step(s, None, {}, ()), {}, {}, {}, broken) for s in grouped.sets)
        out = list(fused_steps(found, NoObjects(), None, Profile(), None))  # type: ignore[arg-type]
        rows = [row for item in out for row in item.rows]
        assert len(rows) == len(frames)
        assert len({(row.camera, row.stamp_ns) for row in rows}) == len(frames)
        assert out[5].result.status["b"] == ("undecodable" if broken else "held")
        assert out[5].result.frame_stamps_ns["b"] == T0 + 400 * MS


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"policy": {"require": 5}}, "requires 5 cameras of 2; the cameras are a, b"),
        ({"policy": {"require": ["a", "roof"]}}, "requires 'roof', which is no camera of the log"),
        ({"policy": {"require": ["c"]}}, "requires 'c', which is not selected"),
        ({"offsets_ms": {"roof": 3}}, "sync.offsets_ms names 'roof'; the cameras are a, b"),
    ],
)
def test_settings_that_name_what_is_not_there(keys: dict[str, Any], message: str) -> None:
    samples = samples_of([frame(c, T0 + i * 100 * MS) for i in range(10) for c in "ab"])
    with pytest.raises(SyncError, match=message):
        plan_sync(samples, sync_config(**keys), known=("a", "b", "c"))
    plan_sync(samples, sync_config(offsets_ms={"c": 3}), known=("a", "b", "c"))  # there, but not selected


# ---------------------------------------------------------------------- selection


def test_policy_comes_before_resampling() -> None:
    """Of the timesteps that are complete every second is used, not of all, of which some then fall out."""
    frames = [frame(c, T0 + i * 100 * MS) for i in range(30) for c in "ab" if c == "a" or i % 3]
    grouped = group(frames, sync_config(policy="drop", every=2, reference="a"))
    check_accounts(frames, grouped)
    assert [(s.stamp_ns - T0) // (100 * MS) for s in grouped.sets] == list(range(1, 30, 3))
    assert Counter(u.reason for u in grouped.unused) == {"policy": 10, "resampled": 20}


def test_every_goes_on_where_a_part_ended() -> None:
    frames = [frame("a", T0 + i * 100 * MS) for i in range(30)]
    config = sync_config(every=4)
    plan = plan_sync(samples_of(frames), config)
    whole = run(frames, Synchronizer(plan, config)).members()
    part = run(frames[10:], Synchronizer(plan, config, counted=10)).members()
    assert part == [m for m in whole if m["a"] >= frames[10].stamp_ns]


def test_a_lower_rate_is_even_in_spite_of_jitter() -> None:
    drive = make_drive(cameras=3, cycles=300, jitter_ms=8, seed=5)
    grouped = group(drive.frames, sync_config(rate_hz=2))
    check_accounts(drive.frames, grouped)
    at = [s.stamp_ns for s in grouped.sets]
    assert len(at) == 60
    assert all(480 * MS < b - a < 520 * MS for a, b in pairwise(at))


def test_only_the_ranges_of_events_are_used(tmp_path: Path) -> None:
    frames = [frame(c, T0 + i * 100 * MS) for i in range(100) for c in "ab"]
    file = tmp_path / "events.csv"
    file.write_text(
        "name,stamp, before_s,after_s\n"
        "horn,2.0,0.5,0.5\n\n"
        f"brake,{T0 + 2400 * MS},0.2,0.3\n"
        "late,2023-11-14T22:13:28Z,0,0.25\n"
    )
    ranges = read_events(file, T0)
    assert ranges == [(T0 + 1500 * MS, T0 + 2700 * MS), (T0 + 8000 * MS, T0 + 8250 * MS)]
    config = sync_config()
    plan = plan_sync(samples_of(frames), config)
    grouped = run(frames, Synchronizer(plan, config, ranges=ranges))
    check_accounts(frames, grouped)
    assert [(s.stamp_ns - T0) // (100 * MS) for s in grouped.sets] == [*range(15, 27), 80, 81, 82]
    assert {u.reason for u in grouped.unused} == {"resampled"}
    assert not run(frames, Synchronizer(plan, config, ranges=[])).sets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column stamp, before_s, after_s; the header has nothing"),
        ("stamp,before_s\n1,2\n", "no column after_s"),
        ("stamp,before_s,after_s\n", "no event below its header"),
        ("stamp,before_s,after_s\nsoon,1,1\n", "line 2: stamp 'soon'"),
        ("stamp,before_s,after_s\n1,-1,1\n", "line 2: before_s '-1': expected seconds"),
        ("stamp,before_s,after_s\n1,1\n", "line 2: after_s ''"),
        ("stamp,before_s,after_s\n1,nan,1\n", "line 2: before_s 'nan'"),
        ("stamp,before_s,after_s\n" + "9" * 5000 + ",1,1\n", "line 2: stamp"),
    ],
)
def test_a_wrong_list_of_events_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "events.csv"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_events(file, T0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_are_no_list_of_events(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_bytes(b"\xff\xfe\x00stamp")
    with pytest.raises(ConfigError, match="not a CSV file"):
        read_events(file, T0)
