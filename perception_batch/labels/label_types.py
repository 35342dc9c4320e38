"""What a training set is made of, whatever the format it is written in. Boxes are pixels of the image as written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Band = Literal["accepted", "ignored"]
"""``ignored``: too doubtful to teach, too likely to be taught as background."""


@dataclass(frozen=True, slots=True)
class LabelBox:
    """One box of one image that a training set keeps."""

    box_px: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the image: x right, y down, (0, 0) the outer corner of the top-left pixel."""
    class_index: int
    """Place in the set's list of classes, from 0."""
    label: str
    """Its name there."""
    band: Band
    score: float | None
    """Of the detector; None: recovered by hindsight, no detection stands behind it."""
    quality: float
    """0..1: what the score, the track, the other cameras and the neighbours in time say together."""
    recovered: bool
    """From a track's gap, not from a detection."""
    detection: int | None
    """Row within its camera frame in ``detections.parquet``."""
    track_id: int | None
    class_scores: Mapping[str, float]
    """By label, the evidence for each class over the track; empty where there is no track."""
    touches_border: bool
    """Cut by the border of the image."""


@dataclass(frozen=True, slots=True)
class LabelImage:
    """One image of a training set, with all its boxes; none: an explicit negative."""

    name: str
    """Stem of its files: unique in the set, of letters, digits, ``-``, ``_`` and ``.`` only; drive, camera and stamp."""
    suffix: str
    """Of the image's file: ``.jpg`` or ``.png``."""
    split: Split
    group: str
    """What is never split: a drive, a day, a vehicle, a place, or a block of time."""
    drive: str
    camera: str
    frame_stamp_ns: int
    timestep: int
    width_px: int
    height_px: int
    boxes: tuple[LabelBox, ...]
    review_reasons: tuple[str, ...] = ()
    """Why a person should look at it; empty: no need."""
    doubt: float = 0.0
    """0..1, larger is more doubtful; ranks the review list."""
