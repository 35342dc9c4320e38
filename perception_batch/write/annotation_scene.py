"""What viewers are shown of a timestep, whatever the format: names of topics and frames, texts, colours, boxes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from perception_batch.calibration import Intrinsics, Rig
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.types import FloatArray, FusedObject, TimestepResult
from perception_batch.write.rows import DriveFacts

PREFIX = "annotations"
"""First part of every topic, so that none is one of the log's own."""
MOVES_MPS = 0.2
"""Slower than this an object has no arrow: a length of some centimetres says nothing."""
ELLIPSE_SIGMAS = 2.0
"""Half axes of the drawn uncertainty, in standard deviations."""
_NO_CLASS = "#969696"
_LONGEST_NAME = 100

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class AnnotationFacts:
    """What the files for viewers need beside the results."""

    facts: DriveFacts
    """As for the tables."""
    rig: Rig
    """Lenses and mounts; all selected cameras are in it, calibrated or not."""
    ontology: Ontology
    """Colours of the classes."""
    image_frames: Mapping[str, str] = field(default_factory=dict)
    """``frame_id`` of the log's images, by camera; absent or empty where the log states none."""
    stamp_offsets_ns: Mapping[str, int] = field(default_factory=dict)
    """What the settings added to the stamps of a camera, ns; absent: 0."""

    @property
    def cameras(self) -> list[str]:
        """All selected cameras, sorted."""
        return sorted({*self.rig.cameras, *self.rig.uncalibrated})

    @property
    def base_frame(self) -> str:
        """The rig's base frame; empty where nothing is calibrated."""
        return clean(self.facts.base_frame)

    def frames(self) -> dict[str, str]:
        """The coordinate frame of each camera: the log's own where it names one that no other camera has."""
        stated = {name: clean(self.image_frames.get(name, "")) for name in self.cameras}
        listed = list(stated.values())
        taken = {self.base_frame, ""}
        topics = topic_parts(self.cameras)
        return {
            name: frame if frame not in taken and listed.count(frame) == 1 else f"{PREFIX}/{topics[name]}"
            for name, frame in stated.items()
        }

    def image_stamp_ns(self, result: TimestepResult, camera: str) -> int:
        """The stamp that the camera's image has in the log, ns."""
        return result.frame_stamps_ns[camera] - self.stamp_offsets_ns.get(camera, 0)

    def images(self, result: TimestepResult) -> Iterator[tuple[str, int]]:
        """Cameras with a new image in this timestep, in order, each with the image's stamp in the log, ns.

        One that is ``held`` had its annotations when it was new.
        """
        for camera, status in result.status.items():
            if status in ("ok", "undecodable") and camera in result.frame_stamps_ns:
                yield camera, self.image_stamp_ns(result, camera)

    def mounts(self, result: TimestepResult) -> dict[str, SE3]:
        """``base_SE3_camera`` of every calibrated camera as of this timestep's image."""
        return {
            name: result.mounts.get(name, camera.base_SE3_camera) for name, camera in self.rig.cameras.items()
        }

    def lenses(self, result: TimestepResult) -> dict[str, Intrinsics]:
        """The lens of every calibrated camera as of this timestep's image."""
        return {name: result.lenses.get(name, camera.intrinsics) for name, camera in self.rig.cameras.items()}

    def color(self, label: str) -> Rgb:
        """The ontology's colour of a class, each part 0..1."""
        found = self.ontology.find(label)
        text = found.color if found is not None else _NO_CLASS
        red, green, blue = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return red, green, blue


@dataclass(frozen=True, slots=True)
class ShownBox:
    """A detection as viewers show it: one that fusion did not suppress."""

    detection: int
    """Its row in the camera's `Detections`."""
    xyxy_px: tuple[float, float, float, float]
    """As in ``timesteps.jsonl``: pixels of the original image, (0, 0) the outer corner of the top-left one."""
    score: float
    """Of the detection, 0..1."""
    label: str
    """The object's class where it became part of one, else the model's."""
    track_id: int
    """Of the object; -1 without one."""
    object: int
    """Row of the object in its timestep; -1 without one."""

    @property
    def text(self) -> str:
        """The name on the box."""
        return f"{name_of(self.label, self.track_id)} {self.score:.2f}"


def shown_boxes(facts: DriveFacts, result: TimestepResult, camera: str) -> list[ShownBox]:
    """The boxes of one camera, by falling score; none where its image could not be decoded."""
    boxes = result.detections.get(camera)
    if boxes is None or not len(boxes):
        return []
    suppressed = result.fusion.suppressed.get(camera, ("",) * len(boxes))
    of = result.fusion.object_of.get(camera, np.full(len(boxes), -1, np.int32)).tolist()
    xyxy, scores, classes = (
        boxes.xyxy.astype(np.float64).tolist(),
        boxes.score.tolist(),
        boxes.class_id.tolist(),
    )
    shown: list[ShownBox] = []
    for row, reason in enumerate(suppressed):
        if reason:
            continue
        item = result.fusion.objects[of[row]] if of[row] >= 0 else None
        x1, y1, x2, y2 = xyxy[row]
        shown.append(
            ShownBox(
                row,
                (x1, y1, x2, y2),
                scores[row],
                clean(item.label if item is not None else facts.label(classes[row])),
                item.track_id if item is not None else -1,
                of[row],
            )
        )
    return shown


def placed_objects(result: TimestepResult) -> list[tuple[int, FusedObject]]:
    """The objects with a position, each with its row."""
    return [(i, item) for i, item in enumerate(result.fusion.objects) if item.has_position]


def name_of(label: str, track_id: int) -> str:
    """How an object is called in pictures: as in the video."""
    return f"#{track_id} {clean(label)}" if track_id >= 0 else clean(label)


def cube_of(item: FusedObject) -> tuple[tuple[float, float, float], float]:
    """Size (length, width, height), m, and heading, rad, of what is drawn of an object.

    Where the heading is unknown its footprint is a square of its width; where the size is, a cube of 1 m.
    """
    if not np.isfinite(item.size_lwh_m).all():
        return (1.0, 1.0, 1.0), 0.0
    length, width, height = (float(v) for v in item.size_lwh_m)
    if not math.isfinite(item.yaw_rad):
        return (width, width, height), 0.0
    return (length, width, height), float(item.yaw_rad)


def speed_of(item: FusedObject) -> float:
    """Horizontal speed over ground, m/s; 0 where it is unknown or too small for an arrow."""
    if not np.isfinite(item.velocity_mps[:2]).all():
        return 0.0
    speed = math.hypot(*item.velocity_mps[:2].tolist())
    return speed if speed >= MOVES_MPS else 0.0


def ellipse_of(covariance_m2: FloatArray) -> tuple[float, float, float] | None:
    """Half axes, m, of the horizontal ellipse of `ELLIPSE_SIGMAS`, and the first one's angle from x, rad."""
    if not np.isfinite(covariance_m2).all():
        return None
    xx, xy, yy = float(covariance_m2[0, 0]), float(covariance_m2[0, 1]), float(covariance_m2[1, 1])
    middle, apart = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    axes = [ELLIPSE_SIGMAS * math.sqrt(max(v, 0.0)) for v in (middle + apart, middle - apart)]
    return axes[0], axes[1], 0.5 * math.atan2(2 * xy, xx - yy)


def topic_parts(cameras: Iterable[str]) -> dict[str, str]:
    """A part of a topic for each camera, by its name: ROS 2's letters, digits and underscores only; no two alike."""
    parts: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(cameras):
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:_LONGEST_NAME]
        plain = re.sub(r"_{2,}", "_", plain).strip("_") or "camera"
        if plain[0].isdigit():
            plain = f"camera_{plain}"
        part, number = plain, 1
        while part in taken:
            number += 1
            part = f"{plain}_{number}"
        taken.add(part)
        parts[name] = part
    return parts


def first_stamp(stamps_ns: Sequence[int], stamp_ns: int) -> int:
    """The earliest of a timestep's stamps: when what never changes is said."""
    return min([stamp_ns, *stamps_ns])


def clean(text: str) -> str:
    """`text` as UTF-8 can hold it: names from logs may hold lone surrogates and zeros."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "")
