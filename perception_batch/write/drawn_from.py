"""A hash of all that the picture of a timestep is drawn from, but its images: equal results, equal pictures."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import numpy.typing as npt

from perception_batch.types import FusedObject, TimestepResult


def drawn_from(result: TimestepResult) -> bytes:
    """32 bytes of one timestep: stamps, states of the cameras, boxes, objects, and where the vehicle is."""
    fusion, ego = result.fusion, result.ego
    cameras = sorted(result.detections)
    words = [
        result.index,
        result.stamp_ns,
        sorted(result.status.items()),
        sorted(result.frame_stamps_ns.items()),
        [(camera, list(fusion.suppressed.get(camera, ()))) for camera in cameras],
        [_words(item) for item in fusion.objects],
        None if ego is None else ego.frame_id,
    ]
    found = hashlib.sha256(json.dumps(words).encode("utf-8", "surrogatepass"))
    for camera in cameras:
        boxes = result.detections[camera]
        for column in (boxes.xyxy, boxes.score, boxes.class_id):
            found.update(np.ascontiguousarray(column).tobytes())
        found.update(np.asarray(fusion.object_of.get(camera, ()), np.int32).tobytes())
    numbers = [_numbers(item) for item in fusion.objects]
    if ego is not None:
        numbers += [ego.odom_SE3_base.translation_m, ego.odom_SE3_base.rotation.ravel()]
    if numbers:
        found.update(_plain(np.concatenate(numbers)).tobytes())
    return found.digest()


def _words(item: FusedObject) -> list[object]:
    seen = [(seen.camera, seen.detection) for seen in item.observations]
    return [item.class_id, item.label, item.size_source, item.track_id, bool(item.filled), seen]


def _numbers(item: FusedObject) -> npt.NDArray[np.float64]:
    rest = (float(item.score), float(item.yaw_rad) if math.isfinite(item.yaw_rad) else math.nan)
    arrays = (item.position_m, item.covariance_m2.ravel(), item.size_lwh_m, item.velocity_mps, rest)
    return np.concatenate(arrays).astype(np.float64)


def _plain(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One kind of zero, and of what is no number."""
    return np.where(np.isnan(numbers), np.nan, numbers + 0.0)
