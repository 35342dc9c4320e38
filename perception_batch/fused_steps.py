"""Timesteps with their objects, and with their pictures: what the writers take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from perception_batch import flow
from perception_batch.calibration import Rig
from perception_batch.detected_steps import DetectedStep
from perception_batch.fusion import measure_lidar
from perception_batch.lenses import rig_with_lenses
from perception_batch.objects import STEPS_AT_ONCE, Detected, ObjectMaker
from perception_batch.render import Tile
from perception_batch.resume import settled_rows, status_of
from perception_batch.stages import Profile
from perception_batch.types import EgoPose, FrameRow, Image, TimestepResult, TrackSummary

Draw = Callable[[Mapping[str, Tile], TimestepResult], Image | None]


@dataclass(frozen=True, slots=True)
class FusedStep:
    """A timestep as the writers want it."""

    result: TimestepResult
    """What is known of it."""
    rows: tuple[FrameRow, ...]
    """Frames settled with it."""
    poses: tuple[EgoPose, ...]
    """Poses read with it."""
    tracks: tuple[TrackSummary, ...]
    """Tracks that have ended and belong to no timestep that came out before: with the first of those that come out together."""
    picture: Image | None
    """The mosaic; None without a video, and where it was drawn by an earlier run."""


@dataclass(frozen=True, slots=True)
class _Companions:
    """What waits with a timestep while hindsight makes up its mind."""

    tiles: Mapping[str, Tile]
    rows: tuple[FrameRow, ...]
    poses: tuple[EgoPose, ...]


def fused_steps(
    source: Iterable[DetectedStep],
    objects: ObjectMaker,
    draw: Draw | None,
    profile: Profile,
    rig: Rig,
) -> Iterator[FusedStep]:
    """Objects of each timestep (`rig` has the lenses for a lidar's points) and, with `draw`, its picture.

    They come as late as the tracker looks back, and up to `STEPS_AT_ONCE` at a time.
    """
    fuse_stage, draw_stage = profile.stage("fuse"), profile.stage("draw")
    waiting: deque[_Companions] = deque()

    def finished(results: Iterable[TimestepResult]) -> Iterator[FusedStep]:
        for result in results:
            beside = waiting.popleft()
            picture = None
            if draw is not None:
                with draw_stage.measure():
                    picture = draw(beside.tiles, result)
            yield FusedStep(result, beside.rows, beside.poses, tuple(objects.take_finished()), picture)

    def given() -> Iterator[Detected]:
        for item in source:
            frame_set = item.step.frame_set
            waiting.append(_Companions(item.tiles, settled_rows(item), item.step.poses))
            lidar = {}
            if item.step.sweeps:
                with fuse_stage.measure(0):
                    placed = item.step.base_now_SE3_camera
                    seen = rig_with_lenses(rig, item.step.lenses)
                    lidar = measure_lidar(item.detections, item.image_hw, placed, item.step.sweeps, seen)
            yield Detected(
                frame_set.index,
                frame_set.stamp_ns,
                status_of(item),
                {name: frame.stamp_ns for name, frame in frame_set.frames.items()},
                item.detections,
                item.image_hw,
                item.step.base_now_SE3_camera,
                item.step.ego,
                lidar,
                item.step.mounts,
                item.step.lenses,
            )

    with flow.closed(source):
        steps = given()
        while some := list(islice(steps, STEPS_AT_ONCE)):
            with fuse_stage.measure(len(some)):
                done = objects.push(some)
            yield from finished(done)
        yield from finished(objects.flush())
