"""Whole logs of Foxglove's messages, protobuf and JSON in one MCAP, as `open_log` gives them."""

from __future__ import annotations

import base64
import importlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from perception_batch.config import CameraConfig
from perception_batch.read import open_log
from perception_batch.read.log import DriveLog
from perception_batch.types import BrokenPayload, EgoPose, EncodedFrame, VideoPayload

START = 1_700_000_000_123_456_789
STEP = 100_000_000
SIZE = (64, 48)
K = [60.0, 0, 31.5, 0, 60, 23.5, 0, 0, 1]


def made(name: str, **values: Any) -> Any:
    return getattr(importlib.import_module(f"foxglove_schemas_protobuf.{name}_pb2"), name)(**values)


def timestamp(stamp_ns: int) -> Any:
    from google.protobuf.timestamp_pb2 import Timestamp

    return Timestamp(seconds=stamp_ns // 10**9, nanos=stamp_ns % 10**9)


def picture(index: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((SIZE[1], SIZE[0], 3), 20 * index, np.uint8))[1])


def transform(parent: str, child: str, x: float = 1.0) -> Any:
    return made(
        "FrameTransform",
        timestamp=timestamp(START),
        parent_frame_id=parent,
        child_frame_id=child,
        translation=made("Vector3", x=x),
        rotation=made("Quaternion", x=-0.5, y=0.5, z=-0.5, w=0.5),
    )


def calibration(frame_id: str, model: str = "plumb_bob", size: tuple[int, int] = SIZE) -> Any:
    return made(
        "CameraCalibration",
        timestamp=timestamp(START),
        frame_id=frame_id,
        width=size[0],
        height=size[1],
        distortion_model=model,
        D=[0.1, 0, 0, 0, 0],
        K=K,
        P=[60, 0, 31.5, 0, 0, 60, 23.5, 0, 0, 0, 1, 0],
    )


def written(folder: Path) -> Path:
    """Four cameras: protobuf JPEG, JSON JPEG, H.264 without its first key frame, an unknown lens model."""
    from mcap.writer import Writer
    from mcap_protobuf.schema import register_schema

    path = folder / "foxglove.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="")
        channels: dict[str, int] = {}

        def put(topic: str, log_ns: int, message: Any, data: bytes | None = None) -> None:
            if topic not in channels:
                schema = register_schema(writer, type(message))
                channels[topic] = writer.register_channel(topic, "protobuf", schema)
            writer.add_message(channels[topic], log_ns, data or message.SerializeToString(), log_ns)

        def put_json(topic: str, kind: str, log_ns: int, content: dict[str, Any]) -> None:
            if topic not in channels:
                schema = writer.register_schema(f"foxglove.{kind}", "jsonschema", b"{}")
                channels[topic] = writer.register_channel(topic, "json", schema)
            writer.add_message(channels[topic], log_ns, json.dumps(content).encode(), log_ns)

        mounts = [transform("base_link", name) for name in ("front", "left", "video", "odd")]
        bad = [transform("base_link", ""), transform("", "x")]
        put("/tf_static", START, made("FrameTransforms", transforms=[*mounts, *bad]))
        for name in ("front", "video"):
            put(f"/{name}/calibration", START, calibration(name))
        put("/odd/camera_info", START, calibration("odd", "CylinderCameraModel"))
        put_json(
            "/somewhere/else",
            "CameraCalibration",
            START,
            {
                "timestamp": {"sec": 1, "nsec": 0},
                "frame_id": "left",
                "width": 64,
                "height": 48,
                "distortion_model": "",
                "D": [],
                "K": K,
                "P": [],
            },
        )
        for i in range(6):
            stamp = START + i * STEP
            image = made(
                "CompressedImage",
                timestamp=timestamp(stamp),
                frame_id="front",
                format="jpeg",
                data=picture(i),
            )
            put("/front/image/compressed", stamp + 5, image, b"\x0a\xff" if i == 3 else None)
            put("/odd/image/compressed", stamp + 5, image)
            raw = made(
                "RawImage",
                timestamp=timestamp(stamp),
                frame_id="front",
                width=64,
                height=48,
                step=64,
                encoding="mono8",
                data=bytes(64 * 48),
            )
            put("/front/image_raw", stamp + 5, raw)
            sec, nsec = divmod(stamp, 10**9)
            data = base64.b64encode(picture(i)).decode() if i != 4 else "not base64"
            content = {
                "timestamp": {"sec": sec, "nsec": nsec}, "frame_id": "left", "format": "jpeg", "data": data,
            }  # fmt: skip
            put_json("/left/image", "CompressedImage", stamp + 5, content)
        for i, packet in enumerate(_h264(8)[1:]):
            stamp = START + i * STEP
            message = made(
                "CompressedVideo", timestamp=timestamp(stamp), frame_id="video", format="h264", data=packet
            )
            put("/video/video", stamp + 5, message)
        writer.finish()
    return path


def _h264(count: int) -> list[bytes]:
    from perception_batch.simulate.encode import open_encoder

    encoder = open_encoder("h264", SIZE, 3.0, 90)
    return [
        encoder.encode(np.full((SIZE[1], SIZE[0], 3), 20 * i, np.uint8)).data.tobytes() for i in range(count)
    ]


def frames_of(log: DriveLog, camera: str) -> list[EncodedFrame]:
    return [item for item in log.stream([camera]) if not isinstance(item, EgoPose)]


def test_a_log_of_foxglove_messages(tmp_path: Path) -> None:
    with open_log([written(tmp_path)]) as log:
        assert log.select(None) == ("front", "left", "odd", "video")
        assert log.cameras["front"].topic == "/front/image/compressed"
        assert log.cameras["front"].alternates == ("/front/image_raw",)
        rig = log.rig(log.select(None))
        assert set(rig.cameras) == {"front", "left", "video"}
        assert "CylinderCameraModel" in rig.uncalibrated["odd"].replace(
            "cylindercameramodel", "CylinderCameraModel"
        )
        assert rig.cameras["front"].intrinsics.distortion == (0.1, 0, 0, 0, 0)
        assert rig.cameras["left"].intrinsics.model == "pinhole"
        assert rig.cameras["front"].base_SE3_camera.translation_m.tolist() == [1.0, 0, 0]
        front = frames_of(log, "front")
        assert [f.stamp_ns for f in front[:3]] == [START, START + STEP, START + 2 * STEP]
        assert [isinstance(f.payload, BrokenPayload) for f in front] == [i == 3 for i in range(6)]
        assert [bytes(f.payload.data) for f in front if not isinstance(f.payload, BrokenPayload)] == [  # type: ignore[union-attr]
            picture(i) for i in range(6) if i != 3
        ]
        left = frames_of(log, "left")
        assert [f.encoding for f in left] == ["jpeg"] * 4 + ["unknown", "jpeg"]
        video = frames_of(log, "video")
        assert [f.unused for f in video] == ["lead_in"] * 2 + [""] * 5
        assert [f.payload.is_key for f in video if isinstance(f.payload, VideoPayload)] == [
            i in (2, 5) for i in range(7)
        ]
        assert all((f.width_px, f.height_px) == SIZE for f in video[2:])
        [loss] = [entry for entry in log.losses if entry.topic == "/tf_static"]
        assert loss.count == 2


def test_the_raw_alternate_can_be_named(tmp_path: Path) -> None:
    settings = {"front": CameraConfig(topic="/front/image_raw")}
    with open_log([written(tmp_path)], None, settings) as log:
        assert {(f.encoding, f.width_px, f.height_px) for f in frames_of(log, "front")} == {("mono8", 64, 48)}


@pytest.mark.real
def test_real_video(recordings: Path) -> None:
    with open_log([recordings / "dashcam_h264.mcap"]) as log:
        [camera] = log.select(None)
        frames = frames_of(log, camera)
    assert [(f.encoding, f.width_px, f.height_px, f.unused) for f in frames] == [("h264", 1280, 720, "")] * 38
    keys = [i for i, f in enumerate(frames) if isinstance(f.payload, VideoPayload) and f.payload.is_key]
    assert keys == [0, 30]


@pytest.mark.real
def test_real_json(recordings: Path) -> None:
    with open_log([recordings / "odd" / "foxglove_json_cameras.mcap"]) as log:
        rig = log.rig(log.select(None))
        assert "640x480" in rig.uncalibrated["camera"]
        assert "520x360" in rig.uncalibrated["camera"]
        assert [(f.encoding, f.width_px, f.height_px) for f in frames_of(log, "camera")] == [
            ("jpeg", 520, 360)
        ] * 10
