"""Figures of a grouping: counted by hand on small drives."""

from __future__ import annotations

import math

import numpy as np
from sync.stamp_drive import MS, T0, Drive, frame, make_drive, plan_of

from perception_batch.config import SyncConfig
from perception_batch.sync import FigureMaker, SyncFigures, Synchronizer, synchronize
from perception_batch.sync.report import HISTOGRAM_EDGES_MS, TOLERANCES_MS, Gap, find_gaps


def figures(drive: Drive, config: SyncConfig) -> SyncFigures:
    plan = plan_of(drive, config)
    maker = FigureMaker(plan)
    synchronizer = Synchronizer(plan, config)
    for frame_set in synchronize(sorted(drive.frames, key=lambda f: f.log_ns), synchronizer):
        maker.add(frame_set)
    maker.add_unused(synchronizer.take_unused())
    return maker.result()


def test_what_a_staggered_rig_teaches() -> None:
    drive = make_drive(cameras=3, stagger_ms=42, jitter_ms=2, drop=0.05, cycles=400, seed=1)
    found = figures(drive, SyncConfig())
    assert found.timesteps == len(drive.truth)
    assert found.complete == sum(len(t) == 3 for t in drive.truth)
    spread = sorted(max(t.values()) - min(t.values()) for t in drive.truth if len(t) > 1)
    assert found.spread_ms[100] == spread[-1] / MS
    assert abs(found.spread_ms[50] - 42) < 2.0
    assert found.aligned_ms[100] < 4.5
    assert sum(found.histogram) == len(spread)
    assert found.histogram[HISTOGRAM_EDGES_MS.index(40)] > 300
    for name, camera in found.cameras.items():
        there = sum(name in t for t in drive.truth)
        assert camera.frames == camera.status["ok"] == there
        assert camera.coverage == there / len(drive.truth)
        lost = sum(gap.missing for gap in camera.gaps)
        ends = (name not in drive.truth[0]) + (name not in drive.truth[-1])
        assert there + lost + ends >= 399
    rows = {row.tolerance_ms: row for row in found.tolerances}
    assert tuple(rows) == TOLERANCES_MS
    assert rows[20].complete_without_offsets < 0.5 < rows[5].complete
    assert [ms for ms, row in rows.items() if not row.is_allowed and ms != 50] == [70, 100]
    assert rows[5].matched[found.reference] == 1.0
    assert 2 <= float(found.recommendation.settings["tolerance_ms"]) <= 6
    assert "drift" not in found.recommendation.settings


def test_drift_is_recommended_to_be_corrected_where_it_matters() -> None:
    drive = make_drive(cameras=2, jitter_ms=1, cycles=6000, drift_ppm={"cam_1": 40.0})
    found = figures(drive, SyncConfig())
    assert found.recommendation.settings["drift"] == "correct"
    assert any("ppm" in reason for reason in found.recommendation.reasons)


def test_unused_frames_and_bad_stamps_are_counted() -> None:
    frames = [frame(c, T0 + i * 100 * MS) for i in range(30) for c in "ab"]
    frames += [frame("b", 0, T0 + 700 * MS, stamp_ok=False), frame("a", T0, T0 + 16 * MS)]
    found = figures(Drive(frames, []), SyncConfig())
    assert found.unused == {"bad_stamp": 1, "duplicate": 1}
    assert found.cameras["b"].gaps == ()
    assert found.cameras["b"].frames == 30


def test_one_camera_and_few_frames_have_no_tolerance_to_recommend() -> None:
    alone = figures(Drive([frame("a", T0 + i * 100 * MS) for i in range(30)], []), SyncConfig())
    assert alone.spread_ms == {}
    assert sum(alone.histogram) == 0
    assert "one camera" in alone.recommendation.reasons[0]
    few = figures(Drive([frame(c, T0 + i * 100 * MS) for i in range(4) for c in "ab"], []), SyncConfig())
    assert "tolerance_ms" not in few.recommendation.settings
    assert "too few" in few.recommendation.reasons[0]
    never = figures(Drive([frame("a", T0)], []), SyncConfig())
    assert math.isinf(never.cameras["a"].drift_sd_ppm) or never.cameras["a"].drift_sd_ppm == 0


def test_gaps() -> None:
    stamps = T0 + np.array([0, 100, 200, 500, 600, 760], np.int64) * MS
    assert find_gaps(stamps, 100 * MS) == (
        Gap(T0 + 200 * MS, T0 + 500 * MS, 2),
        Gap(T0 + 600 * MS, T0 + 760 * MS, 1),
    )
    assert find_gaps(stamps[:1], 0) == ()
