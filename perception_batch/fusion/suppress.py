"""Which detections count: thresholds, wanted classes, ego masks, and two boxes on one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.ontology import ObjectClass, Ontology
from perception_batch.pairs import pairs_within
from perception_batch.types import FloatArray

Polygons = Sequence[Sequence[tuple[float, float]]]

_UNLISTED_SCORE = 0.25  # as `detect.score` documents for labels that its table does not list
_SAMPLES = 5  # per side of a box, to tell how much of it a mask covers
_CONTAINED = 0.9  # share of the smaller box inside the larger from which a lower IoU suffices


@dataclass(frozen=True, slots=True)
class LabelRule:
    """What one camera makes of one of the model's labels."""

    entry: ObjectClass | None
    """The ontology's class; None where it has none."""
    name: str
    """The ontology's name, or the model's label where it has none."""
    wanted: bool
    """Whether `classes` lists it."""
    min_score: float
    """Score from which it counts as detected, as float32 stores it."""


def rule_for(
    label: str,
    ontology: Ontology,
    model_labels: frozenset[str],
    classes: Sequence[str],
    scores: Sequence[float | Mapping[str, float]],
) -> LabelRule:
    """The rule for `label`.

    Args:
        label: the model's label.
        ontology: the classes.
        model_labels: all labels of the model. A word in `classes` that is one of them means that label only;
            any other word means whatever the ontology knows under it.
        classes: what is wanted.
        scores: thresholds, the most specific first; a table that does not list the label passes on.
    """
    entry = ontology.find(label)
    name = entry.name if entry else label
    wanted = label in classes or name in classes
    if not wanted and entry is not None:
        wanted = any(ontology.find(word) is entry for word in classes if word not in model_labels)
    min_score = _UNLISTED_SCORE
    for score in scores:
        if not isinstance(score, Mapping):
            min_score = score
            break
        listed = [score[word] for word in (label, name) if word in score]
        if listed:
            min_score = listed[0]
            break
    # float32 0.25 equals 0.25, but 0.3 as float32 is a little more: compare as stored.
    min_score = float(np.float32(min_score))
    return LabelRule(entry, name, wanted, min_score)


def inside_any(points_px: npt.NDArray[np.float64], polygons: Polygons) -> npt.NDArray[np.bool_]:
    """(N,) whether (N, 2) points lie in one of the polygons (even-odd rule)."""
    inside = np.zeros(len(points_px), bool)
    x, y = points_px[:, 0:1], points_px[:, 1:2]
    for polygon in polygons:
        a = np.asarray(polygon, np.float64)
        b = np.roll(a, -1, axis=0)
        rise = b[:, 1] - a[:, 1]
        slope = (b[:, 0] - a[:, 0]) / np.where(rise == 0, 1.0, rise)
        crosses = (a[:, 1] > y) != (b[:, 1] > y)
        left_of = x < slope * (y - a[:, 1]) + a[:, 0]
        inside |= (np.count_nonzero(crosses & left_of, axis=1) % 2).astype(bool)
    return inside


def masked(xyxy: npt.NDArray[np.float64], polygons: Polygons) -> npt.NDArray[np.bool_]:
    """(N,) whether more than half of each (N, 4) box lies in the polygons."""
    if not polygons or not len(xyxy):
        return np.zeros(len(xyxy), bool)
    steps = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    gx, gy = (g.ravel() for g in np.meshgrid(steps, steps))
    x = xyxy[:, 0:1] + gx * (xyxy[:, 2:3] - xyxy[:, 0:1])
    y = xyxy[:, 1:2] + gy * (xyxy[:, 3:4] - xyxy[:, 1:2])
    inside = inside_any(np.stack([x.ravel(), y.ravel()], axis=1), polygons).reshape(len(xyxy), -1)
    over_half: npt.NDArray[np.bool_] = inside.mean(axis=1) > 0.5
    return over_half


def low_edge_hidden(xyxy: FloatArray, edge: int, mask: Polygons) -> npt.NDArray[np.bool_]:
    """(N,) whether the own vehicle covers the edge on which a box would stand.

    Args:
        xyxy: (N, 4) px.
        edge: which of the four coordinates is that edge's, see `lens.low_edge`.
        mask: polygons of the ego vehicle, px.
    """
    outward = -2.0 if edge < 2 else 2.0  # a box that ends where the mask begins is hidden too
    hidden = np.zeros(len(xyxy), bool)
    for share in (0.25, 0.5, 0.75):
        points = np.empty((len(xyxy), 2))
        other = 1 - edge % 2
        points[:, edge % 2] = xyxy[:, edge] + outward
        points[:, other] = xyxy[:, other] + share * (xyxy[:, other + 2] - xyxy[:, other])
        hidden |= inside_any(points, mask)
    return hidden


def duplicates(
    xyxy: FloatArray,
    camera: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    duplicate_iou: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The boxes to drop in favour of others: (D,) rows of boxes that stay, rising, and (D,) of what goes for each.

    Two boxes of one class group are one thing where their IoU reaches `duplicate_iou`, or three quarters of
    it where one lies almost wholly inside the other (a box round the visible half of the same person). A car
    before a lorry lies inside the lorry's box too, but covers less of it. The stronger box stays.

    Args:
        xyxy: (N, 4) boxes that count; those of one camera by falling score.
        camera: (N,) number of the camera, never falling.
        group: (N,) number of the class group.
        duplicate_iou: as configured.
    """
    rows, columns = pairs_within(camera)
    left, top, right, bottom = np.ascontiguousarray(xyxy.T)
    wide = np.minimum(right[rows], right[columns]) - np.maximum(left[rows], left[columns])
    near = (wide > 0).nonzero()[0]
    rows, columns, wide = rows[near], columns[near], wide[near]
    tall = np.minimum(bottom[rows], bottom[columns]) - np.maximum(top[rows], top[columns])
    overlap = wide * np.maximum(tall, 0.0)
    area = (right - left) * (bottom - top)
    area_a, area_b = area[rows], area[columns]
    iou = overlap / np.maximum(area_a + area_b - overlap, 1e-12)
    contained = overlap >= _CONTAINED * np.minimum(area_a, area_b)
    same = (iou >= np.where(contained, 0.75, 1.0) * duplicate_iou) & (group[rows] == group[columns])
    twice = same.nonzero()[0]
    dropped: set[int] = set()
    out: list[tuple[int, int]] = []
    for i, j in zip(rows[twice].tolist(), columns[twice].tolist(), strict=True):
        if i not in dropped and j not in dropped:
            dropped.add(j)
            out.append((i, j))
    kept, others = np.array(out, np.int64).reshape(-1, 2).T
    return kept, others
