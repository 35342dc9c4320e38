"""Real recordings with default settings: whole timesteps, and figures that agree."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from perception_batch.config import RunConfig, SyncConfig
from perception_batch.read import open_log
from perception_batch.sync import FigureMaker, Synchronizer, plan_sync, synchronize
from perception_batch.types import EncodedFrame

pytestmark = pytest.mark.real


@pytest.mark.parametrize("anchor", ["reference", "tightest"])
@pytest.mark.parametrize(
    ("name", "timesteps", "cameras"),
    [("nuscenes_n008", 4, 6), ("nuscenes_sample.bag", 1, 6), ("ddad_surround", 3, 6)],
)
def test_complete(
    recordings: Path, name: str, timesteps: int, cameras: int, anchor: Literal["reference", "tightest"]
) -> None:
    config = RunConfig()
    settings = SyncConfig(anchor=anchor)
    with open_log((recordings / name,), config.read, config.cameras) as log:
        selected = log.select(None)
        head = log.head(selected)
        plan = plan_sync({n: head.cameras[n].stamps_ns for n in selected}, settings, selected)
        synchronizer, maker = Synchronizer(plan, settings), FigureMaker(plan)
        frames = (item for item in log.stream(selected) if isinstance(item, EncodedFrame))
        for frame_set in synchronize(frames, synchronizer):
            assert set(frame_set.status.values()) == {"ok"}
            assert len(frame_set.frames) == cameras
            maker.add(frame_set)
        assert not synchronizer.take_unused()
    found = maker.result()
    assert (found.timesteps, found.complete) == (timesteps, timesteps)
    if name.startswith("nuscenes"):
        assert 42 < found.spread_ms[50] < 43
