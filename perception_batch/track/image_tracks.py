"""Tracks of cameras without calibration, in their images: ByteTrack (Zhang et al. 2022, arXiv:2110.06864), one a camera.

The implementation is that of the package `trackers`, which takes real time: a frame that comes late is predicted for
the time that has passed. Importing it takes 0.7 s, which a run does ahead where it has such cameras.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.config import TrackConfig
from perception_batch.geometry import box_iou
from perception_batch.track.lives import Boxes, Life
from perception_batch.types import FloatArray, FusedObject

_SURE = 0.5
"""Boxes with at least this score choose their tracks first."""
_LEAST_IOU = 0.1
"""Overlap of a track's next box with where it is expected: ByteTrack's own."""
_UNITS = 30.0
"""The package counts how long a track may be lost in frames of a thirtieth of a second."""


@dataclass(slots=True)
class _Tracked:
    """One camera and class group."""

    tracker: Any
    last_ns: int = -1
    lives: dict[int, Life] = field(default_factory=dict)
    """By the package's number of the track."""
    unnamed: list[tuple[Life, Boxes]] = field(default_factory=list)
    """Tracks without a name, and their last boxes: the package names a track when it is seen again."""


class ImageFollower:
    """Tracks of objects that only an uncalibrated camera sees."""

    def __init__(
        self, settings: TrackConfig, group_of: Callable[[str], str], new_number: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._group_of = group_of
        self._new_number = new_number
        self._lag_ns = round(settings.lag_s * 1e9)
        self._gap_ns = round(settings.max_gap_s * 1e9)
        self._tracked: dict[tuple[str, str], _Tracked] = {}
        self._first_ns: int | None = None
        self._living: list[Life] = []

    def step(
        self,
        stamp_ns: int,
        objects: Mapping[int, FusedObject],
        boxes: Mapping[str, Boxes],
        frame_stamps_ns: Mapping[str, int],
    ) -> dict[int, Life]:
        """The track of each object, one timestep later.

        Args:
            stamp_ns: of the timestep.
            objects: by number in the timestep, those seen by an uncalibrated camera.
            boxes: by camera, (K, 4) px.
            frame_stamps_ns: by camera.
        """
        self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
        stamps = {camera: frame_stamps_ns.get(camera, stamp_ns) for camera in boxes}
        held = {key[0] for key, part in self._tracked.items() if stamps.get(key[0], 0) <= part.last_ns}
        self._age(stamp_ns, boxes.keys() - held)
        parts: dict[tuple[str, str], list[int]] = {key: [] for key in self._tracked if key[0] in boxes}
        for number, item in objects.items():
            parts.setdefault((item.observations[0].camera, self._group_of(item.label)), []).append(number)
        out: dict[int, Life] = {}
        for key, numbers in sorted(parts.items()):
            if key not in self._tracked:
                self._tracked[key] = _Tracked(self._new_tracker())
            here, part = stamps[key[0]], self._tracked[key]
            if here <= part.last_ns:  # the same frame again: who is in it was told before
                continue
            part.last_ns = here
            found = self._update(part, here, [objects[n] for n in numbers], boxes[key[0]], stamp_ns, key[1])
            out.update((numbers[i], life) for i, life in found.items())
        for number, life in out.items():
            item = objects[number]
            life.see(stamp_ns, item.label, item.score, item.observations)
        for life in self._living:
            life.judge(stamp_ns, self._lag_ns, self._settings)
        return out

    def end(self) -> None:
        """No track goes on."""
        for life in self._living:
            life.end(life.born_ns, self._lag_ns, self._settings, cut=True)
        self._living, self._tracked = [], {}

    def _age(self, stamp_ns: int, fresh: Container[str]) -> None:
        """One more chance for each track whose camera has a `fresh` frame; those unseen for too long have ended."""
        for life in self._living:
            if stamp_ns - life.seen_ns[-1] > self._gap_ns:
                life.end(stamp_ns, self._lag_ns, self._settings, cut=False)
            else:
                life.look(stamp_ns, fresh, self._lag_ns, self._settings)
        self._living = [life for life in self._living if not life.ended]
        for part in self._tracked.values():
            part.lives = {name: life for name, life in part.lives.items() if not life.ended}
            part.unnamed = [(life, box) for life, box in part.unnamed if not life.ended]

    def _new_tracker(self) -> Any:
        from trackers import ByteTrackTracker

        return ByteTrackTracker(
            lost_track_buffer=round(self._settings.max_gap_s * _UNITS),
            frame_rate=_UNITS,
            track_activation_threshold=0.0,  # what counts as detected was decided before
            minimum_consecutive_frames=1,
            minimum_iou_threshold=_LEAST_IOU,
            high_conf_det_threshold=_SURE,
        )

    def _update(
        self,
        part: _Tracked,
        frame_ns: int,
        objects: Sequence[FusedObject],
        boxes: Boxes,
        stamp_ns: int,
        group: str,
    ) -> dict[int, Life]:
        import supervision

        seconds = (frame_ns - (self._first_ns or 0)) * 1e-9  # small: a float never holds an absolute time
        rows = [item.observations[0].detection for item in objects]
        scores = np.array([item.score for item in objects], np.float64)
        again = _seen_again(part, boxes[rows], scores)
        given = supervision.Detections(
            xyxy=boxes[rows].astype(np.float64).reshape(-1, 4),
            confidence=np.where(again, np.maximum(scores, _SURE), scores),
            class_id=np.arange(len(rows)),  # comes back with the boxes, whose order may change
        )
        told = part.tracker.update(given, timestamp=seconds)
        out: dict[int, Life] = {}
        fresh: list[int] = []
        names = {} if told.tracker_id is None else dict(
            zip(told.class_id.tolist(), told.tracker_id.tolist(), strict=True)
        )  # fmt: skip
        for i in range(len(rows)):
            name = names.get(i, -1)
            if name < 0:
                fresh.append(i)
                continue
            life = part.lives.get(name)
            if life is None:
                life = part.lives[name] = self._claim(part, boxes[rows[i]]) or self._born(group, stamp_ns)
            out[i] = life
        for i in fresh:  # none goes on in a track that another box of this frame has just been given
            known = self._claim(part, boxes[rows[i]]) if again[i] else None
            out[i] = known or self._born(group, stamp_ns)
        part.unnamed += [(out[i], boxes[rows[i]]) for i in fresh]
        return out

    def _claim(self, part: _Tracked, box: Boxes) -> Life | None:
        """The track without a name that goes on in this box."""
        if not part.unnamed:
            return None
        overlap = box_iou(np.array([b for _, b in part.unnamed]), box[None])[:, 0]
        best = int(overlap.argmax())
        return part.unnamed.pop(best)[0] if overlap[best] > 0 else None

    def _born(self, group: str, stamp_ns: int) -> Life:
        life = Life(self._new_number(), group, stamp_ns)
        self._living.append(life)
        return life


def _seen_again(part: _Tracked, boxes: Boxes, scores: FloatArray) -> npt.NDArray[np.bool_]:
    """(K,) which unsure boxes are where an unnamed track was, and no sure box is.

    The package begins tracks with sure boxes only. What is unsure but lasts is given to it as if it were sure.
    """
    sure = scores >= _SURE
    if sure.all() or not part.unnamed:
        return np.zeros(len(scores), bool)
    there = box_iou(np.array([box for _, box in part.unnamed]), boxes).max(axis=0) >= _LEAST_IOU
    taken = box_iou(boxes[sure], boxes).max(axis=0, initial=0.0) >= _LEAST_IOU
    out: npt.NDArray[np.bool_] = ~sure & there & ~taken
    return out
