"""Who is painted before whom, for one eye: bodies by planes between their boxes, faces where that is not enough.

Two boxes that do not overlap have a plane between them, and the one on the eye's side of it is in front. Boxes
that overlap, or bodies that hide each other in a ring, are taken together and their faces compared one by one.
The eye is the origin throughout.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_batch.simulate.cutting import TOUCHING_M

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_APART_M, _APART_SHARE = 0.03, 0.05
"""Boxes may overlap by this much, and this share of the thinner one's half width, and still count as apart: wheels
stand on the road, eaves reach over the neighbour's wall."""


def overlapping(box_px: FloatArray, among: IntArray | None = None) -> IntArray:
    """(P, 2) pairs a < b of (B, 4) boxes that overlap on the screen; with `among`, only pairs with a row in it."""
    left, top, right, bottom = (box_px[:, i] for i in range(4))
    rows = np.arange(len(box_px)) if among is None else among
    hit = (
        (left[rows, None] < right[None])
        & (left[None] < right[rows, None])
        & (top[rows, None] < bottom[None])
        & (top[None] < bottom[rows, None])
    )
    a, b = np.nonzero(hit)
    a = rows[a]
    later = a < b if among is None else a != b
    return np.stack([a[later], b[later]], axis=1)


def in_front(
    pairs: IntArray, center: FloatArray, axes: FloatArray, half: FloatArray
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(P,) whether the second of each pair of boxes may be painted after the first, and the first after the second.

    Neither: no side of either box lies between the two.
    """
    thin = half[:, :2].min(axis=1)
    spare = (_APART_M + _APART_SHARE * np.minimum(thin[pairs[:, 0]], thin[pairs[:, 1]]))[:, None]
    second = np.zeros(len(pairs), np.bool_)
    first = np.zeros(len(pairs), np.bool_)
    for a, b, a_over_b, b_over_a in (
        (pairs[:, 0], pairs[:, 1], first, second),
        (pairs[:, 1], pairs[:, 0], second, first),
    ):
        turn = axes[a]  # rows are the axes of the box whose sides are tried
        away = np.matmul(turn, (center[b] - center[a])[:, :, None])[:, :, 0]
        reach = np.matmul(np.abs(np.matmul(turn, axes[b].transpose(0, 2, 1))), half[b][:, :, None])[:, :, 0]
        eye = -np.matmul(turn, center[a][:, :, None])[:, :, 0]
        side = np.sign(away)
        away, eye = away * side, eye * side
        apart = away - reach >= half[a] - spare
        a_over_b |= (apart & (eye <= half[a])).any(axis=1)
        b_over_a |= (apart & (eye >= np.maximum(away - reach, half[a] - spare))).any(axis=1)
        beside = apart & (eye > half[a]) & (eye < away - reach)  # the plane goes through the eye
        free = beside.any(axis=1)
        a_over_b |= free
        b_over_a |= free
    return second, first


def body_groups(
    bodies: int, pairs: IntArray, second: npt.NDArray[np.bool_], first: npt.NDArray[np.bool_]
) -> tuple[IntArray, int]:
    """(B,) place of each body in the painting order, and the number of places.

    Bodies with the same place cannot be told apart as wholes.
    """
    after: list[list[int]] = [[] for _ in range(bodies)]
    told = second != first
    for a, b in pairs[told & second | ~(second | first)].tolist():
        after[a].append(b)
    for a, b in pairs[told & first | ~(second | first)].tolist():
        after[b].append(a)
    return _strong_components(after)


def _strong_components(after: list[list[int]]) -> tuple[IntArray, int]:
    """Tarjan's strongly connected components (1972), numbered so that edges lead to larger numbers."""
    count = len(after)
    index, low = [-1] * count, [0] * count
    on_stack = [False] * count
    stack: list[int] = []
    component = [-1] * count
    components = seen = 0
    for root in range(count):
        if index[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            node, edge = work.pop()
            if edge == 0:
                index[node] = low[node] = seen
                seen += 1
                stack.append(node)
                on_stack[node] = True
            neighbours = after[node]
            while edge < len(neighbours):
                other = neighbours[edge]
                edge += 1
                if index[other] < 0:
                    work.append((node, edge))
                    work.append((other, 0))
                    break
                if on_stack[other]:
                    low[node] = min(low[node], index[other])
            else:
                if low[node] == index[node]:
                    while True:
                        other = stack.pop()
                        on_stack[other] = False
                        component[other] = components
                        if other == node:
                            break
                    components += 1
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
    return components - 1 - np.array(component, np.int64), components


def face_order(
    pairs: IntArray, corners: FloatArray, normal: FloatArray
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """(Q, 2) of the (P, 2) pairs of seen faces those that need an order, the one to paint first first.

    Second: (Q,) whether the order is certain; of faces that cut each other's planes, the one whose plane is
    nearer along the middle of the farther face is taken to be in front.
    """
    if not len(pairs):
        return pairs, np.zeros(0, np.bool_)
    a, b = pairs[:, 0], pairs[:, 1]
    offset = np.einsum("fi,fi->f", normal, corners.mean(axis=1))
    b_of_a = np.matmul(corners[b], normal[a][:, :, None])[:, :, 0] - offset[a][:, None]
    a_of_b = np.matmul(corners[a], normal[b][:, :, None])[:, :, 0] - offset[b][:, None]
    b_after = (b_of_a.min(axis=1) >= -TOUCHING_M) | (a_of_b.max(axis=1) <= TOUCHING_M)
    a_after = (a_of_b.min(axis=1) >= -TOUCHING_M) | (b_of_a.max(axis=1) <= TOUCHING_M)
    unclear = np.flatnonzero(~a_after & ~b_after)
    if len(unclear):
        b_after[unclear] = _nearer(b[unclear], a[unclear], corners, normal, offset)
        a_after[unclear] = ~b_after[unclear]
    keep = a_after != b_after
    out = np.where(b_after[keep, None], pairs[keep], pairs[keep][:, ::-1])
    certain = np.ones(len(pairs), np.bool_)
    certain[unclear] = False
    return out, certain[keep]


def _nearer(
    a: IntArray, b: IntArray, corners: FloatArray, normal: FloatArray, offset: FloatArray
) -> npt.NDArray[np.bool_]:
    """Whether the plane of `a` is nearer than that of `b`, looking at the middle of the smaller face."""
    middle = corners.mean(axis=1)
    spread = np.linalg.norm(corners[:, 2] - corners[:, 0], axis=1)
    look = np.where((spread[a] < spread[b])[:, None], middle[a], middle[b])
    with np.errstate(divide="ignore", invalid="ignore"):
        to_a = offset[a] / np.einsum("pi,pi->p", normal[a], look)
        to_b = offset[b] / np.einsum("pi,pi->p", normal[b], look)
    return np.asarray(np.nan_to_num(to_a, nan=np.inf) < np.nan_to_num(to_b, nan=np.inf))
