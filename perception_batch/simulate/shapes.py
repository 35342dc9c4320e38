"""Putting coloured polygons together. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from perception_batch.simulate.scene import Mesh

Color = tuple[int, int, int]

DECAL_M = 0.015
"""How far windows, lamps and plates stand out from the face that carries them."""


Point = tuple[float, float, float]


class Shape:
    """Collects polygons of solids; each face is turned so that it looks away from its solid's middle."""

    def __init__(self) -> None:
        self._corners: list[tuple[Point, ...]] = []
        self._middles: list[Point] = []
        self._out_m: list[float] = []
        self._colors: list[Color] = []
        self._shines: list[bool] = []

    def __len__(self) -> int:
        return len(self._corners)

    def face(
        self,
        corners: Sequence[Point],
        color: Color,
        middle: Point,
        *,
        shines: bool = False,
        out_m: float = 0.0,
    ) -> None:
        """One polygon (3 or 4 corners, in order around), seen from the side that `middle` is not on."""
        self._corners.append((*corners, corners[2]) if len(corners) == 3 else tuple(corners))
        self._middles.append(middle)
        self._out_m.append(out_m)
        self._colors.append(color)
        self._shines.append(shines)

    def rect_x(
        self,
        x: float,
        y: tuple[float, float],
        z: tuple[float, float],
        color: Color,
        middle: Point,
        *,
        shines: bool = False,
        out_m: float = 0.0,
    ) -> None:
        """An upright rectangle across x."""
        corners = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
        self.face(corners, color, middle, shines=shines, out_m=out_m)

    def rect_y(
        self,
        y: float,
        x: tuple[float, float],
        z: tuple[float, float],
        color: Color,
        middle: Point,
        *,
        shines: bool = False,
        out_m: float = 0.0,
    ) -> None:
        """An upright rectangle along x."""
        corners = [(x[0], y, z[0]), (x[1], y, z[0]), (x[1], y, z[1]), (x[0], y, z[1])]
        self.face(corners, color, middle, shines=shines, out_m=out_m)

    def flat(self, corners: Sequence[Point], color: Color) -> None:
        """A polygon that looks up."""
        x, y, z = corners[0]
        self.face(corners, color, (x, y, z - 1000.0))

    def hexahedron(
        self,
        bottom: Sequence[Point],
        top: Sequence[Point],
        colors: Mapping[str, Color],
        *,
        floor: bool = False,
    ) -> Point:
        """A solid between two quads with corners in the order front left, rear left, rear right, front right.

        `colors`: of "top", "front", "rear", "side" (and "bottom"), others take "side". Returns its middle.
        """
        both = (*bottom, *top)
        middle = (sum(p[0] for p in both) / 8, sum(p[1] for p in both) / 8, sum(p[2] for p in both) / 8)
        side = colors["side"]
        for name, i, j in (("left", 0, 1), ("rear", 1, 2), ("right", 2, 3), ("front", 3, 0)):
            self.face((bottom[i], bottom[j], top[j], top[i]), colors.get(name, side), middle)
        self.face(top, colors.get("top", side), middle)
        if floor:
            self.face(bottom, colors.get("bottom", side), middle)
        return middle

    def box(
        self, low: Point, high: Point, color: Color, *, top: Color | None = None, floor: bool = False
    ) -> Point:
        """An upright box between two opposite corners. Returns its middle."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        ring = ((x1, y1), (x0, y1), (x0, y0), (x1, y0))
        return self.hexahedron(
            [(x, y, z0) for x, y in ring],
            [(x, y, z1) for x, y in ring],
            {"side": color, "top": top or color},
            floor=floor,
        )

    def wheel(
        self, x: float, z: float, radius: float, y_in: float, y_out: float, color: Color, hub: Color | None
    ) -> None:
        """A wheel as an octagon on its outer side, and those parts of its tread that are seen."""
        r = radius / math.cos(math.pi / 8)
        angles = [math.pi / 8 + i * math.pi / 4 for i in range(8)]
        ring = [(x + r * math.cos(a), z + r * math.sin(a)) for a in angles]
        middle = (x, (y_in + y_out) / 2, z)
        for quad in ((0, 1, 2, 3), (0, 3, 4, 7), (4, 5, 6, 7)):
            self.face([(ring[i][0], y_out, ring[i][1]) for i in quad], color, middle)
        for i in (3, 4, 5, 6, 7):  # rear, below, ahead
            (x0, z0), (x1, z1) = ring[i], ring[(i + 1) % 8]
            self.face([(x0, y_out, z0), (x1, y_out, z1), (x1, y_in, z1), (x0, y_in, z0)], color, middle)
        if hub is not None:
            k = 0.55 * radius
            square = [(x + k, y_out, z), (x, y_out, z + k), (x - k, y_out, z), (x, y_out, z - k)]
            self.face(square, hub, middle, out_m=DECAL_M)

    def mesh(self, *, two_sided: bool = False) -> Mesh:
        """What was collected."""
        n = len(self._corners)
        p = np.array(self._corners, np.float64).reshape(n, 4, 3)
        normal = np.cross(p[:, 2] - p[:, 0], p[:, 3] - p[:, 1])
        triangle = (p[:, 2] == p[:, 3]).all(axis=1)
        if triangle.any():
            normal[triangle] = np.cross(p[triangle, 1] - p[triangle, 0], p[triangle, 2] - p[triangle, 0])
        wrong = (normal * (p.mean(axis=1) - np.array(self._middles).reshape(n, 3))).sum(axis=1) < 0
        p[wrong & ~triangle] = p[wrong & ~triangle, ::-1]
        p[wrong & triangle] = p[wrong & triangle][:, [2, 1, 0, 0]]
        normal[wrong] *= -1
        out = np.array(self._out_m)
        p += (normal / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)[:, None] * out[:, None])[:, None, :]
        faces = np.arange(4 * n, dtype=np.int32).reshape(n, 4)
        faces[triangle, 3] = faces[triangle, 2]
        shines = np.array(self._shines, bool)
        return Mesh(
            np.ascontiguousarray(p.reshape(-1, 3)),
            faces,
            np.array(self._colors, np.uint8).reshape(n, 3),
            two_sided,
            shines if shines.any() else None,
        )

    def mesh_in_box(self, size_lwh_m: tuple[float, float, float]) -> Mesh:
        """The same, stretched to touch all six sides of a box around the origin."""
        mesh = self.mesh()
        size = np.array(size_lwh_m)
        low, high = mesh.vertices_m.min(axis=0), mesh.vertices_m.max(axis=0)
        vertices = (mesh.vertices_m - low) / (high - low) * size - size / 2
        return Mesh(vertices, mesh.faces, mesh.colors, mesh.two_sided, mesh.shines)


def shade(color: Color, factor: float) -> Color:
    """A darker or lighter colour."""
    r, g, b = (int(min(255, max(0, c * factor))) for c in color)
    return (r, g, b)
