"""Boxes that are one thing become one object: class, score, position and its errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from perception_batch.calibration import FloatArray
from perception_batch.fusion.boxes import Boxes
from perception_batch.fusion.position import Views, symmetric
from perception_batch.ontology import Ontology
from perception_batch.types import FusedObject

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Groups:
    """Boxes that are one thing, G times; one list an entry for each, in step."""

    members: list[list[int]] = field(default_factory=list)
    """Numbers of the boxes, rising, of different cameras."""
    names: list[str] = field(default_factory=list)
    """The decided class."""
    rows: list[list[int]] = field(default_factory=list)
    """Each box's row of `Views`, taken for that class; empty where they have none."""
    yaws_rad: list[float] = field(default_factory=list)
    """Heading; NaN where unknown."""

    def add(self, members: list[int], name: str, rows: list[int], yaw_rad: float) -> None:
        """One more."""
        self.members.append(members)
        self.names.append(name)
        self.rows.append(rows)
        self.yaws_rad.append(yaw_rad)

    def of_all(self, numbers: Sequence[int]) -> Groups:
        """The same, where their boxes have other numbers: each the one at its place in `numbers`."""
        members = [[numbers[i] for i in members] for members in self.members]
        return Groups(members, self.names, self.rows, self.yaws_rad)

    def take(self, numbers: Iterable[int]) -> Groups:
        """Those of these numbers, in that order."""
        out = Groups()
        for k in numbers:
            out.add(self.members[k], self.names[k], self.rows[k], self.yaws_rad[k])
        return out


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all objects of one class have alike."""

    class_id: int
    size_lwh_m: FloatArray
    size_source: Literal["prior", "unknown"]


class ObjectMaker:
    """Makes objects; knows the classes and the model's numbers for them."""

    def __init__(self, ontology: Ontology, labels: Mapping[int, str]) -> None:
        # The model's number for each ontology name: its own label of that name, else the first alias.
        ids: dict[str, int] = {}
        for number in sorted(labels, reverse=True):
            entry = ontology.find(labels[number])
            ids[entry.name if entry else labels[number]] = number
        ids.update({label: number for number, label in sorted(labels.items(), reverse=True)})
        self._nowhere = _constant([math.nan] * 3)
        self._kinds = {name: _Kind(number, self._nowhere, "unknown") for name, number in ids.items()}
        for name, entry in ontology.classes.items():
            self._kinds[name] = _Kind(ids.get(name, -1), _constant(entry.size_lwh_m), "prior")
        self._unheard = _Kind(-1, self._nowhere, "unknown")  # a number that the model has no name for

    def make(self, boxes: Boxes, groups: Groups, views: Views | None) -> tuple[list[FusedObject], list[int]]:
        """The objects of groups of boxes by falling score, then by their first box; and which group each is.

        Objects share arrays' memory, which is never written again.
        """
        scores = _scores(boxes.scores, groups.members)
        first = np.array([members[0] for members in groups.members], np.int64)
        order: list[int] = np.lexsort((first, -np.array(scores))).tolist()
        scores = _in_order(scores, order)
        members, names = _in_order(groups.members, order), _in_order(groups.names, order)
        rows, yaws_rad = _in_order(groups.rows, order), _in_order(groups.yaws_rad, order)
        kinds = [self._kinds.get(name, self._unheard) for name in names]
        seen, nowhere = boxes.observations, self._nowhere
        objects = [
            FusedObject(  # in their order: naming the fields takes as long again
                kind.class_id,
                name,
                score,
                position,
                covariance,
                kind.size_lwh_m,
                kind.size_source,
                yaw_rad,
                (seen[of[0]],) if len(of) == 1 else tuple([seen[i] for i in of]),
                -1,
                nowhere,
                False,
                own,
                shared,
            )
            for of, name, kind, score, yaw_rad, position, covariance, own, shared in zip(
                members, names, kinds, scores, yaws_rad, *_places(rows, views), strict=True
            )
        ]
        return objects, order


def _in_order(values: Sequence[T], order: Sequence[int]) -> list[T]:
    return list(map(values.__getitem__, order))


def _scores(scores: Sequence[float], members: Sequence[Sequence[int]]) -> list[float]:
    """The noisy or of the scores of each object's boxes."""
    misses = (1 - np.array(scores)).tolist()
    all_miss = [misses[of[0]] if len(of) == 1 else math.prod([misses[i] for i in of]) for of in members]
    out: list[float] = np.minimum(1 - np.array(all_miss), 1.0).tolist()
    return out


def _constant(values: Sequence[float]) -> FloatArray:
    """Values that many objects share."""
    out = np.array(values)
    out.flags.writeable = False
    return out


def _places(
    rows: Sequence[list[int]], views: Views | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(G, 3) positions, (G, 3, 3) covariances, their own parts, (G, 2, 3) lasting errors; NaN where unknown.

    Args:
        rows: of `views`, of each of G objects.
        views: None where no object has any.
    """
    count = len(rows)
    if views is None:
        nan33 = np.full((count, 3, 3), np.nan)
        return nan33[:, 0], nan33, nan33, nan33[:, :2]
    known, supports = views.known.tolist(), views.supports.tolist()
    single = [of[0] if len(of) == 1 and known[of[0]] else -1 for of in rows]
    several: dict[int, list[int]] = {}
    for number in [number for number, of in enumerate(rows) if len(of) > 1]:
        usable = [row for row in rows[number] if supports[row]]
        # One box of something close that no edge of says where: a bearing. Two of them place it.
        if len(usable) > 1:
            several[number] = usable
        elif usable and known[usable[0]]:
            single[number] = usable[0]
    taken = np.array(single, np.int64)
    places = views.position_m[taken], views.total_m2[taken], views.jitter_m2[taken], views.lasting_m[taken]
    nowhere = (taken < 0).nonzero()[0]
    for part in places:
        part[nowhere] = np.nan
    if several:
        at = list(several)
        for part, combined in zip(places, combine(views, list(several.values())), strict=True):
            part[at] = combined
    return places


def combine(views: Views, rows: Sequence[list[int]]) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Objects of several views each.

    Each view is weighted by the inverse of its whole covariance; what lasts stays in full, however many cameras
    look (their pitches are taken for one: they err alike when the body nods). Views that disagree widen what is
    the object's own (Birge ratio).

    Args:
        views: of all boxes.
        rows: two or more for each of G objects.

    Returns:
        (G, 3) positions, (G, 3, 3) covariances, (G, 3, 3) their own parts, (G, 2, 3) lasting errors.
    """
    counts = np.array([len(of) for of in rows])
    most = int(counts.max())
    # Those with fewer views than others have their first one again, which then counts for nothing.
    taken = np.array([[*of, *of[:1] * (most - len(of))] for of in rows], np.int64)
    position_m, jitter, lasting = views.position_m[taken], views.jitter_m2[taken], views.lasting_m[taken]
    information = np.linalg.inv(views.total_m2[taken])
    information[np.arange(most) >= counts[:, None]] = 0.0
    weights = np.linalg.inv(information.sum(axis=1))[:, None] @ information
    position: FloatArray = (weights @ position_m[..., None])[..., 0].sum(axis=1)
    transposed = weights.swapaxes(2, 3)
    together: FloatArray = (lasting @ transposed).sum(axis=1)
    outer = together.swapaxes(1, 2) @ together
    alone = (weights @ jitter @ transposed).sum(axis=1)
    apart = position_m - position[:, None]
    spread = (apart[..., None, :] @ information @ apart[..., None])[..., 0, 0].sum(axis=1)
    wider = np.maximum(spread / (3 * (counts - 1)), 1.0) - 1
    alone = symmetric(alone + wider[:, None, None] * (alone + outer))
    return position, symmetric(alone + outer), alone, together
