"""One finished run as the labels see it, and which classes a training set of several runs has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perception_batch.calibration import Rig
from perception_batch.errors import ConfigError, printable
from perception_batch.labels.run_rows import IntArray
from perception_batch.ontology import Ontology

ClassMap = Mapping[str, str | None]
"""A run's label to the set's class; None: such boxes are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelRun:
    """A finished run and what its manifest says that labels depend on."""

    directory: Path
    """``OUT/<drive>``."""
    name: str
    """The drive's name, unique in the set."""
    cameras: tuple[str, ...]
    """Sorted."""
    labels: Mapping[int, str]
    """The model's class names by its class numbers."""
    asked: tuple[str, ...]
    """``detect.classes``: what fusion followed."""
    ontology: Ontology
    """Of the run's settings."""
    rig: Rig
    """Its cameras."""
    ground_z_m: float | None
    """Height of the ground in the base frame; None: unknown."""
    log: str
    """Path of its log, as the run saw it."""
    fingerprint: str
    """Of the log."""
    model_sha256: str
    """Of the weights."""

    def followed_labels(self) -> tuple[str, ...]:
        """The model's labels that fusion followed, in the model's order."""
        known = set(self.labels.values())
        out = []
        for _, label in sorted(self.labels.items()):
            entry = self.ontology.find(label)
            wanted = label in self.asked or (entry is not None and entry.name in self.asked)
            if not wanted and entry is not None:
                wanted = any(self.ontology.find(word) is entry for word in self.asked if word not in known)
            if wanted and label not in out:
                out.append(label)
        return tuple(out)


def read_class_map(path: Path) -> ClassMap:
    """A YAML file of ``label of a run: class of the set``, with null for labels to leave out.

    Raises:
        ConfigError: no such file, no mapping, or something that is no name.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{printable(path)}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"{printable(path)}: expected lines such as `truck: vehicle` or `dog: null`")
    for source, target in data.items():
        if not isinstance(source, str) or not (
            target is None or (isinstance(target, str) and target.strip())
        ):
            raise ConfigError(
                f"{printable(path)}: {printable(source)}: {printable(target)}: both sides are names, or the right one is "
                "null; quote words that YAML takes for something else"
            )
    return data


def set_classes(runs: Sequence[LabelRun], class_map: ClassMap | None) -> tuple[str, ...]:
    """The classes of a set, in order.

    Raises:
        ConfigError: runs whose lists differ and no map, or a map that misses a label of a run.
    """
    lists = [run.followed_labels() for run in runs]
    for run, labels in zip(runs, lists, strict=True):
        if not labels:
            raise ConfigError(
                f"{printable(run.directory)}: its model has none of the classes {', '.join(map(printable, run.asked))}"
            )
        if class_map is not None and (missing := [label for label in labels if label not in class_map]):
            raise ConfigError(
                f"--class-map lacks {', '.join(map(printable, missing))} of {printable(run.directory)}; name a class for "
                "each, or null to leave it out"
            )
    if class_map is not None:
        used = {class_map[label] for labels in lists for label in labels}
        classes = tuple(dict.fromkeys(c for c in class_map.values() if c is not None and c in used))
        if not classes:
            raise ConfigError("--class-map leaves no class: every label is null")
        return classes
    for run, labels in zip(runs[1:], lists[1:], strict=True):
        if set(labels) != set(lists[0]):
            only = sorted(set(labels) ^ set(lists[0]))
            raise ConfigError(
                f"{printable(runs[0].directory)} and {printable(run.directory)} have different classes "
                f"(only one has {', '.join(map(printable, only))}); say with --class-map FILE what each is in the set"
            )
    return lists[0]


def class_table(run: LabelRun, classes: Sequence[str], class_map: ClassMap | None) -> IntArray:
    """By the model's class number: place in the set's classes, -1 where they lack it."""
    table = np.full(max(run.labels, default=0) + 1, -1, np.int64)
    followed = set(run.followed_labels())
    for number, label in run.labels.items():
        target = label if class_map is None else class_map.get(label)
        if number >= 0 and label in followed and target is not None and target in classes:
            table[number] = list(classes).index(target)
    return table
