"""Results as Foxglove's messages, by the official protobuf schemas. The schemas' own texts are the reference:

`ImageAnnotations` count pixels from the outer corner of the top-left one, as our boxes do, so nothing is shifted;
`CameraCalibration` counts as ROS does, from its centre, as our intrinsics do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from foxglove_schemas_protobuf.ArrowPrimitive_pb2 import ArrowPrimitive
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.Color_pb2 import Color
from foxglove_schemas_protobuf.CubePrimitive_pb2 import CubePrimitive
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.FrameTransforms_pb2 import FrameTransforms
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.KeyValuePair_pb2 import KeyValuePair
from foxglove_schemas_protobuf.Point2_pb2 import Point2
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from foxglove_schemas_protobuf.Pose_pb2 import Pose
from foxglove_schemas_protobuf.Quaternion_pb2 import Quaternion
from foxglove_schemas_protobuf.SceneEntity_pb2 import SceneEntity
from foxglove_schemas_protobuf.SceneEntityDeletion_pb2 import SceneEntityDeletion
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from foxglove_schemas_protobuf.SpherePrimitive_pb2 import SpherePrimitive
from foxglove_schemas_protobuf.TextAnnotation_pb2 import TextAnnotation
from foxglove_schemas_protobuf.TextPrimitive_pb2 import TextPrimitive
from foxglove_schemas_protobuf.Vector3_pb2 import Vector3
from google.protobuf.timestamp_pb2 import Timestamp

from perception_batch.calibration import Intrinsics
from perception_batch.geometry import SE3
from perception_batch.types import FusedObject, TimestepResult
from perception_batch.write.annotation_scene import (
    AnnotationFacts,
    Rgb,
    ShownBox,
    clean,
    cube_of,
    ellipse_of,
    name_of,
    placed_objects,
    shown_boxes,
    speed_of,
)

# Foxglove's words for the lens models; "" has no distortion.
_MODELS = {"pinhole": "plumb_bob", "equidistant": "kannala_brandt"}
_LINE_PER_PX, _TEXT_PER_PX = 1 / 600, 1 / 70
"""Widths of lines and heights of letters per pixel of the image's longer side: legible where it fills a panel."""
_SEEN, _FILLED = 0.55, 0.2
"""Opacity of an object that was seen, and of one that hindsight put into a gap."""
_FLAT_M = 0.02
_LABEL_PX = 14.0
_BLACK = Color(r=0.05, g=0.05, b=0.06, a=1.0)


def image_annotations(
    about: AnnotationFacts, result: TimestepResult, camera: str, stamp_ns: int
) -> ImageAnnotations:
    """The boxes of one image; without boxes an empty message, so that those before it vanish.

    Args:
        about: of the drive.
        result: the timestep.
        camera: whose image.
        stamp_ns: the image's stamp, which the message has too.
    """
    boxes = shown_boxes(about.facts, result, camera)
    stamp = _time(stamp_ns)
    side = max(result.image_hw.get(camera, (720, 1280)))
    line, letters = max(2.0, side * _LINE_PER_PX), max(10.0, side * _TEXT_PER_PX)
    message = ImageAnnotations(timestamp=stamp)
    for box in boxes:
        rgb = about.color(box.label)
        x1, y1, x2, y2 = box.xyxy_px
        message.points.append(
            PointsAnnotation(
                timestamp=stamp,
                type=PointsAnnotation.Type.LINE_LOOP,
                points=[Point2(x=x1, y=y1), Point2(x=x2, y=y1), Point2(x=x2, y=y2), Point2(x=x1, y=y2)],
                outline_color=_color(rgb),
                thickness=line,
                metadata=_box_facts(box),
            )
        )
        # The text stands on its lower left corner; at the image's upper edge there is no room above the box.
        message.texts.append(
            TextAnnotation(
                timestamp=stamp,
                position=Point2(x=x1, y=y1 if y1 >= 1.5 * letters else y1 + 1.5 * letters),
                text=box.text,
                font_size=letters,
                text_color=_BLACK if _is_light(rgb) else _color((1.0, 1.0, 1.0)),
                background_color=_color(rgb, 0.85),
            )
        )
    return message


def scene_update(about: AnnotationFacts, result: TimestepResult) -> SceneUpdate:
    """The objects with a position, in the base frame, in place of all that were shown before."""
    stamp = _time(result.stamp_ns)
    update = SceneUpdate(deletions=[SceneEntityDeletion(timestamp=stamp, type=SceneEntityDeletion.Type.ALL)])
    for row, item in placed_objects(result):
        update.entities.append(_entity(about, stamp, row, item))
    return update


def _entity(about: AnnotationFacts, stamp: Timestamp, row: int, item: FusedObject) -> SceneEntity:
    rgb, name = about.color(item.label), name_of(item.label, item.track_id)
    (length, width, height), yaw = cube_of(item)
    x, y, z = (float(v) for v in item.position_m)
    entity = SceneEntity(
        timestamp=stamp,
        frame_id=about.base_frame,
        id=f"track {item.track_id}" if item.track_id >= 0 else f"object {row}",
        metadata=_object_facts(row, item),
        cubes=[
            CubePrimitive(
                pose=_pose(x, y, z, yaw),
                size=Vector3(x=length, y=width, z=height),
                color=_color(rgb, _FILLED if item.filled else _SEEN),
            )
        ],
        texts=[
            TextPrimitive(
                pose=_pose(x, y, z + height / 2 + 0.5, 0.0),
                billboard=True,
                scale_invariant=True,
                font_size=_LABEL_PX,
                color=_color(rgb),
                text=name,
            )
        ],
    )
    if speed := speed_of(item):
        head = min(0.6, speed / 2)  # the tip is where the object will be in a second
        entity.arrows.append(
            ArrowPrimitive(
                pose=_pose(x, y, z, math.atan2(float(item.velocity_mps[1]), float(item.velocity_mps[0]))),
                shaft_length=speed - head,
                shaft_diameter=0.15,
                head_length=head,
                head_diameter=0.4,
                color=_color(rgb),
            )
        )
    if ellipse := ellipse_of(item.covariance_m2):
        long, short, angle = ellipse
        entity.spheres.append(
            SpherePrimitive(
                pose=_pose(x, y, z - height / 2, angle),
                size=Vector3(x=2 * long, y=2 * short, z=_FLAT_M),
                color=_color(rgb, 0.25),
            )
        )
    return entity


def camera_calibration(lens: Intrinsics, frame_id: str, stamp_ns: int) -> CameraCalibration:
    """The lens of a camera, for raw images: nothing is rectified."""
    return CameraCalibration(
        timestamp=_time(stamp_ns),
        frame_id=frame_id,
        width=lens.width_px,
        height=lens.height_px,
        distortion_model=_MODELS.get(lens.model, lens.model),
        D=lens.distortion or (0.0,) * 5,
        K=(lens.fx_px, 0.0, lens.cx_px, 0.0, lens.fy_px, lens.cy_px, 0.0, 0.0, 1.0),
        R=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        P=(lens.fx_px, 0.0, lens.cx_px, 0.0, 0.0, lens.fy_px, lens.cy_px, 0.0, 0.0, 0.0, 1.0, 0.0),
    )


def frame_transforms(parent: str, poses: Mapping[str, SE3], stamp_ns: int) -> FrameTransforms:
    """Where frames, by name, are in `parent`."""
    return FrameTransforms(
        transforms=[
            FrameTransform(
                timestamp=_time(stamp_ns),
                parent_frame_id=parent,
                child_frame_id=child,
                translation=_vector(pose.translation_m.tolist()),
                rotation=_quaternion(pose.quaternion_xyzw().tolist()),
            )
            for child, pose in poses.items()
        ]
    )


def _box_facts(box: ShownBox) -> list[KeyValuePair]:
    values = {"detection": str(box.detection), "label": box.label, "score": f"{box.score:.4f}"}
    if box.object >= 0:
        values["object"] = str(box.object)
    if box.track_id >= 0:
        values["track_id"] = str(box.track_id)
    return [KeyValuePair(key=key, value=value) for key, value in values.items()]


def _object_facts(row: int, item: FusedObject) -> list[KeyValuePair]:
    c = item.covariance_m2
    six = [f"{c[i, j]:.6f}" for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    values = {
        "object": str(row),
        "label": name_of(item.label, -1),
        "score": f"{item.score:.4f}",
        "yaw_rad": f"{item.yaw_rad:.4f}" if math.isfinite(item.yaw_rad) else "unknown",
        "velocity_mps": " ".join(f"{v:.3f}" for v in item.velocity_mps.tolist()),
        "covariance_m2_xx_xy_xz_yy_yz_zz": " ".join(six),
        "seen_by": clean(" ".join(o.camera for o in item.observations)),
        "filled": str(item.filled).lower(),
    }
    if item.track_id >= 0:
        values["track_id"] = str(item.track_id)
    return [KeyValuePair(key=key, value=value) for key, value in values.items()]


def _time(stamp_ns: int) -> Timestamp:
    seconds, nanos = divmod(stamp_ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def _color(rgb: Rgb, opacity: float = 1.0) -> Color:
    return Color(r=rgb[0], g=rgb[1], b=rgb[2], a=opacity)


def _is_light(rgb: Rgb) -> bool:
    """Whether dark letters are easier to read on it (luma of ITU-R BT.709)."""
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2] > 0.45


def _pose(x: float, y: float, z: float, yaw: float) -> Pose:
    return Pose(
        position=Vector3(x=x, y=y, z=z),
        orientation=Quaternion(x=0.0, y=0.0, z=math.sin(yaw / 2), w=math.cos(yaw / 2)),
    )


def _vector(xyz: Any) -> Vector3:
    return Vector3(x=xyz[0], y=xyz[1], z=xyz[2])


def _quaternion(xyzw: Any) -> Quaternion:
    return Quaternion(x=xyzw[0], y=xyzw[1], z=xyzw[2], w=xyzw[3])
