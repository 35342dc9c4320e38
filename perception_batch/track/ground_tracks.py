"""The tracker of this version: constant velocity on the ground plane, a fixed lag of hindsight."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from perception_batch.calibration import Camera
from perception_batch.columnar import FusedObjects
from perception_batch.config import TrackConfig
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.track.following import Followed, Follower, group_of
from perception_batch.track.hindsight import Kinds, put_in_order, tell
from perception_batch.track.image_tracks import ImageFollower
from perception_batch.track.lives import Boxes, Life
from perception_batch.track.smoothing import smooth
from perception_batch.trajectory import JumpFinder
from perception_batch.types import EgoPose, FusedObject, Prediction, TimestepResult, TrackSummary

_BLOCK = 0.5
"""Timesteps come out in blocks of this share of the lag: hindsight is then reckoned once for a block."""
_HERE = SE3.identity()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A timestep that waits out the lag."""

    result: TimestepResult
    followed: Followed


class GroundTracker:
    """Tracks of objects with positions; see `Tracker` and `open_tracker`."""

    def __init__(self, cameras: Mapping[str, Camera], ontology: Ontology, settings: TrackConfig) -> None:
        self._cameras = dict(cameras)
        self._ontology = ontology
        self._settings = settings
        self._lag_ns = round(settings.lag_s * 1e9)
        self._waiting: deque[_Waiting] = deque()
        self._follower: Follower | None = None
        self._frame: str | None = None
        self._jumps = JumpFinder()
        self._last_ns = 0
        self._kinds = Kinds()
        self._next_id = 0
        self._numbers = itertools.count()
        self._images = ImageFollower(settings, partial(group_of, ontology), self._number)
        self._uncalibrated = False
        self._alive: dict[int, Life] = {}
        self._finished: list[TrackSummary] = []

    def push(self, result: TimestepResult) -> list[TimestepResult]:
        """Take the next timestep; see `Tracker.push`."""
        frame = result.ego.frame_id if result.ego is not None else None
        jumped = result.ego is not None and self._jumps.jumps(result.ego)
        if result.ego is None:
            self._jumps = JumpFinder()
        if self._follower is None or jumped or frame != self._frame:
            self._begin_part(fixed_frame=frame is not None)
            self._frame = frame
        follower = self._follower
        if follower is None:
            raise RuntimeError("a part of the drive was begun without tracks")
        objects = FusedObjects.of(result.fusion.objects)
        self._kinds.learn(objects)
        boxes = {camera: found.xyxy for camera, found in result.detections.items()}
        pose = result.ego.odom_SE3_base if result.ego is not None else _HERE
        followed = follower.step(result.stamp_ns, result.fusion, boxes, pose)
        flat = self._flat(objects, boxes)
        if flat or self._uncalibrated:
            self._uncalibrated = True
            told = self._images.step(result.stamp_ns, flat, boxes, result.frame_stamps_ns)
            followed = replace(followed, in_images=told)
            self._alive.update((life.number, life) for life in told.values())
        self._alive.update((life.number, life) for life in followed.lives[len(followed.moment.survivors) :])
        self._waiting.append(_Waiting(result, followed))
        self._last_ns = result.stamp_ns
        if result.stamp_ns - self._waiting[0].result.stamp_ns < (1 + _BLOCK) * self._lag_ns:
            return []
        return self._release(result.stamp_ns - self._lag_ns)

    def flush(self) -> list[TimestepResult]:
        """The timesteps that still wait; see `Tracker.flush`."""
        if self._follower is not None:
            self._follower.end()
        self._images.end()
        return self._release(self._last_ns)

    def predictions(self, stamp_ns: int, ego: EgoPose | None) -> Sequence[Prediction]:
        """Where tracks should be; see `Tracker.predictions`."""
        frame = ego.frame_id if ego is not None else None
        if self._follower is None or frame != self._frame:
            return ()
        return self._follower.ahead(stamp_ns, ego.odom_SE3_base if ego is not None else _HERE)

    def take_finished(self) -> list[TrackSummary]:
        """Tracks that have ended; see `Tracker.take_finished`."""
        taken, self._finished = self._finished, []
        return taken

    def _number(self) -> int:
        return next(self._numbers)

    def _flat(self, objects: FusedObjects, boxes: Mapping[str, Boxes]) -> dict[int, FusedObject]:
        """By number, the objects that an uncalibrated camera sees."""
        if boxes.keys() <= self._cameras.keys():
            return {}
        return {
            number: objects[number]
            for number, seen in enumerate(objects.observations)
            if seen and seen[0].camera not in self._cameras
        }

    def _begin_part(self, *, fixed_frame: bool) -> None:
        if self._follower is not None:
            self._follower.end()
        self._follower = Follower(
            self._settings, self._ontology, self._cameras, self._number, fixed_frame=fixed_frame
        )

    def _release(self, until_ns: int) -> list[TimestepResult]:
        """Give out what is not younger than `until_ns`."""
        ready = list(takewhile(lambda item: item.result.stamp_ns <= until_ns, self._waiting))
        out: list[TimestepResult] = []
        if ready:
            smoothed = smooth([item.followed.moment for item in self._waiting], len(ready))
            told = tell([item.result for item in ready], [item.followed for item in ready], smoothed)
            for number, item in enumerate(ready):
                self._waiting.popleft()
                done, self._next_id = put_in_order(
                    item.result, item.followed, told, number, self._kinds, self._lag_ns, self._next_id
                )
                out.append(done)
            last = ready[-1]
            for life in (*last.followed.lives, *last.followed.in_images.values()):
                life.forget_before(last.result.stamp_ns)
        self._finish()
        return out

    def _finish(self) -> None:
        """Tracks that have ended, no longer wait and go on in no other are summed up and forgotten."""
        first_ns = self._waiting[0].result.stamp_ns if self._waiting else math.inf
        wait_ns = round(self._settings.max_gap_s * 1e9) if self._lag_ns else 0
        over = [
            life
            for life in self._alive.values()
            if life.ended
            and life.seen_ns[-1] + (wait_ns if life.verdict == "real" else 0) < first_ns
            and (life.later is None or life.track_id < 0)  # else its id goes on in one that still waits
        ]
        for life in over:
            life.closed = True
            del self._alive[life.number]
        named = sorted((life for life in over if life.track_id >= 0), key=lambda life: life.track_id)
        self._finished += [life.summary(self._kinds.class_id(life.label)) for life in named]
