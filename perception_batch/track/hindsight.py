"""What comes out of a tracker: timesteps whose objects hindsight has put in order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.track.following import Followed
from perception_batch.track.into_base import into_base
from perception_batch.track.lives import Life
from perception_batch.track.sighting import from_polar, slopes, turned
from perception_batch.track.smoothing import Smoothed
from perception_batch.types import FloatArray, FusedObject, Fusion, SuppressedReason, TimestepResult

_FADE_S = 0.5
"""A filled object's score falls to 1/e within this time since it was last seen."""
_GAP_SLACK_NS = 1_000_000
"""Stamps jitter: a gap of one lag may be a little longer."""
_MOVING_MPS = 2.0
"""From this speed on, things point where they go."""

_LABEL, _SCORE, _YAW, _SIZE = map(attrgetter, ("label", "score", "yaw_rad", "size_lwh_m"))
_SOURCE, _SEEN_BY, _OWN, _SHARED = map(attrgetter, ("size_source", "observations", "own_m2", "shared_m"))
_CLASS, _TRACK, _SIGHTINGS = map(attrgetter, ("class_id", "track_id", "sightings"))


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of the tracks of timesteps one after the other, in the base frame; a row more, all NaN, of none.

    Objects share the arrays' memory, which is never written again.
    """

    starts: Sequence[int]
    """By timestep, the row of its first track."""
    place_m: FloatArray
    """(N + 1, 3)."""
    cover_m2: FloatArray
    """(N + 1, 3, 3) covariance of `place_m`."""
    speed_mps: FloatArray
    """(N + 1, 3)."""
    distance_m: FloatArray
    """(N + 1,) horizontal."""
    heading_rad: FloatArray
    """(N + 1,) where it goes; NaN where it does not."""


class Kinds:
    """Numbers and sizes of classes, as the objects so far had them."""

    def __init__(self) -> None:
        self.known: dict[str, FusedObject] = {}
        """By label, an object of that class."""

    def learn(self, objects: Sequence[FusedObject]) -> None:
        """Remember an object of each class that is new."""
        if set(map(_LABEL, objects)) - self.known.keys():
            for item in objects:
                self.known.setdefault(item.label, item)

    def class_id(self, label: str) -> int:
        """The model's number for it."""
        return self.known[label].class_id


def tell(results: Sequence[TimestepResult], followed: Sequence[Followed], smoothed: Smoothed) -> Told:
    """What is known of each track of timesteps one after the other, at their stamps."""
    poses = [r.ego.odom_SE3_base if r.ego is not None else SE3.identity() for r in results]
    counts = [len(step.lives) for step in followed]
    n = sum(counts)
    origins = np.array([pose.translation_m[:2] for pose in poses]).repeat(counts, axis=0).T
    back = from_polar(slopes(smoothed.mean[:2], origins))
    lasting = np.concatenate([step.lasting for step in followed], axis=1)
    place, cover = np.empty((3, n)), np.empty((4, n))
    place[:2], place[2] = smoothed.mean[:2], np.concatenate([step.height_m for step in followed])
    cover[:3] = smoothed.place_m2 + turned(back, lasting)
    cover[3] = np.concatenate([step.height_m2 for step in followed])
    places, covers, speeds = into_base(place, cover, smoothed.mean[2:], poses, counts, spare=1)
    adrift = np.concatenate([*[step.adrift for step in followed], [True]])
    for part in (places, covers, speeds):
        part[adrift] = np.nan
    # Against a vehicle that itself moves, where a thing goes is not where it points.
    over_ground = np.array([*[r.ego is not None for r in results], False]).repeat([*counts, 1])
    x_mps, y_mps, _ = speeds.T
    headed = (np.hypot(x_mps, y_mps) > _MOVING_MPS) & over_ground
    heading_rad = np.where(headed, np.arctan2(y_mps, x_mps), np.nan)
    starts = [0, *itertools.accumulate(counts)]
    return Told(starts, places, covers, speeds, np.hypot(places[:, 0], places[:, 1]), heading_rad)


@dataclass(slots=True)
class _Kept:
    """Objects of a timestep that are given out with tracks."""

    lives: list[Life] = field(default_factory=list)
    """Their tracks."""
    items: list[FusedObject] = field(default_factory=list)
    """As they were fused; of those in gaps, which come last, another object of the class."""
    rows: list[int] = field(default_factory=list)
    """Of `Told`."""
    gap_scores: list[float] = field(default_factory=list)
    """Of those in gaps."""

    def objects(self, told: Told, kinds: Kinds) -> list[FusedObject]:
        """As they are given out."""
        lives, items, rows = self.lives, self.items, self.rows
        count, gaps = len(items), len(self.gap_scores)
        of_kind = list(map(kinds.known.__getitem__, map(_LABEL, lives)))
        labels = list(map(_LABEL, of_kind))
        sizes = list(map(_SIZE, items))
        if labels != list(map(_LABEL, items)):
            for i, (item, kind) in enumerate(zip(items, of_kind, strict=True)):
                if item.label != kind.label:
                    sizes[i] = kind.size_lwh_m
        yaw_rad = np.array(list(map(_YAW, items)))
        yaw_rad[count - gaps :] = np.nan
        # One sighting says nothing of velocities.
        once = np.array(list(map(_SIGHTINGS, lives))) < 2
        yaw_rad = np.where(np.isnan(yaw_rad) & ~once, told.heading_rad.take(rows), yaw_rad)
        speed_mps = told.speed_mps.take(rows, axis=0)
        speed_mps[once] = np.nan
        seen: list[object] = list(map(_SEEN_BY, items))
        seen[count - gaps :] = [()] * gaps
        return FusedObject.of_columns(
            count,
            class_id=map(_CLASS, of_kind),
            label=labels,
            score=[*map(_SCORE, items[: count - gaps]), *self.gap_scores],
            position_m=told.place_m.take(rows, axis=0),
            covariance_m2=told.cover_m2.take(rows, axis=0),
            size_lwh_m=sizes,
            size_source=map(_SOURCE, items),
            yaw_rad=yaw_rad.tolist(),
            observations=seen,
            track_id=map(_TRACK, lives),
            velocity_mps=speed_mps,
            filled=[False] * (count - gaps) + [True] * gaps,
            own_m2=map(_OWN, items),
            shared_m=map(_SHARED, items),
        )


def put_in_order(
    result: TimestepResult,
    followed: Followed,
    told: Told,
    number: int,
    kinds: Kinds,
    lag_ns: int,
    next_id: int,
) -> tuple[TimestepResult, int]:
    """One timestep with tracks, without ghosts and with its gaps filled.

    Args:
        result: as fused.
        followed: the tracks, forward in time.
        told: what is known of them.
        number: of the timestep in `told`.
        kinds: all classes so far.
        lag_ns: the longest gap that is filled.
        next_id: that the next new track gets.

    Returns:
        The timestep, and the id that the next new track gets.
    """
    old, stamp_ns, start = result.fusion, result.stamp_ns, told.starts[number]
    new_number = [-1] * (1 + len(old.objects))
    kept, ghosts = _Kept(), []
    as_they_were: list[tuple[int, FusedObject]] = []
    count = 0
    for i, (item, row) in enumerate(zip(old.objects, followed.row_of, strict=True)):
        life = followed.lives[row] if row >= 0 else followed.in_images.get(i)
        if life is None:
            as_they_were.append((count, item))
        elif life.verdict != "real":
            ghosts.append(item)
            continue
        else:
            if life.track_id < 0:
                life.take_over()
                if life.track_id < 0:
                    life.track_id, next_id = next_id, next_id + 1
            kept.lives.append(life)
            kept.items.append(item)
            kept.rows.append(start + row if row >= 0 else -1)
        new_number[i] = count
        count += 1
    distances_m = told.distance_m.take(kept.rows).tolist() if kept.rows else []
    for life, item, distance_m in zip(kept.lives, kept.items, distances_m, strict=True):
        life.tell(stamp_ns, distance_m, item)
    _fill_gaps(kept, followed, stamp_ns, told, start, kinds, lag_ns)
    objects = kept.objects(told, kinds) if kept.items else []
    for place, item in as_they_were:
        objects.insert(place, item)
    number_of = np.array(new_number, np.int32)
    fusion = Fusion(
        tuple(objects),
        {camera: number_of[numbers] for camera, numbers in old.object_of.items()},
        _with_ghosts(old.suppressed, ghosts),
    )
    return replace(result, fusion=fusion), next_id


def _fill_gaps(
    kept: _Kept, followed: Followed, stamp_ns: int, told: Told, start: int, kinds: Kinds, lag_ns: int
) -> None:
    """Add tracks that were seen before and after a timestep, and not long apart."""
    for row in followed.unseen:
        life = followed.lives[row]
        if life.track_id < 0 or followed.adrift[row]:
            continue
        gap = life.gap_at(stamp_ns)
        if gap is not None and gap[1] != stamp_ns and gap[1] - gap[0] <= lag_ns + _GAP_SLACK_NS:
            kept.lives.append(life)
            kept.items.append(kinds.known[life.label])
            kept.rows.append(start + row)
            kept.gap_scores.append(life.score_at_gap * math.exp(-(stamp_ns - gap[0]) * 1e-9 / _FADE_S))
            life.tell_filled(stamp_ns, float(told.distance_m[start + row]))


def _with_ghosts(
    suppressed: Mapping[str, tuple[SuppressedReason, ...]], ghosts: list[FusedObject]
) -> Mapping[str, tuple[SuppressedReason, ...]]:
    if not ghosts:
        return suppressed
    out = {camera: list(reasons) for camera, reasons in suppressed.items()}
    for item in ghosts:
        for observation in item.observations:
            out[observation.camera][observation.detection] = "ghost"
    return {camera: tuple(reasons) for camera, reasons in out.items()}
