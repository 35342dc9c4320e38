"""The ontology's classes as columns: from here on a class, a group and a camera are numbers, rows of tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from perception_batch.assignment import IntArray
from perception_batch.calibration import FloatArray
from perception_batch.fusion.sizes import Sizes
from perception_batch.ontology import Ontology


@dataclass(frozen=True, slots=True)
class ClassTable:
    """K classes, numbered as the ontology lists them."""

    ontology: Ontology
    sizes: Sizes
    """(K,) their size priors."""
    length_m: FloatArray
    """(K,) hardly any thing is longer."""
    by_name: IntArray
    """(K,) place of each in the order of names."""
    group: IntArray
    """(K,) number of the class group."""
    same_group: npt.NDArray[np.bool_]
    """(K, K) whether two are of one group."""
    _groups: dict[str, int]
    _of_label: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, ontology: Ontology) -> ClassTable:
        """All classes of an ontology."""
        names, entries = list(ontology.classes), list(ontology.classes.values())
        groups = {group: g for g, group in enumerate(dict.fromkeys(entry.group for entry in entries))}
        sizes = Sizes.of(entries)
        places = {name: place for place, name in enumerate(sorted(names))}
        group = np.array([groups[entry.group] for entry in entries], np.int64)
        return cls(
            ontology,
            sizes,
            sizes.length_m + 2 * np.sqrt(sizes.length_var),
            np.array([places[name] for name in names], np.int64),
            group,
            group[:, None] == group,
            groups,
        )

    def __len__(self) -> int:
        return len(self.group)

    def groups_of(self, labels: Iterable[str]) -> IntArray:
        """Number of the class group of each label; -1 where the ontology has none."""
        listed = list(labels)
        for label in set(listed).difference(self._of_label):
            entry = self.ontology.find(label)
            self._of_label[label] = -1 if entry is None else self._groups[entry.group]
        return np.array(list(map(self._of_label.__getitem__, listed)), np.int64)
