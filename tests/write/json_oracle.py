"""The line of a timestep as plain objects, number by number: what ``json.dumps`` makes of it is what must be written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perception_batch.types import EgoPose, FusedObject, TimestepResult
from perception_batch.write import DriveFacts

_PIXEL, _SCORE, _METRE, _SQUARE_METRE, _DIRECTION = 2, 4, 3, 6, 6


def timestep_dict(facts: DriveFacts, result: TimestepResult) -> dict[str, Any]:
    """The JSON object of one timestep, rounded; a field without a value is left out."""
    line: dict[str, Any] = {
        "index": result.index,
        "stamp_ns": result.stamp_ns,
        "time_s": facts.time_s(result.stamp_ns),
    }
    if result.ego is not None:
        line["ego"] = _ego(result.ego)
    line["cameras"] = {camera: _camera(facts, result, camera) for camera in result.status}
    line["objects"] = [_object(facts, i, item) for i, item in enumerate(result.fusion.objects)]
    return line


def _ego(ego: EgoPose) -> dict[str, Any]:
    pose = ego.odom_SE3_base
    return {
        "frame_id": ego.frame_id,
        "position_m": _rounded(pose.translation_m, _METRE),
        "quaternion_xyzw": _rounded(pose.quaternion_xyzw(), _DIRECTION),
        "source": ego.source,
    }


def _camera(facts: DriveFacts, result: TimestepResult, camera: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"status": result.status[camera]}
    if camera in result.frame_stamps_ns:
        entry["stamp_ns"] = result.frame_stamps_ns[camera]
        entry["offset_ns"] = result.frame_stamps_ns[camera] - result.stamp_ns
    listed: list[dict[str, Any]] = []
    boxes = result.detections.get(camera)
    if boxes is not None and len(boxes):
        suppressed = result.fusion.suppressed.get(camera, ("",) * len(boxes))
        kept = [i for i, reason in enumerate(suppressed) if not reason]
        objects = result.fusion.object_of.get(camera)
        # Widened before rounding: np.round of float32 leaves digits like 12.340000152587891.
        xyxy = boxes.xyxy[kept].astype(np.float64).round(_PIXEL) + 0.0
        scores = boxes.score[kept].astype(np.float64).round(_SCORE)
        for row, box, score, class_id in zip(
            kept, xyxy.tolist(), scores.tolist(), boxes.class_id[kept].tolist(), strict=True
        ):
            detection: dict[str, Any] = {
                "detection": row,
                "box_px": box,
                "score": score,
                "class_id": class_id,
                "label": facts.label(class_id),
            }
            if objects is not None and objects[row] >= 0:
                detection["object"] = int(objects[row])
            listed.append(detection)
    entry["detections"] = listed
    return entry


def _object(facts: DriveFacts, number: int, item: FusedObject) -> dict[str, Any]:
    entry: dict[str, Any] = {"object": number}
    if item.track_id >= 0:
        entry["track_id"] = item.track_id
    entry["class_id"] = item.class_id
    entry["label"] = item.label
    entry["score"] = round(float(item.score), _SCORE)
    if facts.base_frame:
        entry["frame_id"] = facts.base_frame
    if item.has_position:
        entry["position_m"] = _rounded(item.position_m, _METRE)
        if np.isfinite(item.covariance_m2).all():
            entry["covariance_m2"] = [_rounded(row, _SQUARE_METRE) for row in item.covariance_m2]
    if np.isfinite(item.size_lwh_m).all():
        entry["size_lwh_m"] = _rounded(item.size_lwh_m, _METRE)
        entry["size_source"] = item.size_source
    if math.isfinite(item.yaw_rad):
        entry["yaw_rad"] = round(float(item.yaw_rad), _DIRECTION) + 0.0
    if np.isfinite(item.velocity_mps).all():
        entry["velocity_mps"] = _rounded(item.velocity_mps, _METRE)
        entry["velocity_frame"] = "ground" if facts.has_ego else "relative"
    entry["observations"] = [[o.camera, o.detection] for o in item.observations]
    entry["filled"] = item.filled
    return entry


def _rounded(values: np.ndarray[Any, np.dtype[np.float64]], digits: int) -> list[float]:
    """A list of numbers; adding zero turns -0.0 into 0.0."""
    return [round(float(v), digits) + 0.0 for v in values]
