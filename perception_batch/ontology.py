"""Classes of road users and things: one table for size priors, groups, colours and label maps.

Sizes are the class means of the nuScenes training set as tabulated for CBGS (Zhu et al. 2019,
arXiv:1908.09492); for classes that it lacks, manufacturers' and zoological typical values. Spreads are
standard deviations over road users of that class as the detectors here name them (a `car` may be a van or
an SUV, a `person` a child), wider than within one data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """One class of things."""

    name: str
    """The ontology's own name; the default table uses COCO's."""
    aliases: tuple[str, ...]
    """Other words for it, in models and truth files; compared without case, `_` and `-` as blanks."""
    group: str
    """Classes of one group may be taken for each other and are associated with each other."""
    size_lwh_m: tuple[float, float, float]
    """Mean length, width, height."""
    size_sd_m: tuple[float, float, float]
    """Standard deviations of `size_lwh_m`."""
    on_ground: bool
    """Whether its box stands on the ground; traffic lights and signs do not."""
    color: str
    """``#rrggbb`` for drawings by class."""


def _entry(
    group: str,
    size: tuple[float, float, float],
    sd: tuple[float, float, float],
    color: str,
    *aliases: str,
    on_ground: bool = True,
) -> dict[str, Any]:
    return {
        "aliases": aliases,
        "group": group,
        "size_lwh_m": size,
        "size_sd_m": sd,
        "on_ground": on_ground,
        "color": color,
    }


DEFAULT_CLASSES: Mapping[str, Mapping[str, Any]] = {
    "person": _entry(
        "person", (0.73, 0.66, 1.76), (0.2, 0.15, 0.15), "#e6550d", "pedestrian", "human", "person_sitting"
    ),
    "bicycle": _entry("two_wheeler", (1.70, 0.60, 1.28), (0.2, 0.15, 0.25), "#31a354", "cyclist", "bike"),
    "motorcycle": _entry(
        "two_wheeler", (2.10, 0.76, 1.44), (0.3, 0.15, 0.2), "#74c476", "motorbike", "scooter"
    ),
    "car": _entry("vehicle", (4.61, 1.95, 1.70), (0.5, 0.15, 0.17), "#3182bd", "vehicle.car", "van", "suv"),
    "truck": _entry(
        "vehicle", (6.74, 2.46, 2.73), (2.0, 0.3, 0.65), "#756bb1", "lorry", "construction vehicle", "trailer"
    ),
    "bus": _entry("vehicle", (11.5, 2.87, 3.45), (2.0, 0.2, 0.4), "#de2d26", "coach"),
    "train": _entry("vehicle", (25.0, 2.8, 3.8), (8.0, 0.3, 0.4), "#636363", "tram"),
    "dog": _entry("animal", (0.80, 0.30, 0.60), (0.25, 0.1, 0.18), "#a6761d"),
    "horse": _entry("animal", (2.40, 0.60, 1.60), (0.3, 0.15, 0.2), "#a6761d"),
    "cow": _entry("animal", (2.40, 0.80, 1.45), (0.3, 0.15, 0.15), "#a6761d"),
    "traffic light": _entry(
        "traffic light", (0.3, 0.35, 0.95), (0.1, 0.1, 0.2), "#e6ab02", "traffic_light", on_ground=False
    ),
    "stop sign": _entry(
        "sign", (0.05, 0.75, 0.75), (0.02, 0.1, 0.1), "#d95f02", "traffic_sign", on_ground=False
    ),
}

ROAD_USERS = ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck")


def _key(word: str) -> str:
    return " ".join(word.casefold().replace("_", " ").replace("-", " ").split())


@dataclass(frozen=True)
class Ontology:
    """The table, with lookup by any name."""

    classes: Mapping[str, ObjectClass] = field(
        default_factory=lambda: {n: ObjectClass(n, **e) for n, e in DEFAULT_CLASSES.items()}
    )

    @cached_property
    def _by_word(self) -> dict[str, ObjectClass]:
        words: dict[str, ObjectClass] = {}
        for entry in self.classes.values():  # aliases first, so that a class's own name wins
            words.update({_key(alias): entry for alias in entry.aliases})
        words.update({_key(name): entry for name, entry in self.classes.items()})
        return words

    def find(self, label: str) -> ObjectClass | None:
        """The class that a model or a truth file calls `label`; None where the ontology has none."""
        return self._by_word.get(_key(label))
