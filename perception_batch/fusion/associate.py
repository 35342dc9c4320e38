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
from perception_batch.fusion.assignment import assignment
from perception_batch.fusion.extent import facing
from perception_batch.fusion.lens import BoxRays
from perception_batch.fusion.position import Views

# Frames of one timestep are tens of milliseconds apart, and other traffic moves meanwhile.
_TRAFFIC_MPS = 10.0  # one standard deviation of what is not yet tracked
_UNKNOWN_LATENESS_S = 0.04  # between two frames of which it is not told
_STILL_M = 0.15  # what is left where the motion is known
# Of what a pair lacks to a perfect match this much is forgiven where one predicted track explains both. Little: tracks
# may be double or stray, and a wrong merge breeds a wrong track.
_SAME_TRACK = 0.2
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
    """(N, K) row of `Views` that holds box n taken for class k; -1 where it cannot be of class k."""
    track: npt.NDArray[np.int64]
    """(N,) number of the predicted track that the box follows, -1 for none."""
    late_s: FloatArray
    """(N,) its frame's stamp less the timestep's, seconds; NaN where unknown."""


def associate(
    boxes: Candidates,
    views: Views,
    rays: BoxRays,
    length_m: FloatArray,
    overlaps: npt.NDArray[np.bool_],
    gate_sigma: float,
) -> list[list[int]]:
    """Groups of boxes that are one thing; every box is in exactly one, each camera at most once in each.

    Args:
        boxes: the candidates.
        views: where each would be, per class.
        rays: of the N boxes.
        length_m: (N,) how long such a thing may be.
        overlaps: (C, C) symmetric: whether two cameras can see the same thing; False for one with itself.
        gate_sigma: Mahalanobis distance up to which two boxes may be one thing.
    """
    groups = {i: [i] for i in range(len(boxes.camera))}
    numbers = np.arange(len(overlaps))
    once = overlaps & (
        numbers[:, None] < numbers
    )  # the boxes are sorted by camera: the lower number comes first
    may = once[boxes.camera].take(boxes.camera, 1)
    may &= boxes.group[:, None] == boxes.group
    first, second = may.nonzero()
    if not len(first):
        return list(groups.values())
    value = _agreement(boxes, views, first, second, gate_sigma)
    good = (value > 0).nonzero()[0]
    first, second, value = first[good], second[good], value[good]
    near, far = views.near_m.take(boxes.row_as[np.arange(len(boxes.label)), boxes.label], 0).T
    good = facing(
        rays,
        first,
        second,
        (near[first], near[second]),
        (far[first], far[second]),
        np.maximum(length_m[first], length_m[second]),
    ).nonzero()[0]
    if not len(good):
        return list(groups.values())
    first, second, value = first[good], second[good], value[good]
    links = _links(boxes.camera, first, second, _remembered(boxes.track[first], boxes.track[second], value))
    agreed = set(links)
    # Boxes whose cameras share nothing cannot contradict each other.
    camera, share = boxes.camera.tolist(), overlaps.tolist()
    leader = list(range(len(camera)))
    for i, j in links:
        a, b = sorted((leader[i], leader[j]))
        if a == b:
            continue
        if any(
            camera[k] == camera[m] or (share[camera[k]][camera[m]] and (min(k, m), max(k, m)) not in agreed)
            for k in groups[a]
            for m in groups[b]
        ):
            continue
        for k in groups[b]:
            leader[k] = a
        groups[a] = sorted(groups[a] + groups.pop(b))
    return [groups[key] for key in sorted(groups)]


def _remembered(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], value: FloatArray) -> FloatArray:
    """(M,) worth of pairs in the light of the tracks that their boxes follow; what is refused stays refused."""
    same = (first >= 0) & (first == second) & (value > 0)
    return np.where(same, 1 - (1 - value) * (1 - _SAME_TRACK), value)


def _agreement(
    boxes: Candidates,
    views: Views,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    gate_sigma: float,
) -> FloatArray:
    """(M,) worth 0..1 of taking pairs of boxes for one thing, of the class of either; 0 outside the gate.

    The difference of two views is free of what they share: both err alike if the car is tall. For boxes
    cut by the image border the views' own covariances span what the border hides, so that two ends of one
    lorry meet. Distance counts on the ground plane.
    """
    pairs = len(first)
    label = boxes.label[first]
    mixed = (label != boxes.label[second]).nonzero()[0]
    label = np.concatenate([label, boxes.label[second[mixed]]])  # the pairs, and again those of two labels
    first, second = np.concatenate([first, first[mixed]]), np.concatenate([second, second[mixed]])
    a, b = boxes.row_as[first, label], boxes.row_as[second, label]

    count = len(views.known)
    told = np.empty((10, count))
    told[:2] = views.position_m.T[:2]
    told[2:6] = views.shared_m.reshape(count, 4).T
    told[6:] = views.own_m2.reshape(count, 4).T
    ours, theirs = told.take(a, 1), told.take(b, 1)
    x, y, size_x, size_y, ground_x, ground_y = ours[:6] - theirs[:6]
    own = ours[6:] + theirs[6:]
    followed = (boxes.track[first] >= 0) & (boxes.track[first] == boxes.track[second])
    between = np.abs(boxes.late_s[first] - boxes.late_s[second])
    between[np.isnan(between)] = _UNKNOWN_LATENESS_S
    motion = _STILL_M**2 + np.where(followed, 0.0, _TRAFFIC_MPS * between) ** 2
    xx = own[0] + (size_x**2 + ground_x**2) + motion
    yy = own[3] + (size_y**2 + ground_y**2) + motion
    xy = own[1] + (size_x * size_y + ground_x * ground_y)
    determinant = np.maximum(xx * yy - xy**2, 1e-12)
    d2 = (yy * x**2 - 2 * xy * x * y + xx * y**2) / determinant
    d2[~np.isfinite(d2)] = np.inf
    # Squared: one perfect match is worth more than two that barely pass the gate.
    worth: FloatArray = (1 - np.minimum(d2 / gate_sigma**2, 1.0)) ** 2
    vague = ~(views.known[a] & views.known[b])
    worth *= 1 - _VAGUE_COST * vague
    # What is of two labels is of the one that suits better, and not as good as what is of one.
    worth[mixed] *= 1 - _RELABEL_COST
    worth[pairs:] *= 1 - _RELABEL_COST
    worth[mixed] = np.maximum(worth[mixed], worth[pairs:])
    return worth[:pairs]


def _links(
    camera: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    value: FloatArray,
) -> list[tuple[int, int]]:
    """Pairs to join, in this order: assigned ones by falling worth, then the rest by falling worth.

    Args:
        camera: (N,) of the boxes, which are sorted by it.
        first: (M,) one box of each pair, the one with the lower number.
        second: (M,) the other.
        value: (M,) what the pair is worth, above 0.
    """
    # A box has one partner in each other camera: as if it were another box for each.
    count = int(camera[-1]) + 1
    assigned = assignment(first * count + camera[second], second * count + camera[first], value)
    order = np.lexsort((second, first, -value, ~assigned))
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))
