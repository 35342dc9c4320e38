"""Boxes that are one thing, as columns: which they are, and what they decide together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.assignment import IntArray
from perception_batch.calibration import FloatArray
from perception_batch.fusion.boxes import Words
from perception_batch.fusion.class_doubt import Mixture

FlagArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Groups:
    """G groups of B boxes."""

    box: IntArray
    """(B,) numbers of the boxes: those of one group after each other, rising, of different cameras."""
    of: IntArray
    """(B,) number of the group, from 0, rising."""
    first: IntArray
    """(G,) which of `box` is the first of each group."""
    kind: IntArray
    """(G,) the decided class, as in `Boxes`."""
    yaw_rad: FloatArray
    """(G,) heading; NaN where unknown."""

    @classmethod
    def none(cls) -> Groups:
        """No group of no box."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, nothing, nothing, np.zeros(0))

    @classmethod
    def led(cls, leader: IntArray, kind: IntArray, yaw_rad: FloatArray) -> Groups:
        """Groups of N boxes by the first box of each one's group, with the kinds and headings that these first ones have.

        Args:
            leader: (N,) the lowest number of each one's group.
            kind: (N,) of the boxes.
            yaw_rad: (N,) of the boxes.
        """
        box = leader.argsort(kind="stable")
        leader = leader[box]
        leads = leader == box
        first = leads.nonzero()[0]
        heads = box[first]
        return cls(box, leads.cumsum() - 1, first, kind[heads], yaw_rad[heads])

    def without(self, lost: FlagArray) -> Groups:
        """Those but the (G,) lost ones."""
        kept, boxes = (~lost).nonzero()[0], (~lost[self.of]).nonzero()[0]
        of = ((~lost).cumsum() - 1)[self.of[boxes]]
        first = of.searchsorted(np.arange(len(kept)))
        return Groups(self.box[boxes], of, first, self.kind[kept], self.yaw_rad[kept])

    def among(self, numbers: IntArray, others: IntArray, kind: IntArray) -> Groups:
        """The same where box i has the number ``numbers[i]``, and after them `others` of these kinds, each by itself."""
        boxes, count = len(self.box), len(self.first)
        every = np.arange(len(others))
        return Groups(
            np.concatenate([numbers[self.box], others]),
            np.concatenate([self.of, count + every]),
            np.concatenate([self.first, boxes + every]),
            np.concatenate([self.kind, kind]),
            np.concatenate([self.yaw_rad, np.full(len(others), np.nan)]),
        )

    @property
    def counts(self) -> IntArray:
        """(G,) how many boxes each has."""
        return np.bincount(self.of, minlength=len(self.first))


def decided(words: Words, number_of: IntArray, count: int, by_name: IntArray) -> IntArray:
    """What each of `count` things is: the class for which its boxes' scores add up to most; of equal ones the first by name.

    Args:
        words: of N boxes, of K classes.
        number_of: (N,) which thing each box is of.
        by_name: (K,) place of each class in the order of names.
    """
    classes = len(by_name)
    entry = number_of[words.box] * classes + by_name[words.kind]
    sums = np.bincount(entry, weights=words.score, minlength=count * classes)
    sums[np.bincount(entry, minlength=count * classes) == 0] = -1.0
    kinds: IntArray = by_name.argsort().take(sums.reshape(count, classes).argmax(1))
    return kinds


def in_doubt(
    groups: Groups, words: Words, of_box: IntArray, row_as: IntArray, rows: IntArray, known: FlagArray
) -> tuple[list[int], list[Mixture]]:
    """The boxes whose thing a detector called by two names, where more than one of these tells a place.

    Args:
        groups: of N boxes.
        words: theirs.
        of_box: (N,) the boxes' groups.
        row_as: (N, K) row of box n taken for class k; -1 where it has none.
        rows: (B,) row of each of `groups.box`, taken for the decided class.
        known: of all rows.

    Returns:
        Places in `groups.box`, and what each may be, the decided class first.
    """
    at: list[int] = []
    mixtures: list[Mixture] = []
    doubled = words.box[1:][words.box[1:] == words.box[:-1]]
    for g in sorted(set(of_box[doubled].tolist())):
        start = int(groups.first[g])
        stop = start + int(groups.of.searchsorted(g, "right")) - start
        sums: dict[int, float] = {}
        for box in groups.box[start:stop].tolist():
            of = slice(*words.box.searchsorted((box, box + 1)).tolist())
            for kind, score in zip(words.kind[of].tolist(), words.score[of].tolist(), strict=True):
                sums[kind] = sums.get(kind, 0.0) + score
        if len(sums) == 1:
            continue
        decided_kind = int(groups.kind[g])
        kinds = [decided_kind, *(kind for kind in sums if kind != decided_kind)]
        for n in range(start, stop):
            taken = row_as[groups.box[n]].take(kinds).tolist()
            may = [
                (row, sums[kind]) for row, kind in zip(taken, kinds, strict=True) if row >= 0 and known[row]
            ]
            if len(may) > 1 and may[0][0] == rows[n]:
                at.append(n)
                mixtures.append(([row for row, _ in may], [score for _, score in may]))
    return at, mixtures
