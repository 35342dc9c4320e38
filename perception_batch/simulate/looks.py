"""Sizes, colours and shapes of road users, drawn; the shape of a traffic light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_batch.ontology import DEFAULT_CLASSES
from perception_batch.simulate import people, two_wheelers, vehicles
from perception_batch.simulate.scene import Mesh
from perception_batch.simulate.shapes import Color, Shape
from perception_batch.simulate.signals import Aspect
from perception_batch.simulate.traffic import SIZE_SPREAD


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Size and shapes of one road user."""

    size_lwh_m: tuple[float, float, float]
    poses: tuple[Mesh, ...]
    """One shape, or four of a walker's step."""
    is_here: bool
    """False where this one stays at home."""


def draw_size(label: str, random: np.random.Generator) -> tuple[float, float, float]:
    """A size within `SIZE_SPREAD` of the class's mean, independent in its three parts."""
    entry = DEFAULT_CLASSES[label]
    spread = SIZE_SPREAD.get(label, 1.5)
    length, width, height = (
        float(mean + sd * np.clip(random.standard_normal(), -spread, spread))
        for mean, sd in zip(entry["size_lwh_m"], entry["size_sd_m"], strict=True)
    )
    return (length, width, height)


def _pick(colors: tuple[Color, ...], random: np.random.Generator, prefer_first: bool = False) -> Color:
    u = float(random.random())
    return colors[int((u * u if prefer_first else u) * len(colors))]


def draw_look(label: str, random: np.random.Generator, *, left_out: float = 0.0) -> Look:
    """A look for a class; with the probability `left_out` it is not there at all."""
    is_here = bool(random.random() >= left_out)
    size = draw_size(label, random)
    poses: tuple[Mesh, ...]
    if label == "car":
        poses = (vehicles.car(size, _pick(vehicles.CAR_COLORS, random, prefer_first=True)),)
    elif label == "truck":
        poses = (
            vehicles.truck(
                size,
                _pick(vehicles.TRUCK_COLORS, random),
                _pick(((226, 226, 222), *vehicles.TRUCK_COLORS), random),
            ),
        )
    elif label == "bus":
        poses = (vehicles.bus(size, _pick(vehicles.BUS_COLORS, random)),)
    elif label in ("bicycle", "motorcycle"):
        poses = (
            two_wheelers.two_wheeler(
                size,
                _pick(vehicles.CAR_COLORS[3:], random),
                _pick(people.JACKETS, random),
                _pick(people.SKIN, random),
                _pick(((230, 230, 230), (40, 40, 44), (200, 60, 50), (70, 100, 170)), random),
                motor=label == "motorcycle",
            ),
        )
    else:
        jacket, skin = _pick(people.JACKETS, random), _pick(people.SKIN, random)
        trousers = _pick(((44, 52, 78), (52, 50, 48), (110, 104, 92), (30, 32, 36)), random)
        hair = _pick(((40, 32, 28), (92, 64, 40), (170, 140, 92), (120, 120, 122)), random)
        poses = tuple(people.person(size, jacket, trousers, skin, hair, pose) for pose in range(people.POSES))
    return Look(size, poses, is_here)


LIGHT_SIZE_LWH_M = (0.3, 0.35, 0.95)


def light_mesh(aspect: Aspect) -> Mesh:
    """A traffic light that shows `aspect`, in its own frame: x towards those who look at it."""
    shape = Shape()
    length, width, height = LIGHT_SIZE_LWH_M
    middle = shape.box((0, -width / 2, 0), (length - 0.02, width / 2, height), (36, 38, 40), floor=True)
    lamps: tuple[tuple[Aspect, float, Color], ...] = (
        ("red", 0.82, (255, 40, 32)),
        ("yellow", 0.5, (255, 196, 40)),
        ("green", 0.18, (48, 232, 110)),
    )
    for name, up, color in lamps:
        on = name == aspect
        tone: Color = color if on else (color[0] // 5, color[1] // 5, color[2] // 5)
        angles = np.pi / 8 + np.arange(8) * np.pi / 4
        ring = [
            (length - 0.02, float(0.115 * np.cos(a)), up * height + float(0.115 * np.sin(a))) for a in angles
        ]
        for quad in ((0, 1, 2, 3), (0, 3, 4, 7), (4, 5, 6, 7)):
            shape.face([ring[i] for i in quad], tone, middle, shines=on, out_m=0.02)
    return shape.mesh_in_box(LIGHT_SIZE_LWH_M)
