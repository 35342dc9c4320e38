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


def overlapping(box_px: FloatArray) -> IntArray:
    """(P, 2) pairs a < b of (B, 4) boxes that overlap on the screen."""
    left, top, right, bottom = (np.ascontiguousarray(box_px[:, i]) for i in range(4))
    hit = (left[:, None] < right[None]) & (top[:, None] < bottom[None])
    a, b = np.nonzero(np.triu(hit & hit.T, 1))
    return np.stack([a, b], axis=1)


def overlapping_within(box_px: FloatArray, group: IntArray) -> IntArray:
    """(P, 2) pairs of (B, 4) boxes that overlap on the screen, both of the same (B,) group."""
    rows = np.argsort(group, kind="stable")
    end = np.searchsorted(group[rows], group[rows], side="right")
    later = end - np.arange(len(rows)) - 1
    a = np.repeat(np.arange(len(rows)), later)
    b = a + 1 + np.arange(len(a)) - np.repeat(np.cumsum(later) - later, later)
    a, b = rows[a], rows[b]
    one, other = box_px[a], box_px[b]
    hit = (one[:, 0] < other[:, 2]) & (one[:, 1] < other[:, 3])
    hit &= (other[:, 0] < one[:, 2]) & (other[:, 1] < one[:, 3])
    return np.stack([a[hit], b[hit]], axis=1)


def in_front(
    pairs: IntArray, center: FloatArray, axes: FloatArray, half: FloatArray
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(P,) whether the second of each pair of boxes may be painted after the first, and the first after the second.

    Neither: no side of either box lies between the two.
    """
    away, ball = _lengths(center), _lengths(half)
    near, far = away - ball, away + ball
    second, first = far[pairs[:, 1]] < near[pairs[:, 0]], far[pairs[:, 0]] < near[pairs[:, 1]]
    # Where not even the balls around the boxes reach into each other's distance, no more need be known.
    open_pairs = np.flatnonzero(~second & ~first)
    second[open_pairs], first[open_pairs] = _parted(pairs[open_pairs], center, axes, half)
    return second, first


def _parted(
    pairs: IntArray, center: FloatArray, axes: FloatArray, half: FloatArray
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """As `in_front`, by the sides of the boxes."""
    thin = half[:, :2].min(axis=1)
    spare = (_APART_M + _APART_SHARE * np.minimum(thin[pairs[:, 0]], thin[pairs[:, 1]]))[:, None]
    second = np.zeros(len(pairs), np.bool_)
    first = np.zeros(len(pairs), np.bool_)
    for a, b, a_over_b, b_over_a in (
        (pairs[:, 0], pairs[:, 1], first, second),
        (pairs[:, 1], pairs[:, 0], second, first),
    ):
        turn, other = axes[a], axes[b]  # rows are the axes of the box whose sides are tried
        away = np.einsum("pij,pj->pi", turn, center[b] - center[a])
        reach = np.einsum("pik,pk->pi", np.abs(np.einsum("pij,pkj->pik", turn, other)), half[b])
        eye = -np.einsum("pij,pj->pi", turn, center[a])
        side = np.sign(away)
        away, eye = away * side, eye * side
        apart = away - reach >= half[a] - spare
        a_over_b |= _any3(apart & (eye <= half[a]))
        b_over_a |= _any3(apart & (eye >= np.maximum(away - reach, half[a] - spare)))
        free = _any3(apart & (eye > half[a]) & (eye < away - reach))  # the plane goes through the eye
        a_over_b |= free
        b_over_a |= free
    return second, first


def _lengths(vectors: FloatArray) -> FloatArray:
    """(N,) lengths of (N, 3) vectors."""
    return np.asarray(np.sqrt(np.einsum("ni,ni->n", vectors, vectors)))


def _any3(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(P,) whether any of the (P, 3) flags is set."""
    return flags[:, 0] | flags[:, 1] | flags[:, 2]


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
    pairs: IntArray, corners: FloatArray, normal: FloatArray, middle: FloatArray
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """(Q, 2) of the (P, 2) pairs of seen faces those that need an order, the one to paint first first.

    Second: (Q,) whether the order is certain; of faces that cut each other's planes, the one whose plane is
    nearer along the middle of the farther face is taken to be in front.
    """
    if not len(pairs):
        return pairs, np.zeros(0, np.bool_)
    a, b = pairs[:, 0], pairs[:, 1]
    b_of_a = np.einsum("pki,pi->kp", corners[b] - middle[a][:, None], normal[a])
    a_of_b = np.einsum("pki,pi->kp", corners[a] - middle[b][:, None], normal[b])
    b_after = (b_of_a.min(axis=0) >= -TOUCHING_M) | (a_of_b.max(axis=0) <= TOUCHING_M)
    a_after = (a_of_b.min(axis=0) >= -TOUCHING_M) | (b_of_a.max(axis=0) <= TOUCHING_M)
    unclear = np.flatnonzero(~a_after & ~b_after)
    if len(unclear):
        b_after[unclear] = _nearer(b[unclear], a[unclear], corners, normal, middle)
        a_after[unclear] = ~b_after[unclear]
    keep = a_after != b_after
    out = np.where(b_after[keep, None], pairs[keep], pairs[keep][:, ::-1])
    certain = np.ones(len(pairs), np.bool_)
    certain[unclear] = False
    return out, certain[keep]


def _nearer(
    a: IntArray, b: IntArray, corners: FloatArray, normal: FloatArray, middle: FloatArray
) -> npt.NDArray[np.bool_]:
    """Whether the plane of `a` is nearer than that of `b`, looking at the middle of the smaller face."""
    spread_a, spread_b = (np.linalg.norm(corners[r, 2] - corners[r, 0], axis=1) for r in (a, b))
    look = np.where((spread_a < spread_b)[:, None], middle[a], middle[b])
    with np.errstate(divide="ignore", invalid="ignore"):
        to_a, to_b = (
            np.einsum("pi,pi->p", normal[r], middle[r]) / np.einsum("pi,pi->p", normal[r], look)
            for r in (a, b)
        )
    return np.asarray(np.nan_to_num(to_a, nan=np.inf) < np.nan_to_num(to_b, nan=np.inf))
