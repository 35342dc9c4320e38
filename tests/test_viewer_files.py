"""Files for viewers and videos as runs leave them: over the log's own images, written again, and removed."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pandas as pd
import pytest
from log_writer import CameraSpec, write_log
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from patch_detector import PatchDetector, patches
from patch_runs import watch_detectors
from rosbags.highlevel import AnyReader

from perception_batch import pipeline
from perception_batch.cli import main
from perception_batch.config import load_config
from perception_batch.errors import ConfigError
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
from perception_batch.replay import fuse_again, redo, render_again

ALL = ("write.mcap=true", "write.rosbag=true")


@pytest.fixture(autouse=True)
def detectors(monkeypatch: pytest.MonkeyPatch) -> list[PatchDetector]:
    return watch_detectors(monkeypatch)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three cameras, one of them upside down, 12 cycles with a drop and a broken image, driving at 8 m/s."""
    common = {"size": (160, 96), "draw": patches, "encoding": "png"}
    cameras = [
        CameraSpec("cam_front", **common),
        CameraSpec("cam_left", phase_ms=12, yaw_deg=90, drop=(3,), broken=(7,), **common),
        CameraSpec("cam_right", phase_ms=25, yaw_deg=-90, **common),
    ]
    return write_log(tmp_path / "in", "mcap", cameras, frames=12, ego_speed_mps=8.0)


def job(log: Path, out: Path, *overrides: str) -> Job:
    settings = ["detect.image_size=160", "render.width_px=480", "runs.loss_limit_percent=50"]
    return Job("drive", (log,), out, load_config(None, [*settings, *overrides]))


def headers(log: Path) -> dict[str, list[int]]:
    """The stamps of the log's images, by topic, read by another package."""
    found: dict[str, list[int]] = defaultdict(list)
    with AnyReader([log]) as bag:
        for connection in bag.connections:
            if "Image" in connection.msgtype:
                for _, _, raw in bag.messages([connection]):
                    stamp = bag.deserialize(raw, connection.msgtype).header.stamp
                    found[connection.topic].append(stamp.sec * 10**9 + stamp.nanosec)
    return {name: sorted(stamps) for name, stamps in found.items()}


def messages(path: Path) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    with path.open("rb") as stream:
        for _, channel, message, decoded in make_reader(
            stream, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages():
            assert message.log_time == message.publish_time
            found[channel.topic].append((message.log_time, decoded))
    return found


def sizes(path: Path) -> tuple[tuple[int, int], list[int]]:
    with av.open(str(path)) as video:
        frames = list(video.decode(video=0))
    return (frames[0].width, frames[0].height), [frame.pts for frame in frames]


def test_it_lies_over_the_logs_own_images(log: Path, tmp_path: Path) -> None:
    shifts = ("cameras.cam_left.stamp_offset_ms=3", "cameras.cam_right.rotate_deg=180")
    out = run_drive(job(log, tmp_path / "out", *ALL, *shifts)).directory
    found, stamps = messages(out / "annotations.mcap"), headers(log)
    boxes = pd.read_parquet(out / "detections.parquet")
    for camera in ("cam_front", "cam_left", "cam_right"):
        (own,) = (stamps[topic] for topic in stamps if camera in topic)
        told = found[f"/annotations/{camera}/detections"]
        assert [time for time, _ in told] == own
        for time, message in told:
            shift = 3_000_000 if camera == "cam_left" else 0
            own_rows = (
                (boxes.camera == camera) & (boxes.frame_stamp_ns == time + shift) & (boxes.score >= 0.25)
            )
            rows = boxes[own_rows]
            assert len(message.points) <= len(rows)
            kept = {(p.points[0].x, p.points[0].y) for p in message.points}
            assert kept <= set(zip(rows.x1.astype(float), rows.y1.astype(float), strict=True))
    objects = pd.read_parquet(out / "objects.parquet").dropna(subset=["x_m"])
    cubes = [
        (time, c.pose.position.x, c.pose.position.y, c.size.z)
        for time, update in found["/annotations/objects"]
        for entity in update.entities
        for c in entity.cubes
    ]
    assert cubes
    assert cubes == [(r.stamp_ns, r.x_m, r.y_m, r.height_m) for r in objects.itertuples()]
    children = {t.child_frame_id for _, m in found["/annotations/tf"] for t in m.transforms}
    assert children == {"cam_front_optical", "cam_left_optical", "cam_right_optical", "base_link"}


def test_fuse_writes_them_again_as_a_whole_run_would(log: Path, tmp_path: Path) -> None:
    plain = run_drive(job(log, tmp_path / "a")).directory
    assert not list(plain.glob("annotations*"))
    log.rename(tmp_path / "away")  # it needs no log
    fuse_again(plain, [*ALL, "detect.score=0.6"])
    (tmp_path / "away").rename(log)
    whole = run_drive(job(log, tmp_path / "b", *ALL, "detect.score=0.6")).directory
    for name in ("annotations.mcap", "annotations_rosbag2/annotations_rosbag2.mcap"):
        assert (plain / name).read_bytes() == (whole / name).read_bytes()
    fuse_again(plain, ["detect.classes=[person]"])  # over those that are there
    assert (plain / "annotations.mcap").read_bytes() != (whole / "annotations.mcap").read_bytes()


def test_a_run_again_makes_or_removes_them_without_detecting(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    out = tmp_path / "out"
    outcomes = [
        run_drive(job(log, out, *keys), redo=redo) for keys in ((), ALL, ALL, ("write.mcap=true",), ())
    ]
    assert [outcome.action for outcome in outcomes] == ["ran", "redid", "skipped", "redid", "redid"]
    assert [bool(detector.batches) for detector in detectors] == [True, False, False, False, False]
    assert not list(outcomes[0].directory.glob("annotations*"))


def test_overwriting_leaves_nothing_of_the_run_before(log: Path, tmp_path: Path) -> None:
    first = run_drive(job(log, tmp_path / "out", *ALL, "render.per_camera=true")).directory
    assert (first / "annotated_cameras").is_dir()
    run_drive(replace(job(log, tmp_path / "out"), overwrite=True))
    assert not [*first.glob("annotations*"), *first.glob("annotated_cameras")]


def test_a_stopped_run_leaves_whole_files_and_says_that_it_is_unfinished(log: Path, tmp_path: Path) -> None:
    class Stopping(pipeline.Progress):
        steps = 0

        def advance(self, images: int) -> None:
            self.steps += 1
            if self.steps == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_drive(job(log, tmp_path / "out", *ALL), Stopping())
    directory = tmp_path / "out" / "drive"
    assert json.loads((directory / "run.json").read_text())["status"] == "unfinished"
    assert len(messages(directory / "annotations.mcap")["/annotations/objects"]) == 5
    with AnyReader([directory / "annotations_rosbag2"]) as bag:
        assert bag.message_count
    assert not list(directory.glob("*.partial"))


def test_videos_of_single_cameras_in_a_given_layout(log: Path, tmp_path: Path) -> None:
    layout = "render.layout=[[cam_right],[cam_left]]"
    out = run_drive(job(log, tmp_path / "out", "render.per_camera=true", layout)).directory
    mosaic, times = sizes(out / "annotated.mp4")
    parts = {path.name: sizes(path) for path in (out / "annotated_cameras").iterdir()}
    assert sorted(parts) == ["cam_left.mp4", "cam_right.mp4"]
    for (width, height), own in parts.values():
        assert own == times
        assert width < mosaic[0]
        assert height < mosaic[1]
    render_again(out, ["render.layout=auto"], log_root=log.parent)
    assert len(list((out / "annotated_cameras").iterdir())) == 3
    (out / "annotated_cameras" / "mine.txt").write_text("kept")
    render_again(out, ["render.per_camera=false"], log_root=log.parent)
    assert [p.name for p in (out / "annotated_cameras").iterdir()] == ["mine.txt"]


def test_a_layout_of_other_cameras_is_refused_before_anything_is_written(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no camera cam_top; there are cam_front, cam_left, cam_right"):
        run_drive(job(log, tmp_path / "out", "render.layout=[[cam_top]]"))
    assert not (tmp_path / "out").exists()


@pytest.mark.real
@pytest.mark.parametrize(("name", "placed"), [("nuscenes_sample.bag", True), ("nuscenes_n008", False)])
def test_real_recordings(
    recordings: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, placed: bool
) -> None:
    from perception_batch.detect import open_detector

    monkeypatch.setattr(pipeline, "open_detector", open_detector)
    words = [word for key in ALL for word in ("--set", key)]
    command = ["run", str(recordings / name), "--out", str(tmp_path), "--model", str(weights), "--no-video"]
    assert main([*command, *words]) == 0
    out = tmp_path / Path(name).stem
    found, stamps = messages(out / "annotations.mcap"), headers(recordings / name)
    told = {topic: [t for t, _ in found[topic]] for topic in found if topic.endswith("/detections")}
    assert sorted(told.values()) == sorted(stamps.values())
    assert sum(len(m.points) for topic in told for _, m in found[topic]) > 2
    assert ("/annotations/objects" in found) == placed
    with AnyReader([out / "annotations_rosbag2"]) as bag:
        assert bag.message_count == sum(map(len, told.values())) + len(found["/annotations/objects"])
        frames = {
            bag.deserialize(raw, connection.msgtype).header.frame_id for connection, _, raw in bag.messages()
        }
    with AnyReader([recordings / name]) as bag:
        images = [c for c in bag.connections if "Image" in c.msgtype]
        own = {bag.deserialize(raw, c.msgtype).header.frame_id for c, _, raw in bag.messages(images)}
    assert own - {""} <= frames
