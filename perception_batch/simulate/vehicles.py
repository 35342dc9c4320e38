"""Low-polygon cars, vans, trucks and buses. Each fills its box."""

from __future__ import annotations

import itertools

import numpy as np

from perception_batch.simulate.scene import Mesh
from perception_batch.simulate.shapes import DECAL_M, Color, Shape, shade

Size = tuple[float, float, float]

GLASS: Color = (52, 62, 76)
TYRE: Color = (30, 30, 32)
RIM: Color = (150, 152, 156)
DARK: Color = (42, 43, 46)
HEADLAMP: Color = (252, 248, 226)
TAIL_LAMP: Color = (206, 24, 28)
PLATE: Color = (228, 228, 214)

CAR_COLORS: tuple[Color, ...] = (
    (236, 237, 238),
    (206, 209, 212),
    (150, 154, 160),
    (92, 96, 102),
    (40, 42, 46),
    (34, 58, 110),
    (56, 112, 176),
    (168, 34, 36),
    (206, 96, 34),
    (44, 92, 62),
    (196, 176, 140),
    (226, 190, 52),
)
"""Mostly white, grey and black, as on roads; the draw prefers the first."""
TRUCK_COLORS: tuple[Color, ...] = (
    (232, 232, 230),
    (60, 90, 150),
    (176, 48, 44),
    (222, 170, 60),
    (70, 120, 84),
)
BUS_COLORS: tuple[Color, ...] = (
    (196, 44, 44),
    (228, 186, 60),
    (58, 120, 176),
    (240, 240, 236),
    (64, 142, 92),
)

CAR_BODIES: dict[str, tuple[tuple[float, float, float, float], float, float]] = {
    # Cabin: rear foot, rear roof edge, front roof edge, front foot, as shares of the length from the rear;
    # belt line as a share of the height; how far the boot lies below the belt line.
    "hatchback": ((0.02, 0.12, 0.56, 0.75), 0.56, 0.0),
    "sedan": ((0.15, 0.30, 0.57, 0.74), 0.57, 0.01),
    "estate": ((0.01, 0.10, 0.57, 0.74), 0.56, 0.0),
    "suv": ((0.01, 0.09, 0.60, 0.75), 0.57, 0.0),
    "van": ((0.0, 0.02, 0.72, 0.92), 0.50, 0.0),
}


def car_body(size: Size) -> str:
    """The shape that goes with a size."""
    length, _, height = size
    if height > 1.86:
        return "van"
    if height > 1.72:
        return "suv"
    if length < 4.35:
        return "hatchback"
    return "sedan" if height < 1.58 or int(length * 1000) % 3 else "estate"


def car(size: Size, color: Color) -> Mesh:
    """A car or van of 50 to 60 faces."""
    body = car_body(size)
    (rear_foot, rear_roof, front_roof, front_foot), belt, drop = CAR_BODIES[body]
    length, width, height = size
    shape = Shape()
    sill, w = 0.15 * height, width / 2
    belt_z, roof_z = belt * height, height

    def x(share: float) -> float:
        return (share - 0.5) * length

    under, waist, roof_w = 0.94 * w, w - 0.02, 0.76 * w if body != "van" else 0.9 * w
    nose_z = belt_z - (0.10 * height if body != "van" else 0.02 * height)
    boot_z = belt_z - drop * height
    low = [
        (x(0.992), under, sill),
        (x(0.008), under, sill),
        (x(0.008), -under, sill),
        (x(0.992), -under, sill),
    ]
    top = [
        (x(0.975), waist, nose_z),
        (x(0.0), waist, boot_z),
        (x(0.0), -waist, boot_z),
        (x(0.975), -waist, nose_z),
    ]
    # Two solids, so that the bonnet may fall forward while the doors are level.
    f = x(front_foot)
    mid = shape.hexahedron(
        [(f, under, sill), low[1], low[2], (f, -under, sill)],
        [(f, waist, belt_z), top[1], top[2], (f, -waist, belt_z)],
        {"side": color, "top": shade(color, 1.04)},
    )
    nose = shape.hexahedron(
        [low[0], (f, under, sill), (f, -under, sill), low[3]],
        [top[0], (f, waist, belt_z), (f, -waist, belt_z), top[3]],
        {"side": color, "top": shade(color, 1.06)},
    )
    cab_low = [(f, waist - 0.03, belt_z), (x(rear_foot), waist - 0.03, belt_z)]
    cab_low += [(px, -py, pz) for px, py, pz in reversed(cab_low)]
    cab_top = [(x(front_roof), roof_w, roof_z), (x(rear_roof), roof_w, roof_z)]
    cab_top += [(px, -py, pz) for px, py, pz in reversed(cab_top)]
    cabin = shape.hexahedron(
        cab_low,
        cab_top,
        {"side": color, "top": shade(color, 1.08), "front": GLASS, "rear": GLASS if body != "van" else color},
    )
    for sign in (1, -1):
        # Side windows between belt and roof, with a pillar between them.
        def pane(a0: float, a1: float, b0: float, b1: float, sign: int = sign) -> None:
            def at(foot: float, roof: float, up: float) -> tuple[float, float, float]:
                return (
                    foot + (roof - foot) * up,
                    sign * (waist - 0.03 + (roof_w - waist + 0.03) * up),
                    belt_z + (roof_z - belt_z) * up,
                )

            shape.face(
                [at(a0, b0, 0.1), at(a1, b1, 0.1), at(a1, b1, 0.86), at(a0, b0, 0.86)],
                GLASS,
                cabin,
                out_m=DECAL_M,
            )

        b_pillar, span = x((rear_foot + front_foot) / 2 + 0.02), 0.04 * length
        b_roof = x((rear_roof + front_roof) / 2 + 0.02)
        pane(b_pillar + 0.05, f - span, b_roof + 0.05, x(front_roof) - 0.05)
        if body != "van":
            pane(x(rear_foot) + span, b_pillar - 0.05, x(rear_roof) + 0.08, b_roof - 0.05)
        lamp_w, lamp_low, lamp_high = 0.36 * w, 0.62 * nose_z, 0.86 * nose_z

        def nose_x(z: float) -> float:
            return x(0.992) + (x(0.975) - x(0.992)) * (z - sill) / (nose_z - sill)

        def tail_x(z: float) -> float:
            return x(0.008) + (x(0.0) - x(0.008)) * (z - sill) / (boot_z - sill)

        y0, y1 = sign * 0.93 * w, sign * (0.93 * w - lamp_w)
        shape.face(
            [
                (nose_x(z), y, z)
                for y, z in ((y0, lamp_low), (y1, lamp_low), (y1, lamp_high), (y0, lamp_high))
            ],
            HEADLAMP,
            nose,
            shines=True,
            out_m=DECAL_M,
        )
        y1 = sign * (0.93 * w - 0.24 * width)
        low_z, high_z = 0.66 * boot_z, 0.9 * boot_z
        shape.face(
            [(tail_x(z), y, z) for y, z in ((y0, low_z), (y1, low_z), (y1, high_z), (y0, high_z))],
            TAIL_LAMP,
            mid,
            shines=True,
            out_m=DECAL_M,
        )
        radius = min(0.34, 0.21 * height)
        for share in (0.19, 0.81):
            shape.wheel(x(share), radius, radius, sign * (w - 0.24), sign * w, TYRE, RIM)
    for z0, z1, half, color_of in ((0.36, 0.56, 0.5, DARK), (0.24, 0.36, 0.27, PLATE)):
        xs = (nose_x(z0 * nose_z * 1.2), nose_x(z1 * nose_z * 1.2))
        shape.face(
            [
                (xs[0], -half * w, z0 * nose_z * 1.2),
                (xs[0], half * w, z0 * nose_z * 1.2),
                (xs[1], half * w, z1 * nose_z * 1.2),
                (xs[1], -half * w, z1 * nose_z * 1.2),
            ],
            color_of,
            nose,
            out_m=DECAL_M,
        )
    z0, z1 = 0.42 * boot_z, 0.58 * boot_z
    shape.face(
        [
            (tail_x(z0), -0.27 * w, z0),
            (tail_x(z0), 0.27 * w, z0),
            (tail_x(z1), 0.27 * w, z1),
            (tail_x(z1), -0.27 * w, z1),
        ],
        PLATE,
        mid,
        out_m=DECAL_M,
    )
    return shape.mesh_in_box(size)


def truck(size: Size, color: Color, load: Color) -> Mesh:
    """A cab and a box body."""
    length, width, height = size
    shape, w = Shape(), width / 2
    cab = min(2.0, 0.34 * length)
    front, rear = length / 2, -length / 2
    cab_h = min(0.86 * height, 2.7)
    base = 0.17 * height
    ring = [(front, w * 0.94), (front - cab, w * 0.94), (front - cab, -w * 0.94), (front, -w * 0.94)]
    slope = [
        (front - 0.18, w * 0.9),
        (front - cab, w * 0.9),
        (front - cab, -w * 0.9),
        (front - 0.18, -w * 0.9),
    ]
    waist = 0.52 * cab_h
    middle = shape.hexahedron(
        [(x, y, base) for x, y in ring], [(x, y, waist) for x, y in ring], {"side": color}
    )
    upper = shape.hexahedron(
        [(x, y, waist) for x, y in ring],
        [(x, y, cab_h) for x, y in slope],
        {"side": color, "top": shade(color, 1.05)},
    )
    low_z, high_z = waist + 0.05 * cab_h, 0.92 * cab_h

    def front_x(z: float) -> float:
        return front - 0.18 * (z - waist) / (cab_h - waist)

    shape.face(
        [
            (front_x(low_z), -0.84 * w, low_z),
            (front_x(low_z), 0.84 * w, low_z),
            (front_x(high_z), 0.82 * w, high_z),
            (front_x(high_z), -0.82 * w, high_z),
        ],
        GLASS,
        upper,
        out_m=DECAL_M,
    )
    for sign in (1, -1):
        y0, y1 = sign * 0.936 * w, sign * 0.91 * w
        shape.face(
            [
                (front - 0.2, y0, low_z),
                (front - 0.7 * cab, y0, low_z),
                (front - 0.7 * cab, y1, high_z),
                (front - 0.34, y1, high_z),
            ],
            GLASS,
            upper,
            out_m=DECAL_M,
        )
        shape.rect_x(
            front,
            (sign * 0.88 * w, sign * 0.58 * w),
            (base + 0.1, base + 0.3),
            HEADLAMP,
            middle,
            shines=True,
            out_m=DECAL_M,
        )
    body = shape.box(
        (rear, -w, base * 1.3), (front - cab - 0.12, w, height), load, top=shade(load, 1.05), floor=True
    )
    shape.box((rear + 0.1, -0.7 * w, base * 0.8), (front - cab, 0.7 * w, base * 1.3), DARK)
    for sign in (1, -1):
        shape.rect_x(
            rear,
            (sign * 0.96 * w, sign * 0.76 * w),
            (base * 1.36, base * 1.36 + 0.22),
            TAIL_LAMP,
            body,
            shines=True,
            out_m=DECAL_M,
        )
        stripe = [
            (rear + 0.3, sign * w, 0.55 * height),
            (front - cab - 0.4, sign * w, 0.55 * height),
            (front - cab - 0.4, sign * w, 0.68 * height),
            (rear + 0.3, sign * w, 0.68 * height),
        ]
        shape.face(stripe, color, body, out_m=DECAL_M)
        radius = min(0.48, 0.19 * height)
        for x in (front - 0.55 * cab, rear + 0.2 * length):
            shape.wheel(x, radius, radius, sign * (w - 0.3), sign * (w - 0.03), TYRE, RIM)
    shape.rect_x(rear, (0.0, 0.03), (0.97 * height, base * 1.5), DARK, body, out_m=DECAL_M)
    return shape.mesh_in_box(size)


def bus(size: Size, color: Color) -> Mesh:
    """A city bus."""
    length, width, height = size
    shape, w = Shape(), width / 2
    front, rear, base = length / 2, -length / 2, 0.1 * height
    body = shape.box((rear, -w, base), (front, w, height), color, top=(226, 226, 222))
    low, high = 0.44 * height, 0.86 * height
    for sign in (1, -1):
        count = max(4, round(length / 1.7))
        edges = np.linspace(rear + 0.35, front - 0.5, count + 1)
        for a, b in itertools.pairwise(edges):
            shape.rect_y(sign * w, (a + 0.06, b - 0.06), (low, high), GLASS, body, out_m=DECAL_M)
        shape.rect_y(
            sign * w,
            (rear + 0.1, front - 0.1),
            (base, 0.2 * height),
            shade(color, 0.6),
            body,
            out_m=DECAL_M / 2,
        )
        shape.rect_x(
            front,
            (sign * 0.9 * w, sign * 0.62 * w),
            (0.2 * height, 0.27 * height),
            HEADLAMP,
            body,
            shines=True,
            out_m=DECAL_M,
        )
        shape.rect_x(
            rear,
            (sign * 0.95 * w, sign * 0.8 * w),
            (0.25 * height, 0.4 * height),
            TAIL_LAMP,
            body,
            shines=True,
            out_m=DECAL_M,
        )
        for x in (front - 0.22 * length, rear + 0.26 * length):
            shape.wheel(x, 0.48, 0.48, sign * (w - 0.3), sign * (w + 0.005), TYRE, RIM)
    shape.rect_x(front, (-0.92 * w, 0.92 * w), (0.36 * height, 0.84 * height), GLASS, body, out_m=DECAL_M)
    shape.rect_x(
        front,
        (-0.6 * w, 0.6 * w),
        (0.87 * height, 0.97 * height),
        (250, 190, 60),
        body,
        shines=True,
        out_m=DECAL_M,
    )
    shape.rect_x(rear, (-0.8 * w, 0.8 * w), (0.5 * height, 0.84 * height), GLASS, body, out_m=DECAL_M)
    return shape.mesh_in_box(size)
