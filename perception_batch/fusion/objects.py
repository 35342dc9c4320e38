"""Boxes that are one thing become one object: class, score, position and its errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.position import Views
from perception_batch.fusion.suppress import LabelRule
from perception_batch.ontology import Ontology
from perception_batch.types import FusedObject, Observation


@dataclass(frozen=True, slots=True)
class Box:
    """One detection that counts."""

    observation: Observation
    """Its camera and number."""
    score: float
    """Of the detection."""
    rule: LabelRule
    """What its camera makes of its label."""
    evidence: tuple[tuple[str, float], ...]
    """Class name and score of itself and of the duplicates suppressed in its favour."""


Place: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""(3,) position, (3, 3) covariance, (3, 3) its own part, (2, 3) lasting errors."""


@dataclass(frozen=True, slots=True)
class Group:
    """Boxes that are one thing."""

    seen: Sequence[Box]
    """The boxes, of different cameras."""
    name: str
    """The decided class."""
    rows: Sequence[int]
    """Each box's row of `Views`, taken for that class."""
    yaw_rad: float
    """Heading; NaN where unknown."""


class ObjectMaker:
    """Makes objects; knows the classes and the model's numbers for them."""

    def __init__(self, ontology: Ontology, labels: Mapping[int, str]) -> None:
        self._sizes = {name: np.array(entry.size_lwh_m) for name, entry in ontology.classes.items()}
        for size in self._sizes.values():
            size.flags.writeable = False
        # The model's number for each ontology name: its own label of that name, else the first alias.
        self._ids: dict[str, int] = {}
        for number in sorted(labels, reverse=True):
            entry = ontology.find(labels[number])
            self._ids[entry.name if entry else labels[number]] = number
        self._ids.update({label: number for number, label in sorted(labels.items(), reverse=True)})
        self._nowhere = _constant((3,))
        self._unknown_cov = _constant((3, 3))
        self._unknown_shared = _constant((2, 3))

    def alone(self, box: Box) -> FusedObject:
        """The object of a box without a place in the world."""
        name = decide([box])
        nowhere = self._nowhere, self._unknown_cov, self._unknown_cov, self._unknown_shared
        return self._object([box], name, math.nan, nowhere)

    def make(self, groups: Sequence[Group], views: Views) -> list[FusedObject]:
        """The objects of groups of boxes; objects share arrays' memory, which is never written again."""
        known, supports = views.known.tolist(), views.supports.tolist()
        nowhere = self._nowhere, self._unknown_cov, self._unknown_cov, self._unknown_shared
        places: list[Place] = [nowhere] * len(groups)
        alone: list[tuple[int, int]] = []
        several: dict[int, list[tuple[int, list[int]]]] = {}
        for number, group in enumerate(groups):
            if len(group.rows) == 1:
                usable = [row for row in group.rows if known[row]]
            else:
                usable = [row for row in group.rows if supports[row]]
                # One box of something close that no edge of says where: a bearing. Two of them place it.
                if len(usable) < 2:
                    usable = [row for row in usable if known[row]]
            if len(usable) == 1:
                alone.append((number, usable[0]))
            elif usable:
                several.setdefault(len(usable), []).append((number, usable))
        if alone:
            taken = np.array([row for _, row in alone])
            parts = (
                views.position_m[taken],
                views.total_m2[taken],
                views.jitter_m2[taken],
                views.lasting_m[taken],
            )
            for (number, _), place in zip(alone, zip(*parts, strict=True), strict=True):
                places[number] = place
        for together in several.values():
            combined = combine(views, np.array([rows for _, rows in together]))
            for (number, _), place in zip(together, zip(*combined, strict=True), strict=True):
                places[number] = place
        return [
            self._object(group.seen, group.name, group.yaw_rad, place)
            for group, place in zip(groups, places, strict=True)
        ]

    def _object(self, seen: Sequence[Box], name: str, yaw_rad: float, place: Place) -> FusedObject:
        position, covariance, own, shared = place
        if len(seen) == 1:
            observations, miss = [seen[0].observation], 1 - seen[0].score
        else:
            observations = sorted((box.observation for box in seen), key=lambda o: (o.camera, o.detection))
            miss = math.prod(1 - box.score for box in seen)
        size = self._sizes.get(name) if seen[0].rule.entry is not None else None
        return FusedObject(
            class_id=self._ids.get(name, -1),
            label=name,
            score=min(1.0, 1 - miss),
            position_m=position,
            covariance_m2=covariance,
            size_lwh_m=self._nowhere if size is None else size,
            size_source="unknown" if size is None else "prior",
            yaw_rad=yaw_rad,
            observations=tuple(observations),
            velocity_mps=self._nowhere,
            own_m2=own,
            shared_m=shared,
        )


def _constant(shape: tuple[int, ...]) -> FloatArray:
    """NaNs that many objects share."""
    out = np.full(shape, np.nan)
    out.flags.writeable = False
    return out


def decide(seen: Sequence[Box]) -> str:
    """The class with the largest sum of scores, duplicates' included; ties by name."""
    if len(seen) == 1 and len(seen[0].evidence) == 1:
        return seen[0].rule.name
    return next(iter(verdicts(seen)))


def verdicts(seen: Sequence[Box]) -> dict[str, float]:
    """What speaks for each class, the sum of scores, duplicates' included: by falling sum, ties by name."""
    sums: dict[str, float] = {}
    for box in seen:
        for name, score in box.evidence:
            sums[name] = sums.get(name, 0.0) + score
    return dict(sorted(sums.items(), key=lambda entry: (-entry[1], entry[0])))


def combine(
    views: Views, rows: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Objects of several views each.

    Each view is weighted by the inverse of its whole covariance; what lasts stays in full, however many cameras
    look (their pitches are taken for one: they err alike when the body nods). Views that disagree widen what is
    the object's own (Birge ratio).

    Args:
        views: of all boxes.
        rows: (G, K) the K rows of each of G objects.

    Returns:
        (G, 3) positions, (G, 3, 3) covariances, (G, 3, 3) their own parts, (G, 2, 3) lasting errors.
    """
    count = rows.shape[1]
    position_m, jitter, lasting = views.position_m[rows], views.jitter_m2[rows], views.lasting_m[rows]
    information = np.linalg.inv(views.total_m2[rows])
    weights = np.linalg.inv(information.sum(axis=1))[:, None] @ information
    position: FloatArray = (weights @ position_m[..., None])[..., 0].sum(axis=1)
    transposed = weights.swapaxes(2, 3)
    together: FloatArray = (lasting @ transposed).sum(axis=1)
    outer = together.swapaxes(1, 2) @ together
    alone = (weights @ jitter @ transposed).sum(axis=1)
    apart = position_m - position[:, None]
    spread = (apart[..., None, :] @ information @ apart[..., None])[..., 0, 0].sum(axis=1)
    wider = np.maximum(spread / (3 * (count - 1)), 1.0) - 1
    alone = _symmetric(alone + wider[:, None, None] * (alone + outer))
    return position, _symmetric(alone + outer), alone, together


def _symmetric(matrices: FloatArray) -> FloatArray:
    """Without the last bit's asymmetry."""
    return 0.5 * (matrices + matrices.swapaxes(1, 2))
