"""The boxes of a stretch of timesteps with their quality, their band, and those that hindsight recovers.

Quality is the probability that a label is right, as far as the tables tell:

    real    = 1 / (1 + exp(-(-4.5 + 1.5 logit(score) + 2.5 ln(1 + length / 0.5 s) + 0.5 hits + 0.5 steady + 0.5 others)))
    quality = real * class share

*length*: of the track, 4 s at most. *hits*: share of the camera's frames within a second, between the track's ends, that show
it. *steady*: overlap (IoU) with the box that its neighbours in time suggest. *others*: 1 where another camera sees the same object
at that timestep. *class share*: see `track_evidence`; times 0.7 where
the camera calls the thing otherwise for a second: one of the two errs, or the track went over to another thing. The weights are those of a logistic regression on simulated
drives (seeds 11 and 12), rounded, with the score's weight cut to a third: real scores tell less than simulated ones.

For boxes that hindsight recovers see `recovery`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perception_batch.labels.evidence import (
    Order,
    called_otherwise,
    companions,
    hit_rates,
    order_of,
    pairwise_iou,
    steadiness,
)
from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.recovery import with_recovered
from perception_batch.labels.run_rows import REASONS, FloatArray, IntArray, Stretch
from perception_batch.labels.scored_boxes import (
    ACCEPTED,
    DROPPED,
    IGNORED,
    OWN_VEHICLE,
    QUALITY,
    TINY,
    UNLISTED,
    UNTRACKED,
    ScoredBoxes,
)
from perception_batch.labels.track_evidence import TrackEvidence

_BIAS, _SCORE, _LENGTH, _HITS, _STEADY, _OTHERS = -4.5, 1.5, 2.5, 0.5, 0.5, 0.5
_LONGEST_S = 4.0
_OTHERWISE = 0.7
_CERTAIN = 0.999
_LEAST_SIDE_PX = 1.0
_STATIC_IOU, _STATIC_NS, _MOVED_M, _BORDER_PX = 0.9, 1_000_000_000, 3.0, 3.0


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """What is the same for all stretches of a run."""

    evidence: TrackEvidence
    """Of its tracks."""
    class_table: IntArray
    """By the model's class number: place in the set's classes, -1 where they lack it."""
    classes: tuple[str, ...]
    """Of the set."""
    path: tuple[IntArray, FloatArray]
    """Stamps and places of the vehicle; empty where unknown."""


def score_stretch(stretch: Stretch, run: RunFacts, settings: LabelSettings) -> ScoredBoxes:
    """Every box of the stretch, without its neighbours'."""
    boxes, evidence = stretch.boxes, run.evidence
    order = order_of(boxes)
    gap_ns = round(max(settings.max_gap_s, 1.0) * 1e9)
    others = companions(boxes)
    score = np.clip(boxes.score, 0.02, 0.98)
    logit = _BIAS + _SCORE * np.log(score / (1 - score))
    steady, share = np.zeros(len(boxes)), np.ones(len(boxes))
    rows, track = order.rows, boxes.track[order.rows]
    steady[rows] = steadiness(boxes, order, gap_ns)
    length_s = np.minimum(evidence.tracks.length_s[track], _LONGEST_S)
    logit[rows] += _LENGTH * np.log1p(length_s / 0.5) + _HITS * hit_rates(boxes, stretch.frames, order)
    logit += _STEADY * steady + _OTHERS * np.minimum(others, 1)
    share[rows] = evidence.class_share[track]
    called = run.class_table[np.clip(boxes.class_id, 0, len(run.class_table) - 1)]
    class_index, decided = called.copy(), evidence.class_id[track]
    own = run.class_table[np.clip(decided, 0, len(run.class_table) - 1)]
    class_index[rows] = np.where(decided >= 0, own, called[rows])
    share[rows[called_otherwise(boxes, order, (called == class_index)[rows])]] *= _OTHERWISE
    quality = share / (1 + np.exp(-logit))
    confused = class_index != called
    confused[rows] |= (evidence.switched[track] > 0.2) & (evidence.class_share[track] < _CERTAIN)
    why = boxes.aside.copy()
    why[(why == 0) & (boxes.track < 0)] = UNTRACKED
    why[_own_vehicle(stretch, order, run.path)] = OWN_VEHICLE
    scored = ScoredBoxes(
        boxes.timestep, boxes.camera, boxes.stamp_ns, boxes.detection, boxes.xyxy, boxes.score,
        class_index, quality, np.zeros(len(boxes), np.int64), why,
        boxes.track, others, steady, confused,
    )  # fmt: skip
    if settings.recover and settings.max_gap_s > 0:
        scored = with_recovered(scored, stretch, order, share, settings.max_gap_s)
    scored = scored.rows((scored.timestep >= stretch.start) & (scored.timestep < stretch.stop))
    return _in_bands(scored, run.classes, settings)


def _in_bands(boxes: ScoredBoxes, classes: tuple[str, ...], settings: LabelSettings) -> ScoredBoxes:
    accept = np.array([settings.accept.of(label) for label in classes] + [2.0])[boxes.class_index]
    ignore = np.array([settings.ignore.of(label) for label in classes] + [2.0])[boxes.class_index]
    listed = boxes.class_index >= 0
    why = boxes.why.copy()
    why[~listed] = UNLISTED
    # What is part of another box, of the own vehicle by its mask, or of no asked class has nothing to be ignored for.
    out = np.isin(why, [REASONS.index(name) for name in ("duplicate", "ego_mask", "class")]) | ~listed
    band = np.full(len(boxes), DROPPED, np.int64)
    sure = np.nan_to_num(boxes.score, nan=0.0) >= settings.sure_score
    band[~out & ((boxes.quality >= ignore) | sure)] = IGNORED
    band[why == OWN_VEHICLE] = IGNORED
    accepted = (why == 0) & (boxes.quality >= accept)
    band[accepted] = ACCEPTED
    tiny = np.minimum(*(boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).T) < _LEAST_SIDE_PX
    band[tiny], why[tiny] = DROPPED, TINY
    why[(why == 0) & ~accepted & ~tiny] = QUALITY
    return replace(boxes, band=band, why=why)


def _own_vehicle(stretch: Stretch, order: Order, path: tuple[IntArray, FloatArray]) -> IntArray:
    """Rows of tracks that stand still at the image's lower border for a second in which the vehicle drives on."""
    stamps, places = path
    boxes, rows = stretch.boxes, order.rows
    if len(stamps) < 2 or not len(rows):
        return np.zeros(0, np.int64)
    stamp = boxes.stamp_ns[rows]
    origin = int(stamp.min())
    span = int(stamp.max()) - origin + 2 * _STATIC_NS
    key = order.group * span + (stamp - origin)
    later = np.minimum(np.searchsorted(key, key + _STATIC_NS), len(key) - 1)
    paired = (order.group[later] == order.group) & (stamp[later] - stamp >= _STATIC_NS)
    seconds = (stamps - origin) * 1e-9
    at = np.stack([np.interp((stamp - origin) * 1e-9, seconds, places[:, i]) for i in (0, 1)], axis=1)
    moved = np.hypot(*(at[later] - at).T) >= _MOVED_M
    heights = np.zeros(int(stretch.frames.camera.max(initial=0)) + 1)
    heights[stretch.frames.camera] = stretch.frames.height_px
    low = boxes.xyxy[rows, 3] >= heights[boxes.camera[rows]] - _BORDER_PX
    still = pairwise_iou(boxes.xyxy[rows], boxes.xyxy[rows[later]]) >= _STATIC_IOU
    groups = int(order.group.max()) + 1
    looked = np.bincount(order.group[paired & moved], minlength=groups)
    fixed = np.bincount(order.group[paired & moved & low & still], minlength=groups)
    own = (looked > 0) & (fixed >= 0.8 * looked)
    return np.asarray(rows[own[order.group]], np.int64)
