"""How far two detectors agree over the same images: the rule of promise 1c, and the differences behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import box_iou
from perception_batch.types import Detections

# Partners overlap at least so much; whether they are close enough is another question.
_LEAST_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    """What became of the boxes of a reference in another detector's results, and the other way round."""

    boxes: int
    """Boxes of either side with the score that counts: each pair counts twice, each single box once."""
    close: int
    """Those of them with a partner within the limits of score and edges."""
    lost: int
    """Boxes of the reference that count and have no partner."""
    gained: int
    """Boxes of the other that count and have no partner."""
    score_difference: float
    """The largest between partners."""
    edge_difference_px: float
    """The largest between partners' edges, px of the original image."""

    @property
    def share(self) -> float:
        """Of all boxes, those that agree; 1 where there are none."""
        return self.close / self.boxes if self.boxes else 1.0


def compare_boxes(
    reference: Sequence[Detections],
    other: Sequence[Detections],
    *,
    score: float,
    most_score: float = 1e-3,
    most_px: float = 0.5,
) -> Agreement:
    """Pair the boxes of each image, one to one, and count.

    Boxes that lie just below `score` may be partners, so that a box which crosses it is not lost for that.

    Args:
        reference: results by image, kept down to less than `score`.
        other: of the same images.
        score: boxes with at least this count.
        most_score: partners agree that differ in score by at most this, and
        most_px: at each edge by at most this, px.

    Raises:
        ValueError: not the same number of images.
    """
    boxes = close = lost = gained = 0
    worst_score = worst_px = 0.0
    for a, b in zip(reference, other, strict=True):
        ours, theirs = a.score >= score, b.score >= score
        boxes += int(ours.sum() + theirs.sum())
        i, j = _pairs(a, b)
        counting = ours[i] | theirs[j]
        i, j = i[counting], j[counting]
        by_score = np.abs(a.score[i].astype(np.float64) - b.score[j])
        by_px = np.abs(a.xyxy[i].astype(np.float64) - b.xyxy[j]).max(1, initial=0.0)
        agree = (by_score <= most_score) & (by_px <= most_px)
        close += int(ours[i][agree].sum() + theirs[j][agree].sum())
        lost += int(ours.sum() - ours[i].sum())
        gained += int(theirs.sum() - theirs[j].sum())
        worst_score = max(worst_score, float(by_score.max(initial=0.0)))
        worst_px = max(worst_px, float(by_px.max(initial=0.0)))
    return Agreement(boxes, close, lost, gained, worst_score, worst_px)


def _pairs(a: Detections, b: Detections) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Partners of one class, by falling overlap; of equal ones those whose scores are nearest."""
    iou = np.where(a.class_id[:, None] == b.class_id[None, :], box_iou(a.xyxy, b.xyxy), 0.0)
    i, j = np.nonzero(iou >= _LEAST_IOU)
    order = np.lexsort((np.abs(a.score[i] - b.score[j]), -iou[i, j]))
    used_a, used_b = np.zeros(len(a), bool), np.zeros(len(b), bool)
    chosen = []
    for k in order:
        if not used_a[i[k]] and not used_b[j[k]]:
            used_a[i[k]] = used_b[j[k]] = True
            chosen.append(k)
    return i[chosen], j[chosen]
