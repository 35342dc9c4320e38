"""What stands and lies along the streets: one tile of the lattice at a time.

Tile (i, j) holds the junction (i, j), the streets from it to the east and to the north, and the block between.
Its pieces are small (some 40 m), so that what is far can be left out. They come in drawing order: ground, then
paint on the ground (2 cm above it), then solids.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from perception_batch.simulate.buildings import building
from perception_batch.simulate.scene import Mesh
from perception_batch.simulate.shapes import Color, Point, Shape
from perception_batch.simulate.signal_poles import signal_arms, signal_poles
from perception_batch.simulate.street_furniture import STEEL, lamp_post, tree
from perception_batch.simulate.streets import (
    BAY_EDGE_M,
    BAYS_M,
    BLOCK_M,
    CROSSING_M,
    FACADE_M,
    FURNITURE_OFFSET_M,
    KERB_M,
    LANE_LINE_M,
    LANES_EDGE_M,
    MIDDLE_CROSSING_M,
    PAVEMENT_EDGE_M,
    STOP_LINE_M,
    Ground,
    random_of,
)

ASPHALT: Color = (92, 93, 97)
ASPHALT_PATCH: Color = (86, 87, 91)
BAY: Color = (104, 103, 104)
CYCLE_LANE: Color = (124, 84, 78)
PAVEMENT: Color = (160, 156, 149)
KERB: Color = (190, 188, 182)
GRASS: Color = (98, 122, 74)
PAINT: Color = (232, 232, 226)
PAINT_M = 0.02
KERB_WIDTH_M = 0.3
RIGHT_OF_LAMPS = (27.0, 51.0, 99.0, 123.0)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A mesh and where it is."""

    mesh: Mesh
    x_m: float
    y_m: float
    radius_m: float
    layer: int
    """0 ground, 1 paint, 2 solids."""


class _Tile:
    """Builds the pieces of one tile; streets are written along u with v to the right, for both directions."""

    def __init__(self, seed: int, ground: Ground, i: int, j: int, lamps_on: bool) -> None:
        self.ground = ground
        self.lamps_on = lamps_on
        self.x0, self.y0 = i * BLOCK_M, j * BLOCK_M
        self.random = random_of(seed, 5, i, j)
        self.pieces: list[Piece] = []
        self.step_m = 5.0 if ground.hills else 12.0

    def z(self, x: float, y: float) -> float:
        return float(self.ground.height_m(np.array([x]), np.array([y]))[0]) if self.ground.hills else 0.0

    def put(self, shape: Shape, layer: int, *, two_sided: bool = False) -> None:
        """Ends a piece. Shapes of layer 0 and 1 are given at height 0 (or `PAINT_M`) and laid on the ground here."""
        if not len(shape):
            return
        mesh = shape.mesh(two_sided=two_sided)
        v = mesh.vertices_m
        if layer < 2:
            v[:, 2] += self.ground.height_m(v[:, 0], v[:, 1])
        low, high = v[:, :2].min(axis=0), v[:, :2].max(axis=0)
        middle = (low + high) / 2
        self.pieces.append(
            Piece(mesh, float(middle[0]), float(middle[1]), float(np.hypot(*(high - low)) / 2), layer)
        )

    def lie(self, u: float, v: float, along_x: bool, z: float = 0.0) -> Point:
        """A point of a street: u from the junction along it, v to its right."""
        return (self.x0 + u, self.y0 - v, z) if along_x else (self.x0 + v, self.y0 + u, z)

    def patch(
        self,
        shape: Shape,
        u: tuple[float, float],
        v: tuple[float, float],
        along_x: bool,
        color: Color,
        z: float = 0.0,
    ) -> None:
        """A flat rectangle of a street, cut along it so that it follows the ground."""
        count = max(1, int(np.ceil((u[1] - u[0]) / self.step_m - 1e-9)))
        edges = np.linspace(u[0], u[1], count + 1)
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            shape.flat(
                [self.lie(uu, vv, along_x, z) for uu, vv in ((a, v[0]), (b, v[0]), (b, v[1]), (a, v[1]))],
                color,
            )

    def junction(self) -> None:
        """Carriageway, corners, zebras, stop lines and the poles of the lights."""
        shape, paint, k, e = Shape(), Shape(), KERB_M, PAVEMENT_EDGE_M
        self.patch(shape, (-e, e), (-k, k), True, ASPHALT)
        for side in (-1, 1):
            self.patch(shape, tuple(sorted((side * k, side * e))), (-k, k), False, ASPHALT)  # type: ignore[arg-type]
        for sx in (-1, 1):
            for sy in (-1, 1):
                # A rounded corner: a square less its tip.
                r = 4.5
                c = [(e, e), (k, e), (k, k + r), (k + 0.3 * r, k + 0.3 * r), (k + r, k), (e, k)]
                points: list[Point] = [(self.x0 + sx * x, self.y0 + sy * y, 0.0) for x, y in c]
                shape.flat([points[0], points[1], points[2], points[3]], PAVEMENT)
                shape.flat([points[0], points[3], points[4], points[5]], PAVEMENT)
                tip: Point = (self.x0 + sx * k, self.y0 + sy * k, 0.0)
                shape.flat([tip, points[2], points[3]], ASPHALT)
                shape.flat([tip, points[3], points[4]], ASPHALT)
                for start, end in ((1, 2), (2, 3), (3, 4), (4, 5)):
                    (ax, ay, _), (bx, by, _) = points[start], points[end]
                    dx, dy = (
                        (points[0][0] - self.x0 - sx * k) * 0.04,
                        (points[0][1] - self.y0 - sy * k) * 0.04,
                    )
                    paint.flat(
                        [
                            (ax, ay, PAINT_M),
                            (bx, by, PAINT_M),
                            (bx + dx, by + dy, PAINT_M),
                            (ax + dx, ay + dy, PAINT_M),
                        ],
                        KERB,
                    )
        self.put(shape, 0)
        for along_x in (True, False):
            for side in (-1, 1):
                a, b = CROSSING_M
                for v in np.arange(-k + 0.6, k - 0.4, 1.2):
                    self.patch(
                        paint,
                        (side * a, side * b) if side > 0 else (-b, -a),
                        (v, v + 0.6),
                        along_x,
                        PAINT,
                        PAINT_M,
                    )
                # Who comes from this side drives to the right of it: its stop line is on that half.
                lo, hi = (0.0, LANES_EDGE_M) if side < 0 else (-LANES_EDGE_M, 0.0)
                s = side * STOP_LINE_M
                self.patch(
                    paint, (min(s, s + side * 0.4), max(s, s + side * 0.4)), (lo, hi), along_x, PAINT, PAINT_M
                )
        self.put(paint, 1)
        poles = Shape()
        for x, y, height in signal_poles():
            z = self.z(self.x0, self.y0)
            poles.box(
                (self.x0 + x - 0.07, self.y0 + y - 0.07, z),
                (self.x0 + x + 0.07, self.y0 + y + 0.07, z + height),
                STEEL,
            )
        for heading in range(4):
            for foot, hand in signal_arms(heading):
                z = self.z(self.x0, self.y0) + 5.62
                poles.box(
                    (self.x0 + min(foot[0], hand[0]) - 0.05, self.y0 + min(foot[1], hand[1]) - 0.05, z),
                    (
                        self.x0 + max(foot[0], hand[0]) + 0.05,
                        self.y0 + max(foot[1], hand[1]) + 0.05,
                        z + 0.12,
                    ),
                    STEEL,
                    floor=True,
                )
        self.put(poles, 2)

    def street(self, along_x: bool) -> None:
        """From the junction's edge to the next one's."""
        e, k = PAVEMENT_EDGE_M, KERB_M
        cuts = [e, 45.0, 75.0, 105.0, BLOCK_M - e]
        for a, b in itertools.pairwise(cuts):
            shape, paint = Shape(), Shape()
            self.patch(shape, (a, b), (-LANES_EDGE_M, LANES_EDGE_M), along_x, ASPHALT)
            for sign in (-1, 1):

                def side(v0: float, v1: float, sign: int = sign) -> tuple[float, float]:
                    return (v0, v1) if sign > 0 else (-v1, -v0)

                self.patch(shape, (a, b), side(LANES_EDGE_M, k), along_x, CYCLE_LANE)
                self.patch(shape, (a, b), side(BAY_EDGE_M, e), along_x, PAVEMENT)
                marks = sorted({a, b, *(m for bay in BAYS_M for m in bay if a < m < b)})
                for m0, m1 in itertools.pairwise(marks):
                    is_bay = any(bay[0] <= (m0 + m1) / 2 <= bay[1] for bay in BAYS_M)
                    self.patch(shape, (m0, m1), side(k, BAY_EDGE_M), along_x, BAY if is_bay else PAVEMENT)
                    edge = BAY_EDGE_M if is_bay else k
                    self.patch(paint, (m0, m1), side(edge, edge + KERB_WIDTH_M), along_x, KERB, PAINT_M)
                for bay in BAYS_M:
                    for m in bay:
                        if a <= m < b:
                            self.patch(
                                paint, (m - 0.15, m + 0.15), side(k, BAY_EDGE_M), along_x, KERB, PAINT_M
                            )
                gap = MIDDLE_CROSSING_M
                for m0, m1 in (
                    (max(a, STOP_LINE_M), min(b, gap[0] - 1)),
                    (max(a, gap[1] + 1), min(b, BLOCK_M - STOP_LINE_M)),
                ):
                    if m1 <= m0:
                        continue
                    self.patch(
                        paint, (m0, m1), side(LANES_EDGE_M, LANES_EDGE_M + 0.14), along_x, PAINT, PAINT_M
                    )
                    self.patch(paint, (m0, m1), side(0.08, 0.2), along_x, PAINT, PAINT_M)
                    # Between the lanes: dashes, a solid line before the junction.
                    near = 34.0
                    ends_here = m1 > BLOCK_M - near if sign > 0 else m0 < near
                    solid = (
                        ((max(m0, BLOCK_M - near), m1) if sign > 0 else (m0, min(m1, near)))
                        if ends_here
                        else None
                    )
                    if solid:
                        self.patch(
                            paint,
                            solid,
                            side(LANE_LINE_M - 0.07, LANE_LINE_M + 0.07),
                            along_x,
                            PAINT,
                            PAINT_M,
                        )
                    for d in np.arange(18.0, BLOCK_M - 18.0, 9.0):
                        if m0 <= d and d + 3 <= m1 and not (solid and solid[0] <= d + 3 and d <= solid[1]):
                            self.patch(
                                paint,
                                (d, d + 3.0),
                                side(LANE_LINE_M - 0.07, LANE_LINE_M + 0.07),
                                along_x,
                                PAINT,
                                PAINT_M,
                            )
            low, high = MIDDLE_CROSSING_M
            if a <= low < b:
                for v in np.arange(-k + 0.6, k - 0.4, 1.2):
                    self.patch(paint, (low, high), (v, v + 0.6), along_x, PAINT, PAINT_M)
            self.put(shape, 0)
            self.put(paint, 1)

    def furniture(self, along_x: bool) -> None:
        """Lamps and trees in one row on each side."""
        for sign in (-1, 1):
            for u in RIGHT_OF_LAMPS:
                x, y, _ = self.lie(u, sign * FURNITURE_OFFSET_M, along_x)
                ax, ay, _ = self.lie(u, sign * (FURNITURE_OFFSET_M - 2.6), along_x)
                self.put(lamp_post((x, y), (ax, ay), self.z(x, y)), 2)
            for u in (21.0, 39.0, 62.5, 87.5, 111.0, 129.0):
                if self.random.random() < 0.25:
                    continue
                x, y, _ = self.lie(u + float(self.random.uniform(-1, 1)), sign * FURNITURE_OFFSET_M, along_x)
                self.plant(x, y)

    def plant(self, x: float, y: float) -> None:
        """A tree."""
        self.put(tree(self.random, x, y, self.z(x, y)), 2)

    def block(self) -> None:
        """The block's ground and a row of buildings along each of its four streets."""
        lo, hi = PAVEMENT_EDGE_M, BLOCK_M - PAVEMENT_EDGE_M
        edges = np.linspace(lo, hi, 5 if self.ground.hills else 4).tolist()
        for a, b in itertools.pairwise(edges):
            for c, d in itertools.pairwise(edges):
                shape = Shape()
                count = 4 if self.ground.hills else 1
                us, vs = np.linspace(a, b, count + 1).tolist(), np.linspace(c, d, count + 1).tolist()
                for u0, u1 in itertools.pairwise(us):
                    for v0, v1 in itertools.pairwise(vs):
                        shape.flat(
                            [
                                (self.x0 + u, self.y0 + v, 0.0)
                                for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
                            ],
                            GRASS,
                        )
                self.put(shape, 0)
        f = FACADE_M
        for side in range(4):
            # Rows along x take the corners, rows along y stand between them.
            at = f if side < 2 else f + 15.0
            end = BLOCK_M - at
            while at < end - 9:
                width = float(self.random.uniform(9, 19))
                width = end - at if end - at - width < 9 else width
                if self.random.random() < 0.1 and width < 17 and f + 16 < at < end - 30:
                    at += width  # a gap with trees
                    u, v = at - width / 2, f + 5.0
                    x, y = ((u, v), (u, BLOCK_M - v), (v, u), (BLOCK_M - v, u))[side]
                    self.plant(self.x0 + x, self.y0 + y)
                    continue
                setback = float(self.random.choice((0.0, 0.0, 0.8, 2.0)))
                origin = (self.x0, self.y0)
                self.put(
                    building(self.random, origin, self.z, self.lamps_on, side, at, at + width, setback), 2
                )
                at += width


def build_tile(seed: int, ground: Ground, i: int, j: int, *, lamps_on: bool) -> list[Piece]:
    """All pieces of a tile, in drawing order; `lamps_on`: whether windows are lit."""
    tile = _Tile(seed, ground, i, j, lamps_on)
    tile.junction()
    for along_x in (True, False):
        tile.street(along_x)
        tile.furniture(along_x)
    tile.block()
    return sorted(tile.pieces, key=lambda piece: piece.layer)
