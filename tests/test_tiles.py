"""`detect.tiles` and `decode.reduced` through the whole chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches
from patch_runs import watch_detectors

from perception_batch.config import load_config
from perception_batch.errors import ConfigError, WriteError
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
from perception_batch.replay import redo, render_again

TABLES = ("detections", "timesteps", "objects", "observations", "frames", "tracks")


@pytest.fixture(autouse=True)
def detectors(monkeypatch: pytest.MonkeyPatch) -> list[PatchDetector]:
    return watch_detectors(monkeypatch)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two cameras of two shapes, one of them with broken images."""
    common: dict[str, Any] = {"draw": patches, "encoding": "jpeg"}
    return write_log(
        tmp_path / "in",
        "mcap",
        [
            CameraSpec("cam_front", size=(323, 190), **common),
            CameraSpec("cam_left", size=(256, 128), phase_ms=12, yaw_deg=90, broken=(4,), **common),
        ],
        frames=8,
    )


def run(log: Path, out: Path, *overrides: str, **changes: Any) -> Path:
    config = load_config(None, ["detect.image_size=128", "detect.batch_size=4", *overrides])
    return run_drive(Job("drive", (log,), out, config, **changes), redo=redo).directory


@pytest.mark.parametrize("tiles", ["2x1", "3x2", "horizon"])
def test_no_batch_size_and_no_thread_changes_a_byte(log: Path, tmp_path: Path, tiles: str) -> None:
    whole = run(log, tmp_path / "a", f"detect.tiles={tiles}")
    others = [
        run(log, tmp_path / "b", f"detect.tiles={tiles}", "detect.batch_size=1"),
        run(log, tmp_path / "c", f"detect.tiles={tiles}", "detect.batch_size=13", threads=False),
    ]
    for name in (*(f"{t}.parquet" for t in TABLES), "timesteps.jsonl"):
        assert [(whole / name).read_bytes() == (other / name).read_bytes() for other in others] == [True] * 2


def test_crops_are_counted_in_the_batches_and_recorded(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    out = run(log, tmp_path / "out", "detect.tiles=2x1")
    # 15 images that are not broken: each whole, and two crops
    assert sum(detectors[0].batches) == 45 and max(detectors[0].batches) == 4
    manifest = json.loads((out / "run.json").read_text())
    # 323x190: whole 128x75, crops of 224x190; 256x128: whole 128x64, crops of 160x128
    assert manifest["model"]["input_hw"] == [[64, 128], [96, 128], [128, 160], [192, 224]]
    assert manifest["timing"]["stages"]["detect"]["items"] == 45
    assert manifest["counts"]["frames_used"] == 15


def test_every_object_is_there_once_and_finer(log: Path, tmp_path: Path) -> None:
    def boxes(out: Path) -> pd.DataFrame:
        table = pd.read_parquet(out / "detections.parquet")
        return table[table.camera == "cam_front"].sort_values(["timestep", "class_id"])

    coarse, fine = boxes(run(log, tmp_path / "a")), boxes(run(log, tmp_path / "b", "detect.tiles=2x2"))
    assert len(coarse) == len(fine) == 16  # a car and a person, eight times
    left = 323 // 8 + (fine.timestep[fine.label == "car"].to_numpy() * 3) % (323 // 2)
    errors = []
    for table in (coarse, fine):
        cars = table[table.label == "car"]
        wanted = np.stack([left, 0 * left + 95, left + 53, 0 * left + 95 + 38], 1)
        errors.append(np.abs(cars[["x1", "y1", "x2", "y2"]].to_numpy() - wanted).max())
    assert errors[1] <= 1.0 < errors[0]


def test_regions_turns_and_sizes_of_a_camera(log: Path, tmp_path: Path) -> None:
    mine = (
        "cameras.cam_front.rotate_deg=180",
        "cameras.cam_front.roi_px=[20, 10, 320, 180]",
        "cameras.cam_left.image_size=64",
    )
    for tiles in ("horizon", "2x2"):
        out = run(log, tmp_path / tiles, f"detect.tiles={tiles}", *mine)
        table = pd.read_parquet(out / "detections.parquet")
        front = table[table.camera == "cam_front"]
        assert front.x1.min() >= 20 and front.x2.max() <= 320
        assert front.groupby(["timestep", "label"]).size().max() == 1
        assert set(table.camera) == {"cam_front", "cam_left"}


def test_words_that_are_no_tiles_are_said() -> None:
    for wrong in ("2", "0x2", "2x", "x2", "9x9", "horizontal", "[2, 1]", "true", "100x1"):
        with pytest.raises(ConfigError, match=r"detect\.tiles.*(allowed are|crops)"):
            load_config(None, [f"detect.tiles={wrong}"])
    for right in ("none", "horizon", "1x1", "8x8"):
        assert load_config(None, [f"detect.tiles={right}"]).detect.tiles == right


def test_other_tiles_are_other_detections(log: Path, tmp_path: Path) -> None:
    run(log, tmp_path, "detect.tiles=horizon")
    with pytest.raises(WriteError, match=r"other settings: detect\.tiles"):
        run(log, tmp_path, "detect.tiles=2x1")
    # the crops lie where the calibration says the horizon is
    pose = (
        "cameras.cam_front.base_SE3_camera={position_m: [1, 0, 1], quaternion_xyzw: [-0.5, 0.5, -0.5, 0.5]}"
    )
    with pytest.raises(WriteError, match=r"base_SE3_camera"):
        run(log, tmp_path, "detect.tiles=horizon", pose)


def test_reduced_decoding_keeps_sizes_and_boxes(log: Path, tmp_path: Path) -> None:
    full, reduced = run(log, tmp_path / "a"), run(log, tmp_path / "b", "decode.reduced=true")
    assert (full / "timesteps.parquet").read_bytes() == (reduced / "timesteps.parquet").read_bytes()
    measured = ["sharpness", "dark_share", "bright_share"]  # of the pixels, which are others
    frames = [pd.read_parquet(out / "frames.parquet") for out in (full, reduced)]
    pd.testing.assert_frame_equal(*(table.drop(columns=measured) for table in frames))
    pd.testing.assert_frame_equal(*(table[measured].isna() for table in frames))
    shares = [table[measured[1:]].dropna().to_numpy() for table in frames]
    assert len(shares[0]) and np.abs(shares[0] - shares[1]).max() < 0.02
    a, b = (pd.read_parquet(out / "detections.parquet") for out in (full, reduced))
    assert len(a) == len(b) > 0
    edges = ["x1", "y1", "x2", "y2"]
    # within a pixel of what the detector saw, 2.5 px of the original; any systematic shift would show in the mean
    difference = (a[edges] - b[edges]).to_numpy()
    assert 0 < np.abs(difference).max() <= 2.6 and np.abs(difference.mean(0)).max() < 0.8
    video = reduced / "annotated.mp4"
    size = video.stat().st_size
    render_again(reduced, ["render.crf=24"])
    assert video.stat().st_size == size  # drawn from the same pixels
    with pytest.raises(WriteError, match=r"decode\.reduced"):
        run(log, tmp_path / "b")


def test_reduced_decoding_leaves_crops_alone(log: Path, tmp_path: Path) -> None:
    a = run(log, tmp_path / "a", "detect.tiles=2x1")
    b = run(log, tmp_path / "b", "detect.tiles=2x1", "decode.reduced=true")
    assert (a / "detections.parquet").read_bytes() == (b / "detections.parquet").read_bytes()
