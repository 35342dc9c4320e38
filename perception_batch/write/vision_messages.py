"""Results as ``vision_msgs`` 4 (ROS 2).

The definitions below are the interface of that package (github.com/ros-perception/vision_msgs, Apache-2.0): names,
types and their order, without its comments. A bag carries them, so a reader needs no ROS.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perception_batch.types import FusedObject, TimestepResult
from perception_batch.write.annotation_scene import (
    AnnotationFacts,
    cube_of,
    name_of,
    placed_objects,
    shown_boxes,
)

DETECTIONS_2D, DETECTIONS_3D = "vision_msgs/msg/Detection2DArray", "vision_msgs/msg/Detection3DArray"

DEFINITIONS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y\n",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\n"
        "string id\n"
    ),
    DETECTIONS_2D: "std_msgs/Header header\nvision_msgs/Detection2D[] detections\n",
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox3D bbox\n"
        "string id\n"
    ),
    DETECTIONS_3D: "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n",
}
_ANY_HEADING_RAD2 = math.pi**2 / 3
"""Variance of a heading of which nothing is known: even over the circle."""


class VisionMessages:
    """Makes the messages, serialised as CDR."""

    def __init__(self, about: AnnotationFacts) -> None:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        self._about = about
        self._frames = about.frames()
        self.typestore = get_typestore(Stores.ROS2_HUMBLE)
        """With ``vision_msgs``."""
        for name, text in DEFINITIONS.items():
            self.typestore.register(get_types_from_msg(text, name))
        self._types: Any = self.typestore.types
        self._nowhere = self._pose(np.zeros(3), 0.0)
        self._unsure = self._types["geometry_msgs/msg/PoseWithCovariance"](
            pose=self._nowhere, covariance=np.zeros(36)
        )

    def detections_2d(self, result: TimestepResult, camera: str, stamp_ns: int) -> bytes:
        """The boxes of one image, with the image's header."""
        t, header = self._types, self._header(stamp_ns, self._frames[camera])
        found = []
        for box in shown_boxes(self._about.facts, result, camera):
            x1, y1, x2, y2 = box.xyxy_px
            center = t["vision_msgs/msg/Pose2D"](
                position=t["vision_msgs/msg/Point2D"](x=(x1 + x2) / 2, y=(y1 + y2) / 2), theta=0.0
            )
            found.append(
                t["vision_msgs/msg/Detection2D"](
                    header=header,
                    results=[self._result(box.label, box.score, self._unsure)],
                    bbox=t["vision_msgs/msg/BoundingBox2D"](center=center, size_x=x2 - x1, size_y=y2 - y1),
                    id=str(box.track_id) if box.track_id >= 0 else "",
                )
            )
        return self._bytes(t[DETECTIONS_2D](header=header, detections=found), DETECTIONS_2D)

    def detections_3d(self, result: TimestepResult) -> bytes:
        """The objects with a position, in the base frame, at the timestep."""
        header = self._header(result.stamp_ns, self._about.base_frame)
        found = [self._object(header, item) for _, item in placed_objects(result)]
        return self._bytes(self._types[DETECTIONS_3D](header=header, detections=found), DETECTIONS_3D)

    def _object(self, header: Any, item: FusedObject) -> Any:
        t = self._types
        size, yaw = cube_of(item)
        pose = self._pose(item.position_m, yaw)
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = np.where(np.isfinite(item.covariance_m2), item.covariance_m2, 0.0)
        covariance[5, 5] = 0.0 if math.isfinite(item.yaw_rad) else _ANY_HEADING_RAD2
        placed = t["geometry_msgs/msg/PoseWithCovariance"](pose=pose, covariance=covariance.ravel())
        return t["vision_msgs/msg/Detection3D"](
            header=header,
            results=[self._result(name_of(item.label, -1), item.score, placed)],
            bbox=t["vision_msgs/msg/BoundingBox3D"](
                center=pose, size=t["geometry_msgs/msg/Vector3"](x=size[0], y=size[1], z=size[2])
            ),
            id=str(item.track_id) if item.track_id >= 0 else "",
        )

    def _result(self, label: str, score: float, pose: Any) -> Any:
        hypothesis = self._types["vision_msgs/msg/ObjectHypothesis"](class_id=label, score=float(score))
        return self._types["vision_msgs/msg/ObjectHypothesisWithPose"](hypothesis=hypothesis, pose=pose)

    def _pose(self, position_m: Any, yaw: float) -> Any:
        t = self._types
        x, y, z = (float(v) for v in position_m)
        return t["geometry_msgs/msg/Pose"](
            position=t["geometry_msgs/msg/Point"](x=x, y=y, z=z),
            orientation=t["geometry_msgs/msg/Quaternion"](
                x=0.0, y=0.0, z=math.sin(yaw / 2), w=math.cos(yaw / 2)
            ),
        )

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        seconds, rest = divmod(stamp_ns, 1_000_000_000)
        time = self._types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=rest)
        return self._types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)

    def _bytes(self, message: Any, kind: str) -> bytes:
        return bytes(self.typestore.serialize_cdr(message, kind))
