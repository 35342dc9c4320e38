"""Which boxes of different cameras are one thing.

Every pair of cameras is settled by an optimal assignment (Hungarian algorithm), and the links of all pairs
are then joined into groups from the surest to the weakest, refusing any that would put two boxes of one
camera, or two boxes that contradict each other, into one group. Folding camera after camera into one list
would make the answer depend on where the circle of cameras is begun; taking all links greedily would let
one box's second-best partner displace another's only one. With two cameras this is exactly the Hungarian
assignment, and with more the groups are cliques of compatible boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.position import Views

# Frames of one timestep are tens of milliseconds apart, and other traffic moves meanwhile: 40 ms at 10 m/s.
_MOTION_M = 0.4
_RELABEL_COST = 0.15  # of a perfect match's 1: boxes of one label are preferred partners
_VAGUE_COST = 0.3  # a box without range is a second choice


@dataclass(frozen=True, slots=True)
class Candidates:
    """N boxes that count, of all calibrated cameras, sorted by camera and detection."""

    camera: npt.NDArray[np.int64]
    """(N,) number of the camera."""
    group: npt.NDArray[np.int64]
    """(N,) number of the class group."""
    label: npt.NDArray[np.int64]
    """(N,) number of the class."""
    row_as: npt.NDArray[np.int64]
    """(N, K) row of `Views` that holds box n taken for class k; -1 where k is of another group."""


def associate(
    boxes: Candidates,
    views: Views,
    overlaps: npt.NDArray[np.bool_],
    gate_sigma: float,
) -> list[list[int]]:
    """Groups of boxes that are one thing; every box is in exactly one, each camera at most once in each.

    Args:
        boxes: the candidates.
        views: where each would be, per class.
        overlaps: (C, C) symmetric: whether two cameras can see the same thing; False for one with itself.
        gate_sigma: Mahalanobis distance up to which two boxes may be one thing.
    """
    n = len(boxes.camera)
    groups: dict[int, list[int]] = {i: [i] for i in range(n)}
    may = overlaps[boxes.camera[:, None], boxes.camera[None, :]]
    may &= boxes.group[:, None] == boxes.group[None, :]
    first, second = np.nonzero(np.triu(may, 1))
    if not len(first):
        return list(groups.values())
    value = np.maximum(
        _agreement(boxes, views, first, second, boxes.label[first], gate_sigma),
        _agreement(boxes, views, first, second, boxes.label[second], gate_sigma),
    )
    worth = np.zeros((n, n))  # 0: refused; 1: a perfect match
    worth[first, second] = worth[second, first] = value
    # Boxes whose cameras share nothing cannot contradict each other.
    contradicts = may & (worth <= 0)
    links = _links(boxes.camera, worth, overlaps)
    leader = list(range(n))
    cameras = [{camera} for camera in boxes.camera.tolist()]
    for i, j in links:
        a, b = sorted((leader[i], leader[j]))
        if a == b:
            continue
        ours, theirs = groups[a], groups[b]
        if cameras[a] & cameras[b] or any(contradicts[k, m] for k in ours for m in theirs):
            continue
        groups[a] = sorted(ours + theirs)
        cameras[a] |= cameras[b]
        del groups[b]
        for k in theirs:
            leader[k] = a
    return [groups[key] for key in sorted(groups)]


def _agreement(
    boxes: Candidates,
    views: Views,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    label: npt.NDArray[np.int64],
    gate_sigma: float,
) -> FloatArray:
    """(M,) worth 0..1 of taking pairs of boxes for one thing of class `label`; 0 outside the gate.

    The difference of two views is free of what they share: both err alike if the car is tall. For boxes
    cut by the image border the views' own covariances span what the border hides, so that two ends of one
    lorry meet. Distance counts on the ground plane.
    """
    a, b = boxes.row_as[first, label], boxes.row_as[second, label]
    d = views.position_m[a, :2] - views.position_m[b, :2]
    own = views.own_m2[a, :2, :2] + views.own_m2[b, :2, :2]
    shared = views.shared_m[a, :, :2] - views.shared_m[b, :, :2]
    xx = own[:, 0, 0] + (shared[:, :, 0] ** 2).sum(axis=1) + _MOTION_M**2
    yy = own[:, 1, 1] + (shared[:, :, 1] ** 2).sum(axis=1) + _MOTION_M**2
    xy = own[:, 0, 1] + (shared[:, :, 0] * shared[:, :, 1]).sum(axis=1)
    determinant = np.maximum(xx * yy - xy**2, 1e-12)
    d2 = (yy * d[:, 0] ** 2 - 2 * xy * d[:, 0] * d[:, 1] + xx * d[:, 1] ** 2) / determinant
    worth = (1 - np.minimum(np.where(np.isfinite(d2), d2, np.inf) / gate_sigma**2, 1.0)) ** 2
    relabelled = (boxes.label[first] != label) | (boxes.label[second] != label)
    vague = ~(views.known[a] & views.known[b])
    # Squared: one perfect match is worth more than two that barely pass the gate.
    scaled: FloatArray = worth * (1 - _RELABEL_COST * relabelled) * (1 - _VAGUE_COST * vague)
    return scaled


def _links(
    camera: npt.NDArray[np.int64], worth: FloatArray, overlaps: npt.NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Pairs to join, in this order: assigned ones by falling worth, then the rest by falling worth."""
    from scipy.optimize import linear_sum_assignment

    assigned = np.zeros(worth.shape, bool)
    present = np.unique(camera)
    members = {int(c): np.flatnonzero(camera == c) for c in present}
    for a in members:
        for b in members:
            if a < b and overlaps[a, b]:
                table = worth[np.ix_(members[a], members[b])]
                if table.any():
                    rows, columns = linear_sum_assignment(table, maximize=True)
                    assigned[members[a][rows], members[b][columns]] = True
    first, second = np.nonzero(np.triu(worth, 1) > 0)
    order = np.lexsort((second, first, -worth[first, second], ~assigned[first, second]))
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))
