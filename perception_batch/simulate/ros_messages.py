"""The drive's messages in ROS 1 and ROS 2, made and serialised with rosbags' type stores."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from perception_batch.calibration import Camera, Rig
from perception_batch.geometry import SE3
from perception_batch.simulate.encode import Picture
from perception_batch.simulate.log_file import ODOM_FRAME, Message, image_topic, matrices, optical_frame
from perception_batch.simulate.scene import EgoState

_TF = "tf2_msgs/msg/TFMessage"
_VIDEO = "foxglove_msgs/msg/CompressedVideo"
# Definition of foxglove_msgs (github.com/foxglove/foxglove-sdk, ros2 and ros1 schemas), without its comments.
_VIDEO_FIELDS = "{time} timestamp\nstring frame_id\nuint8[] data\nstring format\n"


class RosMessages:
    """Makes messages for one log; counts the sequence numbers of ROS 1 headers."""

    def __init__(self, *, ros1: bool) -> None:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.LATEST)
        if _TF not in store.types:  # rosbags' Noetic store lacks it
            store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", _TF))
        time = "time" if ros1 else "builtin_interfaces/Time"
        store.register(get_types_from_msg(_VIDEO_FIELDS.format(time=time), _VIDEO))
        self.store = store
        self._types: Any = store.types
        self._ros1 = ros1
        self._sequence: Counter[str] = Counter()

    def picture(self, camera: str, stamp_ns: int, picture: Picture) -> Message:
        """sensor_msgs CompressedImage or Image, or foxglove_msgs CompressedVideo."""
        topic = image_topic(camera, picture.family)
        frame = optical_frame(camera)
        if picture.family == "video":
            message = self._types[_VIDEO](self._time(stamp_ns), frame, picture.data, picture.encoding)
        elif picture.family == "still":
            message = self._types["sensor_msgs/msg/CompressedImage"](
                self._header(topic, stamp_ns, frame), picture.encoding, picture.data
            )
        else:
            message = self._types["sensor_msgs/msg/Image"](
                self._header(topic, stamp_ns, frame),
                picture.height_px,
                picture.width_px,
                picture.encoding,
                0,
                picture.step_bytes,
                picture.data,
            )
        return self._pack(topic, stamp_ns, message)

    def calibration(self, camera: Camera, stamp_ns: int) -> Message:
        """sensor_msgs CameraInfo; a pinhole is plumb_bob with zeros, as ROS drivers write it."""
        lens = camera.intrinsics
        k, p = matrices(camera)
        topic = f"/{camera.name}/camera_info"
        values: dict[str, Any] = {
            "d": np.array(lens.distortion or [0.0] * 5),
            "k": np.array(k),
            "r": np.eye(3).reshape(-1),
            "p": np.array(p),
        }
        if self._ros1:
            values = {name.upper(): value for name, value in values.items()}
        message = self._types["sensor_msgs/msg/CameraInfo"](
            header=self._header(topic, stamp_ns, optical_frame(camera.name)),
            height=lens.height_px,
            width=lens.width_px,
            distortion_model="plumb_bob" if lens.model == "pinhole" else lens.model,
            binning_x=0,
            binning_y=0,
            roi=self._types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
            **values,
        )
        return self._pack(topic, stamp_ns, message)

    def mounts(self, rig: Rig, stamp_ns: int) -> Message:
        """All of ``/tf_static`` in one message."""
        transforms = [
            self._transform(
                "/tf_static", stamp_ns, rig.base_frame, optical_frame(camera.name), camera.base_SE3_camera
            )
            for camera in rig.cameras.values()
        ]
        return self._pack("/tf_static", stamp_ns, self._types[_TF](transforms))

    def motion(self, stamp_ns: int, ego: EgoState, base_frame: str) -> tuple[Message, ...]:
        """``/tf`` and ``/odom``."""
        pose = ego.odom_SE3_base
        tf = self._types[_TF]([self._transform("/tf", stamp_ns, ODOM_FRAME, base_frame, pose)])
        x, y, z = map(float, pose.translation_m)
        point = self._types["geometry_msgs/msg/Point"](x, y, z)
        where = self._types["geometry_msgs/msg/Pose"](point, self._quaternion(pose))
        turn = (0.0, 0.0, float(ego.yaw_rate_radps))
        moving = self._types["geometry_msgs/msg/Twist"](self._vector(ego.velocity_mps), self._vector(turn))
        odometry = self._types["nav_msgs/msg/Odometry"](
            self._header("/odom", stamp_ns, ODOM_FRAME),
            base_frame,
            self._types["geometry_msgs/msg/PoseWithCovariance"](where, np.zeros(36)),
            self._types["geometry_msgs/msg/TwistWithCovariance"](moving, np.zeros(36)),
        )
        return (self._pack("/tf", stamp_ns, tf), self._pack("/odom", stamp_ns, odometry))

    def trigger(self, stamp_ns: int) -> Message:
        """std_msgs Header."""
        return self._pack("/trigger", stamp_ns, self._header("/trigger", stamp_ns, "trigger"))

    def _pack(self, topic: str, stamp_ns: int, message: Any) -> Message:
        kind = str(message.__msgtype__)
        pack = self.store.serialize_ros1 if self._ros1 else self.store.serialize_cdr
        return Message(topic, kind, stamp_ns, pack(message, kind))

    def _time(self, stamp_ns: int) -> Any:
        return self._types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)

    def _header(self, topic: str, stamp_ns: int, frame: str) -> Any:
        make, time = self._types["std_msgs/msg/Header"], self._time(stamp_ns)
        if not self._ros1:
            return make(time, frame)
        number = self._sequence[topic]
        self._sequence[topic] += 1
        return make(number, time, frame)

    def _vector(self, xyz: Any) -> Any:
        return self._types["geometry_msgs/msg/Vector3"](*map(float, xyz))

    def _quaternion(self, pose: SE3) -> Any:
        return self._types["geometry_msgs/msg/Quaternion"](*map(float, pose.quaternion_xyzw()))

    def _transform(self, topic: str, stamp_ns: int, parent: str, child: str, pose: SE3) -> Any:
        return self._types["geometry_msgs/msg/TransformStamped"](
            self._header(topic, stamp_ns, parent),
            child,
            self._types["geometry_msgs/msg/Transform"](
                self._vector(pose.translation_m), self._quaternion(pose)
            ),
        )
