"""Foxglove's image messages against the official packages and rosbags, and hostile bytes."""

from __future__ import annotations

import base64
import importlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.read.images.foxglove_image import parse_json, parse_protobuf
from perception_batch.read.images.image_message import MalformedMessage, parse_ros

TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12)


def official(name: str) -> Any:
    return getattr(importlib.import_module(f"foxglove_schemas_protobuf.{name}_pb2"), name)


def timestamp(stamp_ns: int) -> Any:
    from google.protobuf.timestamp_pb2 import Timestamp

    return Timestamp(seconds=stamp_ns // 10**9, nanos=stamp_ns % 10**9)


def described(package: str, name: str, fields: list[tuple[str, int, str]]) -> tuple[Any, bytes]:
    """A message class with a layout of its own, and its FileDescriptorSet, as an MCAP file carries it."""
    from google.protobuf import descriptor_pb2, timestamp_pb2
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="own.proto", package=package, syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    message = file.message_type.add(name=name)
    for field, number, kind in fields:
        added = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
        added.type = getattr(kinds, f"TYPE_{kind.upper()}")
        if kind == "message":
            added.type_name = ".google.protobuf.Timestamp"
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    schema = descriptor_pb2.FileDescriptorSet(file=[file])
    schema.file.add().ParseFromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    return GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")), schema.SerializeToString()


@given(
    name=st.sampled_from(["CompressedImage", "CompressedVideo"]),
    stamp_ns=st.integers(-(10**9), 2**62),
    frame=TEXT,
    fmt=TEXT,
    data=st.binary(max_size=300),
)
def test_protobuf_agrees_with_the_official_package(
    name: str, stamp_ns: int, frame: str, fmt: str, data: bytes
) -> None:
    raw = official(name)(
        timestamp=timestamp(stamp_ns), frame_id=frame, format=fmt, data=data
    ).SerializeToString()
    got = parse_protobuf(raw, f"foxglove.{name}")
    assert (got.stamp_ns, got.frame_id, got.format, bytes(got.data)) == (stamp_ns, frame, fmt, data)
    if data:
        assert isinstance(got.data, memoryview)
        assert got.data.obj is raw, "the image is a view of the message, no copy"
    with pytest.raises(MalformedMessage):
        parse_protobuf(raw + b"\x0a", f"foxglove.{name}")


@given(
    size=st.tuples(*[st.integers(0, 2**32 - 1)] * 3), encoding=TEXT, frame=TEXT, data=st.binary(max_size=100)
)
def test_raw_protobuf_agrees_with_the_official_package(
    size: tuple[int, int, int], encoding: str, frame: str, data: bytes
) -> None:
    w, h, step = size
    raw = official("RawImage")(
        width=w, height=h, step=step, encoding=encoding, frame_id=frame, data=data
    ).SerializeToString()
    got = parse_protobuf(raw, "foxglove.RawImage")
    assert (got.width_px, got.height_px, got.step_bytes, got.is_bigendian) == (w, h, step, False)
    assert (got.stamp_ns, got.format, got.frame_id, bytes(got.data)) == (0, encoding, frame, data)


def test_the_schema_in_the_file_says_which_field_is_which() -> None:
    fields = [
        ("data", 1, "bytes"),
        ("encoding", 2, "string"),
        ("height", 5, "uint32"),
        ("width", 4, "uint32"),
        ("step", 77, "int32"),
        ("frame_id", 9, "string"),
        ("timestamp", 30, "message"),
    ]
    made, schema = described("foxglove", "RawImage", fields)
    message = made(data=b"abc", encoding="mono8", height=1, width=3, step=3, frame_id="f")
    message.timestamp.seconds, message.timestamp.nanos = 5, 7
    raw = message.SerializeToString()
    got = parse_protobuf(raw, "foxglove.RawImage", schema)
    assert (got.width_px, got.height_px, got.step_bytes, got.format, got.frame_id) == (3, 1, 3, "mono8", "f")
    assert (got.stamp_ns, bytes(got.data)) == (5 * 10**9 + 7, b"abc")
    plain = official("RawImage")(width=8, data=b"x").SerializeToString()
    for damaged in (b"", b"\xff\xff", b"\0" * 9, schema.replace(b"RawImage", b"RawImagX")):
        assert parse_protobuf(plain, "foxglove.RawImage", damaged).width_px == 8


@given(data=st.binary(max_size=120), schema=st.binary(max_size=60))
def test_any_bytes_are_a_message_or_malformed(data: bytes, schema: bytes) -> None:
    for parse in (
        lambda: parse_protobuf(data, "foxglove.RawImage"),
        lambda: parse_protobuf(data, "foxglove.RawImage", schema),
        lambda: parse_json(data),
        lambda: parse_json(b'{"data":"' + data + b'"}'),
    ):
        try:
            parse()
        except MalformedMessage:
            continue


@settings(max_examples=300)
@given(
    at=st.integers(0, 200),
    flip=st.integers(1, 255),
    cut=st.integers(0, 400),
    name=st.sampled_from(["RawImage"]),
)
def test_damaged_messages_agree_with_the_official_package_or_are_malformed(
    at: int, flip: int, cut: int, name: str
) -> None:
    from google.protobuf.message import DecodeError

    good = official(name)(
        timestamp=timestamp(3),
        width=4,
        height=3,
        step=12,
        encoding="rgb8",
        data=bytes(range(36)),
        frame_id="cam",
    ).SerializeToString()
    bad = bytearray(good)
    bad[at % len(bad)] ^= flip
    raw = bytes(bad[: cut % len(bad) + 1])
    try:
        got = parse_protobuf(raw, f"foxglove.{name}")
    except MalformedMessage:
        return
    try:
        slow = official(name).FromString(raw)
    except (
        DecodeError
    ):  # not UTF-8, or a field number beyond what is allowed: such a frame may have its picture
        return
    assert bytes(got.data) == slow.data
    assert got.format == slow.encoding


def json_image(**changes: Any) -> bytes:
    message = {
        "timestamp": {"sec": 5, "nsec": 7},
        "frame_id": "cam",
        "format": "jpeg",
        "data": base64.b64encode(b"\xff\xd8\xff picture").decode(),
    }
    return json.dumps({k: v for k, v in {**message, **changes}.items() if v is not ...}).encode()


def test_json() -> None:
    got = parse_json(json_image())
    assert (got.stamp_ns, got.frame_id, got.format, got.data) == (
        5 * 10**9 + 7,
        "cam",
        "jpeg",
        b"\xff\xd8\xff picture",
    )
    raw = parse_json(json_image(format=..., encoding="rgb8", width=2, height=3, step=6))
    assert (raw.width_px, raw.height_px, raw.step_bytes, raw.format) == (2, 3, 6, "rgb8")
    assert parse_json(json_image(timestamp=...)).stamp_ns == 0
    assert parse_json(json_image(frame_id="x" * 5000)).frame_id == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b'{"data": 5}',
        b"[" * 100_000,
        json_image(data="not base64!"),
        json_image(data="QUJ"),
        json_image(data="\u00e4"),
        json_image(data=...),
        json_image(timestamp={"sec": 1.5, "nsec": 0}),
        json_image(timestamp={"sec": "1", "nsec": 0}),
        json_image(timestamp=[1, 2]),
        json_image(width=10**30),
        json_image(width="9" * 10),
    ],
)  # fmt: skip
def test_malformed_json(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_json(raw)


TWINS = {
    "CompressedVideo": "{time} timestamp\nstring frame_id\nuint8[] data\nstring format\n",
    "CompressedImage": "{time} timestamp\nstring frame_id\nuint8[] data\nstring format\n",
    "RawImage": "{time} timestamp\nstring frame_id\nuint32 width\nuint32 height\nstring encoding\nuint32 step\nuint8[] data\n",
    "FFMPEGPacket": (
        "std_msgs/Header header # of the picture\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
        "bool is_bigendian\nuint8[] data\n"
    ),
    "old FFMPEGPacket": (
        "# of ROS 1\nuint8 KEY = 1\nstd_msgs/Header header\nuint8[] data\nint32 img_width\nint32 img_height\n"
        "string encoding\nuint64 pts\nuint8 flags\n"
    ),
}


@pytest.mark.parametrize("ros", [1, 2])
@pytest.mark.parametrize(
    ("kind", "stated"),
    [*((kind, True) for kind in TWINS), *((kind, False) for kind in TWINS if not kind.startswith("old"))],
)
def test_ros_twins_agree_with_rosbags(ros: int, kind: str, stated: bool) -> None:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_HUMBLE)
    package = "ffmpeg_image_transport_msgs" if kind.endswith("FFMPEGPacket") else "foxglove_msgs"
    msgtype = f"{package}/msg/{kind.removeprefix('old ')}"
    definition = TWINS[kind].format(time="time" if ros == 1 else "builtin_interfaces/Time")
    store.register(get_types_from_msg(definition, msgtype))
    types, pixels = store.types, np.arange(11, dtype=np.uint8)
    for frame in ("", "a", "abcdef"):
        stamp = types["builtin_interfaces/msg/Time"](1700000000, 123456789)
        header = types["std_msgs/msg/Header"](*((3, stamp, frame) if ros == 1 else (stamp, frame)))
        values = {
            "timestamp": stamp,
            "header": header,
            "frame_id": frame,
            "data": pixels,
            "format": "h264",
            "encoding": "hevc;yuv420p",
            **dict.fromkeys(["width", "img_width"], 640),
            **dict.fromkeys(["height", "img_height"], 480),
            **dict.fromkeys(["step", "pts", "flags"], 99),
            "is_bigendian": False,
        }
        made = types[msgtype]
        message = made(**{k: v for k, v in values.items() if k in made.__dataclass_fields__})
        raw = bytes(
            store.serialize_ros1(message, msgtype) if ros == 1 else store.serialize_cdr(message, msgtype)
        )
        got = parse_ros(
            raw,
            "ros1" if ros == 1 else "cdr",
            msgtype,
            definition + "\n=====\nMSG: x/Y\nfoo bar" if stated else "",
        )
        assert (got.stamp_ns, got.frame_id, bytes(got.data)) == (1700000000123456789, frame, pixels.tobytes())
        assert got.format == ("h264" if "format" in made.__dataclass_fields__ else "hevc;yuv420p")
        if "Image" not in kind and "Video" not in kind:
            assert (got.width_px, got.height_px) == (640, 480)
        for cut in range(len(raw) - 8):  # the last bytes may be alignment
            with pytest.raises(MalformedMessage):
                parse_ros(raw[:cut], "ros1" if ros == 1 else "cdr", msgtype, definition)


@given(definition=st.text(max_size=80), data=st.binary(max_size=80))
def test_any_definition(definition: str, data: bytes) -> None:
    for text in (definition, "uint8[] data\n" + definition):
        for serialization in ("ros1", "cdr"):
            try:
                parse_ros(b"\0\1\0\0" + data, serialization, "foxglove_msgs/msg/RawImage", text)
            except MalformedMessage:
                continue
