"""Boxes that are one thing become one object: class, score, position and its errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from perception_batch.columnar import FusedObjects
from perception_batch.fusion.boxes import Boxes
from perception_batch.fusion.groups import Groups
from perception_batch.fusion.placed import Places, combine
from perception_batch.fusion.position import Views
from perception_batch.ontology import Ontology
from perception_batch.types import Observation

_NOWHERE = (math.nan,) * 3


class ObjectMaker:
    """Makes objects; knows the classes and the model's numbers for them."""

    def __init__(self, ontology: Ontology, labels: Mapping[int, str]) -> None:
        # The model's number for each ontology name: its own label of that name, else the first alias.
        ids: dict[str, int] = {}
        for number in sorted(labels, reverse=True):
            entry = ontology.find(labels[number])
            ids[entry.name if entry else labels[number]] = number
        ids.update({label: number for number, label in sorted(labels.items(), reverse=True)})
        self._ids = ids
        self._sizes = {name: entry.size_lwh_m for name, entry in ontology.classes.items()}
        # By kind, as far as they are known.
        self._numbers = np.zeros(0, np.int64)
        self._lwh_m = np.zeros((0, 3))
        self._names, self._sources = np.empty((2, 0), object)

    def make(
        self, boxes: Boxes, groups: Groups, places: Places, names: Sequence[str]
    ) -> tuple[FusedObjects, npt.NDArray[np.int64]]:
        """The objects of groups of boxes by falling score, then by their first box; and (G,) which group each is.

        Args:
            boxes: N.
            groups: G of them.
            places: of the groups.
            names: of the kinds.
        """
        self._learn(names)
        missed = 1 - boxes.score[groups.box]
        missed = np.multiply.reduceat(missed, groups.first) if len(missed) else missed
        score = np.minimum(1 - missed, 1.0)  # the noisy or
        heads = groups.box[groups.first]
        order = np.lexsort((heads, -score))
        places = places.take(order)
        seen: list[tuple[Observation, ...]] = [boxes.observations[i] for i in groups.box.tolist()]
        first, counts = groups.first[order], groups.counts[order]
        observations = [
            seen[start] if count == 1 else tuple(chain.from_iterable(seen[start : start + count]))
            for start, count in zip(first.tolist(), counts.tolist(), strict=True)
        ]
        kind = groups.kind[order]
        objects = FusedObjects(
            self._numbers.take(kind),
            self._names.take(kind).tolist(),
            score[order],
            places.position_m,
            places.total_m2,
            self._lwh_m.take(kind, 0),
            self._sources.take(kind).tolist(),
            groups.yaw_rad[order],
            observations,
            np.full(len(order), -1),
            np.full((len(order), 3), math.nan),
            np.zeros(len(order), bool),
            places.jitter_m2,
            places.lasting_m,
        )
        return objects, order

    def _learn(self, names: Sequence[str]) -> None:
        """What all objects of one class have alike, where there are classes that are not known yet."""
        if len(self._names) == len(names):
            return
        # A number that the model has no name for is not its number for anything.
        self._numbers = np.array([self._ids.get(name, -1) for name in names], np.int64)
        self._lwh_m = np.array([self._sizes.get(name, _NOWHERE) for name in names], np.float64).reshape(-1, 3)
        self._names, self._sources = np.empty((2, len(names)), object)
        self._names[:] = names
        self._sources[:] = ["prior" if name in self._sizes else "unknown" for name in names]


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
