"""What an evaluation says: figures, or why there are none."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A part without figures."""

    skipped: str
    """Why."""


@dataclass(frozen=True, slots=True)
class ClassAP:
    """Boxes of one class."""

    label: str
    """The ontology's name."""
    truth_boxes: int
    """Truth boxes that count."""
    truth_objects: int
    """Objects that they are of."""
    detections: int
    """Boxes kept by the run."""
    ap50: float
    """Average precision at an overlap of 0.5, 101 points."""
    ap50_95: float
    """Mean over overlaps 0.50, 0.55 .. 0.95."""
    recall50: float
    """Largest share of truth boxes found, at any score, at an overlap of 0.5."""


@dataclass(frozen=True, slots=True)
class DetectionFigures:
    """Boxes."""

    pictures: int
    """Camera pictures with truth."""
    truth_boxes: int
    """Truth boxes that count."""
    ignored_boxes: int
    """Truth boxes that do not."""
    ap50: float
    """Mean over the classes."""
    ap50_95: float
    """Mean over the classes."""
    classes: tuple[ClassAP, ...]
    """Classes that the truth has boxes of."""


@dataclass(frozen=True, slots=True)
class MergeFigures:
    """Pairs of observations in different cameras."""

    true_pairs: int
    """Pairs that belong to one truth object."""
    fused_pairs: int
    """Pairs that were fused into one object."""
    right_pairs: int
    """Both."""
    truth_objects: int
    """Truth objects with a true pair."""
    precision: float | None
    """right / fused; None without a fused pair."""
    recall: float | None
    """right / true; None without a true pair."""
    f1: float
    """2 right / (true + fused)."""
    f1_interval: Interval | None
    """95 %, bootstrap over truth objects."""


@dataclass(frozen=True, slots=True)
class Band:
    """Range errors of a stretch of true range."""

    from_m: float
    """Nearest."""
    to_m: float
    """Farthest, exclusive."""
    rows: int
    """Objects and timesteps."""
    range_error_median: float
    """Of the absolute relative error."""


@dataclass(frozen=True, slots=True)
class ObjectPosition:
    """One truth object."""

    object_id: str
    """In the truth's words."""
    label: str
    """In the truth's words."""
    rows: int
    """Timesteps with a position."""
    range_m: float
    """Median true range."""
    range_error: float
    """Median relative range error, with its sign."""
    range_error_largest: float
    """Largest absolute one."""
    position_error_m: float
    """Median horizontal distance from the truth."""
    coverage_95: float | None
    """Share of timesteps with the truth within the 95 % ellipse."""


@dataclass(frozen=True, slots=True)
class PositionFigures:
    """Fused objects on truth objects."""

    rows: int
    """Objects and timesteps compared."""
    truth_objects: int
    """Truth objects among them."""
    without_position: int
    """Objects and timesteps that were detected and have no position."""
    range_error_median: float
    """Of the absolute relative range error."""
    range_error_interval: Interval | None
    """95 %, bootstrap over truth objects."""
    range_error_bias: float
    """Median of the relative range error with its sign: positive is too far."""
    range_error_largest: float
    """Largest absolute one."""
    position_error_median_m: float
    """Horizontal."""
    position_error_p95_m: float
    """Horizontal, 95th percentile."""
    coverage_95: float | None
    """Share of truth positions within the stated 95 % ellipse of x and y."""
    coverage_95_interval: Interval | None
    """95 %, bootstrap over truth objects."""
    coverage_95_old_tracks: float | None
    """The same for objects whose track is 3 s old or older; None without any."""
    old_track_rows: int
    """How many those are."""
    bands: tuple[Band, ...]
    """By true range."""
    objects: tuple[ObjectPosition, ...]
    """By truth object."""


@dataclass(frozen=True, slots=True)
class TrackFigures:
    """Identities over time."""

    space: Literal["ground", "image"]
    """Whether tracks and truth were matched by position, or by boxes, camera by camera."""
    timesteps: int
    """With truth."""
    truth_objects: int
    """That count at some time."""
    tracks: int
    """That were compared."""
    truth_rows: int
    """Truth objects and timesteps."""
    idf1: float
    """Ristani et al. 2016."""
    id_precision: float
    """IDP."""
    id_recall: float
    """IDR."""
    mota: float
    """Bernardin and Stiefelhagen 2008."""
    id_switches: int
    """A truth object goes on under another id."""
    fragmentations: int
    """A truth object is lost and found again."""
    misses: int
    """Truth rows without a track."""
    false_positives: int
    """Track rows without truth."""
    mostly_tracked: int
    """Truth objects tracked for more than 80 % of their time."""
    mostly_lost: int
    """... for less than 20 %."""


@dataclass(frozen=True, slots=True)
class SyncFigures:
    """Timesteps as sets of frames."""

    timesteps: int
    """With at least one frame."""
    exact: int
    """Whose frames are exactly those in the log that belong together."""
    mixed: int
    """That hold a frame of another set, or one that is of none (a frozen picture)."""
    short: int
    """That lack a frame that the log holds."""
    unknown: int
    """With a frame that the truth does not know."""
    exact_share: float | None
    """exact / timesteps."""
    true_sets: int
    """Sets of frames in the truth, of the run's cameras."""
    true_sets_made: int
    """Of them, those that are a timestep."""


@dataclass(frozen=True, slots=True)
class Report:
    """One run against one truth."""

    run: str
    """The run's folder."""
    drive: str
    """Name of the drive."""
    truth: str
    """The truth's path."""
    timesteps: int
    """Of the run."""
    truth_frames: int
    """Of the truth."""
    matched: int
    """Timesteps with a truth frame."""
    tolerance_ms: float
    """How far apart they may be where only time tells."""
    settings: dict[str, float]
    """What counts."""
    ignored_labels: dict[str, int]
    """Labels of the truth that no class has, and how many objects bear them."""
    detection: DetectionFigures | Skipped
    """Boxes."""
    merges: MergeFigures | Skipped
    """One object over cameras."""
    positions: PositionFigures | Skipped
    """Where, and how sure."""
    tracks: TrackFigures | Skipped
    """One object over time."""
    sync: SyncFigures | Skipped
    """Which frames belong together."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain values, and None where a number is unknown."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return {"schema": 1, **plain}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
