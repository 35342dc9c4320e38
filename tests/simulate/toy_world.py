"""A small world of boxes on a flat street, for tests of the drawer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.simulate.scene import EgoState, Light, Mesh, Thing

DAY = Light(np.array([0.5, 0.35, 0.79]), 0.55, 0.6, (88, 138, 205), (205, 218, 230), 420.0, False)
NIGHT = Light(np.array([-0.4, 0.6, 0.69]), 0.16, 0.05, (8, 11, 24), (30, 34, 48), 260.0, True)

_BOX_FACES = np.array(
    [[0, 3, 2, 1], [4, 5, 6, 7], [0, 1, 5, 4], [2, 3, 7, 6], [1, 2, 6, 5], [3, 0, 4, 7]], np.int32
)


def pose(x: float, y: float, z: float, yaw: float = 0.0) -> SE3:
    return SE3.from_quaternion((0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)), (x, y, z))


def box(low: Sequence[float], high: Sequence[float], color: tuple[int, int, int]) -> Mesh:
    """An upright box, counter-clockwise seen from outside."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    corners = [[x, y, z] for z in (z0, z1) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    return Mesh(np.array(corners, np.float64), _BOX_FACES, np.full((6, 3), color, np.uint8))


def joined(meshes: Sequence[Mesh], two_sided: bool = False) -> Mesh:
    first = np.cumsum([0] + [len(m.vertices_m) for m in meshes])
    shines = [np.zeros(len(m.faces), np.bool_) if m.shines is None else m.shines for m in meshes]
    return Mesh(
        np.concatenate([m.vertices_m for m in meshes]),
        np.concatenate([m.faces + f for m, f in zip(meshes, first[:-1], strict=True)]).astype(np.int32),
        np.concatenate([m.colors for m in meshes]),
        two_sided,
        np.concatenate(shines),
    )


def flat(
    x0: float, y0: float, x1: float, y1: float, z: float, color: tuple[int, int, int], step: float = 10
) -> Mesh:
    """A patch of ground in squares."""
    meshes = []
    for x in np.arange(x0, x1, step):
        for y in np.arange(y0, y1, step):
            a, b = min(x + step, x1), min(y + step, y1)
            corners = np.array([[x, y, z], [a, y, z], [a, b, z], [x, b, z]], np.float64)
            meshes.append(Mesh(corners, np.array([[0, 1, 2, 3]], np.int32), np.array([color], np.uint8)))
    return joined(meshes, two_sided=True)


def car_mesh(color: tuple[int, int, int] = (180, 40, 35)) -> Mesh:
    """4.4 x 1.8 x 1.5 m: a body, a cabin on it, four wheels that stand out a little."""
    parts = [
        box((-2.2, -0.88, -0.5), (2.2, 0.88, 0.1), color),
        box((-1.3, -0.75, 0.1), (0.9, 0.75, 0.75), (40, 50, 60)),
    ]
    wheels = [(x, y) for x in (-1.4, 1.4) for y in (-0.9, 0.7)]
    parts += [box((x - 0.33, y, -0.75), (x + 0.33, y + 0.2, -0.1), (25, 25, 25)) for x, y in wheels]
    mesh = joined(parts)
    lamps = np.array([[2.205, -0.8, -0.2], [2.205, -0.5, -0.2], [2.205, -0.5, 0.0], [2.205, -0.8, 0.0]])
    lamp = Mesh(
        lamps - [0.005, 0, 0],
        np.array([[0, 1, 2, 3]], np.int32),
        np.array([[255, 250, 220]], np.uint8),
        shines=np.ones(1, np.bool_),
    )
    return joined([mesh, lamp])


def person_mesh() -> Mesh:
    """0.5 x 0.5 x 1.8 m: two legs, a trunk with arms, a head."""
    return joined(
        [
            box((-0.1, -0.22, -0.9), (0.1, -0.04, 0.0), (40, 45, 80)),
            box((-0.25, 0.04, -0.9), (-0.05, 0.22, 0.0), (40, 45, 80)),
            box((-0.13, -0.25, 0.0), (0.25, 0.25, 0.6), (170, 140, 60)),
            box((-0.1, -0.1, 0.62), (0.1, 0.1, 0.9), (200, 160, 130)),
        ]
    )


def building(x0: float, y0: float, x1: float, y1: float, height: float, color: tuple[int, int, int]) -> Mesh:
    """A block with windows on all four sides."""
    parts = [box((x0, y0, 0), (x1, y1, height), color)]
    rng = np.random.default_rng(int(abs(x0 * 7 + y0)))
    for z in np.arange(1.2, height - 1.5, 3.2):
        for x in np.arange(x0 + 1, x1 - 1.5, 3.0):
            for y, flip in ((y0 - 0.02, False), (y1 + 0.02, True)):
                c = np.array([[x, y, z], [x + 1.4, y, z], [x + 1.4, y, z + 1.7], [x, y, z + 1.7]])
                lit = bool(rng.random() < 0.3)
                colors = np.array([[250, 220, 150] if lit else [70, 85, 100]], np.uint8)
                parts.append(
                    Mesh(
                        c[::-1] if flip else c,
                        np.array([[0, 1, 2, 3]], np.int32),
                        colors,
                        False,
                        np.array([lit]),
                    )
                )
    return joined(parts)


class ToyWorld:
    """A straight street along x; the own vehicle drives along it at 8 m/s."""

    def __init__(
        self, things: Sequence[Thing], scenery: Sequence[Mesh] = (), light: Light = DAY, yaw: float = 0.0
    ) -> None:
        self.light = light
        self._things = list(things)
        self._scenery = list(scenery)
        self._yaw = yaw

    def ego(self, time_s: float) -> EgoState:
        return EgoState(pose(8 * time_s, 0, 0, self._yaw), np.array([8.0, 0.0, 0.0]), 0.0)

    def things(self, time_s: float, radius_m: float) -> list[Thing]:
        return self._things

    def scenery(self, time_s: float, radius_m: float) -> list[Mesh]:
        return self._scenery

    def ground_z_m(self, x_m: float, y_m: float) -> float:
        return 0.0


def thing(
    object_id: int, label: str, x: float, y: float, yaw: float = 0.0, mesh: Mesh | None = None
) -> Thing:
    """A car or a person that stands on the street."""
    mesh = mesh or (car_mesh() if label == "car" else person_mesh())
    low, high = mesh.vertices_m.min(axis=0), mesh.vertices_m.max(axis=0)
    size = tuple(float(v) for v in high - low)
    return Thing(object_id, label, pose(x, y, -float(low[2]), yaw), size, np.zeros(3), mesh)


def street(light: Light = DAY, things: int = 60, seed: int = 1) -> ToyWorld:
    """Cars and people at random but apart, buildings on both sides, lane markings."""
    rng = np.random.default_rng(seed)
    meshes = [car_mesh(tuple(int(v) for v in rng.integers(30, 230, 3))) for _ in range(8)]
    walker = person_mesh()
    placed: list[Thing] = []
    for _ in range(4000):
        if len(placed) == things:
            break
        x, y = rng.uniform(-70, 90), rng.uniform(-9.5, 9.5)
        if abs(x) < 7 and abs(y) < 3.5:
            continue
        if any(
            math.hypot(x - t.odom_SE3_object.translation_m[0], y - t.odom_SE3_object.translation_m[1]) < 5.2
            for t in placed
        ):
            continue
        number = len(placed) + 1
        if number % 3 == 0:
            placed.append(thing(number, "person", x, y, rng.uniform(-3, 3), walker))
        else:
            placed.append(
                thing(number, "car", x, y, rng.choice([0, math.pi]) + rng.normal(0, 0.15), meshes[number % 8])
            )
    scenery = [
        flat(-160, -120, 200, 120, -0.02, (96, 118, 76), 20),
        flat(-160, -14, 200, 14, -0.01, (150, 148, 142), 10),
        flat(-160, -9, 200, 9, 0.0, (84, 85, 88), 9),
    ]
    scenery += [flat(x, -0.08, x + 3, 0.08, 0.01, (225, 225, 220), 3) for x in range(-100, 120, 9)]
    for i, x in enumerate(range(-120, 140, 26)):
        scenery.append(building(x, 14.5, x + 22, 28, 9 + 4 * (i % 4), (168, 128 + 8 * (i % 5), 104)))
        scenery.append(building(x + 5, -30, x + 28, -14.5, 12 + 3 * (i % 3), (140, 142, 150)))
    return ToyWorld(placed, scenery, light)
