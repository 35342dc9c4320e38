"""`inspect` of a run: the own bonnet is found in its detections, and masked by what is suggested."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from log_writer import CameraSpec, Image, write_log
from patch_detector import PatchDetector, patches

from perception_batch.config import load_config
from perception_batch.errors import ConfigError, LogError
from perception_batch.inspection import inspect_log
from perception_batch.inspection_run import run_facts
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
from perception_batch.replay import redo

SIZE = (160, 96)
BONNET = (40, 84, 120, 96)  # left, top, right, bottom
OVERRIDES = ("detect.image_size=160", "render.video=false", "sync.every=1")


def traffic(camera: CameraSpec, index: int) -> Image:
    """A car that moves to the right, again and again."""
    image = patches(camera, index)
    image[:, -30:] = 90  # without the person, who stands in one place of the picture
    return image


def with_bonnet(camera: CameraSpec, index: int) -> Image:
    """Traffic, and a bonnet that the detector takes for a car in four pictures of five."""
    image = traffic(camera, index)
    left, top, right, bottom = BONNET
    if index % 5:
        image[top:bottom, left:right] = (30, 250, 30)
    return image


def run(tmp_path: Path, speed_mps: float | None = 30.0) -> tuple[Path, Path]:
    cameras = [
        CameraSpec("cam_front", size=SIZE, encoding="png", draw=with_bonnet),
        CameraSpec("cam_left", size=SIZE, encoding="png", draw=traffic, yaw_deg=90),
    ]
    log = write_log(tmp_path / "in", "mcap", cameras, frames=90, ego_speed_mps=speed_mps)
    return log, run_drive(
        Job("drive", (log,), tmp_path / "out", load_config(None, OVERRIDES)), open_with=PatchDetector
    ).directory


def test_the_bonnet_is_found_shown_suggested_and_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, directory = run(tmp_path)
    file = tmp_path / "masks.yaml"
    assert inspect_log((directory,), load_config(None), None, suggest_config_to=file) == 0
    said = capsys.readouterr().out
    assert "the vehicle drove 268 m" in said
    assert "cam_front: x 38 to 122, y 82 to 96 px" in said
    assert "% of those since the first) over 26" in said
    assert "cam_left: nothing static" in said
    (mask,) = run_facts(directory)["cameras"]["cam_front"]
    assert mask["image_share"] == pytest.approx(84 * 14 / (160 * 96), rel=0.05)
    assert mask["driven_m"] > 200

    # Explicit from here on: the same run with the file only fuses again, and equals a whole one.
    config = load_config(file, OVERRIDES)
    again = run_drive(Job("drive", (log,), tmp_path / "out", config), redo=redo, open_with=PatchDetector)
    assert again.action == "redid"
    clean = run_drive(Job("drive", (log,), tmp_path / "clean", config), open_with=PatchDetector).directory
    table = pd.read_parquet(again.directory / "observations.parquet")
    boxes = pd.read_parquet(again.directory / "detections.parquet")
    own = (boxes.camera == "cam_front") & (boxes.y1 > 80)
    assert own.sum() > 60
    assert (table[own].suppressed == "ego_mask").all()
    assert not (table[~own].suppressed == "ego_mask").any()
    for name in ("observations.parquet", "objects.parquet"):
        assert (again.directory / name).read_bytes() == (clean / name).read_bytes()
    with pytest.raises(Exception, match="exists"):
        inspect_log((directory,), load_config(None), None, suggest_config_to=file)


def test_a_short_way_and_an_unknown_one_find_nothing_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, short = run(tmp_path / "short", 5.0)
    inspect_log((short,), load_config(None), None)
    assert "the vehicle drove 45 m: too short, 200 m are needed" in capsys.readouterr().out
    _, still = run(tmp_path / "still", None)
    inspect_log((still,), load_config(None), None, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["driven_m"] is None
    assert facts["cameras"] == {"cam_front": [], "cam_left": []}
    file = tmp_path / "none.yaml"
    inspect_log((still,), load_config(None), None, suggest_config_to=file)
    assert "no motion of the vehicle" in capsys.readouterr().out
    assert load_config(file) == load_config(None)


def test_what_needs_the_log_or_a_finished_run_is_refused(tmp_path: Path) -> None:
    _, directory = run(tmp_path, None)
    with pytest.raises(ConfigError, match="need the log, and this is a run"):
        inspect_log((directory,), load_config(None), None, write_rig_to=tmp_path / "rig.yaml")
    manifest = directory / "run.json"
    manifest.write_text(manifest.read_text().replace('"complete"', '"unfinished"'))
    with pytest.raises(LogError, match="the run is unfinished"):
        inspect_log((directory,), load_config(None), None)
