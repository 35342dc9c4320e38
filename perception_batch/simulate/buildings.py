"""Buildings with windows, doors and shops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perception_batch.simulate.shapes import DECAL_M, Color, Shape, shade
from perception_batch.simulate.streets import BLOCK_M, FACADE_M

WALLS: tuple[Color, ...] = (
    (188, 158, 128),
    (166, 108, 88),
    (206, 196, 178),
    (148, 150, 154),
    (196, 172, 120),
    (122, 130, 142),
    (214, 206, 196),
    (152, 120, 104),
    (178, 140, 120),
)
WINDOW: Color = (74, 88, 106)
WINDOW_LIT: Color = (255, 214, 140)


def building(
    random: np.random.Generator,
    origin: tuple[float, float],
    height_at: Callable[[float, float], float],
    lamps_on: bool,
    side: int,
    u0: float,
    u1: float,
    setback: float,
) -> Shape:
    """One building; `side`: the street south, north, west or east of the block."""
    f = FACADE_M + setback
    depth = float(random.uniform(11, 14.5)) - setback
    floors, storey = int(random.integers(2, 7)), float(random.uniform(2.9, 3.3))
    height = 0.9 + floors * storey
    wall = WALLS[int(random.integers(len(WALLS)))]
    wall = shade(wall, float(random.uniform(0.88, 1.08)))
    near, far = (f, f + depth) if side in (0, 2) else (BLOCK_M - f, BLOCK_M - f - depth)
    v0, v1 = min(near, far), max(near, far)
    along_x = side < 2
    (x0, x1), (y0, y1) = ((u0, u1), (v0, v1)) if along_x else ((v0, v1), (u0, u1))
    x0, x1, y0, y1 = x0 + origin[0], x1 + origin[0], y0 + origin[1], y1 + origin[1]
    corners = [height_at(x, y) for x in (x0, x1) for y in (y0, y1)]
    base, ground = min(corners) - 0.3, max(corners)
    shape = Shape()
    top = ground + height
    middle = shape.box((x0, y0, base), (x1, y1, top), wall, top=shade(wall, 0.72))
    edge = random.uniform(0.3, 0.9)
    if random.random() < 0.6:  # a cornice
        shape.box(
            (x0 - 0.18, y0 - 0.18, top - 0.12),
            (x1 + 0.18, y1 + 0.18, top + 0.14),
            shade(wall, 0.8),
            floor=True,
        )
    lit_share = float(random.uniform(0.15, 0.5))
    is_shop = random.random() < 0.45
    shop = ((150, 60, 54), (58, 92, 130), (70, 104, 76), (176, 140, 70), (70, 70, 78))[
        int(random.integers(5))
    ]
    # Windows on the side to the street, and, at the ends of a row along x, to the side street.
    faces: list[tuple[bool, float, float, float]] = [
        (along_x, near + (origin[1] if along_x else origin[0]), u0, u1)
    ]
    if along_x and u0 < FACADE_M + 1:
        faces.append((False, origin[0] + u0, v0, v1))
    if along_x and u1 > BLOCK_M - FACADE_M - 1:
        faces.append((False, origin[0] + u1, v0, v1))
    for wall_along_x, where, a, b in faces:
        columns = max(2, int((b - a) / (2.7 + edge)))
        pitch = (b - a) / columns
        wide = min(1.5, 0.55 * pitch)

        def put(
            c: float,
            half: float,
            low: float,
            high: float,
            color: Color,
            shines: bool,
            x: bool = wall_along_x,
            w: float = where,
        ) -> None:
            if x:
                quad = [
                    (origin[0] + c - half, w, low),
                    (origin[0] + c + half, w, low),
                    (origin[0] + c + half, w, high),
                    (origin[0] + c - half, w, high),
                ]
            else:
                quad = [
                    (w, origin[1] + c - half, low),
                    (w, origin[1] + c + half, low),
                    (w, origin[1] + c + half, high),
                    (w, origin[1] + c - half, high),
                ]
            shape.face(quad, color, middle, shines=shines, out_m=DECAL_M * 2)

        for floor in range(floors):
            low = ground + floor * storey + (1.0 if floor else 0.9)
            if floor == 0 and is_shop:
                lit = bool(random.random() < 0.7) and lamps_on
                put(
                    (a + b) / 2,
                    (b - a) / 2 - 0.6,
                    ground + 0.5,
                    ground + 2.5,
                    WINDOW_LIT if lit else WINDOW,
                    lit,
                )
                put((a + b) / 2, (b - a) / 2 - 0.4, ground + 2.6, ground + 3.1, shop, False)
                continue
            for column in range(columns):
                c = a + (column + 0.5) * pitch
                lit = bool(random.random() < lit_share) and lamps_on
                glass = shade(WINDOW, float(random.uniform(0.85, 1.2)))
                if floor == 0 and column == columns // 2:
                    put(c, 0.6, ground, ground + 2.2, shade(wall, 0.45), False)
                else:
                    put(c, wide / 2, low, low + 1.5, WINDOW_LIT if lit else glass, lit)
    return shape
