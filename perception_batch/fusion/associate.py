"""Which boxes of different cameras are one thing.

Every pair of cameras is settled by an optimal assignment (Hungarian algorithm), and the links of all pairs
are then joined into groups from the surest to the weakest, refusing any that would put two boxes of one
camera, or two boxes that contradict each other, into one group. Folding camera after camera into one list
would make the answer depend on where the circle of cameras is begun; taking all links greedily would let
one box's second-best partner displace another's only one. With two cameras this is exactly the Hungarian
assignment, and with more the groups are cliques of compatible boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.assignment import IntArray, assignment
from perception_batch.calibration import FloatArray
from perception_batch.fusion.extent import Spans, facing
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

    camera: IntArray
    """(N,) number of the camera."""
    group: IntArray
    """(N,) number of the class group."""
    label: IntArray
    """(N,) number of the class."""
    row_as: IntArray
    """(N, K) row of `Views` that holds box n taken for class k; -1 where it cannot be of class k."""
    track: IntArray
    """(N,) number of the predicted track that the box follows, -1 for none."""
    late_s: FloatArray
    """(N,) its frame's stamp less the timestep's, seconds; NaN where unknown."""


def associate(
    boxes: Candidates,
    views: Views,
    spans: Spans,
    length_m: FloatArray,
    overlaps: npt.NDArray[np.bool_],
    gate_sigma: float,
) -> IntArray:
    """(N,) the first box of the group that each is in; a group is one thing and has each camera at most once.

    Args:
        boxes: the candidates.
        views: where each would be, per class.
        spans: of the N boxes.
        length_m: (N,) how long such a thing may be.
        overlaps: (C, C) symmetric: whether two cameras can see the same thing; False for one with itself.
        gate_sigma: Mahalanobis distance up to which two boxes may be one thing.
    """
    n, numbers = len(boxes.camera), np.arange(len(overlaps))
    once = overlaps & (numbers[:, None] < numbers)  # boxes are sorted by camera: the lower number comes first
    may = once.take(boxes.camera, 0).take(boxes.camera, 1)
    may &= boxes.group[:, None] == boxes.group
    pairs = may.ravel().nonzero()[0]
    first = pairs // n
    second = pairs - first * n
    if len(pairs):
        value = _agreement(boxes, views, first, second, gate_sigma)
        good = (value > 0).nonzero()[0]
        first, second, value = first[good], second[good], value[good]
        own = boxes.row_as.ravel().take(np.arange(n) * boxes.row_as.shape[1] + boxes.label)
        near_m, far_m = views.near_m.take(own, 1)
        good = facing(spans, first, second, near_m, far_m, length_m).nonzero()[0]
        first, second, value = first[good], second[good], value[good]
    leader = np.arange(n)
    # What nothing else is like needs no choice.
    links = np.bincount(first, minlength=n) + np.bincount(second, minlength=n)
    lone = (links.take(first) == 1) & (links.take(second) == 1)
    leader[second[lone]] = first[lone]
    rest = (~lone).nonzero()[0]
    if len(rest):
        first, second = first[rest], second[rest]
        value = _remembered(boxes.track[first], boxes.track[second], value[rest])
        for group in _joined(boxes.camera, overlaps, _links(boxes.camera, first, second, value)):
            leader[group] = min(group)
    return leader


def _joined(
    camera: IntArray, overlaps: npt.NDArray[np.bool_], links: Sequence[tuple[int, int]]
) -> Iterable[list[int]]:
    """Groups of two and more boxes, when `links` are followed in their order as far as they agree.

    Args:
        camera: (N,) of the boxes.
        overlaps: as of `associate`.
        links: pairs of boxes, the lower number first.
    """
    groups: dict[int, list[int]] = {i: [i] for link in links for i in link}
    of, share, agreed = camera.tolist(), overlaps.tolist(), set(links)
    for i, j in links:
        ours, theirs = groups[i], groups[j]
        if ours is theirs:
            continue
        # Boxes whose cameras share nothing cannot contradict each other.
        if len(ours) + len(theirs) > 2 and any(
            of[k] == of[m] or (share[of[k]][of[m]] and (min(k, m), max(k, m)) not in agreed)
            for k in ours
            for m in theirs
        ):
            continue
        ours += theirs
        for k in theirs:
            groups[k] = ours
    return [group for first, group in groups.items() if first == group[0] and len(group) > 1]


def _remembered(first: IntArray, second: IntArray, value: FloatArray) -> FloatArray:
    """(M,) worth of pairs in the light of the tracks that their boxes follow; what is refused stays refused."""
    same = (first >= 0) & (first == second) & (value > 0)
    return np.where(same, 1 - (1 - value) * (1 - _SAME_TRACK), value)


def _agreement(
    boxes: Candidates,
    views: Views,
    first: IntArray,
    second: IntArray,
    gate_sigma: float,
) -> FloatArray:
    """(M,) worth 0..1 of taking pairs of boxes for one thing, of the class of either; 0 outside the gate.

    The difference of two views is free of what they share: both err alike if the car is tall. For boxes
    cut by the image border the views' own covariances span what the border hides, so that two ends of one
    lorry meet. Distance counts on the ground plane.
    """
    pairs, classes = len(first), boxes.row_as.shape[1]
    label, other = boxes.label.take(first), boxes.label.take(second)
    mixed = (label != other).nonzero()[0]
    if len(mixed):  # the pairs, and again those of two labels
        label = np.concatenate([label, other[mixed]])
        first, second = np.concatenate([first, first[mixed]]), np.concatenate([second, second[mixed]])
    row_as = boxes.row_as.ravel()
    a, b = row_as.take(first * classes + label), row_as.take(second * classes + label)

    told = np.concatenate([views.position_m[:2], views.plane])
    ours, theirs = told.take(a, 1), told.take(b, 1)
    own_x, own_y, own_xy = ours[2:5] + theirs[2:5]
    ours -= theirs
    x, y, _, _, _, size_x, size_y, ground_x, ground_y = ours
    track, late_s = boxes.track.take(first), boxes.late_s
    between = np.abs(late_s.take(first) - late_s.take(second))
    between[np.isnan(between)] = _UNKNOWN_LATENESS_S
    between[(track >= 0) & (track == boxes.track.take(second))] = 0.0
    motion = _STILL_M**2 + (_TRAFFIC_MPS * between) ** 2
    xx = own_x + (size_x**2 + ground_x**2) + motion
    yy = own_y + (size_y**2 + ground_y**2) + motion
    xy = own_xy + (size_x * size_y + ground_x * ground_y)
    determinant = np.maximum(xx * yy - xy**2, 1e-12)
    d2 = (yy * x**2 - 2 * xy * x * y + xx * y**2) / determinant
    off = d2 / gate_sigma**2
    off[~(off < 1)] = 1.0  # NaN too
    # Squared: one perfect match is worth more than two that barely pass the gate.
    worth: FloatArray = (1 - off) ** 2
    worth[~(views.known.take(a) & views.known.take(b))] *= 1 - _VAGUE_COST
    if len(mixed):
        # What is of two labels is of the one that suits better, and not as good as what is of one.
        worth[mixed] = (1 - _RELABEL_COST) * np.maximum(worth[mixed], worth[pairs:])
    return worth[:pairs]


def _links(
    camera: IntArray,
    first: IntArray,
    second: IntArray,
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
