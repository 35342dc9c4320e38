"""Boxes on their way to labels, as arrays, and the words for what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.labels.run_rows import REASONS, FloatArray, IntArray

DROPPED, IGNORED, ACCEPTED = 0, 1, 2
BANDS = ("dropped", "ignored", "accepted")
WHY = (*REASONS, "untracked", "quality", "own_vehicle", "unlisted", "tiny")
"""Why a box is no label, by the code in `ScoredBoxes.why`: what fusion said, then what is said here."""
UNTRACKED, QUALITY, OWN_VEHICLE, UNLISTED, TINY = range(len(REASONS), len(WHY))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBoxes:
    """N boxes by timestep, camera, and the order of detection; recovered ones last in their frame."""

    timestep: IntArray
    camera: IntArray
    stamp_ns: IntArray
    detection: IntArray
    """(N,) row within its camera frame; -1 for recovered boxes."""
    xyxy: FloatArray
    score: FloatArray
    """(N,) NaN for recovered boxes."""
    class_index: IntArray
    """(N,) place in the set's classes; -1 where they lack it."""
    quality: FloatArray
    band: IntArray
    """(N,) `DROPPED`, `IGNORED` or `ACCEPTED`."""
    why: IntArray
    """(N,) place in `WHY`; 0 for accepted boxes."""
    track: IntArray
    """(N,) -1 for none."""
    others: IntArray
    """(N,) other cameras that see the object at that timestep."""
    steady: FloatArray
    """(N,) 0..1; 0 without a track."""
    confused: npt.NDArray[np.bool_]
    """(N,) whether the detector, or another camera, calls it otherwise."""

    def __len__(self) -> int:
        return len(self.timestep)

    @property
    def recovered(self) -> npt.NDArray[np.bool_]:
        """(N,) whether no detection stands behind the box."""
        return self.detection < 0

    def rows(self, picked: Any) -> ScoredBoxes:
        """Some of them."""
        return ScoredBoxes(*(getattr(self, f.name)[picked] for f in fields(self)))


def joined(parts: Sequence[ScoredBoxes]) -> ScoredBoxes:
    """One after the other."""
    return ScoredBoxes(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(ScoredBoxes))
    )
