"""The boxes of an image's views (the whole, and crops at full resolution) as those of one image, without doubles.

Sources: joining what slices find is "slicing aided hyper inference" (Akyon et al., ICIP 2022). What differs here: a box
that a crop's inner border cuts is never taken for a whole object where another view shows more of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import DetectorView, box_iou
from perception_batch.types import Detections

SAME_IOU = 0.5
"""Boxes of two views that overlap by this much, where both views see, are one object."""
# A network ends the box of what a border cuts within so much of the border (px of the original, and of the box's own
# width or height).
_CUT_PX = 3.0
_CUT_SHARE = 0.03
# A cut box that lies within a whole one of its class by this share is a part of it.
_WITHIN = 0.7
_Box = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Part:
    """What is left of an object that no view shows whole: as much as neighbouring crops show together."""

    box: _Box
    score: float
    label: int
    regions: list[_Box]
    """The crops that see it."""


def merge_views(
    found: Sequence[Detections], views: Sequence[DetectorView], max_detections: int
) -> Detections:
    """One image's boxes from those of its views.

    A box counts as cut where it ends at a border of its view that lies inside the first view. Of boxes of one class in
    different views that overlap the best stays. A cut box that shows the same place as a box that is not cut is dropped;
    where their class is the same, the better score stays. Cut boxes of neighbouring crops that agree where
    both see become one box around them.

    Args:
        found: of each view, px of the original image.
        views: of one image, the whole one first; at least one.
        max_detections: at most so many boxes, the best.

    Returns:
        In the order of `Detector.detect`: falling score, then class, then box. It depends on nothing but the arguments.
    """
    if len(found) == 1:
        return found[0]
    xyxy = np.concatenate([part.xyxy for part in found]).astype(np.float64)
    score = np.concatenate([part.score for part in found]).astype(np.float64)
    label = np.concatenate([part.class_id for part in found]).astype(np.int64)
    view = np.repeat(np.arange(len(found)), [len(part.score) for part in found])
    regions = np.array([v.roi_px for v in views], np.float64)
    cut = _is_cut(xyxy, regions[view], regions[0])
    # Of equal scores that of a crop, which shows more of it, goes before the whole image's.
    order = np.lexsort((*xyxy.T[::-1], label, view, view == 0, -score))
    whole = _unlike(order[~cut[order]], xyxy, label, view)
    parts: list[_Part] = []
    for i in order[cut[order]].tolist():
        partner = _shown_whole(
            xyxy[i], int(label[i]), regions[view[i]], xyxy[whole], label[whole], score[whole]
        )
        if partner is None:
            _join(parts, _Part(xyxy[i], float(score[i]), int(label[i]), [regions[view[i]]]))
        elif partner[1]:
            score[whole[partner[0]]] = max(score[whole[partner[0]]], score[i])
    boxes = np.concatenate([xyxy[whole], *(part.box[None] for part in parts)])
    scores = np.concatenate([score[whole], [part.score for part in parts]])
    labels = np.concatenate([label[whole], np.array([part.label for part in parts], np.int64)])
    best = np.lexsort((*boxes.T[::-1], labels, -scores))[:max_detections]
    return Detections(
        boxes[best].astype(np.float32), scores[best].astype(np.float32), labels[best].astype(np.int16)
    )


def _is_cut(xyxy: _Box, region: _Box, whole: _Box) -> npt.NDArray[np.bool_]:
    """Which of (N, 4) boxes end at a border of their view's (N, 4) region that is no border of the whole's (4,)."""
    size = xyxy[:, 2:] - xyxy[:, :2]
    slack = _CUT_PX + _CUT_SHARE * np.concatenate([size, size], 1)
    at_border = np.abs(xyxy - region) <= slack
    cut: npt.NDArray[np.bool_] = (at_border & (region != whole)).any(1)
    return cut


def _unlike(
    order: npt.NDArray[np.int64], xyxy: _Box, label: npt.NDArray[np.int64], view: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Of boxes by falling score those that no better one of their class in another view is like.

    Those of one view stay beside each other: the network's own suppression let them.
    """
    like = box_iou(xyxy[order], xyxy[order]) > SAME_IOU
    like &= (label[order][:, None] == label[order]) & (view[order][:, None] != view[order])
    kept = np.zeros(len(order), bool)
    for row in range(len(order)):
        kept[row] = not (like[row] & kept).any()
    return order[kept]


def _shown_whole(
    box: _Box, label: int, region: _Box, others: _Box, labels: npt.NDArray[np.int64], scores: _Box
) -> tuple[int, bool] | None:
    """Which of the whole boxes a cut one is a part of, and whether it is as much of that as its crop can show.

    A part is what looks the same as the whole one through the crop or, of its own class, lies within it. Of several
    one of its own class, then the most alike, then the best.
    """
    if not len(others):
        return None
    through = _clipped(others, region[:2], region[2:])
    iou = box_iou(box[None], through)[0]
    size = others[:, 2:] - others[:, :2]
    slack = _CUT_PX + _CUT_SHARE * size
    inside = np.minimum(box[2:], others[:, 2:] + slack) - np.maximum(box[:2], others[:, :2] - slack)
    share = np.clip(inside, 0, None).prod(1) / max((box[2:] - box[:2]).prod(), 1e-9)
    alike = np.flatnonzero((iou >= SAME_IOU) | ((labels == label) & (share >= _WITHIN)))
    if not len(alike):
        return None
    best = int(alike[np.lexsort((-scores[alike], -iou[alike], labels[alike] != label))[0]])
    return best, bool(iou[best] >= SAME_IOU and labels[best] == label)


def _clipped(boxes: _Box, low: _Box, high: _Box) -> _Box:
    """What of (N, 4) boxes lies between two corners; without area where nothing does."""
    corner = np.maximum(boxes[:, :2], low)
    return np.concatenate([corner, np.maximum(np.minimum(boxes[:, 2:], high), corner)], 1)


def _join(parts: list[_Part], new: _Part) -> None:
    """Add a part; with those of other crops that agree with it where both see, it becomes one."""
    for part in parts:
        if part.label == new.label and any(
            _agree(part.box, new.box, a, new.regions[0]) for a in part.regions
        ):
            part.box = np.concatenate(
                [np.minimum(part.box[:2], new.box[:2]), np.maximum(part.box[2:], new.box[2:])]
            )
            part.score = max(part.score, new.score)
            part.regions.append(new.regions[0])
            return
    parts.append(new)


def _agree(a: _Box, b: _Box, region_a: _Box, region_b: _Box) -> bool:
    """Whether two boxes are the same within what both regions show."""
    low = np.maximum(region_a[:2], region_b[:2])
    high = np.minimum(region_a[2:], region_b[2:])
    if (region_a == region_b).all() or (high <= low).any():
        return False
    seen = _clipped(np.stack([a, b]), low, high)
    if (seen[:, 2:] <= seen[:, :2]).any():
        return False
    return bool(box_iou(seen[:1], seen[1:])[0, 0] >= SAME_IOU)
