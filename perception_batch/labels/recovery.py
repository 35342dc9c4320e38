"""Boxes that a camera lost for a while, put back between those of the same track before and after.

Most gaps are real: something stands before the object (three gaps of four on simulated drives). So the quality of a filled
gap is not that of its ends but the probability that the thing is there to be seen, times the class share of its track:

    seen    = 1 / (1 + exp(-(0.1 - 0.8 ln(gap / 0.2 s) + 2.4 steady + 1.3 overlap - 2.3 covered - 1.2 shrunk - 0.8 logit(score))))
    quality = seen * class share

*gap*: between the two boxes about it. *steady*: the lower of theirs (`scoring`). *overlap*: of the two (IoU). *covered*: share of the
place that another box of the image covers. *shrunk*: ln of how much the smaller of the two is below the usual area of the track within a
second: what slips behind something is seen in part first. *score*: the lower of theirs, which speaks against: a detector that was sure on
both sides does not lose a thing without cause. The weights are a logistic regression on simulated drives (seeds 1, 2, 3, 11 and 12),
rounded, with the score's weight cut to a half: real scores tell less than simulated ones. How often a recovered box of each
quality is right is printed by ``scripts/benchmark_labels.py``; `--no-recovered` leaves all of them out.
Where the detector did see something there below its score, that detection becomes part of the track.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from perception_batch.labels.evidence import Order, pairwise_iou, shrunk
from perception_batch.labels.run_rows import REASONS, FloatArray, IntArray, Stretch
from perception_batch.labels.scored_boxes import UNLISTED, ScoredBoxes, joined

_BIAS, _GAP, _STEADY, _OVERLAP, _COVERED, _SHRUNK, _SCORE = 0.1, -0.8, 2.4, 1.3, -2.3, -1.2, -0.8
_USUAL_GAP_S = 0.2
_WEAK_SHARE = 0.95
"""Of the quality of its neighbours, for a weak detection between them."""
_SAME_IOU = 0.5
_SEEN_SCORE = 0.25
"""Weaker boxes without a track hide nothing: a detector gives many of them."""
_LOW_SCORE = REASONS.index("low_score")


def with_recovered(
    boxes: ScoredBoxes, stretch: Stretch, order: Order, class_share: FloatArray, max_gap_s: float
) -> ScoredBoxes:
    """Add a box wherever a camera lost a track for at most `max_gap_s`; weak detections there join the track.

    Args:
        boxes: of the stretch.
        stretch: its frames.
        order: of the boxes.
        class_share: (N,) probability that each box's class is right, 0..1.
        max_gap_s: longest gap that is filled.
    """
    found = _gaps(boxes, stretch, order, max_gap_s)
    if found is None:
        return boxes
    frame, before, after = found
    frames, total = stretch.frames, len(frame)
    a, b = order.rows[before], order.rows[after]
    span_ns = boxes.stamp_ns[b] - boxes.stamp_ns[a]
    share = ((frames.stamp_ns[frame] - boxes.stamp_ns[a]) / span_ns)[:, None]
    xyxy = boxes.xyxy[a] + share * (boxes.xyxy[b] - boxes.xyxy[a])
    overlap = pairwise_iou(boxes.xyxy[a], boxes.xyxy[b])
    covered, fresh, weak = _look_there(
        boxes, frames.timestep[frame], frames.camera[frame], xyxy, boxes.track[a], boxes.class_index[a]
    )
    small = shrunk(boxes.xyxy, boxes.stamp_ns, order)
    score = np.clip(np.minimum(boxes.score[a], boxes.score[b]), 0.02, 0.98)
    logit = _BIAS + _GAP * np.log(span_ns * 1e-9 / _USUAL_GAP_S)
    logit += _STEADY * np.minimum(boxes.steady[a], boxes.steady[b]) + _OVERLAP * overlap + _COVERED * covered
    logit += _SHRUNK * np.maximum(small[before], small[after]) + _SCORE * np.log(score / (1 - score))
    quality = np.minimum(class_share[a], class_share[b]) / (1 + np.exp(-logit))
    nothing = np.zeros(total, np.int64)
    made = ScoredBoxes(
        frames.timestep[frame], frames.camera[frame], frames.stamp_ns[frame], nothing - 1, xyxy,
        np.full(total, np.nan), boxes.class_index[a], quality, nothing, nothing, boxes.track[a], nothing, overlap,
        boxes.confused[a],
    ).rows(fresh & (weak < 0))  # fmt: skip
    joins = np.flatnonzero(weak >= 0)
    if len(joins):
        lower = np.minimum(boxes.quality[a], boxes.quality[b])
        boxes = _taken_in(boxes, weak[joins], a[joins], lower[joins], overlap[joins])
    both = joined([boxes, made])
    return both.rows(
        np.lexsort((both.detection < 0, both.camera, both.timestep))
    )  # stable: detections keep order


def _gaps(
    boxes: ScoredBoxes, stretch: Stretch, order: Order, max_gap_s: float
) -> tuple[IntArray, IntArray, IntArray] | None:
    """Frames within gaps, and the places in the order of the boxes before and after each; None where there are none."""
    rows, frames = order.rows, stretch.frames
    use = np.flatnonzero(order.has_after)
    first, last = rows[use], rows[use + 1]
    gap_ns = boxes.stamp_ns[last] - boxes.stamp_ns[first]
    by_camera = np.lexsort((frames.stamp_ns, frames.camera))
    camera, stamp = frames.camera[by_camera], frames.stamp_ns[by_camera]
    if not len(stamp) or not len(use):
        return None
    origin = int(stamp.min())
    span = int(stamp.max()) - origin + 1
    key = camera * span + (stamp - origin)
    begin = np.searchsorted(key, boxes.camera[first] * span + (boxes.stamp_ns[first] - origin), side="right")
    end = np.searchsorted(key, boxes.camera[last] * span + (boxes.stamp_ns[last] - origin))
    count = np.where(gap_ns <= round(max_gap_s * 1e9), np.maximum(end - begin, 0), 0)
    count[(boxes.why[first] != 0) | (boxes.why[last] != 0)] = 0
    total = int(count.sum())
    if not total:
        return None
    pair = np.repeat(np.arange(len(use)), count)
    inside = np.arange(total) - np.repeat(np.cumsum(count) - count, count)
    return by_camera[begin[pair] + inside], use[pair], use[pair] + 1


def _look_there(
    boxes: ScoredBoxes,
    timestep: IntArray,
    camera: IntArray,
    xyxy: FloatArray,
    track: IntArray,
    class_index: IntArray,
) -> tuple[FloatArray, npt.NDArray[np.bool_], IntArray]:
    """What else the frame shows where each recovered box would be.

    Returns:
        (N,) share of the box that another one covers; (N,) False where another track has the box already; (N,) row of a weak
        detection that is the box, -1 for none.
    """
    n = len(xyxy)
    covered, fresh, weak = np.zeros(n), np.ones(n, bool), np.full(n, -1, np.int64)
    many = int(max(boxes.camera.max(initial=0), camera.max(initial=0))) + 1
    key = boxes.timestep * many + boxes.camera
    begin = np.searchsorted(key, timestep * many + camera)
    count = np.searchsorted(key, timestep * many + camera, side="right") - begin
    mine = np.repeat(np.arange(n), count)
    other = np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)
    overlap = pairwise_iou(xyxy[mine], boxes.xyxy[other])
    kept = boxes.why[other] == 0
    fresh[mine[kept & ((overlap >= _SAME_IOU) | (boxes.track[other] == track[mine]))]] = False
    same = (
        (boxes.why[other] == _LOW_SCORE)
        & (overlap >= _SAME_IOU)
        & (boxes.class_index[other] == class_index[mine])
    )
    for row, there in zip(mine[same].tolist(), other[same].tolist(), strict=True):
        if fresh[row] and weak[row] < 0:  # the first is the one with the highest score
            weak[row] = there
    a, b = xyxy[mine], boxes.xyxy[other]
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    area = np.maximum((a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]), 1e-9)
    seen = ((boxes.score[other] >= _SEEN_SCORE) | kept) & (boxes.why[other] != UNLISTED)
    np.maximum.at(covered, mine[seen], (np.clip(width, 0, None) * np.clip(height, 0, None) / area)[seen])
    return np.minimum(covered, 1.0), fresh, weak


def _taken_in(
    boxes: ScoredBoxes, weak: IntArray, before: IntArray, lower: FloatArray, overlap: FloatArray
) -> ScoredBoxes:
    """Weak detections as part of the tracks that lead through them."""
    why, track, quality, steady = (
        boxes.why.copy(),
        boxes.track.copy(),
        boxes.quality.copy(),
        boxes.steady.copy(),
    )
    why[weak], track[weak], steady[weak] = 0, boxes.track[before], overlap
    quality[weak] = _WEAK_SHARE * lower
    return replace(boxes, why=why, track=track, quality=quality, steady=steady)
