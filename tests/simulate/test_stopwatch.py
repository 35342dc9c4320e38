from __future__ import annotations

import time
from pathlib import Path

import pytest
from simulate.flat_stage import flat_stage

from perception_batch.simulate import stopwatch
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.settings import SimulateSettings
from perception_batch.simulate.stopwatch import Stopwatch


def test_inner_stages_take_their_time_from_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr(stopwatch.time, "process_time_ns", lambda: now)
    watch = Stopwatch()
    now = 5  # before the first stage: nobody's
    with watch.stage("outer"):
        now = 15
        with watch.stage("inner"):
            now = 45
        now = 50
    now = 90
    with pytest.raises(ValueError, match="stopped"), watch.stage("outer"):
        now = 100
        int("stopped")
    assert watch.spent_ns == {"outer": 10 + 5 + 10, "inner": 30}


def test_a_drive_tells_its_stages(tmp_path: Path) -> None:
    watch = Stopwatch()
    before = time.process_time_ns()
    settings = SimulateSettings(preset="front", duration_s=0.5, size_px=(160, 120))
    simulate(tmp_path / "out", settings, stage=flat_stage(), watch=watch)
    assert set(watch.spent_ns) == {"world", "draw", "sensor", "encode", "truth", "write"}
    assert sum(watch.spent_ns.values()) <= time.process_time_ns() - before
