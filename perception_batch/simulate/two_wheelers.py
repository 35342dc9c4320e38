"""Low-polygon bicycles and motorcycles with their riders. Each fills its box."""

from __future__ import annotations

from perception_batch.simulate.scene import Mesh
from perception_batch.simulate.shapes import DECAL_M, Color, Shape, shade
from perception_batch.simulate.vehicles import DARK, GLASS, HEADLAMP, RIM, TAIL_LAMP, TYRE, Size


def two_wheeler(size: Size, frame: Color, jacket: Color, skin: Color, helmet: Color, *, motor: bool) -> Mesh:
    """A bicycle or motorcycle with its rider bent forward."""
    length, width, height = size
    shape = Shape()
    radius = (0.23 if motor else 0.26) * height
    thick = 0.09 if motor else 0.03
    front, rear = length / 2 - radius, -length / 2 + radius
    for x in (front, rear):
        for sign in (1, -1):
            shape.wheel(x, radius, radius, 0.0, sign * thick, TYRE, RIM if motor else shade(RIM, 0.8))
    seat = 0.52 * height
    if motor:
        shape.box((rear - 0.1, -0.13, 0.8 * radius), (front - 0.1, 0.13, seat), frame, floor=True)
        shape.box((front - 0.25, -0.16, seat), (front + 0.02, 0.16, 0.68 * height), frame)
        lamp = shape.box((front + 0.02, -0.09, seat), (front + 0.09, 0.09, seat + 0.14), DARK)
        shape.rect_x(
            front + 0.09,
            (-0.07, 0.07),
            (seat + 0.02, seat + 0.12),
            HEADLAMP,
            lamp,
            shines=True,
            out_m=DECAL_M,
        )
    else:
        shape.box((rear, -0.025, radius), (front, 0.025, radius + 0.05), frame, floor=True)
        shape.box((rear + 0.3 * length, -0.025, radius), (rear + 0.3 * length + 0.05, 0.025, seat), frame)
        shape.box((front - 0.08, -0.025, radius), (front - 0.02, 0.025, 0.6 * height), frame)
    tail = shape.box((rear - 0.02, -0.05, seat - 0.1), (rear + 0.1, 0.05, seat), DARK)
    shape.rect_x(
        rear - 0.02, (-0.04, 0.04), (seat - 0.09, seat - 0.01), TAIL_LAMP, tail, shines=True, out_m=DECAL_M
    )
    shape.box(
        (front - 0.12, -width / 2, 0.6 * height),
        (front - 0.06, width / 2, 0.6 * height + 0.05),
        DARK,
        floor=True,
    )
    hip, neck = rear + 0.30 * length, rear + 0.30 * length + 0.26
    w = 0.42 * width
    trousers = shade(jacket, 0.45)
    shape.hexahedron(
        [(hip + 0.14, w, seat), (hip - 0.14, w, seat), (hip - 0.14, -w, seat), (hip + 0.14, -w, seat)],
        [
            (neck + 0.1, w, 0.86 * height),
            (neck - 0.16, w, 0.86 * height),
            (neck - 0.16, -w, 0.86 * height),
            (neck + 0.1, -w, 0.86 * height),
        ],
        {"side": jacket},
    )
    shape.box((neck - 0.08, -0.11, 0.84 * height), (neck + 0.14, 0.11, height), helmet)
    shape.rect_x(
        neck + 0.14,
        (-0.09, 0.09),
        (0.86 * height, 0.94 * height),
        GLASS if motor else skin,
        (neck, 0, 0.9 * height),
        out_m=DECAL_M,
    )
    for sign in (1, -1):
        shape.hexahedron(
            [
                (front - 0.02, sign * w + 0.05, 0.6 * height),
                (front - 0.14, sign * w + 0.05, 0.6 * height),
                (front - 0.14, sign * w - 0.05, 0.6 * height),
                (front - 0.02, sign * w - 0.05, 0.6 * height),
            ],
            [
                (neck + 0.1, sign * w + 0.05, 0.84 * height),
                (neck - 0.04, sign * w + 0.05, 0.84 * height),
                (neck - 0.04, sign * w - 0.05, 0.84 * height),
                (neck + 0.1, sign * w - 0.05, 0.84 * height),
            ],
            {"side": jacket},
        )
        y = sign * 0.16
        knee = hip + 0.42
        shape.hexahedron(
            [
                (knee - 0.02, y + 0.06, 0.3 * height),
                (knee - 0.18, y + 0.06, 0.3 * height),
                (knee - 0.18, y - 0.06, 0.3 * height),
                (knee - 0.02, y - 0.06, 0.3 * height),
            ],
            [
                (hip + 0.2, y + 0.06, seat + 0.02),
                (hip, y + 0.06, seat + 0.02),
                (hip, y - 0.06, seat + 0.02),
                (hip + 0.2, y - 0.06, seat + 0.02),
            ],
            {"side": trousers},
        )
        shape.box(
            (knee - 0.2, y - 0.05, 0.12 * height),
            (knee - 0.04, y + 0.05, 0.32 * height),
            trousers,
            floor=True,
        )
    return shape.mesh_in_box(size)
