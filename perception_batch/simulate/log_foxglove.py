"""The drive as an MCAP file of Foxglove's protobuf messages, by the official packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception_batch.calibration import Camera, Rig
from perception_batch.errors import ConfigError
from perception_batch.geometry import SE3
from perception_batch.simulate.encode import Picture
from perception_batch.simulate.log_file import ODOM_FRAME, Message, image_topic, matrices, optical_frame
from perception_batch.simulate.scene import EgoState

_CLASSES = (
    "CompressedImage",
    "RawImage",
    "CompressedVideo",
    "CameraCalibration",
    "FrameTransform",
    "FrameTransforms",
    "Odometry",
    "Pose",
    "Quaternion",
    "Vector3",
)


class FoxgloveLog:
    """``<name>.mcap``: zstd chunks with CRC, as the official writer makes them."""

    def __init__(self, path: Path) -> None:
        try:
            from mcap.writer import CompressionType, Writer

            classes = {name: _class(f"foxglove_schemas_protobuf.{name}_pb2", name) for name in _CLASSES}
            classes["Timestamp"] = _class("google.protobuf.timestamp_pb2", "Timestamp")
        except ImportError as error:
            raise ConfigError(
                f"--format foxglove needs the packages mcap, mcap-protobuf-support and foxglove-schemas-protobuf "
                f"({error}): pip install them, or take another --format (bag, sqlite3, mcap)"
            ) from None
        self.path = path
        self._make = classes
        self._stream = path.open("xb")
        self._writer: Any = Writer(self._stream, compression=CompressionType.ZSTD)
        self._writer.start(profile="")
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, tuple[int, int]] = {}

    def picture(self, camera: str, stamp_ns: int, picture: Picture) -> Message:
        """CompressedImage, RawImage or CompressedVideo."""
        values: dict[str, Any] = {
            "timestamp": self._time(stamp_ns),
            "frame_id": optical_frame(camera),
            "data": picture.data.tobytes(),
        }
        if picture.family == "raw":
            values.update(
                width=picture.width_px,
                height=picture.height_px,
                encoding=picture.encoding,
                step=picture.step_bytes,
            )
        else:
            values["format"] = picture.encoding
        name = {"still": "CompressedImage", "raw": "RawImage", "video": "CompressedVideo"}[picture.family]
        return self._pack(image_topic(camera, picture.family), name, stamp_ns, **values)

    def calibration(self, camera: Camera, stamp_ns: int) -> Message:
        """CameraCalibration; Foxglove's word for the fisheye model is ``kannala_brandt``."""
        lens = camera.intrinsics
        k, p = matrices(camera)
        model = {"pinhole": "plumb_bob", "equidistant": "kannala_brandt"}.get(lens.model, lens.model)
        return self._pack(
            f"/{camera.name}/camera_info",
            "CameraCalibration",
            stamp_ns,
            timestamp=self._time(stamp_ns),
            frame_id=optical_frame(camera.name),
            width=lens.width_px,
            height=lens.height_px,
            distortion_model=model,
            D=lens.distortion or [0.0] * 5,
            K=k,
            R=[1.0, 0, 0, 0, 1, 0, 0, 0, 1],
            P=p,
        )

    def mounts(self, rig: Rig, stamp_ns: int) -> Message:
        """FrameTransforms with all mounts."""
        transforms = [
            self._transform(stamp_ns, rig.base_frame, optical_frame(camera.name), camera.base_SE3_camera)
            for camera in rig.cameras.values()
        ]
        return self._pack("/tf_static", "FrameTransforms", stamp_ns, transforms=transforms)

    def motion(self, stamp_ns: int, ego: EgoState, base_frame: str) -> tuple[Message, ...]:
        """FrameTransforms and Odometry."""
        pose = ego.odom_SE3_base
        moved = self._transform(stamp_ns, ODOM_FRAME, base_frame, pose)
        vector = self._make["Vector3"]
        odometry = self._pack(
            "/odom",
            "Odometry",
            stamp_ns,
            timestamp=self._time(stamp_ns),
            frame_id=ODOM_FRAME,
            body_frame_id=base_frame,
            pose=self._make["Pose"](position=self._vector(pose.translation_m), orientation=self._turn(pose)),
            linear_velocity=self._vector(ego.velocity_mps),
            angular_velocity=vector(x=0.0, y=0.0, z=float(ego.yaw_rate_radps)),
        )
        return (self._pack("/tf", "FrameTransforms", stamp_ns, transforms=[moved]), odometry)

    def trigger(self, stamp_ns: int) -> Message:
        """google.protobuf.Timestamp."""
        data = self._time(stamp_ns).SerializeToString(deterministic=True)
        return Message("/trigger", "Timestamp", stamp_ns, data)

    def write(self, log_ns: int, message: Message) -> None:
        """Put a message into the log."""
        if message.topic not in self._channels:
            self._channels[message.topic] = (self._channel(message), 0)
        channel, number = self._channels[message.topic]
        self._writer.add_message(channel, log_ns, bytes(message.data), publish_time=log_ns, sequence=number)
        self._channels[message.topic] = (channel, number + 1)

    def close(self) -> None:
        """Finish the log."""
        self._writer.finish()
        self._stream.close()

    def abort(self) -> None:
        """Close what is open."""
        self._stream.close()

    def _channel(self, message: Message) -> int:
        from mcap_protobuf.schema import register_schema

        if message.kind not in self._schemas:
            self._schemas[message.kind] = register_schema(self._writer, self._make[message.kind])
        return int(self._writer.register_channel(message.topic, "protobuf", self._schemas[message.kind]))

    def _pack(self, topic: str, kind: str, stamp_ns: int, **values: Any) -> Message:
        data = self._make[kind](**values).SerializeToString(deterministic=True)
        return Message(topic, kind, stamp_ns, data)

    def _time(self, stamp_ns: int) -> Any:
        return self._make["Timestamp"](seconds=stamp_ns // 10**9, nanos=stamp_ns % 10**9)

    def _vector(self, xyz: Any) -> Any:
        return self._make["Vector3"](x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))

    def _turn(self, pose: SE3) -> Any:
        x, y, z, w = map(float, pose.quaternion_xyzw())
        return self._make["Quaternion"](x=x, y=y, z=z, w=w)

    def _transform(self, stamp_ns: int, parent: str, child: str, pose: SE3) -> Any:
        return self._make["FrameTransform"](
            timestamp=self._time(stamp_ns),
            parent_frame_id=parent,
            child_frame_id=child,
            translation=self._vector(pose.translation_m),
            rotation=self._turn(pose),
        )


def _class(module: str, name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(module), name)
