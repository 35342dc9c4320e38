"""What comes out of a tracker: timesteps whose objects hindsight has put in order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.track.following import Followed
from perception_batch.track.lives import Life
from perception_batch.track.sighting import from_polar, jacobian
from perception_batch.track.smoothing import Smoothed
from perception_batch.types import FloatArray, FusedObject, Fusion, SuppressedReason, TimestepResult

_FADE_S = 0.5
"""A filled object's score falls to 1/e within this time since it was last seen."""
_GAP_SLACK_NS = 1_000_000
"""Stamps jitter: a gap of one lag may be a little longer."""
_MOVING_MPS = 2.0
"""From this speed on, things point where they go."""


_At: TypeAlias = tuple[FloatArray, FloatArray, FloatArray]
"""(3,) place, (3, 3) covariance and (3,) velocity, in the base frame."""
_NOWHERE: _At = (np.full(3, np.nan), np.full((3, 3), np.nan), np.full(3, np.nan))
for _part in _NOWHERE:
    _part.flags.writeable = False
_LOST = (_NOWHERE, math.nan, False)


class Kinds:
    """Numbers and sizes of classes, as the objects so far had them."""

    def __init__(self) -> None:
        self._known: dict[str, FusedObject] = {}

    def learn(self, item: FusedObject) -> None:
        """Remember an object of a class that is new."""
        if item.label not in self._known:
            self._known[item.label] = item

    def of(self, label: str) -> FusedObject:
        """An object of that class."""
        return self._known[label]

    def class_id(self, label: str) -> int:
        """The model's number for it."""
        return self._known[label].class_id


def put_in_order(
    result: TimestepResult,
    followed: Followed,
    smoothed: Smoothed,
    kinds: Kinds,
    *,
    lag_ns: int,
    next_id: int,
) -> tuple[TimestepResult, int]:
    """One timestep with tracks, without ghosts and with its gaps filled.

    Returns:
        The timestep, and the id that the next new track gets.
    """
    old = result.fusion
    places, covers, speeds = _in_base(result, followed, smoothed)
    # Objects share the arrays' memory, which is never written again.
    tracked: list[_At] = list(zip(places, covers, speeds, strict=True))
    distances = np.hypot(places[:, 0], places[:, 1]).tolist()
    paces = np.hypot(speeds[:, 0], speeds[:, 1]).tolist()
    over_ground = result.ego is not None
    objects: list[FusedObject] = []
    new_number = np.full(len(old.objects) + 1, -1, np.int32)
    ghosts: list[FusedObject] = []
    for number, (item, row) in enumerate(zip(old.objects, followed.row_of, strict=True)):
        life = followed.life_of(number)
        if life is not None and life.verdict != "real":
            ghosts.append(item)
            continue
        new_number[number] = len(objects)
        if life is None:
            objects.append(item)
            continue
        if life.track_id < 0:
            life.take_over()
        if life.track_id < 0:
            life.track_id, next_id = next_id, next_id + 1
        at, distance, fast = (tracked[row], distances[row], paces[row] > _MOVING_MPS) if row >= 0 else _LOST
        objects.append(_tracked(item, life, kinds, at, headed=over_ground and fast))
        _count(life, result.stamp_ns, distance, item)
    seen_now = set(followed.row_of)
    for row, life in enumerate(followed.lives):
        if row in seen_now or life.track_id < 0 or (life.seen_ns and life.seen_ns[-1] <= result.stamp_ns):
            continue
        gap = life.gap_at(result.stamp_ns)
        if (
            gap is not None
            and gap[1] != result.stamp_ns
            and gap[1] - gap[0] <= lag_ns + _GAP_SLACK_NS
            and not followed.adrift[row]
        ):
            score = life.score_at_gap * math.exp(-(result.stamp_ns - gap[0]) * 1e-9 / _FADE_S)
            item = replace(kinds.of(life.label), score=score, observations=(), filled=True, yaw_rad=math.nan)
            fast = paces[row] > _MOVING_MPS
            objects.append(_tracked(item, life, kinds, tracked[row], headed=over_ground and fast))
            _count(life, result.stamp_ns, distances[row], None)
    fusion = Fusion(
        tuple(objects),
        {camera: new_number[numbers] for camera, numbers in old.object_of.items()},
        _with_ghosts(old.suppressed, ghosts),
    )
    return replace(result, fusion=fusion), next_id


def _in_base(
    result: TimestepResult, followed: Followed, smoothed: Smoothed
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(N, 3) places, (N, 3, 3) covariances and (N, 3) velocities in the base frame at the timestep's stamp."""
    n = len(followed.lives)
    place = np.concatenate([smoothed.mean[:, :2], followed.height_m[:, None]], axis=1)
    speed = np.concatenate([smoothed.mean[:, 2:4], np.zeros((n, 1))], axis=1)
    pose = result.ego.odom_SE3_base if result.ego is not None else SE3.identity()
    back = from_polar(jacobian(place[:, :2], pose.translation_m[:2]))
    cover = np.zeros((n, 3, 3))
    cover[:, :2, :2] = smoothed.place_m2 + back @ followed.lasting @ back.transpose(0, 2, 1)
    cover[:, 2, 2] = followed.height_m2
    turn = pose.rotation
    cover = turn.T @ cover @ turn
    place = (place - pose.translation_m) @ turn
    speed = speed @ turn
    place[followed.adrift], cover[followed.adrift], speed[followed.adrift] = np.nan, np.nan, np.nan
    return place, 0.5 * (cover + cover.transpose(0, 2, 1)), speed


def _tracked(
    item: FusedObject,
    life: Life,
    kinds: Kinds,
    at: _At,
    *,
    headed: bool,
) -> FusedObject:
    place_m, cover_m2, speed_mps = at
    kind = kinds.of(life.label)
    known = life.sightings > 1
    yaw = item.yaw_rad
    if headed and known and math.isnan(yaw):
        yaw = math.atan2(speed_mps[1], speed_mps[0])
    return FusedObject(
        class_id=kind.class_id,
        label=kind.label,
        score=item.score,
        position_m=place_m,
        covariance_m2=cover_m2,
        size_lwh_m=item.size_lwh_m if item.label == kind.label else kind.size_lwh_m,
        size_source=item.size_source,
        yaw_rad=yaw,
        observations=item.observations,
        track_id=life.track_id,
        velocity_mps=speed_mps if known else _NOWHERE[0],
        filled=item.filled,
        own_m2=item.own_m2,
        shared_m=item.shared_m,
    )


def _count(life: Life, stamp_ns: int, distance_m: float, item: FusedObject | None) -> None:
    """Add a timestep to what the track's summary will say."""
    if not life.observed:
        life.first_ns = stamp_ns
    life.last_ns = stamp_ns
    life.nearest_m = min(life.nearest_m, distance_m)  # an unknown place is no minimum
    if item is None:
        life.filled += 1
        return
    life.observed += 1
    life.score_sum += item.score
    life.score_at_gap = item.score
    life.cameras.update(observation.camera for observation in item.observations)


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
