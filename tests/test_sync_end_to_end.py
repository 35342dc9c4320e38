"""From a simulated log to groups: every timestep holds exactly the frames that truly belong together."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from simulate.flat_stage import flat_stage

from perception_batch.config import load_config
from perception_batch.inspection_sync import look_at_sync, sync_facts
from perception_batch.job import Job, OpenDrive, open_drive
from perception_batch.log_pictures import decodable
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.settings import Faults, SimulateSettings
from perception_batch.sync import synchronize
from perception_batch.types import EgoPose

TRIGGER = ("sync.anchor=trigger", "sync.trigger_topic=/trigger")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cameras at 10 Hz for 20 s: 42 ms of stagger, 5 ms of jitter, 5 % of all pictures lost, and a trigger."""
    out = tmp_path_factory.mktemp("simulated") / "out"
    settings = SimulateSettings(
        duration_s=20.0,
        size_px=(64, 40),
        noise=False,
        trigger_topic=True,
        faults=Faults(stagger_ms=42, jitter_ms=5, drop=0.05),
        seed=5,
    )
    simulate(out, settings, stage=flat_stage())
    return out


def truth(drive: Path) -> set[frozenset[tuple[str, int]]]:
    """The frames of each cycle that reached the log."""
    table = pd.read_parquet(drive / "truth" / "timesteps.parquet")
    there = table[table.belongs]
    return {frozenset(zip(rows.camera, rows.stamp_ns, strict=True)) for _, rows in there.groupby("cycle")}


def grouped(opened: OpenDrive, *overrides: str) -> list[frozenset[tuple[str, int]]]:
    items = decodable(opened.log, opened.selected, opened.span_ns, load_config(None, overrides))
    sets = synchronize((item for item in items if not isinstance(item, EgoPose)), opened.synchronizer())
    return [frozenset((name, frame.stamp_ns) for name, frame in one.frames.items()) for one in sets]


@pytest.mark.parametrize(
    "overrides",
    [(), ("sync.anchor=tightest",), TRIGGER, (*TRIGGER, "read.clock=header")],
    ids=["reference", "tightest", "trigger", "trigger by header"],
)
def test_every_timestep_is_a_true_set(drive: Path, overrides: tuple[str, ...]) -> None:
    config = load_config(None, overrides)
    with open_drive(Job("drive", (drive / "drive",), drive / "runs", config)) as opened:
        got = grouped(opened, *overrides)
    assert len(got) == len(set(got))
    assert set(got) == truth(drive)


@pytest.mark.parametrize("overrides", [(), ("sync.anchor=tightest",), TRIGGER])
def test_inspect_groups_as_a_run_does(drive: Path, overrides: tuple[str, ...]) -> None:
    config = load_config(None, overrides)
    with open_drive(Job("drive", (drive / "drive",), drive / "runs", config)) as opened:
        sync = sync_facts(look_at_sync(opened))
    sets = truth(drive)
    assert sync["timesteps"] == len(sets)
    assert sync["complete"] == sum(len(one) == 6 for one in sets)
    assert sync["unused"] == {}
    names = ["cam_front", "cam_front_left", "cam_front_right", "cam_back", "cam_back_left", "cam_back_right"]
    usual = {name: i * 42 / 5 for i, name in enumerate(names)}
    zero = 0.0 if overrides == TRIGGER else usual[sync["reference"]]
    for name, camera in sync["cameras"].items():
        assert camera["frames"] == sum(name in dict(one) for one in sets)
        assert camera["offset_ms"] == pytest.approx(usual[name] - zero, abs=2.0)
        assert camera["drift_ppm"] == pytest.approx(0, abs=3 * camera["drift_sd_ppm"] + 1e-9)
        lost = sum(gap["missing"] for gap in camera["gaps"])
        assert lost <= len(sets) - camera["frames"]  # those at either end make no gap
