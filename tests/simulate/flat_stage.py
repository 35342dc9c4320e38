"""A world of one coloured block and flat cameras: quick to draw, and every picture tells its own time."""

from __future__ import annotations

import math

import numpy as np

from perception_batch.calibration import Camera
from perception_batch.geometry import SE3
from perception_batch.simulate.scene import Drawing, EgoState, Light, Mesh, Thing, World
from perception_batch.simulate.settings import SimulateSettings
from perception_batch.simulate.stage import Stage
from perception_batch.types import Image

SPEED_MPS = 8.0


def pose(x: float, y: float, z: float, yaw: float) -> SE3:
    return SE3.from_quaternion((0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)), (x, y, z))


class FlatWorld:
    """The own vehicle drives straight ahead; a car drives 10 m before it, a person stands beside the road."""

    light = Light(np.array([0.0, 0.0, 1.0]), 0.5, 0.5, (90, 140, 220), (200, 210, 220), 500.0, False)

    def ego(self, time_s: float) -> EgoState:
        return EgoState(pose(SPEED_MPS * time_s, 0, 0, 0.02), np.array([SPEED_MPS, 0.0, 0.0]), 0.0)

    def things(self, time_s: float, radius_m: float) -> list[Thing]:
        mesh = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2, 2]], np.int32), np.zeros((1, 3), np.uint8))
        car = Thing(
            3,
            "car",
            pose(SPEED_MPS * time_s + 10, 1, 0.8, 0.1),
            (4.0, 1.8, 1.6),
            np.array([SPEED_MPS, 0.0, 0.0]),
            mesh,
        )
        person = Thing(5, "person", pose(20, -4, 0.9, 0.0), (0.6, 0.6, 1.8), np.zeros(3), mesh)
        near = self.ego(time_s).odom_SE3_base.translation_m
        return [t for t in (car, person) if np.linalg.norm(t.odom_SE3_object.translation_m - near) < radius_m]

    def scenery(self, time_s: float, radius_m: float) -> list[Mesh]:
        return []

    def ground_z_m(self, x_m: float, y_m: float) -> float:
        return 0.0


class FlatDrawer:
    """A smooth gradient that moves with time, and a block where the car would be."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.times_s: list[float] = []
        lens = camera.intrinsics
        x = np.arange(lens.width_px)[None, :] * 100 / lens.width_px
        y = np.arange(lens.height_px)[:, None] * 100 / lens.height_px
        self._x, self._y = x + 0 * y, y + 0 * x

    def draw(self, world: World, time_s: float) -> Drawing:
        self.times_s.append(time_s)
        shade = 60 + 40 * math.sin(7 * time_s)
        image = np.stack([self._x + shade, self._y + shade / 2, (self._x + self._y) / 2 + 30], axis=2)
        image = image.clip(0, 255).astype(np.uint8)
        h, w = image.shape[:2]
        box = (w // 4, h // 3, w // 2, 2 * h // 3)
        ids = np.zeros((h, w), np.int32)
        ids[box[1] : box[3], box[0] : box[2]] = 3
        image[ids == 3] = (150, 90, 60)
        full = tuple(map(float, box))
        hidden = (0.0, 0.0, 4.0, 4.0)
        return Drawing(image, ids, {3: full}, {3: full, 5: hidden}, {3: 1.0, 5: 0.0}, {3: 0.0, 5: 0.25})  # type: ignore[dict-item]


class NoSensor:
    def expose(self, image: Image, frame_index: int) -> Image:
        return image


def flat_stage(drawers: dict[str, FlatDrawer] | None = None) -> Stage:
    """Builders of the flat world; the drawers are put into `drawers` by camera."""

    def drawer(camera: Camera) -> FlatDrawer:
        made = FlatDrawer(camera)
        if drawers is not None:
            drawers[camera.name] = made
        return made

    def world(settings: SimulateSettings, length_s: float) -> FlatWorld:
        return FlatWorld()

    return Stage(world, drawer, lambda settings, camera, world: NoSensor())
