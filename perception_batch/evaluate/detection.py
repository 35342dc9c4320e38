"""Average precision of the boxes, by pycocotools (Lin et al. 2014, arXiv:1405.0312)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from perception_batch.evaluate.pairing import PairedPicture, PairedStep
from perception_batch.evaluate.report import ClassAP, DetectionFigures, Skipped
from perception_batch.evaluate.truth import NO_CLASS, Classes

_OUT_OF_RANGE = 1e12
"""An area beyond COCO's largest (1e10 px²): its own way to leave a truth box out without punishing who finds it."""


def score_detection(steps: Sequence[PairedStep], classes: Classes) -> DetectionFigures | Skipped:
    """AP of every class that the truth has boxes of, over all boxes kept by the run.

    Truth boxes that do not count (too small, too hidden, no class) are ignored: finding them is neither a hit nor
    a mistake.
    """
    pictures = [picture for step in steps for picture in step.pictures]
    if not pictures:
        return Skipped("no picture of the run has truth boxes")
    present = sorted({int(c) for p in pictures for c in p.truth.classes[p.counts]})
    if not present:
        return Skipped("no truth box counts: all are too small, too hidden or of no known class")
    evaluation = coco_evaluation(pictures, present)
    # (IoU threshold, recall, class, area, most boxes): -1 where the class has no truth.
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    recall = evaluation.eval["recall"][:, :, 0, 0]
    rows = tuple(
        ClassAP(
            label=classes.names[number],
            truth_boxes=sum(int((p.truth.classes[p.counts] == number).sum()) for p in pictures),
            truth_objects=len(
                {int(i) for p in pictures for i in p.truth.ids[p.counts & (p.truth.classes == number)]}
            ),
            detections=sum(int((p.run.classes == number).sum()) for p in pictures),
            ap50=float(precision[0, :, k].mean()),
            ap50_95=float(precision[:, :, k].mean()),
            recall50=float(recall[0, k]),
        )
        for k, number in enumerate(present)
    )
    return DetectionFigures(
        pictures=len(pictures),
        truth_boxes=sum(row.truth_boxes for row in rows),
        ignored_boxes=sum(int((~p.counts).sum()) for p in pictures),
        ap50=float(np.mean([row.ap50 for row in rows])),
        ap50_95=float(np.mean([row.ap50_95 for row in rows])),
        classes=rows,
    )


def coco_evaluation(pictures: Sequence[PairedPicture], present: Sequence[int]) -> Any:
    """Pycocotools' ``COCOeval`` of some pictures for some classes, accumulated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, picture in enumerate(pictures):
        for box, number, counts in zip(
            picture.truth.box_px.tolist(),
            picture.truth.classes.tolist(),
            picture.counts.tolist(),
            strict=True,
        ):
            # Nobody knows what a box without a class is, so it is left out of every class.
            for category in present if number == NO_CLASS else [number]:
                truths.append(_annotation(len(truths), image, category, box))
                if not counts:
                    truths[-1]["area"] = _OUT_OF_RANGE
        for box, number, score in zip(
            picture.run.box_px.tolist(), picture.run.classes.tolist(), picture.run.score.tolist(), strict=True
        ):
            found.append(_annotation(len(found), image, number, box))
            found[-1]["score"] = score
    images = [{"id": i} for i in range(len(pictures))]
    categories = [{"id": number} for number in present]
    most = max(1, *(len(p.run.score) for p in pictures)) if pictures else 1
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on itself with print
        sides = []
        for annotations in (truths, found):
            side = COCO()
            side.dataset = {
                "info": {},
                "images": images,
                "categories": categories,
                "annotations": annotations,
            }
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, iouType="bbox")
        evaluation.params.imgIds = list(range(len(pictures)))
        evaluation.params.catIds = list(present)
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [most]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _annotation(count: int, image: int, category: int, box: list[float]) -> dict[str, Any]:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    return {
        "id": count + 1,  # 0 means "unmatched" in COCOeval
        "image_id": image,
        "category_id": category,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
    }
