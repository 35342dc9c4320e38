"""The files for viewers, read back by the official packages: stamps, geometry, names and what is not there."""

from __future__ import annotations

import errno
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from write.drive_of_results import FACTS, FIRST_NS, drive

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.errors import EXIT_RETRY, ConfigError, WriteError
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.types import Fusion, TimestepResult
from perception_batch.write import (
    AnnotationFacts,
    WriterGroup,
    annotation_writers,
    check_annotation_packages,
    remove_annotations,
)
from perception_batch.write.annotation_mcap import McapAnnotationWriter
from perception_batch.write.annotation_rosbag import RosbagAnnotationWriter
from perception_batch.write.annotation_scene import ellipse_of, topic_parts

ALL = SimpleNamespace(mcap=True, rosbag=True, rerun=False)
LENS = Intrinsics("equidistant", 640, 480, 300.0, 301.0, 319.5, 239.5, (0.1, 0.01, 0.0, 0.0))
MOUNT = SE3.from_quaternion([0.5, -0.5, 0.5, -0.5], [1.5, 0.1, 1.2])
RIG = Rig(
    "base_link",
    {name: Camera(name, LENS, MOUNT, "camera_info+tf") for name in ("front", "a_left")},
    {"back": "no CameraInfo"},
)
ABOUT = AnnotationFacts(FACTS, RIG, Ontology(), {"front": "front_optical", "back": "/back"})


def written(
    directory: Path, results: Sequence[TimestepResult], about: AnnotationFacts = ABOUT, settings: Any = ALL
) -> Path:
    with WriterGroup(annotation_writers(directory, about, settings)) as group:
        for result in results:
            group.write(result)
    return directory


def messages(path: Path) -> dict[str, list[tuple[int, int, Any]]]:
    """(log time, publish time, message) by topic."""
    found: dict[str, list[tuple[int, int, Any]]] = defaultdict(list)
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
        for _, channel, message, decoded in reader.iter_decoded_messages():
            found[channel.topic].append((message.log_time, message.publish_time, decoded))
    return found


def own_ns(stamp: Any) -> int:
    return int(stamp.seconds) * 10**9 + int(stamp.nanos)


def topic(camera: str) -> str:
    return f"/annotations/{camera}/detections"


def test_every_image_has_one_message_with_its_stamp_and_its_boxes(tmp_path: Path) -> None:
    results = drive(20)
    found = messages(written(tmp_path, results) / "annotations.mcap")
    for camera in ("front", "back", "a_left"):
        images = [r for r in results if r.status[camera] in ("ok", "undecodable")]
        assert [times[:2] for times in found[topic(camera)]] == [
            (r.frame_stamps_ns[camera],) * 2 for r in images
        ]
        for (_, _, message), result in zip(found[topic(camera)], images, strict=True):
            assert own_ns(message.timestamp) == result.frame_stamps_ns[camera]
            boxes = result.detections.get(camera)
            kept = (
                [i for i, why in enumerate(result.fusion.suppressed[camera]) if not why]
                if boxes is not None
                else []
            )
            assert len(message.points) == len(message.texts) == len(kept)
            for row, points, text in zip(kept, message.points, message.texts, strict=True):
                assert boxes is not None
                x1, y1, x2, y2 = boxes.xyxy[row].tolist()
                assert [(p.x, p.y) for p in points.points] == [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
                assert points.type == points.LINE_LOOP
                assert text.text == f"car {boxes.score[row]:.2f}"
                assert (points.outline_color.r, points.outline_color.b) == (0x31 / 255, 0xBD / 255)


def test_objects_are_cubes_where_and_as_large_as_they_are(tmp_path: Path) -> None:
    results = drive(9)
    items = list(results[4].fusion.objects)
    known = next(i for i, item in enumerate(items) if item.has_position)
    items[known] = replace(
        items[known], yaw_rad=0.7, track_id=12, velocity_mps=np.array([3.0, 4.0, 0.0]), filled=True
    )
    results[4] = replace(results[4], fusion=replace(results[4].fusion, objects=tuple(items)))
    updates = messages(written(tmp_path, results) / "annotations.mcap")["/annotations/objects"]
    assert [time for time, _, _ in updates] == [r.stamp_ns for r in results]
    for (_, _, update), result in zip(updates, results, strict=True):
        assert [d.type for d in update.deletions] == [1]  # ALL: what was there before goes
        placed = [item for item in result.fusion.objects if item.has_position]
        assert len(update.entities) == len(placed)
        for entity, item in zip(update.entities, placed, strict=True):
            (cube,) = entity.cubes
            at = cube.pose.position
            assert entity.frame_id == "base_link"
            assert (at.x, at.y, at.z) == tuple(item.position_m.tolist())
            length, width, height = item.size_lwh_m.tolist()
            side = length if math.isfinite(item.yaw_rad) else width
            assert (cube.size.x, cube.size.y, cube.size.z) == (side, width, height)
            assert len(entity.spheres) == 1
    one = next(e for e in updates[4][2].entities if e.id == "track 12")
    q = one.cubes[0].pose.orientation
    assert 2 * math.atan2(q.z, q.w) == pytest.approx(0.7)
    assert one.arrows[0].shaft_length + one.arrows[0].head_length == pytest.approx(5.0)
    assert one.cubes[0].color.a < updates[0][2].entities[0].cubes[0].color.a
    assert {pair.key: pair.value for pair in one.metadata}["velocity_mps"] == "3.000 4.000 0.000"


@given(st.floats(0.01, 50), st.floats(0.01, 50), st.floats(-math.pi / 2, math.pi / 2))
def test_the_ellipse_is_that_of_the_covariance(long: float, short: float, angle: float) -> None:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    covariance = np.eye(3)
    covariance[:2, :2] = turn @ np.diag([long**2, short**2]) @ turn.T
    found = ellipse_of(covariance)
    assert found is not None
    values = np.linalg.eigvalsh(covariance[:2, :2])
    np.testing.assert_allclose(found[:2], 2 * np.sqrt(values[::-1]), rtol=1e-6)
    back = np.array([math.cos(found[2]), math.sin(found[2])])
    assert back @ covariance[:2, :2] @ back == pytest.approx(values[1], rel=1e-6)


def test_lenses_and_transforms(tmp_path: Path) -> None:
    results = drive(6)
    moved = SE3.from_quaternion([0.0, 0.0, 0.0, 1.0], [9.0, 0.0, 0.0])
    results[2] = replace(results[2], mounts={"front": moved}, lenses={"front": replace(LENS, fx_px=400.0)})
    found = messages(written(tmp_path, results) / "annotations.mcap")
    (time, _, lens), (zoomed_at, _, zoomed), (back_at, _, back) = found["/annotations/front/calibration"]
    assert (zoomed_at, zoomed.K[0]) == (results[2].frame_stamps_ns["front"], 400.0)
    assert (back_at, back.K[0]) == (results[3].frame_stamps_ns["front"], 300.0)
    assert len(found["/annotations/a_left/calibration"]) == 1
    first = min([*results[0].frame_stamps_ns.values(), results[0].stamp_ns])
    assert (time, lens.frame_id, lens.distortion_model) == (first, "front_optical", "kannala_brandt")
    assert (lens.K[0], lens.K[2], tuple(lens.D)) == (300.0, 319.5, LENS.distortion)
    assert "/annotations/back/calibration" not in found
    transforms = [
        (time, t.parent_frame_id, t.child_frame_id, t.translation.x)
        for time, _, m in found["/annotations/tf"]
        for t in m.transforms
    ]
    assert transforms[:2] == [
        (first, "base_link", "annotations/a_left", 1.5),
        (first, "base_link", "front_optical", 1.5),
    ]
    poses = [(t[0], t[3]) for t in transforms if t[1:3] == ("odom", "base_link")]
    assert poses == [(r.stamp_ns, r.index * 1.5) for r in results if r.ego is not None]
    turned = [t for t in transforms[2:] if t[2] == "front_optical"]
    assert turned == [
        (results[2].frame_stamps_ns["front"], "base_link", "front_optical", 9.0),
        (results[3].frame_stamps_ns["front"], "base_link", "front_optical", 1.5),
    ]


def test_the_stamp_is_that_of_the_log_whatever_the_settings_added(tmp_path: Path) -> None:
    results = drive(3)
    about = replace(ABOUT, stamp_offsets_ns={"front": 5_000_001})
    found = messages(written(tmp_path, results, about) / "annotations.mcap")
    assert [t for t, _, _ in found[topic("front")]] == [
        r.frame_stamps_ns["front"] - 5_000_001 for r in results
    ]


def test_a_frame_that_is_held_has_its_boxes_once(tmp_path: Path) -> None:
    first, second = drive(5)[0], drive(5)[3]
    held = replace(
        second,
        status={**second.status, "front": "held"},
        frame_stamps_ns={**second.frame_stamps_ns, "front": first.frame_stamps_ns["front"]},
    )
    found = messages(written(tmp_path, [first, held]) / "annotations.mcap")
    assert [t for t, _, _ in found[topic("front")]] == [first.frame_stamps_ns["front"]]


def test_without_calibration_there_are_boxes_alone(tmp_path: Path) -> None:
    about = AnnotationFacts(
        replace(FACTS, base_frame=""),
        Rig("", {}, dict.fromkeys(("front", "back", "a_left"), "none")),
        Ontology(),
    )
    found = messages(written(tmp_path, drive(4), about) / "annotations.mcap")
    assert sorted(found) == [topic(c) for c in ("a_left", "back", "front")]


@pytest.mark.parametrize("results", [[], drive(3, most=1)], ids=["nothing", "no boxes"])
def test_nothing_found_is_a_whole_file(tmp_path: Path, results: list[TimestepResult]) -> None:
    from rosbags.rosbag2 import Reader

    empty = [replace(r, fusion=Fusion((), {}, {}), detections={}) for r in results]
    found = messages(written(tmp_path, empty) / "annotations.mcap")
    assert sum(len(m.points) for t in found for _, _, m in found[t] if t.endswith("detections")) == 0
    assert len(found["/annotations/objects"]) == len(empty)
    with Reader(tmp_path / "annotations_rosbag2") as bag:
        assert sum(1 for _ in bag.messages()) == sum(len(list(ABOUT.images(r))) + 1 for r in empty)


def test_the_bag_reads_back_with_the_images_headers(tmp_path: Path) -> None:
    from rosbags.highlevel import AnyReader

    results = drive(12)
    with AnyReader([written(tmp_path, results) / "annotations_rosbag2"]) as bag:
        found = defaultdict(list)
        for connection, time, raw in bag.messages():
            found[connection.topic].append((time, bag.deserialize(raw, connection.msgtype)))
    images = [r for r in results if r.status["front"] == "ok"]
    front = found["/annotations/front/detections_2d"]
    assert [time for time, _ in front] == [r.frame_stamps_ns["front"] for r in images]
    for (time, message), result in zip(front, images, strict=True):
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == time
        assert message.header.frame_id == "front_optical"
        boxes = result.detections["front"]
        kept = [i for i, why in enumerate(result.fusion.suppressed["front"]) if not why]
        for row, detection in zip(kept, message.detections, strict=True):
            center, box = detection.bbox.center.position, detection.bbox
            xyxy = [
                center.x - box.size_x / 2, center.y - box.size_y / 2,
                center.x + box.size_x / 2, center.y + box.size_y / 2,
            ]  # fmt: skip
            np.testing.assert_allclose(xyxy, boxes.xyxy[row], atol=1e-3)
            (only,) = detection.results
            assert (only.hypothesis.class_id, only.hypothesis.score) == (
                "car",
                pytest.approx(boxes.score[row]),
            )
    assert {m.header.frame_id for _, m in found["/annotations/back/detections_2d"]} == {"/back"}
    for (_, message), result in zip(found["/annotations/detections_3d"], results, strict=True):
        placed = [item for item in result.fusion.objects if item.has_position]
        assert message.header.frame_id == "base_link"
        for detection, item in zip(message.detections, placed, strict=True):
            at, covariance = (
                detection.bbox.center.position,
                detection.results[0].pose.covariance.reshape(6, 6),
            )
            assert [at.x, at.y, at.z] == item.position_m.tolist()
            np.testing.assert_array_equal(covariance[:3, :3], item.covariance_m2)
            assert covariance[5, 5] == pytest.approx(math.pi**2 / 3)  # nothing is known of the heading


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / name, drive(15))
    for file in ("annotations.mcap", "annotations_rosbag2/annotations_rosbag2.mcap"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@given(st.lists(st.text(max_size=12), unique=True, max_size=8))
def test_topics_are_ros_names_and_no_two_alike(names: list[str]) -> None:
    parts = topic_parts(names)
    assert set(parts) == set(names)
    assert len(set(parts.values())) == len(names)
    for part in parts.values():
        assert part.isascii()
        assert part.replace("_", "").isalnum()
        assert not part[0].isdigit()
        assert len(part) < 130


def test_hostile_names_go_round(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Reader

    names = ["../../etc/passwd", "<script>alert(1)</script>", "caméra \ud800 \0", "a b", "a_b", "7"]
    rig = Rig("base\ud800", {n: Camera(n, LENS, MOUNT, "file") for n in names}, {})
    base = drive(1)[0]
    result = replace(
        base,
        status=dict.fromkeys(names, "ok"),
        frame_stamps_ns=dict.fromkeys(names, FIRST_NS),
        detections=dict.fromkeys(names, base.detections["front"]),
        fusion=Fusion(base.fusion.objects, {}, {}),
    )
    about = AnnotationFacts(FACTS, rig, Ontology(), dict.fromkeys(names, "\udcff\0"))
    written(tmp_path, [result], about)
    found = messages(tmp_path / "annotations.mcap")
    assert len([t for t in found if t.endswith("/detections")]) == len(names)
    assert {
        "/annotations/a_b/detections",
        "/annotations/a_b_2/detections",
        "/annotations/camera_7/detections",
    } <= set(found)
    with Reader(tmp_path / "annotations_rosbag2") as bag:
        assert len(bag.connections) == len(names) + 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations.mcap", "annotations_rosbag2"]


def test_stamps_that_a_format_cannot_hold_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = drive(1)[0]
    bad = replace(good, index=1, stamp_ns=-5, frame_stamps_ns=dict.fromkeys(good.frame_stamps_ns, -7))
    late = replace(
        good, index=2, stamp_ns=1 << 62, frame_stamps_ns=dict.fromkeys(good.frame_stamps_ns, 1 << 62)
    )
    written(tmp_path, [good, bad, late])
    assert [t for t, _, _ in messages(tmp_path / "annotations.mcap")["/annotations/objects"]] == [
        good.stamp_ns,
        1 << 62,
    ]
    assert "before 1970" in caplog.text
    assert "8 messages left out: ROS holds stamps from 1970 to 2038" in caplog.text


def test_a_stopped_run_leaves_whole_files_and_a_killed_one_none(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), WriterGroup(annotation_writers(tmp_path, ABOUT, ALL)) as group:
        for result in drive(4):
            group.write(result)
        raise KeyboardInterrupt
    assert len(messages(tmp_path / "annotations.mcap")["/annotations/objects"]) == 4
    (tmp_path / "annotations.mcap.partial").write_bytes(b"half")
    (tmp_path / "annotations_rosbag2.partial").mkdir()
    (tmp_path / "annotations_rosbag2.partial" / "annotations_rosbag2").mkdir()
    assert len(messages(tmp_path / "annotations.mcap")["/annotations/objects"]) == 4
    written(tmp_path, drive(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations.mcap", "annotations_rosbag2"]
    remove_annotations(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [McapAnnotationWriter, RosbagAnnotationWriter])
def test_a_full_disk(tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = kind(tmp_path, ABOUT)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    inner = writer._mcap if kind is McapAnnotationWriter else writer._bag
    monkeypatch.setattr(inner, "add_message" if kind is McapAnnotationWriter else "write", full)
    with pytest.raises(WriteError, match="disk is full") as caught:
        writer.write(drive(1)[0])
    assert caught.value.exit_status == EXIT_RETRY
    assert list(tmp_path.iterdir()) == []
    writer.close()  # nothing more to do


def test_rerun_that_is_not_installed_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perception_batch.write.annotation_rerun.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install .*rerun"):
        check_annotation_packages(SimpleNamespace(mcap=False, rosbag=False, rerun=True))


def test_rerun(tmp_path: Path) -> None:
    pytest.importorskip("rerun.chunk", reason="the extra `rerun` is not installed")
    from rerun.chunk import RrdReader

    results = drive(8)
    written(tmp_path, results, settings=SimpleNamespace(mcap=False, rosbag=False, rerun=True))
    assert [p.name for p in tmp_path.iterdir()] == ["annotations.rrd"]
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for chunk in RrdReader(str(tmp_path / "annotations.rrd")).stream().to_chunks():
        rows[str(chunk.entity_path)] += chunk.to_record_batch().to_pylist()
    images = [r for r in results if r.status["front"] == "ok"]
    front = sorted(rows["/world/vehicle/cameras/front/detections"], key=lambda row: row["timestep"])
    for row, result in zip(front, images, strict=True):
        assert row["stamp"].value == result.frame_stamps_ns["front"]
        kept = [i for i, why in enumerate(result.fusion.suppressed["front"]) if not why]
        centers = np.reshape(row.get("Boxes2D:centers") or [], (-1, 2))
        xyxy = result.detections["front"].xyxy[kept]
        np.testing.assert_allclose(centers, (xyxy[:, :2] + xyxy[:, 2:]) / 2, atol=1e-3)
    assert "/images/back/detections" in rows
    pinhole = next(r for r in rows["/world/vehicle/cameras/front"] if r.get("Pinhole:image_from_camera"))
    assert np.ravel(pinhole["Pinhole:image_from_camera"])[6] == 320.0  # counted from the corner
    boxes = sorted(rows["/world/vehicle/objects/boxes"], key=lambda row: row["timestep"])
    for row, result in zip(boxes, results, strict=True):
        placed = [item.position_m for item in result.fusion.objects if item.has_position]
        found = np.reshape(row.get("Boxes3D:centers") or [], (-1, 3))
        np.testing.assert_allclose(found, np.reshape(placed, (-1, 3)), atol=1e-4)
