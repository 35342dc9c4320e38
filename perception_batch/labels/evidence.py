"""What speaks for one box: its track, its neighbours in time, and the other cameras.

All functions work on the arrays of a whole stretch of timesteps at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.labels.run_rows import BoxRows, FloatArray, FrameRows, IntArray

HIT_WINDOW_NS = 1_000_000_000
_MOST_SHRUNK = 2.0
"""A seventh of the usual area: nothing is left to tell."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Boxes of tracks in the order of camera, track and time: what neighbours need."""

    rows: IntArray
    """(M,) rows of the stretch's boxes."""
    group: IntArray
    """(M,) counts the pairs of camera and track."""
    has_before: npt.NDArray[np.bool_]
    """(M,) whether the one before is of the same pair."""
    has_after: npt.NDArray[np.bool_]
    """(M,) whether the next one is."""


def order_of(boxes: BoxRows) -> Order:
    """The boxes that fusion made part of a tracked object."""
    picked = np.flatnonzero((boxes.track >= 0) & (boxes.aside == 0))
    picked = picked[np.lexsort((boxes.stamp_ns[picked], boxes.track[picked], boxes.camera[picked]))]
    change = (np.diff(boxes.track[picked]) != 0) | (np.diff(boxes.camera[picked]) != 0)
    same = ~change
    return Order(
        picked,
        np.concatenate([[0], np.cumsum(change)])[: len(picked)].astype(np.int64),
        np.concatenate([[False], same])[: len(picked)],
        np.concatenate([same, [False]])[: len(picked)],
    )


def pairwise_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """(N,) overlap of each box with its partner."""
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    both = np.clip(width, 0, None) * np.clip(height, 0, None)
    areas = [(x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b)]
    return np.asarray(both / np.maximum(areas[0] + areas[1] - both, 1e-9), np.float64)


def steadiness(boxes: BoxRows, order: Order, max_gap_ns: int) -> FloatArray:
    """(M,) overlap of each box with where its neighbours in time, of the same track and camera, say that it is."""
    xyxy, stamp = boxes.xyxy[order.rows], boxes.stamp_ns[order.rows]
    step = np.diff(stamp, prepend=stamp[:1])
    before = order.has_before & (step <= max_gap_ns)
    after = order.has_after & (np.append(step[1:], 0) <= max_gap_ns)
    out = np.zeros(len(stamp))
    at = np.flatnonzero(before & after)
    share = ((stamp[at] - stamp[at - 1]) / np.maximum(stamp[at + 1] - stamp[at - 1], 1))[:, None]
    out[at] = pairwise_iou(xyxy[at], xyxy[at - 1] + share * (xyxy[at + 1] - xyxy[at - 1]))
    at = np.flatnonzero(before & ~after)
    out[at] = pairwise_iou(xyxy[at], xyxy[at - 1])
    at = np.flatnonzero(~before & after)
    out[at] = pairwise_iou(xyxy[at], xyxy[at + 1])
    return out


def hit_rates(boxes: BoxRows, frames: FrameRows, order: Order) -> FloatArray:
    """(M,) share of the camera's frames within a second about each box, between the track's ends, that show it."""
    stamp, camera = boxes.stamp_ns[order.rows], boxes.camera[order.rows]
    if not len(stamp):
        return np.zeros(0)
    low, high = _within_a_second(stamp, order)
    origin = int(frames.stamp_ns.min())
    span = int(frames.stamp_ns.max()) - origin + 1
    shown = np.sort(frames.camera * span + (frames.stamp_ns - origin))
    first = np.searchsorted(shown, camera * span + stamp[low] - origin)
    last = np.searchsorted(shown, camera * span + stamp[high - 1] - origin, side="right")
    return np.asarray((high - low) / np.maximum(last - first, 1), np.float64)


def called_otherwise(boxes: BoxRows, order: Order, agrees: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(M,) True where, for a second, the camera calls the thing otherwise than its track.

    A single slip is outvoted by its neighbours. What lasts is a camera that errs, or a track that went over to another thing:
    the label is doubtful either way.

    Args:
        boxes: of the stretch.
        order: of the boxes.
        agrees: (M,) whether the camera calls each as its track.
    """
    if not len(agrees):
        return np.zeros(0, bool)
    low, high = _within_a_second(boxes.stamp_ns[order.rows], order)
    total = np.concatenate([[0], np.cumsum(agrees)])
    return np.asarray(2 * (total[high] - total[low]) < high - low, bool)


def shrunk(xyxy: FloatArray, stamp_ns: IntArray, order: Order) -> FloatArray:
    """(M,) ln of how far the area of each box is below the usual one of its track and camera within a second; 0..2.

    Args:
        xyxy: (N, 4) px, of the stretch.
        stamp_ns: (N,) of the same boxes.
        order: of the boxes.
    """
    box = xyxy[order.rows]
    if not len(box):
        return np.zeros(0)
    area = np.log(np.maximum((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]), 1e-9))
    low, high = _within_a_second(stamp_ns[order.rows], order)
    total = np.concatenate([[0.0], np.cumsum(area)])
    return np.asarray(
        np.clip((total[high] - total[low]) / (high - low) - area, 0.0, _MOST_SHRUNK), np.float64
    )


def _within_a_second(stamp: IntArray, order: Order) -> tuple[IntArray, IntArray]:
    """(M,) first place and end, in the order, of the boxes of the same camera and track within a second of each."""
    origin = int(stamp.min()) - 2 * HIT_WINDOW_NS
    span = int(stamp.max()) - origin + 4 * HIT_WINDOW_NS
    key = order.group * span + (stamp - origin)
    return np.searchsorted(key, key - HIT_WINDOW_NS), np.searchsorted(key, key + HIT_WINDOW_NS, side="right")


def companions(boxes: BoxRows) -> IntArray:
    """(N,) other cameras that see the same object at the same timestep."""
    out = np.zeros(len(boxes), np.int64)
    use = np.flatnonzero((boxes.object >= 0) & (boxes.aside == 0))
    if len(use):
        key = boxes.timestep[use] * (int(boxes.object.max()) + 1) + boxes.object[use]
        _, place, count = np.unique(key, return_inverse=True, return_counts=True)
        out[use] = count[place] - 1
    return out
