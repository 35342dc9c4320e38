"""Polygons through a true lens: clipped in 3-D to what the lens can show, their edges bent as the lens bends them.

Only directions from the camera's centre matter to a lens, so an edge between two corners is followed along its
directions. Everything works on many polygons at once, in a ragged layout: all corners one after another, and the
number of corners of each polygon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import Intrinsics

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NEAR_M = 0.02
"""Nothing nearer than this is drawn; a dust cap's distance."""
_BEND_PX = 0.15
"""How far a drawn edge may lie from the true curve."""
_STRAIGHT_PX = 8.0
"""Shorter edges bend by less than can be seen: by their square over eight times a circle's radius, at least 100 px."""
_WEDGES = 4
"""Slices about the optical axis into which a very wide field of view is cut, so that each is convex."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """Many polygons, ragged."""

    points: FloatArray
    """(M, 3) corners in the optical frame, or (M, 2) px (pixel centres), polygon after polygon."""
    count: IntArray
    """(N,) corners of each; never less than three."""
    face: IntArray
    """(N,) face that each comes from; a face may give several polygons."""

    @property
    def start(self) -> IntArray:
        """(N,) number of each polygon's first corner."""
        start: IntArray = np.cumsum(self.count) - self.count
        return start


class Lens:
    """One camera's lens, ready to draw through."""

    def __init__(self, intrinsics: Intrinsics) -> None:
        self.intrinsics = intrinsics
        self.is_straight = intrinsics.model in ("pinhole", "plumb_bob", "rational_polynomial") and not any(
            intrinsics.distortion
        )
        """Straight lines stay straight."""
        largest = _largest_angle(intrinsics)
        rays = _border_rays(intrinsics)
        angles = np.arccos(np.clip(rays[:, 2], -1, 1))
        self.corner_rad = min(float(angles.max()) + 0.01, largest)
        """Angle from the optical axis to the farthest corner of the image, a little more."""
        self.is_wide = intrinsics.model == "equidistant" and self.corner_rad > math.radians(75)
        # Beyond the corner a polynomial may go anywhere, its tangential part even to the other side.
        if intrinsics.model == "equidistant":
            self._edge_rad = min(self.corner_rad + 0.2, largest)
        else:
            self._edge_rad = min(math.atan(1.3 * math.tan(min(self.corner_rad, 1.55))), largest)
        self._edge_cos = math.cos(self._edge_rad)
        self._most_px_per_rad = _most_px_per_rad(intrinsics, self._edge_rad) if self.is_wide else 0.0
        self._regions = _wedges(self.corner_rad) if self.is_wide else [_pyramid(rays)]

    def project(self, directions: FloatArray) -> FloatArray:
        """(N, 3) directions as (N, 2) px (pixel centres); those well outside of the image are pulled nearer to it."""
        length = np.sqrt(np.einsum("ni,ni->n", directions, directions))
        beyond = directions[:, 2] < self._edge_cos * length
        if beyond.any():
            d = directions[beyond]
            s = math.sin(self._edge_rad) / np.maximum(np.hypot(d[:, 0], d[:, 1]), 1e-12)
            directions = directions.copy()
            directions[beyond] = np.stack([d[:, 0] * s, d[:, 1] * s, np.full(len(d), self._edge_cos)], axis=1)
        return self.intrinsics.project(directions)

    def may_show(self, centers: FloatArray, radii: FloatArray) -> npt.NDArray[np.bool_]:
        """(N,) whether balls at (N, 3) centres of the optical frame may have a part in the image."""
        if not self.is_wide:
            planes = self._regions[0]
            distance = centers @ planes.T
            return np.asarray((distance > -radii[:, None]).all(axis=1) & (centers[:, 2] > NEAR_M - radii))
        away = np.linalg.norm(centers, axis=1)
        inside = away <= radii
        with np.errstate(invalid="ignore", divide="ignore"):
            angle = np.arctan2(np.hypot(centers[:, 0], centers[:, 1]), centers[:, 2])
            half = np.arcsin(np.clip(radii / np.maximum(away, 1e-9), 0, 1))
        seen = inside | (angle - half < self.corner_rad)
        # The image is a part of the cone up to its corners: what lies beside it, above or below, is not in view.
        whole = np.flatnonzero(seen & ~inside & (angle + half < self._edge_rad))
        uv, reach = self.project(centers[whole]), half[whole] * self._most_px_per_rad + 2
        width, height = self.intrinsics.width_px, self.intrinsics.height_px
        seen[whole] = (uv[:, 0] > -reach) & (uv[:, 0] < width + reach)
        seen[whole] &= (uv[:, 1] > -reach) & (uv[:, 1] < height + reach)
        return np.asarray(seen)

    def clip(self, corners: FloatArray, count: IntArray) -> Polygons:
        """(F, 4, 3) corners of faces, of which `count` (3 or 4) are used, cut to what the lens can show."""
        # Corner by corner, (4, F) each: NumPy is slow where the last axis is short.
        x, y, z = (np.ascontiguousarray(corners[:, :, i].T) for i in range(3))
        if self.is_wide:
            length = np.sqrt(x * x + y * y + z * z)
            # Whole where it lies before the camera, or all to one side of the axis: no edge then comes near the
            # backward axis, where directions jump from one side to the other.
            aside_x, aside_y = x[0] + x[1] + x[2] + x[3], y[0] + y[1] + y[2] + y[3]
            sideways = (x * aside_x + y * aside_y) / np.maximum(np.hypot(aside_x, aside_y), 1e-12)
            whole = _all4(z > 0.05 * length) | _all4(sideways > 0.15 * length)
            whole &= _all4(length > NEAR_M)
            # What lies within a cone about the backward axis that the camera does not see is convex.
            gone = _all4(z < math.cos(min(self.corner_rad + 0.6, math.pi)) * length)
        else:
            whole, gone = _all4(z > NEAR_M), _all4(z < NEAR_M)
            for a, b, c in self._regions[0].tolist():
                distance = a * x + b * y + c * z
                whole &= _all4(distance >= 0)
                gone |= _all4(distance < 0)
        cut = np.flatnonzero(~whole & ~gone)
        parts = [_ragged(corners, count, np.flatnonzero(whole))]
        if len(cut):
            crossing = _ragged(corners, count, cut)
            for region in self._regions:
                part = crossing
                if not self.is_wide:
                    part = _cut(part, np.array([0.0, 0.0, 1.0]), NEAR_M)
                for plane in region:
                    part = _cut(part, plane, 0.0)
                parts.append(part)
        return _joined(parts)

    def show(self, polygons: Polygons) -> tuple[Polygons, npt.NDArray[np.bool_]]:
        """Polygons of the optical frame in px, their edges bent; and (N,) whether every row meets each at most twice.

        Convex polygons are such, and most of the bent ones: OpenCV fills them several times faster.
        """
        ends = self.project(polygons.points)
        bent = np.zeros(len(polygons.count), np.bool_)
        if self.is_straight or not len(ends):
            return Polygons(ends, polygons.count, polygons.face), ~bent
        following = _following(polygons.count)
        span = ends[following] - ends
        length = np.hypot(span[:, 0], span[:, 1])
        long = np.flatnonzero(length > _STRAIGHT_PX)
        a, b = _units(polygons.points[long]), _units(polygons.points[following[long]])
        middle = self.project(a + b) - ends[long]
        off = np.abs(span[long, 0] * middle[:, 1] - span[long, 1] * middle[:, 0]) / length[long]
        # A curve cut into k pieces is off by 1/k^2 as much; long ones may swing both ways, so look closer.
        wanted = np.ceil(np.sqrt(off / _BEND_PX))
        wanted = np.where(length[long] > 150, np.maximum(wanted, np.ceil(length[long] / 100)), wanted)
        pieces = np.ones(len(ends), np.int64)
        pieces[long] = np.clip(wanted, 1, 64).astype(np.int64)
        bends = np.flatnonzero(pieces[long] > 1)
        if not len(bends):
            return Polygons(ends, polygons.count, polygons.face), ~bent
        first = np.cumsum(pieces) - pieces
        points = np.repeat(ends, pieces, axis=0)
        inner = pieces[long[bends]] - 1  # points between the ends of each edge that bends
        edge = np.repeat(bends, inner)
        step = np.arange(len(edge)) - np.repeat(np.cumsum(inner) - inner, inner) + 1
        t = (step / pieces[long[edge]])[:, None]
        points[first[long[edge]] + step] = self.project(a[edge] * (1 - t) + b[edge] * t)
        count = np.add.reduceat(pieces, polygons.start)
        shown = Polygons(points, count, polygons.face)
        return shown, (count == polygons.count) | _is_simple(shown)

    def ray_grid(self, step_px: int) -> FloatArray:
        """(H / step, W / step, 3) unit rays at the centres of blocks of `step_px` pixels; NaN outside the lens."""
        w, h = self.intrinsics.width_px, self.intrinsics.height_px
        x = (np.arange(math.ceil(w / step_px)) + 0.5) * step_px - 0.5
        y = (np.arange(math.ceil(h / step_px)) + 0.5) * step_px - 0.5
        u, v = np.meshgrid(x, y)
        rays = self.intrinsics.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
        return rays.reshape(len(y), len(x), 3)


def _all4(corners: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(F,) whether it holds for all of the (4, F) corners."""
    return np.asarray(corners[0] & corners[1] & corners[2] & corners[3])


def cut_to_image(polygons: Polygons, width_px: int, height_px: int) -> Polygons:
    """Polygons in px (pixel centres), cut to the image."""
    for normal, least in (
        ((1.0, 0.0), -0.5),
        ((-1.0, 0.0), 0.5 - width_px),
        ((0.0, 1.0), -0.5),
        ((0.0, -1.0), 0.5 - height_px),
    ):
        polygons = _cut(polygons, np.array(normal), least)
    return polygons


def _ragged(corners: FloatArray, count: IntArray, faces: IntArray) -> Polygons:
    """The chosen faces as polygons; a triangle's repeated corner goes."""
    chosen = count[faces]
    keep = np.arange(4)[None, :] < chosen[:, None]
    return Polygons(corners[faces][keep], chosen, faces)


def _units(points: FloatArray) -> FloatArray:
    """(N, 3) unit vectors."""
    length = np.sqrt(np.einsum("ni,ni->n", points, points))
    unit: FloatArray = points / np.maximum(length, 1e-12)[:, None]
    return unit


def _following(count: IntArray) -> IntArray:
    """(M,) number of the corner after each one, around its polygon."""
    following = np.arange(1, int(count.sum()) + 1)
    end = np.cumsum(count)
    following[end - 1] = end - count
    return following


def _is_simple(polygons: Polygons) -> npt.NDArray[np.bool_]:
    """(N,) whether the outline of each polygon in px goes down once and up once."""
    following = _following(polygons.count)
    rises = polygons.points[following, 1] >= polygons.points[:, 1]
    turns = np.add.reduceat((rises != rises[following]).astype(np.int64), polygons.start)
    return np.asarray(turns <= 2)


def _cut(polygons: Polygons, normal: FloatArray, least: float) -> Polygons:
    """What of the polygons lies where ``normal . x >= least`` (Sutherland and Hodgman 1974)."""
    if not len(polygons.count):
        return polygons
    distance = polygons.points @ normal - least
    inside = distance >= 0
    if inside.all():
        return polygons
    if not inside.any():
        return Polygons(polygons.points[:0], polygons.count[:0], polygons.face[:0])
    following = _following(polygons.count)
    crosses = inside != inside[following]
    emits = np.stack([inside, crosses], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = distance / (distance - distance[following])
    t = np.where(crosses, t, 0.0)[:, None]
    crossings = polygons.points + t * (polygons.points[following] - polygons.points)
    both = np.stack([polygons.points, crossings], axis=1)
    count = np.add.reduceat(emits.sum(axis=1), polygons.start)
    kept = count >= 3
    emits &= np.repeat(kept, polygons.count)[:, None]
    return Polygons(both[emits], count[kept], polygons.face[kept])


def _joined(parts: list[Polygons]) -> Polygons:
    if len(parts) == 1:
        return parts[0]
    return Polygons(
        np.concatenate([p.points for p in parts]),
        np.concatenate([p.count for p in parts]),
        np.concatenate([p.face for p in parts]),
    )


def _largest_angle(intrinsics: Intrinsics) -> float:
    """Angle from the axis, rad, up to which `Intrinsics.project` answers, by bisection."""
    low, high = 0.0, math.pi
    for _ in range(50):
        middle = (low + high) / 2
        seen = intrinsics.project(np.array([[math.sin(middle), 0.0, math.cos(middle)]]))
        low, high = (low, middle) if np.isnan(seen).any() else (middle, high)
    return low * (1 - 1e-9)


def _most_px_per_rad(intrinsics: Intrinsics, largest_rad: float) -> float:
    """How many pixels an angle becomes at most, along or across the radius, up to an angle from the axis."""
    angle = np.linspace(1e-3, largest_rad, 400)
    rays = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=1)
    radius = intrinsics.project(rays)[:, 0] - intrinsics.cx_px
    steepest = max(float(np.max(np.diff(radius) / np.diff(angle))), float(np.max(radius / np.sin(angle))))
    return steepest * max(1.0, intrinsics.fy_px / intrinsics.fx_px)


def _border_rays(intrinsics: Intrinsics) -> FloatArray:
    """(N, 3) unit rays around the image's border, a few pixels outside of it where the lens reaches there."""
    w, h = intrinsics.width_px, intrinsics.height_px
    t = np.linspace(0, 1, 65)
    for margin in (24.0, 8.0, 2.0, 0.0):
        x0, y0, x1, y1 = -0.5 - margin, -0.5 - margin, w - 0.5 + margin, h - 0.5 + margin
        x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
        border = np.concatenate(
            [
                np.stack([x, np.full_like(x, y0)], 1),
                np.stack([x, np.full_like(x, y1)], 1),
                np.stack([np.full_like(y, x0), y], 1),
                np.stack([np.full_like(y, x1), y], 1),
            ]
        )
        rays = intrinsics.unproject(border)
        if not np.isnan(rays).any():
            return rays
    # The lens ends within the image (a fisheye whose circle shows): everything up to its edge is drawn.
    largest, turn = _largest_angle(intrinsics), np.linspace(0, 2 * math.pi, 65)
    return np.stack(
        [
            math.sin(largest) * np.cos(turn),
            math.sin(largest) * np.sin(turn),
            np.full_like(turn, math.cos(largest)),
        ],
        1,
    )


def _pyramid(rays: FloatArray) -> FloatArray:
    """(4, 3) inward normals of the planes around the field of view."""
    a, b = rays[:, 0] / rays[:, 2], rays[:, 1] / rays[:, 2]
    planes = np.array([[1, 0, -a.min()], [-1, 0, a.max()], [0, 1, -b.min()], [0, -1, b.max()]])
    unit: FloatArray = planes / np.linalg.norm(planes, axis=1, keepdims=True)
    return unit


def _wedges(corner_rad: float) -> list[FloatArray]:
    """Convex slices about the axis that together hold every direction within `corner_rad` of it."""
    half = math.pi / _WEDGES
    # At its sides a wedge's back plane comes forward by cos(half); leave it room, and a little more.
    back = max(-1 / math.tan(corner_rad), 0.0) if corner_rad < math.pi - 0.02 else 50.0
    back = back / math.cos(half) + 0.05
    wedges = []
    for i in range(_WEDGES):
        middle = 2 * half * i
        left, right = middle - half, middle + half
        wedges.append(
            np.array(
                [
                    [-math.sin(left), math.cos(left), 0.0],
                    [math.sin(right), -math.cos(right), 0.0],
                    [back * math.cos(middle), back * math.sin(middle), 1.0],
                ]
            )
        )
    return wedges
