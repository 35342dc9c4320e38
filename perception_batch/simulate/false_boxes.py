"""Boxes where nothing is: they keep to a place of the world or to the own vehicle, and live for some frames."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from perception_batch.calibration import Camera, FloatArray
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology

_LABELS = ("car", "person", "truck", "bicycle", "motorcycle", "traffic light")
_SHARES = (0.40, 0.30, 0.12, 0.08, 0.05, 0.05)
_RANGE_M = (6.0, 45.0)
_SMALLEST_PX = 6.0
_TRIES = 8


@dataclass(frozen=True, slots=True)
class FalseBox:
    """A box without an object."""

    box_px: tuple[float, float, float, float]
    """Left, top, right, bottom."""
    score: float
    """0.26..0.76: false boxes are rarely sure."""
    label: str
    """What it is taken for."""


@dataclass(slots=True)
class _Place:
    """What fools the detector, until `left` runs out in every camera or its first camera has had it."""

    first_camera: str
    life: int
    label: str
    points_m: FloatArray | None
    """(N, 3) outline of what it seems to be, in odom, or in the base frame; None where fixed to the image."""
    box_px: tuple[float, float, float, float] | None
    left: dict[str, int] = field(default_factory=dict)


class FalseBoxes:
    """All false boxes of a drive. Their number is held to `rate` for each truth box, camera by camera."""

    def __init__(
        self, seed: int, rate: float, life_frames: tuple[int, int], on_vehicle: float, ontology: Ontology
    ) -> None:
        self._seed = seed
        self._rate = rate
        self._life = life_frames
        self._on_vehicle = on_vehicle
        self._ontology = ontology
        self._places: list[_Place] = []
        self._owed: dict[str, float] = {}
        self._rngs: dict[str, np.random.Generator] = {}

    def of_image(
        self,
        truth_count: int,
        camera: Camera | str,
        stamp_ns: int,  # noqa: ARG002  lives are counted in frames
        image_hw: tuple[int, int],
        odom_SE3_base: SE3 | None,
    ) -> Iterator[FalseBox]:
        """The false boxes of one image."""
        name = camera if isinstance(camera, str) else camera.name
        rng = self._rng(name)
        owed = self._owed.get(name, 0.0) + self._rate * truth_count
        expected_life = (self._life[0] + self._life[1]) / 2
        if rng.random() < owed / expected_life:
            place = self._new_place(camera, name, image_hw, odom_SE3_base, rng)
            if place is not None:
                self._places.append(place)
        for place in self._places:
            left = place.left.get(name, place.life)
            if left <= 0 or (place.points_m is None and place.first_camera != name):
                continue
            box = place.box_px if place.points_m is None else _outline(place, camera, image_hw, odom_SE3_base)
            if box is None:
                if place.first_camera == name:
                    place.left[name] = 0  # driven past: it does not come back
                continue
            place.left[name] = left - 1
            owed -= 1
            yield FalseBox(_shaken(box, rng, image_hw), 0.26 + 0.5 * float(rng.beta(1.5, 3)), place.label)
        self._owed[name] = owed
        self._places = [p for p in self._places if p.left.get(p.first_camera, p.life) > 0]

    def _rng(self, camera: str) -> np.random.Generator:
        known = self._rngs.get(camera)
        if known is None:
            entropy = [self._seed, zlib.crc32(b"false"), zlib.crc32(camera.encode())]
            known = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
            self._rngs[camera] = known
        return known

    def _new_place(
        self,
        camera: Camera | str,
        name: str,
        image_hw: tuple[int, int],
        odom_SE3_base: SE3 | None,
        rng: np.random.Generator,
    ) -> _Place | None:
        life = int(rng.integers(self._life[0], self._life[1] + 1))
        if isinstance(camera, str) or rng.random() < self._on_vehicle:
            return _Place(name, life, "car", None, self._vehicle_box(name, image_hw))
        for _ in range(_TRIES):
            label = _LABELS[int(rng.choice(len(_LABELS), p=_SHARES))]
            uv = rng.random(2) * (image_hw[1], image_hw[0])
            points = self._seeming_object(camera, uv, label, rng)
            if points is None:
                continue
            if odom_SE3_base is not None:
                points = odom_SE3_base.apply(points)
            place = _Place(name, life, label, points, None)
            if _outline(place, camera, image_hw, odom_SE3_base) is not None:
                return place
        return None

    def _vehicle_box(self, camera: str, image_hw: tuple[int, int]) -> tuple[float, float, float, float]:
        """Where this camera sees the own bonnet or mirror: the same box all drive long."""
        entropy = [self._seed, zlib.crc32(b"vehicle"), zlib.crc32(camera.encode())]
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        height, width = image_hw
        w, h = width * rng.uniform(0.2, 0.5), height * rng.uniform(0.1, 0.25)
        left = rng.uniform(0, width - w)
        return (left, height - h, left + w, float(height))

    def _seeming_object(
        self, camera: Camera, uv_px: FloatArray, label: str, rng: np.random.Generator
    ) -> FloatArray | None:
        """(24, 3) points on the edges of an upright box on the ground, in the base frame, near the ray of a pixel."""
        entry = self._ontology.find(label)
        ray = camera.intrinsics.rays_of_corners(uv_px[None, :])[0]
        if entry is None or not np.isfinite(ray).all():
            return None
        direction = camera.base_SE3_camera.rotation @ ray
        level = math.hypot(direction[0], direction[1])
        if level < 0.2:
            return None  # straight up or down: no place beside the vehicle
        range_m = math.exp(rng.uniform(math.log(_RANGE_M[0]), math.log(_RANGE_M[1])))
        size = np.array(entry.size_lwh_m) * np.exp(0.2 * rng.standard_normal(3))
        foot = camera.base_SE3_camera.translation_m[:2] + direction[:2] / level * range_m
        z = size[2] / 2 if entry.on_ground else rng.uniform(2.5, 5.0)
        yaw = rng.uniform(-math.pi, math.pi)
        rotation = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
        corners = np.array(
            [[x, y, h] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for h in (-0.5, 0.0, 0.5)] * 2, np.float64
        )
        corners[12:, :2] *= 0.5  # points within the outline too, so that a lens that bends edges is followed
        points: FloatArray = corners * size
        points[:, :2] = points[:, :2] @ rotation.T + foot
        points[:, 2] += z
        return points


def _outline(
    place: _Place, camera: Camera | str, image_hw: tuple[int, int], odom_SE3_base: SE3 | None
) -> tuple[float, float, float, float] | None:
    """The box that a place makes in an image; None where it is out of view, behind, or tiny."""
    if isinstance(camera, str) or place.points_m is None:
        return None
    points = place.points_m if odom_SE3_base is None else odom_SE3_base.inverse().apply(place.points_m)
    uv = camera.intrinsics.project(camera.base_SE3_camera.inverse().apply(points)) + 0.5
    if not np.isfinite(uv).all():
        return None
    height, width = image_hw
    left, top = np.maximum(uv.min(axis=0), 0.0).tolist()
    right, bottom = np.minimum(uv.max(axis=0), (width, height)).tolist()
    if right - left < _SMALLEST_PX or bottom - top < _SMALLEST_PX:
        return None
    return (left, top, right, bottom)


def _shaken(
    box: tuple[float, float, float, float], rng: np.random.Generator, image_hw: tuple[int, int]
) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    d = 0.02 * rng.standard_normal(4)
    w, h = right - left, bottom - top
    height, width = image_hw
    return (
        min(max(left + d[0] * w, 0.0), width),
        min(max(top + d[1] * h, 0.0), height),
        min(max(right + d[2] * w, 0.0), width),
        min(max(bottom + d[3] * h, 0.0), height),
    )


def independent_false_boxes(
    rng: np.random.Generator, mean: float, image_hw: tuple[int, int]
) -> list[FalseBox]:
    """Poisson many boxes anywhere in the image, for this image only."""
    height, width = image_hw
    boxes = []
    for _ in range(int(rng.poisson(mean))):
        h = height * math.exp(rng.uniform(math.log(0.03), math.log(0.4)))
        w = min(width * 0.8, h * math.exp(rng.uniform(math.log(0.4), math.log(2.0))))
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        label = _LABELS[int(rng.choice(len(_LABELS), p=_SHARES))]
        boxes.append(FalseBox((left, top, left + w, top + h), 0.26 + 0.5 * float(rng.beta(1.5, 3)), label))
    return boxes
