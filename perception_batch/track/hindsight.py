"""What comes out of a tracker: timesteps whose objects hindsight has put in order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perception_batch.columnar import FusedObjects
from perception_batch.geometry import SE3
from perception_batch.track.following import Followed
from perception_batch.track.into_base import into_base
from perception_batch.track.lives import Life
from perception_batch.track.sighting import from_polar, slopes, turned
from perception_batch.track.smoothing import Smoothed
from perception_batch.types import FloatArray, Fusion, Observation, SuppressedReason, TimestepResult

_FADE_S = 0.5
"""A filled object's score falls to 1/e within this time since it was last seen."""
_GAP_SLACK_NS = 1_000_000
"""Stamps jitter: a gap of one lag may be a little longer."""
_MOVING_MPS = 2.0
"""From this speed on, things point where they go."""


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
        self._known: dict[str, tuple[int, FloatArray, str]] = {}

    def learn(self, objects: FusedObjects) -> None:
        """Remember an object of each class that is new."""
        labels = objects.label
        for label in dict.fromkeys(labels) if set(labels) - self._known.keys() else ():
            if label not in self._known:
                first = labels.index(label)
                size = objects.size_lwh_m[first].copy()
                self._known[label] = int(objects.class_id[first]), size, objects.size_source[first]

    def class_id(self, label: str) -> int:
        """The model's number for it."""
        return self._known[label][0]

    def size_lwh_m(self, label: str) -> FloatArray:
        """(3,) length, width, height."""
        return self._known[label][1]

    def size_source(self, label: str) -> str:
        """Where that comes from."""
        return self._known[label][2]


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
    """Objects of a timestep that are given out: in their order; then those in gaps."""

    numbers: list[int]
    """Of those that were fused, in the timestep."""
    rows: list[int]
    """Of `Told`; -1 for those that no track on the ground has."""
    lives: list[Life | None]
    """Their tracks; None for those that stay as they were fused."""
    gap_scores: list[float]
    """Of those in gaps."""

    def objects(self, was: FusedObjects, told: Told, kinds: Kinds) -> FusedObjects:
        """As they are given out; `was`: as they were fused."""
        gaps, numbers, lives = len(self.gap_scores), self.numbers, self.lives
        known = was if len(numbers) == len(was) else was.take(np.array(numbers, np.int64))
        labels = [
            life.label if life is not None else was.label[n] for life, n in zip(lives, numbers, strict=False)
        ]
        # One sighting says nothing of velocities.
        once = np.array([life is None or life.sightings < 2 for life in lives], bool)
        rows = np.array(self.rows, np.int64)
        speed_mps = told.speed_mps.take(rows, axis=0)
        speed_mps[once] = np.nan
        place_m, cover_m2 = told.place_m.take(rows, axis=0), told.cover_m2.take(rows, axis=0)
        yaw_rad = np.concatenate([known.yaw_rad, np.full(gaps, np.nan)])
        yaw_rad = np.where(np.isnan(yaw_rad) & ~once, told.heading_rad.take(rows), yaw_rad)
        class_id, size, source = known.class_id, known.size_lwh_m, known.size_source
        if labels != known.label:
            class_id, size = class_id.copy(), size.copy()
            for i, label in enumerate(labels):
                if label != known.label[i]:
                    class_id[i], size[i] = kinds.class_id(label), kinds.size_lwh_m(label)
        as_fused = [i for i, life in enumerate(lives) if life is None]
        if as_fused:
            place_m[as_fused], cover_m2[as_fused] = known.position_m[as_fused], known.covariance_m2[as_fused]
            speed_mps[as_fused] = known.velocity_mps[as_fused]
        track_id = np.array([-1 if life is None else life.track_id for life in lives], np.int64)
        filled = np.zeros(len(lives), bool)
        if not gaps:
            score, seen, own_m2, shared_m = known.score, known.observations, known.own_m2, known.shared_m
        else:
            filled[-gaps:] = True
            in_gaps = [life.label for life in lives[-gaps:] if life is not None]
            labels += in_gaps
            class_id = np.concatenate([class_id, [kinds.class_id(label) for label in in_gaps]])
            size = np.concatenate([size, np.array([kinds.size_lwh_m(label) for label in in_gaps])])
            source = [*source, *map(kinds.size_source, in_gaps)]
            score = np.concatenate([known.score, self.gap_scores])
            seen = [*known.observations, *[()] * gaps]
            own_m2 = np.concatenate([known.own_m2, np.full((gaps, 3, 3), np.nan)])
            shared_m = np.concatenate([known.shared_m, np.full((gaps, 2, 3), np.nan)])
        return FusedObjects(
            class_id, labels, score, place_m, cover_m2, size, source, yaw_rad, seen, track_id, speed_mps, filled, own_m2, shared_m
        )  # fmt: skip


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
    was = FusedObjects.of(old.objects)
    new_number = np.full(1 + len(was), -1, np.int32)
    on_ground, in_images = followed.lives, followed.in_images
    lives = [on_ground[row] if row >= 0 else in_images.get(i) for i, row in enumerate(followed.row_of)]
    ghosts = [i for i, life in enumerate(lives) if life is not None and life.verdict != "real"]
    numbers = list(range(len(was)))
    if ghosts:
        numbers = sorted(set(numbers).difference(ghosts))
        lives = [lives[i] for i in numbers]
    for life in lives:
        if life is not None and life.track_id < 0:
            life.take_over()
            if life.track_id < 0:
                life.track_id, next_id = next_id, next_id + 1
    new_number[numbers] = np.arange(len(numbers))
    row_of = np.array(followed.row_of, np.int64).take(np.array(numbers, np.int64))
    rows = np.where(row_of >= 0, start + row_of, -1)
    kept = _Kept(numbers, rows.tolist(), lives, [])
    distances_m, scores = told.distance_m.take(rows).tolist(), was.score.tolist()
    observations = was.observations
    for life, i, distance_m in zip(lives, numbers, distances_m, strict=True):
        if life is not None:
            life.tell(stamp_ns, distance_m, scores[i], observations[i])
    _fill_gaps(kept, followed, stamp_ns, told, start, lag_ns)
    fusion = Fusion(
        kept.objects(was, told, kinds),
        {camera: new_number[numbers] for camera, numbers in old.object_of.items()},
        _with_ghosts(old.suppressed, [was.observations[i] for i in ghosts]),
    )
    return replace(result, fusion=fusion), next_id


def _fill_gaps(kept: _Kept, followed: Followed, stamp_ns: int, told: Told, start: int, lag_ns: int) -> None:
    """Add tracks that were seen before and after a timestep, and not long apart."""
    for row in followed.unseen:
        life = followed.lives[row]
        if life.track_id < 0 or followed.adrift[row]:
            continue
        gap = life.gap_at(stamp_ns)
        if gap is not None and gap[1] != stamp_ns and gap[1] - gap[0] <= lag_ns + _GAP_SLACK_NS:
            kept.lives.append(life)
            kept.rows.append(start + row)
            kept.gap_scores.append(life.score_at_gap * math.exp(-(stamp_ns - gap[0]) * 1e-9 / _FADE_S))
            life.tell_filled(stamp_ns, float(told.distance_m[start + row]))


def _with_ghosts(
    suppressed: Mapping[str, tuple[SuppressedReason, ...]], ghosts: Sequence[Sequence[Observation]]
) -> Mapping[str, tuple[SuppressedReason, ...]]:
    if not ghosts:
        return suppressed
    out = {camera: list(reasons) for camera, reasons in suppressed.items()}
    for seen in ghosts:
        for observation in seen:
            out[observation.camera][observation.detection] = "ghost"
    return {camera: tuple(reasons) for camera, reasons in out.items()}
