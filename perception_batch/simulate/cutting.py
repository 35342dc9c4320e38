"""Faces that cut each other's planes, cut apart: afterwards a body can be painted in one order for every eye.

Done once for each mesh, as in a binary space partition (Fuchs, Kedem and Naylor 1980), but only where two faces
are really on both sides of each other: most pairs need no cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

TOUCHING_M = 2e-3
"""Faces this near to a plane count as lying on either side of it."""
_ROUNDS = 12
_GROWTH = 3.0
"""A body may get this many times the faces; what still cuts then is left to the eye."""


def may_follow(corners: FloatArray, normal: FloatArray) -> BoolArray:
    """(F, F) whether the second of two faces of one body may be painted after the first, for every eye.

    It may where it lies on the outer side of the first one's plane, or where the first lies on the inner side of
    its own: faces are seen from their outer side only.
    """
    offset = np.einsum("fi,fi->f", normal, corners.mean(axis=1))
    side = [corners[:, k] @ normal.T - offset for k in range(4)]  # [j, i]: corner k of face j before face i
    least = np.minimum(np.minimum(side[0], side[1]), np.minimum(side[2], side[3]))
    most = np.maximum(np.maximum(side[0], side[1]), np.maximum(side[2], side[3]))
    outer, inner = least.T >= -TOUCHING_M, most.T <= TOUCHING_M
    return np.asarray(outer | inner.T)


@dataclass(frozen=True, slots=True, eq=False)
class BodyOrder:
    """What is known of the painting order of one body's faces, rows of (F,)."""

    always: IntArray
    """(E, 2) faces of which the first must be painted before the second, wherever both are seen."""
    unless_below_m: FloatArray
    """(E, 3) but not where the eye is below this on any axis: then they do not meet on the screen at all."""
    unless_above_m: FloatArray
    """(E, 3) the same above."""
    sided: IntArray
    """(S, 3) pairs with an upright or level plane between them: the face below it along an axis, the one above, the
    axis. The one on the eye's side is painted later."""
    level_m: FloatArray
    """(S,) where on its axis each such plane is."""
    is_complete: bool
    """Every pair of faces that can hide each other is ordered."""


def body_order(corners: FloatArray, normal: FloatArray) -> BodyOrder:
    """The painting order of one body's faces, as far as it is known without the eye."""
    free = may_follow(corners, normal)
    always = np.stack(np.nonzero(free & ~free.T), axis=1)
    i, j = np.nonzero(np.triu(~free & ~free.T, 1))
    low, high = corners.min(axis=1), corners.max(axis=1)
    gap, swapped = low[j] - high[i], low[i] - high[j]
    widest = np.maximum(gap, swapped)
    axis = widest.argmax(axis=1)
    rows = np.arange(len(i))
    parted = widest[rows, axis] >= -TOUCHING_M
    below = np.where(swapped[rows, axis] > gap[rows, axis], j, i)
    above = i + j - below
    level = (high[below, axis] + low[above, axis]) / 2
    sided = np.stack([below, above, axis], axis=1)[parted]
    # A plane between two faces that has the eye on the first one's side would have them painted the other way
    # round; as both hold, no ray from the eye meets both faces.
    first, second = always[:, 0], always[:, 1]
    unless_below = np.where(high[first] <= low[second] + TOUCHING_M, low[second], -np.inf)
    unless_above = np.where(low[first] >= high[second] - TOUCHING_M, high[second], np.inf)
    return BodyOrder(always, unless_below, unless_above, sided, level[parted], bool(parted.all()))


def cut_apart(
    corners: FloatArray, count: IntArray, normal: FloatArray
) -> tuple[FloatArray, IntArray, IntArray]:
    """Corners and counts of one body's faces after cutting, and which face each piece is of.

    Pieces that lie wholly inside a convex part of the body are left out: nobody sees them.
    """
    source = np.arange(len(count))
    limit = int(len(count) * _GROWTH)
    solids = _convex_parts(corners, normal)
    for _ in range(_ROUNDS):
        shown = ~_hidden(corners, normal[source], solids)
        corners, count, source = corners[shown], count[shown], source[shown]
        free = may_follow(corners, normal[source])
        i, j = np.nonzero(np.triu(~free & ~free.T, 1))
        low, high = corners.min(axis=1), corners.max(axis=1)
        meet = ~_parted(low, high, i, j)  # parted ones are ordered by the side on which the eye is
        i, j = i[meet], j[meet]
        if not len(i) or len(count) >= limit:
            break
        size = areas_of(corners)
        smaller, larger = np.where(size[i] <= size[j], (i, j), (j, i))
        cut_by = dict(zip(smaller.tolist(), larger.tolist(), strict=True))
        pieces: list[FloatArray] = []
        sources: list[int] = []
        for face, plane in cut_by.items():
            n = normal[source[plane]]
            for half in _halves(corners[face, : count[face]], n, float(n @ corners[plane].mean(axis=0))):
                quads = _quads(half)
                pieces += quads
                sources += [int(source[face])] * len(quads)
        kept = np.ones(len(count), np.bool_)
        kept[list(cut_by)] = False
        fresh = np.array(pieces)
        fresh_count = np.where((fresh[:, 2] == fresh[:, 3]).all(axis=1), 3, 4)
        corners = np.concatenate([corners[kept], fresh])
        count = np.concatenate([count[kept], fresh_count])
        source = np.concatenate([source[kept], np.array(sources, np.int64)])
    return corners, count, source


def connected_parts(corners: FloatArray) -> IntArray:
    """(F,) number of the connected part that each face belongs to: faces that share a corner are connected."""
    keys = np.round(corners.reshape(-1, 3) * 1000).astype(np.int64)
    _, vertex = np.unique(keys, axis=0, return_inverse=True)
    vertex = vertex.reshape(-1, 4)
    label = np.arange(int(vertex.max()) + 1 if vertex.size else 0)
    while True:
        least = label[vertex].min(axis=1)
        new = label.copy()
        np.minimum.at(new, vertex.ravel(), np.repeat(least, 4))
        new = new[new]
        if np.array_equal(new, label):
            return np.asarray(label[vertex[:, 0]])
        label = new


def _convex_parts(corners: FloatArray, normal: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Normals and offsets of the connected parts that are closed and convex."""
    part = connected_parts(corners)
    offset = np.einsum("fi,fi->f", normal, corners.mean(axis=1))
    areas = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]) / 2
    found = []
    for name in np.unique(part).tolist():
        mine = np.flatnonzero(part == name)
        if len(mine) < 4:
            continue
        points = corners[mine].reshape(-1, 3)
        inside = points @ normal[mine].T - offset[mine] <= 1e-6
        # A closed surface's areas times normals add up to nothing.
        cross = areas[mine]
        if inside.all() and np.linalg.norm(cross.sum(axis=0)) < 1e-3 * np.linalg.norm(cross, axis=1).sum():
            found.append((normal[mine], offset[mine]))
    return found


def _hidden(
    corners: FloatArray, normal: FloatArray, solids: list[tuple[FloatArray, FloatArray]]
) -> BoolArray:
    """(F,) whether a face lies inside one of the convex solids."""
    hidden = np.zeros(len(corners), np.bool_)
    before = corners.mean(axis=1) + TOUCHING_M * normal
    for planes, offset in solids:
        within = (corners.reshape(-1, 3) @ planes.T - offset <= 1e-4).all(axis=1).reshape(-1, 4).all(axis=1)
        hidden |= within & (before @ planes.T - offset < 0).all(axis=1)
    return hidden


def _parted(low: FloatArray, high: FloatArray, i: IntArray, j: IntArray) -> BoolArray:
    """Whether an axis parts the boxes of two faces, as `body_order` will find it."""
    return np.asarray((np.maximum(low[j] - high[i], low[i] - high[j]) >= -TOUCHING_M).any(axis=1))


def areas_of(corners: FloatArray) -> FloatArray:
    """(F,) areas of (F, 4, 3) flat faces."""
    cross = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    area: FloatArray = 0.5 * np.linalg.norm(cross, axis=1)
    return area


def _halves(ring: FloatArray, normal: FloatArray, offset: float) -> list[FloatArray]:
    """A convex ring cut by a plane; pieces thinner than the tolerance are not made."""
    side = ring @ normal - offset
    if side.min() >= -TOUCHING_M or side.max() <= TOUCHING_M:
        return [ring]
    halves: list[list[FloatArray]] = [[], []]
    for k in range(len(ring)):
        a, b, p, q = float(side[k]), float(side[k - 1]), ring[k], ring[k - 1]
        if (a > 0) != (b > 0) and a != b:
            meet = p + (q - p) * (a / (a - b))
            halves[0].append(meet)
            halves[1].append(meet)
        halves[0 if a > 0 else 1].append(p)
    return [np.array(half) for half in halves if len(half) >= 3]


def _quads(ring: FloatArray) -> list[FloatArray]:
    """A convex ring as faces of four corners, a triangle with its last one twice."""
    last = len(ring) - 1
    return [ring[[0, k, k + 1, min(k + 2, last)]] for k in range(1, last, 2)]
