"""How doubtful an image's boxes are, and in which words a person is told."""

from __future__ import annotations

import numpy as np

from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.run_rows import FloatArray, IntArray
from perception_batch.labels.scored_boxes import DROPPED, IGNORED, QUALITY, ScoredBoxes

REASONS = (
    "cameras disagree about the class",
    "class changes over the track",
    "lost for a while (flicker)",
    "sure, but on no track",
    "near the threshold",
)
_WEIGHTS = np.array([0.0, 0.5, 0.4, 0.4, 0.6, 0.3])
_NEAR = 0.1


def doubts_of(
    boxes: ScoredBoxes, classes: tuple[str, ...], settings: LabelSettings
) -> tuple[IntArray, FloatArray]:
    """(N,) place in `REASONS` plus 1, 0 for none; (N,) how doubtful each box is, 0..1."""
    accept = np.array([settings.accept.of(label) for label in classes] + [2.0])[boxes.class_index]
    held = boxes.band != DROPPED
    on_track = (boxes.why == 0) | (boxes.why == QUALITY)
    near = on_track & (np.abs(boxes.quality - accept) <= _NEAR)
    lone = held & ~on_track & (boxes.band == IGNORED) & (np.nan_to_num(boxes.score) >= settings.sure_score)
    reason = np.select(
        [
            held & boxes.confused & (boxes.others > 0),
            held & boxes.confused,
            held & boxes.recovered,
            lone,
            near & (boxes.class_index >= 0),
        ],
        [1, 2, 3, 4, 5],
        0,
    ).astype(np.int64)
    return reason, _WEIGHTS[reason]


def of_images(place: IntArray, doubts: FloatArray, count: int) -> FloatArray:
    """(`count`,) 1 - product of (1 - doubt) over the boxes of each image; `place` (N,) is the image of each box."""
    return np.asarray(
        1 - np.exp(np.bincount(place, weights=np.log1p(-np.minimum(doubts, 0.999)), minlength=count))
    )


def words_of(reasons: IntArray) -> tuple[str, ...]:
    """What to tell of one image, the most serious first."""
    return tuple(
        f"{count} {'box' if count == 1 else 'boxes'}: {text}"
        for code, text in enumerate(REASONS, start=1)
        if (count := int((reasons == code).sum()))
    )
