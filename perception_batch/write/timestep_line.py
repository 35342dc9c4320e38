"""One timestep as a line of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from perception_batch.errors import printable
from perception_batch.types import EgoPose, FloatArray, FusedObject, TimestepResult
from perception_batch.write.rows import DriveFacts

# Digits after the point, as the contract gives them; covariances and directions are no lengths and need more.
_PIXEL, _SCORE, _METRE, _SQUARE_METRE, _DIRECTION = 2, 4, 3, 6, 6


class LineMaker:
    """Makes the lines of a drive from pieces: what ``json.dumps`` gives of the same objects, in a third of its time.

    Numbers are the shortest text of the rounded ones; a field without a value is left out.
    """

    def __init__(self, facts: DriveFacts) -> None:
        self._facts = facts
        self._text = _Texts()
        self._labels: dict[int, str] = {}
        frame = self._text["ground" if facts.has_ego else "relative"]
        self._velocity_frame = f'"velocity_frame": {frame}, '
        self._frame_id = f'"frame_id": {self._text[facts.base_frame]}, ' if facts.base_frame else ""

    def line(self, result: TimestepResult) -> str:
        """The JSON object of one timestep, without the end of the line.

        Raises:
            ValueError: a number is not finite, which JSON does not know.
        """
        time_s = self._facts.time_s(result.stamp_ns)
        ego = "" if result.ego is None else f'"ego": {self._ego(result.ego)}, '
        boxes = self._boxes(result)
        cameras = ", ".join([self._camera(result, camera, boxes.get(camera, "")) for camera in result.status])
        objects = ", ".join(self._objects(result.fusion.objects))
        return (
            f'{{"index": {result.index}, "stamp_ns": {result.stamp_ns}, "time_s": {time_s!r}, {ego}'
            f'"cameras": {{{cameras}}}, "objects": [{objects}]}}'
        )

    def _label(self, class_id: int) -> str:
        known = self._labels.get(class_id)
        if known is None:
            known = self._labels[class_id] = self._text[self._facts.label(class_id)]
        return known

    def _ego(self, ego: EgoPose) -> str:
        pose = ego.odom_SE3_base
        numbers = np.concatenate([pose.translation_m, pose.quaternion_xyzw()])
        if not np.isfinite(numbers).all():
            raise _not_json("the vehicle's pose")
        values = _rounded(numbers[None], _EGO_SCALE)[0]
        return (
            f'{{"frame_id": {self._text[ego.frame_id]}, "position_m": {values[:3]}, "quaternion_xyzw": {values[3:]}, '
            f'"source": {self._text[ego.source]}}}'
        )

    def _camera(self, result: TimestepResult, camera: str, boxes: str) -> str:
        stamp_ns = result.frame_stamps_ns.get(camera)
        offset = ""
        if stamp_ns is not None:
            offset = f'"stamp_ns": {stamp_ns}, "offset_ns": {stamp_ns - result.stamp_ns}, '
        status = self._text[result.status[camera]]
        return f'{self._text[camera]}: {{"status": {status}, {offset}"detections": [{boxes}]}}'

    def _boxes(self, result: TimestepResult) -> dict[str, str]:
        """By camera, for those that have any: the boxes that fusion did not suppress."""
        fusion, found = result.fusion, result.detections
        kept: dict[str, list[int]] = {}
        for camera, boxes in found.items():
            reasons = fusion.suppressed.get(camera)
            rows = [i for i, why in enumerate(reasons) if not why] if reasons else [*range(len(boxes))]
            if rows and camera in result.status:
                kept[camera] = rows
        if not kept:
            return {}
        # Widened before rounding: np.round of float32 leaves digits like 12.340000152587891.
        corners = np.concatenate([found[camera].xyxy[rows] for camera, rows in kept.items()])
        scores = np.concatenate([found[camera].score[rows] for camera, rows in kept.items()])
        xyxy = corners.astype(np.float64).round(_PIXEL) + 0.0
        score = scores.astype(np.float64).round(_SCORE)
        if not (np.isfinite(xyxy).all() and np.isfinite(score).all()):
            raise _not_json("a box")
        numbers = iter(zip(xyxy.tolist(), score.tolist(), strict=True))
        label = self._label
        out = {}
        for camera, rows in kept.items():
            objects = fusion.object_of.get(camera)
            of = [-1] * len(rows) if objects is None else objects[rows].tolist()
            classes = found[camera].class_id[rows].tolist()
            out[camera] = ", ".join(
                [
                    f'{{"detection": {row}, "box_px": {box}, "score": {value!r}, "class_id": {class_id}, "label": '
                    f"{label(class_id)}{_object_end(number)}"
                    for row, class_id, number, (box, value) in zip(rows, classes, of, numbers, strict=False)
                ]
            )
        return out

    def _objects(self, objects: Sequence[FusedObject]) -> list[str]:
        if not objects:
            return []
        numbers = np.array([_numbers(item) for item in objects], np.float64)
        known = np.isfinite(numbers)
        if not known[:, _SCORE_AT].all():
            raise _not_json("the score of an object")
        has = np.stack([known[:, part].all(axis=1) for part in _PARTS], axis=1).tolist()
        rows = _rounded(numbers, _OBJECT_SCALE)
        return [
            self._object(number, item, row, *parts)
            for number, (item, row, parts) in enumerate(zip(objects, rows, has, strict=True))
        ]

    def _object(
        self,
        number: int,
        item: FusedObject,
        values: list[float],
        has_position: bool,
        has_covariance: bool,
        has_size: bool,
        has_velocity: bool,
        has_yaw: bool,
    ) -> str:
        texts = self._text
        text = f'{{"object": {number}, '
        if item.track_id >= 0:
            text += f'"track_id": {item.track_id}, '
        score = values[_SCORE_AT]
        text += f'"class_id": {item.class_id}, "label": {texts[item.label]}, "score": {score!r}, '
        text += self._frame_id
        if has_position:
            text += f'"position_m": {values[:3]}, '
            if has_covariance:
                text += f'"covariance_m2": [{values[3:6]}, {values[6:9]}, {values[9:12]}], '
        if has_size:
            text += f'"size_lwh_m": {values[12:15]}, "size_source": {texts[item.size_source]}, '
        if has_yaw:
            text += f'"yaw_rad": {values[18]!r}, '
        if has_velocity:
            text += f'"velocity_mps": {values[15:18]}, {self._velocity_frame}'
        seen = ", ".join([f"[{texts[o.camera]}, {o.detection}]" for o in item.observations])
        return f'{text}"observations": [{seen}], "filled": {"true" if item.filled else "false"}}}'


def _numbers(item: FusedObject) -> tuple[float, ...]:
    """All of an object that is rounded: position, covariance, size, velocity, yaw, score."""
    return (
        *item.position_m.tolist(),
        *item.covariance_m2.ravel().tolist(),
        *item.size_lwh_m.tolist(),
        *item.velocity_mps.tolist(),
        item.yaw_rad,
        item.score,
    )


_PARTS = (slice(0, 3), slice(3, 12), slice(12, 15), slice(15, 18), slice(18, 19))
"""Position, covariance, size, velocity and yaw in `_numbers`."""
_SCORE_AT = 19


def _scale(*digits: int) -> FloatArray:
    return np.array([10.0**count for count in digits])


_OBJECT_SCALE = _scale(*[_METRE] * 3, *[_SQUARE_METRE] * 9, *[_METRE] * 6, _DIRECTION, _SCORE)
_EGO_SCALE = _scale(*[_METRE] * 3, *[_DIRECTION] * 4)


def _rounded(values: FloatArray, scale: FloatArray) -> list[list[float]]:
    """Rows of numbers, each column as Python's ``round`` does it, to the bit; -0.0 becomes 0.0.

    A whole number divided by a power of ten (`scale`, one a column) is the nearest float to that decimal. Only where
    the product is near a half, or so large that it has lost digits, may it lead to another whole number than the exact one.
    """
    with np.errstate(all="ignore"):  # what is NaN or beyond floats stays so
        scaled = values * scale
        whole = np.rint(scaled)
        out = whole / scale + 0.0
        # False for NaN.
        doubtful = (np.abs(scaled - whole) > 0.499) | (np.abs(scaled) > 1e9)
    if doubtful.any():
        for row, column in np.argwhere(doubtful).tolist():
            value, digits = float(values[row, column]), round(math.log10(scale[column]))
            out[row, column] = round(value, digits) + 0.0
    rows: list[list[float]] = out.tolist()
    return rows


def _object_end(number: int) -> str:
    """How a detection ends that belongs to this object; -1: to none."""
    return f', "object": {number}}}' if number >= 0 else "}"


class _Texts(dict[str, str]):
    """Strings in JSON; those of a drive are few."""

    def __missing__(self, key: str) -> str:
        self[key] = text = json.dumps(key)
        return text


def _not_json(what: str) -> ValueError:
    return ValueError(f"{printable(what)} has a number that is not finite")
