"""PointCloud2 from its bytes, against what rosbags writes; and bytes that lie."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lidar_clouds import Array, cloud
from log_writer import message_types

from perception_batch.lidar import MAX_POINTS
from perception_batch.read.images.image_message import MalformedMessage
from perception_batch.read.lidar.point_cloud import head_of_cloud, parse_cloud

STAMP_NS = 1_700_000_000_123_456_789
ROS1, ROS2 = message_types("bag1"), message_types("mcap")
POINTS = np.array([[3.0, 4.0, 1.0], [-7.0, 2.0, -1.0], [20.0, 0.0, 2.0], [5.0, -5.0, 0.0]])


def header(store: Any, frame: str = "lidar") -> Any:
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](STAMP_NS // 10**9, STAMP_NS % 10**9)
    kind = types["std_msgs/msg/Header"]
    return kind(7, stamp, frame) if store is ROS1 else kind(stamp, frame)


def written(store: Any, points: Array = POINTS, **changes: Any) -> bytes:
    message = cloud(store.types, header(store), points, **changes)
    kind = "sensor_msgs/msg/PointCloud2"
    return bytes(store.serialize_ros1(message, kind) if store is ROS1 else store.serialize_cdr(message, kind))


@pytest.mark.parametrize("serialization", ["ros1", "cdr"])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"fields": [("z", 20, 8), ("ring", 3, 4), ("x", 4, 8), ("y", 12, 8)], "point_step": 29},
        {"fields": [("x", 1, 3), ("y", 3, 3), ("z", 5, 1)], "point_step": 9, "height": 2, "row_padding": 5},
        {"bigendian": True, "height": 4, "row_padding": 16},
    ],
)
def test_fields_of_any_offset_type_and_padding_are_read(serialization: Any, layout: dict[str, Any]) -> None:
    data = written(ROS1 if serialization == "ros1" else ROS2, **layout)
    got = parse_cloud(data, serialization)
    assert (got.stamp_ns, got.frame_id) == (STAMP_NS, "lidar")
    assert head_of_cloud(data, serialization) == (STAMP_NS, "lidar")
    np.testing.assert_array_equal(got.points_m, POINTS.astype(np.float32))


def test_points_that_are_none_are_left_out_and_many_are_thinned_evenly() -> None:
    bad = np.array([[np.nan, 1, 1], [0, 0, 0], [np.inf, 0, 0], [1e6, 0, 0], [0.1, 0.1, 0], [1e38, 1e38, 0]])
    got = parse_cloud(written(ROS2, np.concatenate([bad, POINTS])), "cdr")
    np.testing.assert_array_equal(got.points_m, POINTS.astype(np.float32))
    many = np.stack([np.linspace(1, 100, 250_001), np.ones(250_001), np.ones(250_001)], axis=1)
    thin = parse_cloud(written(ROS2, many), "cdr").points_m
    assert MAX_POINTS // 2 < len(thin) <= MAX_POINTS
    assert np.ptp(np.diff(thin[:, 0])) < 1e-4
    assert len(parse_cloud(written(ROS2, POINTS[:0]), "cdr").points_m) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 5}, "bytes of points for 5x1"),
        ({"width": 2**31, "height": 2}, "allowed are"),
        ({"width": 2**32 - 1, "height": 2**32 - 1, "point_step": 1 << 30}, "points of 1073741824 bytes"),
        ({"point_step": 0}, "points of 0 bytes"),
        ({"point_step": 11}, "field z at byte 8 lies outside"),
        ({"height": 2, "width": 2, "row_step": 3}, "rows of 3 bytes"),
        ({"height": 3, "width": 1, "row_step": 2**31}, "bytes of points"),
        ({"fields": []}, "no field x; it has none"),
    ],
)
def test_a_message_that_lies_is_refused(changes: dict[str, Any], message: str) -> None:
    made = cloud(ROS2.types, header(ROS2), POINTS)
    for name, value in changes.items():
        setattr(made, name, value)
    data = bytes(ROS2.serialize_cdr(made, "sensor_msgs/msg/PointCloud2"))
    with pytest.raises(MalformedMessage, match=message):
        parse_cloud(data, "cdr")


def test_odd_fields_are_refused() -> None:
    with pytest.raises(MalformedMessage, match="no field z; it has x, y"):
        parse_cloud(written(ROS2, fields=[("x", 0, 7), ("y", 4, 7)]), "cdr")
    made = cloud(ROS2.types, header(ROS2), POINTS)
    made.fields[1].datatype = 9
    with pytest.raises(MalformedMessage, match="field y is of the unknown number type 9"):
        parse_cloud(bytes(ROS2.serialize_cdr(made, "sensor_msgs/msg/PointCloud2")), "cdr")
    made.fields = [made.fields[0]] * 65
    with pytest.raises(MalformedMessage, match="65 fields"):
        parse_cloud(bytes(ROS2.serialize_cdr(made, "sensor_msgs/msg/PointCloud2")), "cdr")


@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, 200), at=st.integers(4, 140), value=st.integers(0, 2**32 - 1), ros1=st.booleans())
def test_no_bytes_crash_it(cut: int, at: int, value: int, ros1: bool) -> None:
    """Any cut, and any number anywhere: points, or `MalformedMessage`."""
    data = bytearray(written(ROS1 if ros1 else ROS2))
    data[at : at + 4] = struct.pack("<I", value)
    try:
        got = parse_cloud(bytes(data[: len(data) - cut]), "ros1" if ros1 else "cdr")
    except MalformedMessage:
        return
    assert np.isfinite(got.points_m).all()
    assert len(got.points_m) <= len(POINTS)
