"""What a network gives, to boxes of the original images, in NumPy. `torch_postprocess` does the same on a device.

Each image's boxes depend on that image alone, and never on how long anything takes (Ultralytics' own NMS gives
up after a wall-clock limit).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from perception_batch.errors import ModelError
from perception_batch.geometry import DetectorView
from perception_batch.types import Detections

OutputForm = Literal["dense", "one2one", "end2end", "queries"]
"""``dense``: (N, 4 + classes, anchors), centre boxes in input px, to be suppressed (YOLOv8, 11);
``one2one``: (N, 4 + classes, anchors), corner boxes in input px, of which the best are final (YOLO26 exported here);
``end2end``: (N, rows, 6), corner boxes in input px, score, class, final (YOLOv10, 26);
``queries``: (N, rows, 6), centre boxes as fractions of the input, score, class, final (RT-DETR)."""

# As in Ultralytics: more candidates than this in one image are cut by score before suppression.
MAX_CANDIDATES = 30_000
# So many candidates are compared pair by pair in one go: a matrix of 2 MB at most.
_FEW = 256
NOT_FINITE = (
    "the network's scores are not finite: damaged weights, or fp16 that overflows (detect.precision=fp32)"
)


def select(
    output: npt.NDArray[np.floating],
    form: OutputForm,
    keep_score: Sequence[float],
    *,
    input_hw: tuple[int, int],
    iou: float,
    max_detections: int,
) -> list[npt.NDArray[np.float32]]:
    """The boxes to keep of each image.

    Args:
        output: the network's, see `OutputForm`; rows beyond ``len(keep_score)`` are padding and ignored.
        form: what `output` holds.
        keep_score: one an image; boxes with at least that score are candidates.
        input_hw: height and width of the input, px.
        iou: a box that overlaps a better one of its class by more than this is suppressed.
        max_detections: at most so many boxes an image, the best.

    Returns:
        One (K, 6) an image: left, top, right, bottom in input px, score, class; falling score.

    Raises:
        ModelError: the output has another shape, or is not finite.
    """
    check_shape(tuple(output.shape), form, len(keep_score))
    pick = {"dense": _suppressed, "one2one": _paired}.get(form)
    chosen = []
    for image, keep in zip(output, keep_score, strict=False):  # what is longer is padding
        rows = image.astype(np.float32, copy=False)
        scores = rows[4:].max(0) if pick else rows[:, 4]  # carries NaN along
        if not np.isfinite(scores).all():
            raise ModelError(NOT_FINITE)
        if pick is not None:
            chosen.append(pick(rows, scores, np.float32(keep), iou, max_detections))
            continue
        final = rows[scores >= np.float32(keep)]
        if form == "queries":
            h, w = input_hw
            final = np.concatenate(
                [_corners(final[:, :4]) * np.array([w, h, w, h], np.float32), final[:, 4:]], 1
            )
        chosen.append(final[np.argsort(-final[:, 4], kind="stable")[:max_detections]])
    return chosen


def to_detections(rows: npt.NDArray[np.float32], view: DetectorView) -> Detections:
    """(K, 6) boxes of the input, scores and classes as detections of the original image.

    Clipped to what the view shows; boxes without area are dropped. The order is total: falling score, then
    class, left, top, right, bottom.
    """
    xyxy = view.to_original(rows[:, :4])
    # A NaN compares false and drops out here with the boxes that have no area.
    whole = np.flatnonzero((xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1]))
    xyxy, score, label = xyxy[whole], rows[whole, 4], rows[whole, 5]
    order = np.lexsort((xyxy[:, 3], xyxy[:, 2], xyxy[:, 1], xyxy[:, 0], label, -score))
    return Detections(
        np.ascontiguousarray(xyxy[order]), np.ascontiguousarray(score[order]), label[order].astype(np.int16)
    )


def check_shape(shape: tuple[int, ...], form: OutputForm, n: int) -> None:
    """Refuse what is no output of this form for at least `n` images.

    Raises:
        ModelError: says what came and what was expected.
    """
    per_anchor = form in ("dense", "one2one")
    wanted = "(images, 4 + classes, anchors)" if per_anchor else "(images, rows, 6)"
    right = len(shape) == 3 and shape[0] >= n and (shape[1] > 4 if per_anchor else shape[2] == 6)
    if not right:
        raise ModelError(
            f"the network gave an output of shape {shape}, expected is {wanted}: no detector's output"
        )


def _corners(cxcywh: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(K, 4) centre and size as left, top, right, bottom."""
    half = cxcywh[:, 2:] / np.float32(2)
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], 1)


def _suppressed(
    rows: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], keep: np.float32, iou: float, most: int
) -> npt.NDArray[np.float32]:
    """The boxes of one (4 + classes, anchors) output that no better one of their class covers, best first."""
    anchor = np.flatnonzero(scores >= keep)
    anchor = anchor[np.argsort(-scores[anchor], kind="stable")[:MAX_CANDIDATES]]
    found = rows[:, anchor].T
    boxes, label = _corners(found[:, :4]), found[:, 4:].argmax(1)
    kept = (_kept_of_few if len(anchor) <= _FEW else _kept_of_many)(
        boxes.astype(np.float64), label, iou, most
    )
    return np.concatenate(
        [boxes[kept], scores[anchor[kept], None], label[kept, None].astype(np.float32)], 1, dtype=np.float32
    )


def _covers(
    boxes: npt.NDArray[np.float64], one: Any, others: Any, area: npt.NDArray[np.float64], iou: float
) -> npt.NDArray[np.bool_]:
    """Whether boxes overlap by more than `iou`; in double, as the torch twin. Two boxes without area do not."""
    x0, y0, x1, y1 = boxes.T
    width = np.minimum(x1[others], x1[one]) - np.maximum(x0[others], x0[one])
    height = np.minimum(y1[others], y1[one]) - np.maximum(y0[others], y0[one])
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: npt.NDArray[np.bool_] = inter / (area[others] + area[one] - inter) > iou
    return found


def _kept_of_few(
    boxes: npt.NDArray[np.float64], label: npt.NDArray[np.intp], iou: float, most: int
) -> list[int]:
    """Numbers of the boxes that no better one of their class covers, at most so many; every pair at once."""
    number = np.arange(len(boxes))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    covers = _covers(boxes, number[:, None], number[None], area, iou) & (label[:, None] == label)
    np.fill_diagonal(covers, False)
    covering = covers.any(1).tolist()  # of few boxes there is anything to take away
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for best in range(len(boxes)):
        if len(kept) == most:
            break
        if alive[best]:
            kept.append(best)
            if covering[best]:
                alive &= ~covers[best]
    return kept


def _kept_of_many(
    boxes: npt.NDArray[np.float64], label: npt.NDArray[np.intp], iou: float, most: int
) -> list[int]:
    """The same, pair by pair with what is left: every pair at once would not fit into memory."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        near = left[label[left] == label[best]]
        covered = near[_covers(boxes, best, near, area, iou)]
        if len(covered):
            left = left[~np.isin(left, covered, assume_unique=True)]
    return kept


def _paired(
    rows: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], keep: np.float32, _: float, most: int
) -> npt.NDArray[np.float32]:
    """The best pairs of anchor and class among the best anchors, as Ultralytics' end-to-end heads choose them.

    Not more than there are anchors, as there.
    """
    most = min(most, rows.shape[1])
    anchor = np.flatnonzero(scores >= keep)
    anchor = anchor[np.argsort(-scores[anchor], kind="stable")[:most]]
    pairs = rows[4:, anchor].T
    row, label = np.nonzero(pairs >= keep)
    score = rows[4 + label, anchor[row]]
    best = np.argsort(-score, kind="stable")[:most]
    row, label = row[best], label[best]
    return np.concatenate(
        [rows[:4, anchor[row]].T, score[best, None], label[:, None].astype(np.float32)], 1, dtype=np.float32
    )
