"""The whole chain on real recordings with real weights, as the command line runs it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from perception_batch.cli import main

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


def run(recordings: Path, weights: Path, out: Path, name: str, *words: str) -> Path:
    status = main(["run", str(recordings / name), "--out", str(out), "--model", str(weights), *words])
    assert status == 0
    return out / Path(name).stem


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "timesteps.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "timesteps", "cameras", "spread_ms"),
    [
        ("ddad_surround", 3, 6, (0, 0)),
        ("nuscenes_sample.bag", 1, 6, (42, 43)),
        ("nuscenes_n008", 4, 6, (42, 43)),
        ("kitti_0926", 28, 1, None),
    ],
)
def test_every_recording_runs_whole(
    recordings: Path, weights: Path, out: Path, name: str, timesteps: int, cameras: int, spread_ms: Any
) -> None:
    directory = run(recordings, weights, out, name)
    manifest = json.loads((directory / "run.json").read_text())
    counts = manifest["counts"]
    assert (counts["timesteps"], counts["frames_in_log"]) == (timesteps, timesteps * cameras)
    assert (counts["frames_unused"], counts["frames_undecodable"], counts["timesteps_incomplete"]) == (
        0,
        0,
        0,
    )
    assert counts["frames_in_log"] == counts["frames_used"]
    steps = lines(directory)
    assert [len(s["cameras"]) for s in steps] == [cameras] * timesteps
    assert all(c["status"] == "ok" for s in steps for c in s["cameras"].values())
    assert any(c["detections"] for s in steps for c in s["cameras"].values())
    if spread_ms is not None:
        assert spread_ms[0] <= manifest["sync"]["spread_ns"]["max"] / 1e6 <= spread_ms[1]
    with av.open(str(directory / "annotated.mp4")) as video:
        pictures = list(video.decode(video=0))
    start = steps[0]["stamp_ns"]
    assert [p.pts for p in pictures] == [round((s["stamp_ns"] - start) * 9e-5) for s in steps]
    assert np.std(pictures[-1].to_ndarray(format="gray")) > 20  # there is something to see
    frames = pd.read_parquet(directory / "frames.parquet")
    assert len(frames) == timesteps * cameras
    assert frames.frame_stamp_ns.dtype == np.int64


def test_calibrated_recordings_have_positions_and_the_others_say_so(
    recordings: Path, weights: Path, out: Path
) -> None:
    calibrated = run(recordings, weights, out, "ddad_surround")
    objects = pd.read_parquet(calibrated / "objects.parquet")
    assert objects.x_m.notna().mean() > 0.6
    assert objects.odom_x_m.notna().sum() > 0
    rig = json.loads((calibrated / "rig.json").read_text())
    assert rig["base_frame"] == "base_link"
    assert len(rig["cameras"]) == 6
    plain = run(recordings, weights, out, "nuscenes_n008")
    assert pd.read_parquet(plain / "objects.parquet").x_m.isna().all()
    manifest = json.loads((plain / "run.json").read_text())
    assert manifest["calibration"]["source"] is None
    assert len(manifest["calibration"]["uncalibrated"]) == 6


def test_the_truck_in_two_cameras_is_one_object_and_ranges_hold(
    recordings: Path, weights: Path, tmp_path: Path
) -> None:
    """At 1280 px the network sees the truck's edge in cam_front_left too."""
    directory = run(
        recordings, weights, tmp_path, "nuscenes_sample.bag", "--set", "detect.image_size=1280", "--no-video"
    )
    step = lines(directory)[0]
    trucks = [
        o for o in step["objects"] if {"cam_front", "cam_front_left"} <= {c for c, _ in o["observations"]}
    ]
    assert [o["label"] for o in trucks] == ["truck"]
    truth = json.loads((recordings / "nuscenes_sample.truth.json").read_text())["frames"][0]["objects"]
    truck = next(o for o in truth if o["label"] == "truck" and len(o["boxes2d"]) == 2)
    assert math.dist(trucks[0]["position_m"][:2], truck["center_base_link_m"][:2]) < 3.5
    near_truck = [
        o
        for o in step["objects"]
        if "position_m" in o
        and o["label"] in ("car", "truck", "bus")
        and math.dist(o["position_m"][:2], truck["center_base_link_m"][:2]) < 6
    ]
    assert len(near_truck) == 1, "the truck is there twice"


@pytest.mark.parametrize("override", ["detect.batch_size=1", "detect.batch_size=16", "detect.batch_size=5"])
def test_batch_size_does_not_change_the_answer(
    recordings: Path, weights: Path, out: Path, tmp_path: Path, override: str
) -> None:
    """Promise 1c: 99.9 % of the boxes from detect.score on agree within 1e-3 in score and half a pixel."""
    a = pd.read_parquet(run(recordings, weights, out, "ddad_surround") / "detections.parquet")
    other = run(recordings, weights, tmp_path, "ddad_surround", "--no-video", "--set", override)
    b = pd.read_parquet(other / "detections.parquet")
    keys = ["timestep", "camera", "detection"]
    both = a[a.score >= 0.25].merge(b, on=keys, suffixes=("", "_b"))
    assert len(both) == (a.score >= 0.25).sum() > 10
    assert (both.label == both.label_b).all()
    assert (both.score - both.score_b).abs().max() < 1e-3
    if override != "detect.batch_size=1":  # a CPU works any batch in parts of four: not a bit differs
        assert a.equals(b)
    for edge in ("x1", "y1", "x2", "y2"):
        assert (both[edge] - both[f"{edge}_b"]).abs().max() < 0.5


def test_two_runs_are_equal_to_the_byte(recordings: Path, weights: Path, out: Path, tmp_path: Path) -> None:
    a = run(recordings, weights, out, "ddad_surround")
    b = run(recordings, weights, tmp_path, "ddad_surround", "--workers", "1")
    for path in sorted(a.glob("*.parquet")):
        assert path.read_bytes() == (b / path.name).read_bytes(), path.name
    for name in ("timesteps.jsonl", "rig.json", "annotated.mp4"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_fusing_again_equals_a_whole_run(recordings: Path, weights: Path, out: Path, tmp_path: Path) -> None:
    a = run(recordings, weights, tmp_path / "a", "ddad_surround", "--no-video")
    assert main(["fuse", str(a), "--set", "detect.score=0.4", "--set", "fuse.box_sigma_px=4"]) == 0
    words = ["--set", "detect.score=0.4", "--set", "fuse.box_sigma_px=4", "--no-video"]
    b = run(recordings, weights, tmp_path / "b", "ddad_surround", *words)
    for path in [*sorted(a.glob("*.parquet")), a / "timesteps.jsonl", a / "rig.json"]:
        assert path.read_bytes() == (b / path.name).read_bytes(), path.name


def test_raw_stereo_fisheye_without_calibration(recordings: Path, weights: Path, tmp_path: Path) -> None:
    directory = run(recordings, weights, tmp_path, "odd/t265_stereo_fisheye.bag")
    manifest = json.loads((directory / "run.json").read_text())
    assert manifest["counts"]["timesteps"] == 3
    assert manifest["sync"]["spread_ns"]["max"] == 0  # header stamps agree, log times do not
    assert manifest["ego"]["source"] == "/camera/odom/sample"


def test_damaged_images_are_counted(recordings: Path, weights: Path, tmp_path: Path) -> None:
    log = recordings / "odd" / "all_types_damaged_images" / "test_bag_mcap"
    words = ["run", str(log), "--out", str(tmp_path), "--model", str(weights)]
    assert main(words) == 3
    manifest = json.loads((tmp_path / "test_bag_mcap" / "run.json").read_text())
    counts = manifest["counts"]
    assert counts["frames_in_log"] == counts["frames_undecodable"] + counts["frames_unused"] > 0
    assert manifest["status"] == "partial"
    assert manifest["losses"]


@pytest.mark.parametrize(
    "name",
    [
        "odd/empty-file.bag", "odd/no-messages.bag", "odd/truncated.bag", "odd/example-lz4.bag",
        "odd/mixed_json_protobuf.mcap", "fisheye_rig",
    ],
)  # fmt: skip
def test_what_cannot_be_read_gets_one_line(
    recordings: Path, weights: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(recordings / name), "--out", str(tmp_path), "--model", str(weights)]
    assert main(words) == 1
    err = capsys.readouterr().err.strip()
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "drive", "frames", "first_ns"),
    [
        ("dashcam_h264.mcap", "dashcam_h264", 38, None),
        ("dashcam_lanes.mp4", "dashcam_lanes", 50, 1_000_000_000),  # the first two seconds; no time of day
        ("odd/foxglove_json_cameras.mcap", "foxglove_json_cameras", 10, None),
    ],
)
def test_videos_and_foxglove_logs_run_whole(
    recordings: Path, weights: Path, tmp_path: Path, name: str, drive: str, frames: int, first_ns: int | None
) -> None:
    words = ["run", str(recordings / name), "--out", str(tmp_path), "--model", str(weights), "--stop", "2"]
    assert main(words) == 0
    manifest = json.loads((tmp_path / drive / "run.json").read_text())
    assert manifest["counts"]["frames_used"] == manifest["counts"]["frames_in_log"] == frames
    assert not manifest["losses"]
    if first_ns is not None:
        assert manifest["log"]["first_stamp_ns"] == first_ns
    if drive.startswith("dashcam"):  # a road with cars: decoded pictures, not noise
        labels = pq.read_table(
            tmp_path / drive / "detections.parquet", columns=["label", "score"]
        ).to_pydict()
        sure = [label for label, score in zip(labels["label"], labels["score"], strict=True) if score > 0.5]
        assert sure.count("car") > frames // 2


def test_a_range_of_a_video_is_the_same_as_in_the_whole(
    recordings: Path, weights: Path, tmp_path: Path
) -> None:
    """Decoding begins at the key frame before the range, and ends after what its pictures look ahead to."""
    boxes = {}
    for part, words in (("whole", ["--stop", "3"]), ("part", ["--start", "1.5", "--stop", "1.9"])):
        out = tmp_path / part
        log = str(recordings / "dashcam_lanes.mp4")
        assert main(["run", log, "--out", str(out), "--model", str(weights), "--no-video", *words]) == 0
        table = pq.read_table(out / "dashcam_lanes" / "detections.parquet")
        columns = ["frame_stamp_ns", "detection", "x1", "y1", "x2", "y2", "score"]
        rows = [tuple(row.values()) for row in table.select(columns).to_pylist()]
        boxes[part] = [row for row in rows if 2_500_000_000 <= row[0] < 2_900_000_000 and row[-1] >= 0.25]
        counts = json.loads((out / "dashcam_lanes" / "run.json").read_text())["counts"]
        assert counts["frames_in_log"] == counts["frames_used"] == (75 if part == "whole" else 10)
    assert len(boxes["whole"]) == len(boxes["part"]) > 10
    for a, b in zip(boxes["whole"], boxes["part"], strict=True):
        assert a[:2] == b[:2]
        assert a[2:] == pytest.approx(b[2:], abs=0.5)


def test_absent_splits_are_losses(recordings: Path, weights: Path, tmp_path: Path) -> None:
    log = tmp_path / "in" / "soccer_goal_split"
    shutil.copytree(recordings / "odd" / "soccer_goal_split", log)
    status = main(["run", str(log), "--out", str(tmp_path / "out"), "--model", str(weights), "--no-video"])
    assert status == 3  # 12 of 13 splits are absent
    manifest = json.loads((tmp_path / "out" / "soccer_goal_split" / "run.json").read_text())
    assert manifest["counts"]["frames_in_log"] == 2
    assert sum(loss["count"] for loss in manifest["losses"]) > 200
