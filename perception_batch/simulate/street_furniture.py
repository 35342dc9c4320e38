"""Trees and street lamps."""

from __future__ import annotations

import numpy as np

from perception_batch.simulate.shapes import Color, Point, Shape, shade

LEAVES: tuple[Color, ...] = ((78, 122, 58), (94, 134, 62), (64, 104, 60), (120, 138, 66))
BARK: Color = (92, 74, 58)
STEEL: Color = (104, 108, 112)
LAMP: Color = (255, 232, 176)


def tree(random: np.random.Generator, x: float, y: float, z: float) -> Shape:
    """A trunk and a crown of two cut pyramids."""
    shape = Shape()
    height, wide = float(random.uniform(5.0, 8.5)), float(random.uniform(1.1, 1.9))
    color = LEAVES[int(random.integers(len(LEAVES)))]
    trunk, foot = 0.13, z + 0.38 * height
    shape.box((x - trunk, y - trunk, z), (x + trunk, y + trunk, foot + 0.3), BARK)
    turn = float(random.uniform(0, np.pi / 3))
    angle = turn + np.arange(6) * np.pi / 3
    rings: list[tuple[float, float]] = [
        (0.45 * wide, foot),
        (wide, foot + 0.24 * height),
        (0.85 * wide, foot + 0.42 * height),
        (0.3 * wide, z + height),
    ]
    middle = (x, y, foot + 0.3 * height)
    points: list[list[Point]] = [
        [(x + r * float(np.cos(a)), y + r * float(np.sin(a)), zz) for a in angle] for r, zz in rings
    ]
    for n, factor in ((0, 0.86), (1, 1.0), (2, 1.08)):
        for i in range(6):
            i2 = (i + 1) % 6
            tone = shade(color, factor * (0.96 + 0.08 * (i % 2)))
            shape.face([points[n][i], points[n][i2], points[n + 1][i2], points[n + 1][i]], tone, middle)
    for ring, tone in ((points[0], shade(color, 0.7)), (points[3], shade(color, 1.1))):
        shape.face(ring[:4], tone, middle)
        shape.face([ring[0], ring[3], ring[4], ring[5]], tone, middle)
    return shape


def lamp_post(foot: tuple[float, float], head: tuple[float, float], z: float) -> Shape:
    """A post with an arm to where its lamp hangs."""
    (x, y), (ax, ay), w = foot, head, 0.16
    shape = Shape()
    shape.box((x - 0.08, y - 0.08, z), (x + 0.08, y + 0.08, z + 7.2), STEEL)
    shape.box(
        (min(x, ax) - 0.05, min(y, ay) - 0.05, z + 7.1),
        (max(x, ax) + 0.05, max(y, ay) + 0.05, z + 7.2),
        STEEL,
        floor=True,
    )
    case = shape.box((ax - w * 2, ay - w * 2, z + 7.0), (ax + w * 2, ay + w * 2, z + 7.16), STEEL)
    corners = [(ax + sx * w, ay + sy * w, z + 6.98) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    shape.face(corners, LAMP, case, shines=True)
    return shape
