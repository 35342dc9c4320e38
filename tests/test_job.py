"""What is decided before the first pixel: events, travel, triggers; and what `run` and `render` make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from log_writer import START_NS, CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch import pipeline
from perception_batch.config import load_config
from perception_batch.errors import ConfigError, SyncError, WriteError
from perception_batch.job import Job, open_drive
from perception_batch.pipeline import run_drive
from perception_batch.replay import redo, render_again

MS = 1_000_000
CAMERAS = [
    CameraSpec(name, size=(160, 96), draw=patches, encoding="png", phase_ms=9.0 * i)
    for i, name in enumerate("ab")
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two cameras, 30 cycles; at rest."""
    return write_log(tmp_path / "in", cameras=CAMERAS, frames=30)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "open_detector", PatchDetector)


def job(log: Path, out: Path, *overrides: str, **changes: Any) -> Job:
    config = load_config(None, ["detect.image_size=160", "render.width_px=320", *overrides])
    return replace(Job("drive", (log,), out, config), **changes)


def events(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(("stamp,before_s,after_s", *rows)) + "\n")
    return path


def test_only_timesteps_about_events(tmp_path: Path, log: Path) -> None:
    wanted = events(tmp_path / "events.csv", "0.5,0.1,0.2", f"{START_NS + 2000 * MS},0,0.25")
    outcome = run_drive(job(log, tmp_path / "out", events=wanted))
    steps = pd.read_parquet(outcome.directory / "timesteps.parquet").stamp_ns.unique()
    expected = [*range(4, 7), *range(20, 23)]  # [0.4, 0.7) and [2.0, 2.25)
    assert [round((stamp - START_NS) / 1e8) for stamp in sorted(steps)] == expected
    frames = pd.read_parquet(outcome.directory / "frames.parquet")
    assert len(frames) == 60
    assert (frames.status == "used").sum() == 12
    assert set(frames.reason[frames.status == "unused"]) == {"resampled"}
    counts = outcome.manifest.counts
    assert counts["frames_in_log"] == counts["frames_used"] + counts["frames_unused"] == 60
    assert outcome.manifest.selection["events"] == [
        [START_NS + 400 * MS, START_NS + 700 * MS],
        [START_NS + 2000 * MS, START_NS + 2250 * MS],
    ]
    # The video again needs no list of events: the run holds what became of it.
    wanted.unlink()
    again = render_again(outcome.directory, ["render.width_px=480"])
    assert again.action == "redid"


def test_other_events_are_another_run_and_the_same_are_not(tmp_path: Path, log: Path) -> None:
    wanted = events(tmp_path / "events.csv", "1,0.1,0.2")
    assert run_drive(job(log, tmp_path / "out", events=wanted)).action == "ran"
    same = events(tmp_path / "same.csv", "1,0.1,0.1", "1.05,0.1,0.15")
    assert run_drive(job(log, tmp_path / "out", events=same), redo=redo).action == "skipped"
    other = events(tmp_path / "other.csv", "1,0.1,0.3")
    for changed in (other, None):
        with pytest.raises(WriteError, match="--events"):
            run_drive(job(log, tmp_path / "out", events=changed), redo=redo)


def test_a_list_that_is_none(tmp_path: Path, log: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"events\.csv: no event below its header"),
        open_drive(job(log, tmp_path, events=events(tmp_path / "events.csv"))),
    ):
        pass


def test_travel_needs_motion(tmp_path: Path, log: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"sync.min_distance_m needs the vehicle's motion"),
        open_drive(job(log, tmp_path, "sync.min_distance_m=5")),
    ):
        pass
    moving = write_log(tmp_path / "moving", cameras=CAMERAS, frames=30, ego_speed_mps=10.0)
    outcome = run_drive(job(moving, tmp_path / "out", "sync.min_distance_m=4.5"))
    steps = sorted(pd.read_parquet(outcome.directory / "timesteps.parquet").stamp_ns.unique())
    assert [round((stamp - steps[0]) / 1e8) for stamp in steps] == [0, 5, 10, 15, 20, 25]


def test_a_topic_that_is_not_there(tmp_path: Path, log: Path) -> None:
    wanted = job(log, tmp_path, "sync.anchor=trigger", "sync.trigger_topic=/a/camera_inf")
    with (
        pytest.raises(SyncError, match=r"/a/camera_inf, which the log does not hold; it has /a/camera_info"),
        open_drive(wanted),
    ):
        pass


def test_what_the_manifest_says_of_grouping(tmp_path: Path, log: Path) -> None:
    wanted = job(
        log,
        tmp_path / "out",
        "sync.anchor=trigger",
        "sync.trigger_topic=/a/camera_info",
        "sync.policy={require: [a]}",
    )
    sync = run_drive(wanted).manifest.sync
    assert (sync["anchor"], sync["policy"]) == ("trigger", {"require": ["a"]})
    assert (sync["trigger_topic"], sync["late_triggers"]) == ("/a/camera_info", 0)
    b = sync["cameras"]["b"]
    assert b["estimated_offset_ns"] == pytest.approx(9 * MS, abs=1000)
    assert abs(b["drift_ppm"]) < 1
    assert b["drift_sd_ppm"] < 5
    assert b["corrected_ppm"] == 0
    plain = run_drive(job(log, tmp_path / "plain")).manifest.sync
    assert (plain["anchor"], plain["policy"]) == ("reference", "keep")
    assert "trigger_topic" not in plain
