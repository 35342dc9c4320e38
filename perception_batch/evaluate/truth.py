"""Truth as the figures want it, whichever file it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_batch.errors import LogError, printable
from perception_batch.ontology import Ontology

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
NO_CLASS = -1
"""Class number of a label that the ontology does not know."""


@dataclass(frozen=True)
class Classes:
    """Numbers for the classes of one ontology."""

    ontology: Ontology

    @cached_property
    def names(self) -> tuple[str, ...]:
        """By number."""
        return tuple(self.ontology.classes)

    @cached_property
    def groups(self) -> IntArray:
        """By class number, the number of its group; the last entry, reached by `NO_CLASS`, is a group of its own."""
        words = [entry.group for entry in self.ontology.classes.values()]
        order = {word: number for number, word in enumerate(dict.fromkeys(words))}
        return np.array([*(order[word] for word in words), -1], np.int64)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def number(self, label: str) -> int:
        """Class number of a label in anyone's words; `NO_CLASS` where it has none."""
        entry = self.ontology.find(label)
        return NO_CLASS if entry is None else self._numbers[entry.name]


@dataclass(frozen=True, slots=True, eq=False)
class TruthFrame:
    """All objects at one instant."""

    stamp_ns: int
    """True time."""
    ids: IntArray
    """(N,) rows of `Truth.object_names`."""
    classes: IntArray
    """(N,) class numbers."""
    center_m: FloatArray
    """(N, 3) in the base frame; NaN where unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class TruthPicture:
    """What one camera picture truly shows."""

    frame: int
    """Row of `Truth.frames` that it belongs to."""
    camera: str
    """Name of the camera."""
    stamp_ns: int
    """Its stamp in the log; in JSON truth, that of the frame."""
    in_set: bool
    """Whether it truly belongs to the set of its frame (a frozen picture does not)."""
    ids: IntArray
    """(M,) rows of `Truth.object_names`."""
    classes: IntArray
    """(M,) class numbers."""
    box_px: FloatArray
    """(M, 4) left, top, right, bottom."""
    visible: FloatArray
    """(M,) visible share, 0..1."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """One drive's truth."""

    path: Path
    """Where it was read."""
    frames: tuple[TruthFrame, ...]
    """By time."""
    pictures: tuple[TruthPicture, ...]
    """By frame."""
    object_names: tuple[str, ...]
    """Identity in the file's own words."""
    object_labels: tuple[str, ...]
    """Its label in the file's own words."""
    knows_pictures: bool
    """Whether it says which pictures (camera, stamp) belong together; JSON truth knows frames only."""
    unknown_labels: Mapping[str, int]
    """Labels that no class of the ontology has, and how many objects bear them."""

    @property
    def period_ns(self) -> int:
        """Median distance of the frames; 0 for a single one."""
        stamps = np.array([frame.stamp_ns for frame in self.frames], np.int64)
        return int(np.median(np.diff(stamps))) if len(stamps) > 1 else 0


def read_truth(path: Path, classes: Classes) -> Truth:
    """Truth from the simulator's folder (or the folder that holds it as ``truth``), or from a JSON file.

    Raises:
        LogError: nothing there, not truth, or damaged.
    """
    from perception_batch.evaluate.truth_folder import read_folder
    from perception_batch.evaluate.truth_json import read_json

    if path.is_dir():
        for folder in (path, path / "truth"):
            if (folder / "boxes.parquet").is_file():
                return read_folder(folder, classes)
        raise LogError(
            path, "is no truth folder: expected boxes.parquet, objects.parquet, timesteps.parquet in it"
        )
    if not path.exists():
        raise LogError(path, "no such truth; give the truth folder of a simulated drive or a JSON file")
    return read_json(path, classes)


def describe_unknown(labels: Mapping[str, int]) -> str:
    """One line for people."""
    return ", ".join(f"{printable(label)} ({count})" for label, count in sorted(labels.items()))
