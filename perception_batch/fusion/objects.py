"""Boxes that are one thing become one object: class, score, position and its errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.boxes import Boxes
from perception_batch.fusion.groups import Groups
from perception_batch.fusion.placed import Places, combine
from perception_batch.fusion.position import Views
from perception_batch.ontology import Ontology
from perception_batch.types import FusedObject, Observation


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
        self._ids = ids
        self._sizes = {name: _constant(entry.size_lwh_m) for name, entry in ontology.classes.items()}
        self._kinds: list[npt.NDArray[np.object_]] = []  # by kind: number, name, size, source of the size

    def make(
        self, boxes: Boxes, groups: Groups, places: Places, names: Sequence[str]
    ) -> tuple[list[FusedObject], npt.NDArray[np.int64]]:
        """The objects of groups of boxes by falling score, then by their first box; and (G,) which group each is.

        Objects share arrays' memory, which is never written again.

        Args:
            boxes: N.
            groups: G of them.
            places: of the groups.
            names: of the kinds.
        """
        if not len(groups.first):
            return [], groups.first
        self._learn(names)
        missed = np.multiply.reduceat(1 - boxes.score[groups.box], groups.first)
        score = np.minimum(1 - missed, 1.0)  # the noisy or
        heads = groups.box[groups.first]
        order = np.lexsort((heads, -score))
        places = places.take(order)
        observations: list[tuple[Observation, ...]] = [boxes.observations[i] for i in heads[order].tolist()]
        counts = groups.counts[order]
        for number in (counts > 1).nonzero()[0].tolist():
            start = int(groups.first[order[number]])
            members = groups.box[start : start + int(counts[number])].tolist()
            observations[number] = tuple([boxes.observations[i][0] for i in members])
        kind = groups.kind[order]
        class_id, label, size_lwh_m, size_source = [column.take(kind).tolist() for column in self._kinds]
        objects = FusedObject.of_columns(
            len(order),
            class_id=class_id,
            label=label,
            score=score[order].tolist(),
            position_m=places.position_m,
            covariance_m2=places.total_m2,
            size_lwh_m=size_lwh_m,
            size_source=size_source,
            yaw_rad=groups.yaw_rad[order].tolist(),
            observations=observations,
            track_id=repeat(-1),
            velocity_mps=repeat(self._nowhere),
            filled=repeat(False),
            own_m2=places.jitter_m2,
            shared_m=places.lasting_m,
        )
        return objects, order

    def _learn(self, names: Sequence[str]) -> None:
        """What all objects of one class have alike, where there are classes that are not known yet."""
        if self._kinds and len(self._kinds[0]) == len(names):
            return
        sizes = [self._sizes.get(name, self._nowhere) for name in names]
        sources = ["prior" if name in self._sizes else "unknown" for name in names]
        # A number that the model has no name for is not its number for anything.
        numbers = [self._ids.get(name, -1) for name in names]
        columns: tuple[Sequence[object], ...] = (numbers, names, sizes, sources)
        self._kinds = [np.empty(len(names), object) for _ in columns]
        for made, values in zip(self._kinds, columns, strict=True):
            for kind, value in enumerate(values):
                made[kind] = value


def _constant(values: Sequence[float]) -> FloatArray:
    """Values that many objects share."""
    out = np.array(values)
    out.flags.writeable = False
    return out


def placed_groups(groups: Groups, views: Views, places: Places) -> Places:
    """(G,) where the groups of B boxes are; nowhere where no box tells.

    Args:
        groups: G.
        views: of the B boxes, taken for the groups' classes.
        places: the same.
    """
    counts = groups.counts
    several = counts[groups.of] > 1
    usable = np.where(several, views.supports, views.known)
    telling = np.bincount(groups.of, weights=usable, minlength=len(counts))
    # One box of something close that no edge of says where: a bearing. Two of them place it.
    taken = np.full(len(counts), -1)
    alone = (usable & views.known & (telling[groups.of] == 1)).nonzero()[0]
    taken[groups.of[alone]] = alone
    out = places.take(taken)
    together = (telling > 1).nonzero()[0]
    if len(together):
        members = (usable & (telling[groups.of] > 1)).nonzero()[0]
        many = telling[together].astype(np.int64)
        out.put(together, combine(places.take(members), many.cumsum() - many, many))
    return out
