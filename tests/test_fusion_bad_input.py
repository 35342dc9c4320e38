"""Rigs that are wrong, incomplete or odd, through a whole run of a written log."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from log_writer import START_NS, CameraSpec, Extra, Image, message_types, optical_quaternion, write_log
from motion_messages import header
from patch_detector import PatchDetector

from perception_batch.config import load_config
from perception_batch.job import Job, Outcome
from perception_batch.pipeline import run_drive
from perception_batch.replay import fuse_again

SIZE = (320, 200)
CAR = (30, 250, 30)


def patch(left: int, top: int, right: int, bottom: int) -> Any:
    """Draws a car's box."""

    def draw(camera: CameraSpec, index: int) -> Image:
        image = np.full((camera.size[1], camera.size[0], 3), 90, np.uint8)
        image[top:bottom, left:right] = CAR
        return image

    return draw


AHEAD = patch(140, 90, 180, 130)


def camera(name: str = "cam_front", **changes: Any) -> CameraSpec:
    return CameraSpec(name, **{"size": SIZE, "encoding": "png", "draw": AHEAD, **changes})


def run(tmp_path: Path, cameras: Sequence[CameraSpec], *overrides: str, **log: Any) -> Outcome:
    path = write_log(tmp_path / "in", "mcap", cameras, frames=8, **log)
    config = load_config(None, ["detect.image_size=320", "render.video=false", *overrides])
    return run_drive(Job("drive", (path,), tmp_path / "out", config), open_with=PatchDetector)


def objects(outcome: Outcome) -> pd.DataFrame:
    table = pd.read_parquet(outcome.directory / "objects.parquet")
    seen = pd.read_parquet(outcome.directory / "observations.parquet").dropna(subset=["object"])
    where = seen.groupby(["timestep", "object"]).camera.agg(lambda c: ",".join(sorted(c))).reset_index()
    return table.merge(where, on=["timestep", "object"], how="left")


def test_a_camera_without_calibration_is_fused_for_itself_and_said_once(tmp_path: Path) -> None:
    done = run(tmp_path, [camera(), camera("dash", info=False, tf=False)])
    rows = objects(done)
    assert set(rows.camera) == {"cam_front", "dash"}
    assert rows[rows.camera == "cam_front"].x_m.notna().all()
    assert rows[rows.camera == "dash"].x_m.isna().all()
    assert rows[rows.camera == "dash"].track_id.nunique() == 1
    assert len([note for note in done.notes if "dash is not calibrated" in note]) == 1
    assert "dash" in done.manifest.calibration["uncalibrated"]


def test_transforms_that_do_not_connect_name_the_link_that_is_missing(tmp_path: Path) -> None:
    loose = camera("cam_roof", tf=False)
    q = optical_quaternion(0.0)
    done = run(tmp_path, [camera(), loose], tf_edges=[("roof_rack", loose.optical_frame, (0.0, 0.0, 0.3), q)])
    why = done.manifest.calibration["uncalibrated"]["cam_roof"]
    assert "'roof_rack'" in why
    assert "'base_link'" in why
    assert any("roof_rack" in note for note in done.notes)


def test_a_camera_under_the_ground_is_flagged_and_its_ranges_come_from_heights(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        [camera(), camera("cam_low", position_m=(1.5, 0.0, -0.4), yaw_deg=180)],
        "fuse.ground_z_m=0",
    )
    notes = " ".join(done.manifest.calibration["notes"])
    assert "cam_low: its extrinsic" in notes
    assert "-0.40 m above the ground" in notes
    rows = objects(done)
    low = rows[rows.camera == "cam_low"]
    focal_px, height_m = SIZE[0] * 0.9, load_config(None).build_ontology().classes["car"].size_lwh_m[2]
    near = focal_px * height_m / 40
    assert np.abs(low.x_m + near - 1.5).max() < 4.0  # behind, by height alone; plus half a car
    assert low.x_m.notna().all()


@pytest.mark.parametrize("turned", [180])
def test_a_camera_mounted_upside_down_finds_the_same_things_at_the_same_place(
    tmp_path: Path, turned: int
) -> None:
    """Its optical frame is turned with it, as tf says; `rotate_deg` only turns the picture for the detector."""
    upright = objects(run(tmp_path / "a", [camera()]))

    def hung(spec: CameraSpec, index: int) -> Image:
        return np.ascontiguousarray(AHEAD(spec, index)[::-1, ::-1])

    spec = camera(draw=hung, tf=False)
    x, y, z, w = optical_quaternion(0.0)
    # Half a turn about the optical axis: q * (0, 0, 1, 0).
    half = (y, -x, w, -z)
    done = run(
        tmp_path / "b",
        [spec],
        f"cameras.cam_front.rotate_deg={turned}",
        tf_edges=[("base_link", spec.optical_frame, spec.position_m, half)],
    )
    rows = objects(done)
    boxes = pd.read_parquet(done.directory / "detections.parquet")
    assert boxes[["x1", "y1", "x2", "y2"]].iloc[0].tolist() == pytest.approx([140, 70, 180, 110], abs=1.5)
    assert len(rows) == len(upright)
    for name in ("x_m", "y_m", "z_m"):
        assert rows[name].to_numpy() == pytest.approx(upright[name].to_numpy(), rel=0.04, abs=0.15), name


FISHEYE = {
    "distortion_model": "equidistant",
    "d": [0.02, 0.0, 0.0, 0.0],
    "k": [100.0, 0, 159.5, 0, 100.0, 99.5, 0, 0, 1],
}


@pytest.mark.parametrize(
    ("box", "placed"),
    [
        ((140, 100, 170, 118), True),
        ((0, 100, 40, 140), False),  # at the rim
        ((110, 170, 210, 200), False),  # at the lower rim
        ((120, 130, 200, 192), False),  # under the bumper: 45 degrees down and more
    ],
)
def test_fisheye_boxes_at_the_border_or_under_the_bumper_give_a_bearing_only(
    tmp_path: Path, box: tuple[int, int, int, int], placed: bool
) -> None:
    done = run(tmp_path, [camera(draw=patch(*box), info_fields=FISHEYE, position_m=(3.6, 0.0, 0.8))])
    rows = objects(done)
    assert len(rows) > 0
    assert rows.x_m.notna().all() if placed else rows.x_m.isna().all()
    assert math.isclose(rows.score.iloc[0], 0.9, abs_tol=0.01)


def transforms(
    poses: Sequence[tuple[int, tuple[float, float, float], tuple[float, float, float, float]]],
    parent: str,
    child: str,
    topic: str,
) -> list[Extra]:
    """One TFMessage a pose: milliseconds after the start, position, quaternion."""
    types = message_types("mcap").types
    out = []
    for at_ms, position, quaternion in poses:
        stamp = START_NS + round(at_ms * 1e6)
        moved = types["geometry_msgs/msg/Transform"](
            types["geometry_msgs/msg/Vector3"](*position), types["geometry_msgs/msg/Quaternion"](*quaternion)
        )
        stamped = types["geometry_msgs/msg/TransformStamped"](header(stamp, parent), child, moved)
        out.append(Extra(topic, stamp + 1_000_000, types["tf2_msgs/msg/TFMessage"]([stamped])))
    return out


def nod(pitch_rad: float) -> tuple[float, float, float, float]:
    """Quaternion of a turn about y: the nose goes down."""
    return (0.0, math.sin(pitch_rad / 2), 0.0, math.cos(pitch_rad / 2))


def test_a_sprung_cab_is_where_it_is_at_the_frames_stamp_and_fuse_repeats_it(tmp_path: Path) -> None:
    """The cab nods up and down by three degrees; its camera looks accordingly, and between two transforms."""
    spec = camera(tf=False, phase_ms=5.0)
    poses = [(10 * k - 20, (2.0, 0.0, 1.0), nod(math.radians(3 * math.sin(k / 7)))) for k in range(90)]
    done = run(
        tmp_path,
        [spec],
        tf_edges=[("cab", spec.optical_frame, (0.5, 0.0, 1.0), optical_quaternion(0.0))],
        extra=transforms(poses, "base_link", "cab", "/tf"),
    )
    mounts = pd.read_parquet(done.directory / "mounts.parquet")
    assert len(mounts) == 8
    for step, (x, z) in enumerate(mounts[["x_m", "z_m"]].to_numpy()):
        k = (100 * step + 5 + 20) / 10
        low, high = (math.radians(3 * math.sin(n / 7)) for n in (math.floor(k), math.floor(k) + 1))
        pitch = low + (k - math.floor(k)) * (high - low)
        # The camera is 0.5 m before and 1 m above the cab's joint.
        assert x == pytest.approx(2.0 + 0.5 * math.cos(pitch) + math.sin(pitch), abs=1e-4)
        assert z == pytest.approx(1.0 + math.cos(pitch) - 0.5 * math.sin(pitch), abs=1e-4)
    kept = (done.directory / "objects.parquet").read_bytes()
    fuse_again(done.directory, [])
    assert (done.directory / "objects.parquet").read_bytes() == kept
    fuse_again(done.directory, [], out=tmp_path / "fused")
    assert (tmp_path / "fused" / "objects.parquet").read_bytes() == kept


def test_a_calibration_that_changes_mid_drive_is_followed(tmp_path: Path) -> None:
    """Someone corrects the static transform half-way: the camera looks 10 degrees further to the left from then on."""
    spec = camera()
    old, new = optical_quaternion(0.0), optical_quaternion(10.0)
    extra = transforms([(350, spec.position_m, new)], "base_link", spec.optical_frame, "/tf_static")
    done = run(tmp_path, [spec], "track.lag_s=0", extra=extra)
    rows = objects(done)
    bearing = np.degrees(np.arctan2(rows.y_m, rows.x_m - spec.position_m[0])).to_numpy()
    assert bearing[:4] == pytest.approx(0.0, abs=1.5)
    assert bearing[-1] == pytest.approx(10.0, abs=2.0)
    mounts = pd.read_parquet(done.directory / "mounts.parquet")
    rig = json.loads((done.directory / "rig.json").read_text())
    mounted = rig["cameras"]["cam_front"]["base_SE3_camera"]["quaternion_xyzw"]
    at = dict.fromkeys(range(8), mounted)
    at.update({int(r.timestep): [r.qx, r.qy, r.qz, r.qw] for r in mounts.itertuples()})
    for step, found in at.items():
        expected = np.array(old if step < 4 else new)
        assert abs(abs(float(expected @ np.array(found))) - 1) < 1e-6, step


def test_a_pose_of_the_config_does_not_move(tmp_path: Path) -> None:
    spec = camera()
    extra = transforms([(350, (9.0, 9.0, 9.0), nod(0.3))], "base_link", spec.optical_frame, "/tf_static")
    q = list(optical_quaternion(0.0))
    fixed = f"cameras.cam_front.base_SE3_camera={{position_m: [1.5, 0, 1.6], quaternion_xyzw: {q}}}"
    done = run(tmp_path, [spec], fixed, extra=extra)
    assert not (done.directory / "mounts.parquet").exists()
    assert objects(done).y_m.abs().max() < 0.2
