"""Foxglove's calibration and transforms: by protobuf, JSON and ROS, in the shape of ROS's own."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_batch.read.containers.logfile import Channel
from perception_batch.read.rigs.camera_info import info_topics_beside, intrinsics_of, lens_model
from perception_batch.read.rigs.transforms import TransformTree, is_sound
from perception_batch.read.small_message import _reader, small_message, stamp_of

K = [800.0, 0, 320, 0, 800, 240, 0, 0, 1]
CALIBRATION = {
    "timestamp": {"sec": 5, "nsec": 7},
    "frame_id": "optical",
    "width": 640,
    "height": 480,
    "distortion_model": "plumb_bob",
    "D": [-0.2, 0.1, 0, 0, 0.5],
    "K": K,
    "R": [1, 0, 0, 0, 1, 0, 0, 0, 1],
    "P": [700, 0, 320, 0, 0, 700, 240, 0, 0, 0, 1, 0],
}
TRANSFORM = {
    "timestamp": {"sec": 5, "nsec": 7},
    "parent_frame_id": "base_link",
    "child_frame_id": "optical",
    "translation": {"x": 1.5, "y": 0.25, "z": 2.0},
    "rotation": {"x": 0.0, "y": 0.0, "z": 0.6, "w": 0.8},
}


def channel(name: str, encoding: str, definition: str = "", schema: bytes = b"") -> Channel:
    msgtype = f"foxglove_msgs/msg/{name}" if encoding in ("ros1", "cdr") else f"foxglove.{name}"
    return Channel(1, "/x", msgtype, encoding, definition, False, schema)  # type: ignore[arg-type]


def protobuf(name: str, content: dict[str, Any]) -> bytes:
    from google.protobuf.json_format import ParseDict

    made = getattr(importlib.import_module(f"foxglove_schemas_protobuf.{name}_pb2"), name)

    def timed(value: Any) -> Any:
        if isinstance(value, dict) and "nsec" in value:
            return f"1970-01-01T00:00:{value['sec']:02}.{value['nsec']:09}Z"
        if isinstance(value, dict):
            return {key: timed(inner) for key, inner in value.items()}
        return [timed(inner) for inner in value] if isinstance(value, list) else value

    return bytes(ParseDict(timed(content), made()).SerializeToString())


BAR = "=" * 80 + "\n"
GEOMETRY = (
    f"\n{BAR}MSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n"
    f"{BAR}MSG: geometry_msgs/Quaternion\nfloat64 x\nfloat64 y\nfloat64 z\nfloat64 w\n"
)
ONE = "{time} timestamp\nstring parent_frame_id\nstring child_frame_id\ngeometry_msgs/Vector3 translation\ngeometry_msgs/Quaternion rotation\n"
DEFINITIONS = {
    "CameraCalibration": (
        "{time} timestamp\nstring frame_id\nuint32 width\nuint32 height\nstring distortion_model\n"
        "float64[] {d}\nfloat64[9] {k}\nfloat64[9] {r}\nfloat64[12] {p}\n"
    ),
    "FrameTransform": ONE + GEOMETRY,
    "FrameTransforms": f"foxglove_msgs/FrameTransform[] transforms\n{BAR}MSG: foxglove_msgs/FrameTransform\n" + ONE + GEOMETRY,
}  # fmt: skip


def ros(name: str, content: dict[str, Any], version: int) -> tuple[Channel, bytes]:
    """The message by rosbags, from the definition that Foxglove publishes for ROS 1 or 2."""
    import numpy as np
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    letters = {c: c.upper() if version == 1 else c for c in "dkrp"}
    definition = DEFINITIONS[name].format(
        time="time" if version == 1 else "builtin_interfaces/Time", **letters
    )
    store = get_typestore(Stores.ROS1_NOETIC if version == 1 else Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(definition, f"foxglove_msgs/msg/{name}"))

    def made(msgtype: str, values: dict[str, Any]) -> Any:
        out = {}
        for key, value in values.items():
            if key == "timestamp":
                value = store.types["builtin_interfaces/msg/Time"](value["sec"], value["nsec"])
            elif key in ("translation", "rotation"):
                kind = "Vector3" if key == "translation" else "Quaternion"
                value = store.types[f"geometry_msgs/msg/{kind}"](**value)
            elif key == "transforms":
                value = [made("foxglove_msgs/msg/FrameTransform", one) for one in value]
            elif isinstance(value, list):
                key, value = letters[key.lower()], np.array(value, np.float64)
            out[key] = value
        return store.types[msgtype](**out)

    msgtype = f"foxglove_msgs/msg/{name}"
    pack = store.serialize_ros1 if version == 1 else store.serialize_cdr
    return channel(name, "ros1" if version == 1 else "cdr", definition), bytes(
        pack(made(msgtype, content), msgtype)
    )


def every_form(name: str, content: dict[str, Any]) -> list[Any]:
    """The message as `small_message` gives it, from each serialisation."""
    return [
        small_message(channel(name, "json"), json.dumps(content).encode()),
        small_message(channel(name, "protobuf"), protobuf(name, content)),
        *(small_message(*ros(name, content, version)) for version in (1, 2)),
        small_message(channel(name, "cdr"), ros(name, content, 2)[1]),  # sqlite3 carries no definitions
    ]


def test_calibration() -> None:
    for info in every_form("CameraCalibration", CALIBRATION):
        assert (stamp_of(info.header), info.header.frame_id) == (5 * 10**9 + 7, "optical")
        lens = intrinsics_of(info, rectified=False, image_size_px=(640, 480))
        assert (lens.model, lens.fx_px, lens.cx_px, lens.distortion) == (
            "plumb_bob", 800.0, 320.0, (-0.2, 0.1, 0, 0, 0.5),
        )  # fmt: skip
        flat = intrinsics_of(info, rectified=True, image_size_px=(320, 240))
        assert (flat.model, flat.fx_px) == ("pinhole", 350.0)
        with pytest.raises(ValueError, match="520x360"):
            intrinsics_of(info, rectified=False, image_size_px=(520, 360))


def test_calibration_that_says_little() -> None:
    empty = small_message(channel("CameraCalibration", "protobuf"), b"")
    with pytest.raises(ValueError, match="uncalibrated"):
        intrinsics_of(empty, rectified=False, image_size_px=(640, 480))
    without_p = {key: value for key, value in CALIBRATION.items() if key not in ("P", "R")}
    info = small_message(channel("CameraCalibration", "protobuf"), protobuf("CameraCalibration", without_p))
    assert intrinsics_of(info, rectified=False, image_size_px=(640, 480)).fx_px == 800.0
    for model, d in (("CylinderCameraModel", [-0.2]), ("CylinderCameraModel", [0.0] * 5), ("fisheye_62", [])):
        odd = small_message(
            channel("CameraCalibration", "json"),
            json.dumps({**CALIBRATION, "distortion_model": model, "D": d}).encode(),
        )
        with pytest.raises(ValueError, match="unknown distortion model"):
            intrinsics_of(odd, rectified=False, image_size_px=(640, 480))


@pytest.mark.parametrize(
    "name", ["", "none", "pinhole", "plumb_bob", "rational_polynomial", "inverse_brown_conrady"]
)
def test_no_distortion_is_a_pinhole(name: str) -> None:
    assert lens_model(name, [0.0] * 5) == ("pinhole", ())


def test_transforms() -> None:
    forms = every_form("FrameTransform", TRANSFORM) + every_form(
        "FrameTransforms", {"transforms": [TRANSFORM]}
    )
    for message in forms:
        tree = TransformTree()
        [(child, stamped)] = tree.add_message(message)
        assert (child, stamp_of(stamped.header)) == ("optical", 5 * 10**9 + 7)
        link = tree.between("base_link", "optical")
        assert link is not None
        assert link[0].translation_m.tolist() == [1.5, 0.25, 2.0]
        assert link[0].quaternion_xyzw().tolist() == pytest.approx([0, 0, 0.6, 0.8])


def test_transforms_that_are_none_do_not_cost_the_others() -> None:
    bad = [
        {**TRANSFORM, "child_frame_id": ""},
        {**TRANSFORM, "parent_frame_id": "optical"},
        {**TRANSFORM, "rotation": {"x": 0, "y": 0, "z": 0, "w": 0}},
        {**TRANSFORM, "translation": {"x": 1e300, "y": 0, "z": 0}},
    ]
    for message in every_form("FrameTransforms", {"transforms": [*bad, TRANSFORM]}):
        assert [is_sound(stamped) for stamped in message.transforms] == [False] * 4 + [True]
        assert len(TransformTree().add_message(message)) == 1
    torn = {"transforms": [{"child_frame_id": "x"}, 7, {**TRANSFORM, "translation": None}, TRANSFORM]}
    message = small_message(channel("FrameTransforms", "json"), json.dumps(torn).encode())
    assert [is_sound(stamped) for stamped in message.transforms] == [False] * 3 + [True]


def test_protobuf_by_the_schema_in_the_file() -> None:
    from google.protobuf import descriptor_pb2
    from mcap_protobuf.schema import build_file_descriptor_set

    made = importlib.import_module("foxglove_schemas_protobuf.FrameTransforms_pb2").FrameTransforms
    schema: descriptor_pb2.FileDescriptorSet = build_file_descriptor_set(made)
    raw = protobuf("FrameTransforms", {"transforms": [TRANSFORM]})
    for known in (schema.SerializeToString(), b"", b"\xff", schema.SerializeToString()[:90]):
        message = small_message(channel("FrameTransforms", "protobuf", schema=known), raw)
        assert message.transforms[0].child_frame_id == "optical"
    for file in schema.file:  # swap two field numbers
        for message_type in file.message_type:
            if message_type.name == "FrameTransform":
                numbers = {field.name: field for field in message_type.field}
                numbers["parent_frame_id"].number, numbers["child_frame_id"].number = 3, 2
    swapped = small_message(channel("FrameTransforms", "protobuf", schema=schema.SerializeToString()), raw)
    assert swapped.transforms[0].child_frame_id == "base_link"
    with pytest.raises(ValueError, match="neither in the file nor known"):
        small_message(channel("NoSuchThing", "protobuf"), raw)
    for odd in ("foxglove.os", "foxglove.../x", "foxglove.", "other.FrameTransform"):
        with pytest.raises(ValueError, match="cannot be parsed"):
            small_message(Channel(1, "/x", odd, "protobuf", "", False), raw)


@given(
    data=st.binary(max_size=120),
    schema=st.binary(max_size=40),
    name=st.sampled_from(["CameraCalibration", "FrameTransform", "FrameTransforms"]),
    encoding=st.sampled_from(["json", "protobuf", "cdr", "ros1"]),
)
def test_any_bytes(data: bytes, schema: bytes, name: str, encoding: str) -> None:
    try:
        message = small_message(channel(name, encoding, schema=schema), data)
    except ValueError:
        return
    for stamped in getattr(message, "transforms", ()):
        is_sound(stamped)


@pytest.mark.parametrize("deep", [b"[" * 50_000, b'{"a":' * 50_000, b"1" * 10_000])
def test_hostile_json(deep: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be parsed"):
        small_message(channel("FrameTransforms", "json"), deep)


def test_calibration_beside_images() -> None:
    topics = ["/cam/calibration", "/cam/camera_info", "/camera_calibration", "/camera_calibration/custom"]
    assert info_topics_beside("/cam/image/compressed", topics) == ("/cam/camera_info", "/cam/calibration")
    assert info_topics_beside("/image/compressed", topics) == ("/camera_calibration",)


def test_drives_with_the_same_definitions_share_what_reads_them() -> None:
    first, content = ros("CameraCalibration", CALIBRATION, 2)
    again = replace(first, id=first.id + 5, topic="/another")
    small_message(first, content)
    before = _reader.cache_info().misses
    assert small_message(again, content).header.frame_id == "optical"
    assert _reader.cache_info().misses == before
    small_message(replace(first, definition=first.definition + "\n# another file's"), content)
    assert _reader.cache_info().misses == before + 1
