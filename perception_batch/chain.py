"""The stages of a run and how they are joined, from the log to what the writers take.

::

    read -> sync -> | decode -> | detect -> | fuse -> track -> draw -> | write
                    one thread  N threads   one thread        the caller's

Every bar is a bounded queue of `flow`. Without threads the same generators run in one, with the same result.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from perception_batch import flow
from perception_batch.batches import ordered_batches
from perception_batch.calibration import Rig
from perception_batch.config import RunConfig
from perception_batch.decode import decode_frame, picture_quality
from perception_batch.detect import Detector, prepare
from perception_batch.ego_motion import Step, SweepWindow, steps
from perception_batch.errors import DecodeError
from perception_batch.fusion import measure_lidar
from perception_batch.geometry import DetectorView
from perception_batch.lenses import rig_with_lenses
from perception_batch.log_pictures import decodable
from perception_batch.looks import CameraViews, Crops, Look, MakeView, Part, parts, whole_images
from perception_batch.objects import Detected, ObjectMaker
from perception_batch.render import Tile
from perception_batch.resume import RunningSegments, settled_rows, status_of
from perception_batch.sync import Synchronizer
from perception_batch.trajectory import Trajectory
from perception_batch.types import (
    Detections,
    EgoPose,
    EncodedFrame,
    FrameRow,
    Image,
    PictureQuality,
    TimestepResult,
    TrackSummary,
)

if TYPE_CHECKING:
    from perception_batch.read import FrameSource

A = TypeVar("A")
B = TypeVar("B")
Draw = Callable[[Mapping[str, Tile], TimestepResult], Image | None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shot:
    """One image of a timestep, before and after decoding."""

    step: Step
    """Its timestep."""
    frame: EncodedFrame
    """The image as in the log."""
    is_last: bool
    """Whether it is the timestep's last."""


@dataclass(frozen=True, slots=True)
class ReadyShot:
    """One image as the detector wants it; a broken image has a reason and no pixels."""

    shot: Shot
    """Where it comes from."""
    view: DetectorView | None
    """How it was made from the original; None where broken."""
    pixels: Image
    """(H, W, 3) uint8 RGB, the detector's input; empty where broken."""
    reason: str
    """Why it cannot be decoded; empty where it was."""
    crops: tuple[Look, ...] = ()
    """Parts of it at full resolution (`detect.tiles`)."""
    quality: PictureQuality | None = None
    """How good the picture is; None where it was not decoded, or where that is stored."""

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        crops = sum(crop.pixels.nbytes for crop in self.crops)
        return self.pixels.nbytes + crops + self.shot.frame.size_bytes

    def looks(self) -> tuple[Look, ...]:
        """All that the detector sees of it, the whole image first; nothing of a broken one, or where boxes are stored."""
        if self.view is None or self.shot.step.stored is not None:
            return ()
        return (Look(self.view, self.pixels), *self.crops)


@dataclass(frozen=True, slots=True)
class DetectedStep:
    """A timestep with its boxes."""

    step: Step
    """The timestep."""
    detections: Mapping[str, Detections]
    """By camera, for those whose image was decoded."""
    image_hw: Mapping[str, tuple[int, int]]
    """By camera, for those whose image was decoded."""
    tiles: Mapping[str, Tile]
    """By camera: the small picture for the video; empty without one."""
    undecodable: Mapping[str, str]
    """By camera: the reason."""
    quality: Mapping[str, PictureQuality] = field(default_factory=dict)
    """By camera, for those whose image was decoded."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the tiles, and of the lidar's points."""
        return sum(tile.size_bytes for tile in self.tiles.values()) + self.step.sweep_bytes


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
    """Tracks that ended with it, or with one before it."""
    picture: Image | None
    """The mosaic; None without a video, and where it was drawn by an earlier run."""


@dataclass(slots=True)
class Profile:
    """Time of the stages and waits at the seams."""

    stages: dict[str, flow.StageTime] = field(default_factory=dict)
    queues: dict[str, flow.QueueStats] = field(default_factory=dict)

    def stage(self, name: str) -> flow.StageTime:
        """The stage's clock, made on first use."""
        return self.stages.setdefault(name, flow.StageTime(name))

    def queue(self, name: str) -> flow.QueueStats:
        """The seam's record, made on first use."""
        return self.queues.setdefault(name, flow.QueueStats(name))


@dataclass(frozen=True, slots=True)
class Threads:
    """How the stages are joined: by queues, or (not `enabled`) by nothing."""

    enabled: bool
    """False: everything runs in the caller's thread."""
    workers: int
    """Threads that decode."""
    profile: Profile
    """Where times and waits are recorded."""

    def ahead(
        self, source: Iterator[A], name: str, *, depth: int, limit_bytes: int, size_of: Callable[[A], int]
    ) -> Iterator[A]:
        """Let `source` run ahead in a thread of its own."""
        if not self.enabled:
            return source
        stats = self.profile.queue(name)
        return flow.prefetch(
            source, depth=depth, name=name, stats=stats, limit_bytes=limit_bytes, size_of=size_of
        )

    def map(self, function: Callable[[A], B], source: Iterator[A], name: str) -> Iterator[B]:
        """`function` over `source`, in order, by the workers."""
        if not self.enabled:
            return map(function, source)
        return flow.ordered_map(function, source, workers=self.workers, name=name)


def shots(source: Iterable[Step]) -> Iterator[Shot]:
    """The images of the timesteps, one by one, by camera name."""
    with flow.closed(source):
        for step in source:
            names = sorted(step.frame_set.frames)
            for name in names:
                yield Shot(step, step.frame_set.frames[name], name == names[-1])


class Preparer:
    """Decodes an image and makes the detector's input of it; called by several threads at once.

    Of an image whose boxes are stored that is done only where the video wants the tile (`wants_tile`, by timestep's stamp).
    """

    def __init__(
        self,
        config: RunConfig,
        make_view: MakeView,
        profile: Profile,
        crops: Crops | None = None,
        wants_tile: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._config = config
        self.wants_tile = wants_tile
        """Of a timestep's stamp."""
        self.views = CameraViews(config, make_view, crops)
        self._decode = profile.stage("decode")
        self._letterbox = profile.stage("letterbox")
        self._warned: set[tuple[str, str]] = set()

    def view(self, camera: str, image_hw: tuple[int, int]) -> DetectorView:
        """How this camera's whole images of this size are shown to the detector; see `CameraViews.of`."""
        return self.views.of(camera, image_hw)[0]

    def __call__(self, shot: Shot) -> ReadyShot:
        stored, frame_set = shot.step.stored, shot.step.frame_set
        broken = {} if stored is None else stored.undecodable
        if shot.frame.camera in broken or (stored is not None and not self.wants_tile(frame_set.stamp_ns)):
            return ReadyShot(shot, None, np.zeros((0, 0, 3), np.uint8), broken.get(shot.frame.camera, ""))
        own_depth = self._config.camera(shot.frame.camera).bit_depth
        depth = self._config.decode.bit_depth if own_depth is None else own_depth
        try:
            with self._decode.measure():
                reduce_by = partial(self.views.reduction, shot.frame.camera)
                frame = decode_frame(shot.frame, self._config.read.max_image_mpx, depth, reduce_by)
                quality = picture_quality(frame.image, frame.original_hw) if stored is None else None
        except DecodeError as error:
            if (error.camera, error.reason) not in self._warned:  # one line a camera and reason, not a frame
                self._warned.add((error.camera, error.reason))
                _log.warning("%s (further ones are counted, not shown)", error)
            return ReadyShot(shot, None, np.zeros((0, 0, 3), np.uint8), error.reason)
        view, *crops = self.views.of(frame.camera, frame.original_hw)
        with self._letterbox.measure():
            pixels = prepare(frame.image, view)
            looks = tuple(Look(crop, prepare(frame.image, crop)) for crop in crops if stored is None)
        return ReadyShot(shot, view, pixels, "", looks, quality)


def detected(
    source: Iterator[ReadyShot],
    detectors: Sequence[Detector],
    config: RunConfig,
    segment_of: Callable[[int], int],
    profile: Profile,
    lanes: int = 1,
) -> Iterator[tuple[ReadyShot, Detections | None]]:
    """Boxes of each image, in batches over cameras and timesteps that never cross a segment.

    What fills a batch are views: an image counts once, and once for each of its crops. Several detectors are copies of one; each works on a batch of its own. On several devices (`lanes`) they stand in turn:
    one of each device, then the next of each.
    """
    stage = profile.stage("detect")

    def detect(detector: Detector, batch: list[Part[ReadyShot]]) -> list[Detections]:
        looks = [part.look for part in batch if part.look is not None]
        keep = [
            config.detect.keep_score if own is None else own
            for own in (config.camera(part.owner.shot.frame.camera).keep_score for part in batch)
        ]
        with stage.measure(len(batch)):
            pixels = np.stack([look.pixels for look in looks])
            return detector.detect(pixels, [look.view for look in looks], keep)

    found = ordered_batches(
        [partial(detect, detector) for detector in detectors],
        parts(source, ReadyShot.looks),
        name="detect",
        size=detectors[0].info.batch_size,
        bucket=lambda part: None if part.look is None else part.look.view.input_hw,
        lanes=lanes,
        barrier=lambda part: segment_of(part.owner.shot.step.frame_set.stamp_ns),
    )
    return whole_images(found, config.detect.max_detections)


def detected_steps(
    source: Iterable[tuple[ReadyShot, Detections | None]], *, tiles: bool
) -> Generator[DetectedStep, None, None]:
    """Images and their boxes, back to timesteps."""
    boxes: dict[str, Detections] = {}
    sizes: dict[str, tuple[int, int]] = {}
    pictures: dict[str, Tile] = {}
    broken: dict[str, str] = {}
    quality: dict[str, PictureQuality] = {}
    with flow.closed(source):
        for ready, found in source:
            camera, stored = ready.shot.frame.camera, ready.shot.step.stored
            if stored is not None and camera in stored.detections:
                boxes[camera], sizes[camera] = stored.detections[camera], stored.image_hw[camera]
            elif ready.view is None or found is None:
                broken[camera] = ready.reason
            else:
                boxes[camera], sizes[camera] = found, ready.view.image_hw
            known = ready.quality if stored is None else stored.quality.get(camera)
            if known is not None:
                quality[camera] = known
            if tiles and ready.view is not None:
                pictures[camera] = Tile.of_input(ready.pixels, ready.view)
            if ready.shot.is_last:
                yield DetectedStep(ready.shot.step, boxes, sizes, pictures, broken, quality)
                boxes, sizes, pictures, broken, quality = {}, {}, {}, {}, {}


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
    """Objects of each timestep (`rig` has the lenses for a lidar's points) and, with `draw`, its picture; as late as the tracker looks back."""
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

    with flow.closed(source):
        for item in source:
            frame_set = item.step.frame_set
            status = status_of(item)
            waiting.append(_Companions(item.tiles, settled_rows(item), item.step.poses))
            with fuse_stage.measure():
                lidar = {}
                if item.step.sweeps:
                    placed = item.step.base_now_SE3_camera
                    seen = rig_with_lenses(rig, item.step.lenses)
                    lidar = measure_lidar(item.detections, item.image_hw, placed, item.step.sweeps, seen)
                found = Detected(
                    frame_set.index,
                    frame_set.stamp_ns,
                    status,
                    {name: frame.stamp_ns for name, frame in frame_set.frames.items()},
                    item.detections,
                    item.image_hw,
                    item.step.base_now_SE3_camera,
                    item.step.ego,
                    lidar,
                    item.step.mounts,
                    item.step.lenses,
                )
                done = objects.push([found])
            yield from finished(done)
        yield from finished(objects.flush())


def chain(
    source: FrameSource,
    selected: tuple[str, ...],
    span_ns: tuple[int | None, int | None],
    *,
    config: RunConfig,
    synchronizer: Synchronizer,
    rig: Rig,
    trajectory: Trajectory,
    detectors: Sequence[Detector],
    objects: ObjectMaker,
    preparer: Preparer,
    draw: Draw | None,
    threads: Threads,
    segments: RunningSegments,
    patience_ns: int,
    tail: list[EgoPose],
    lanes: int = 1,
) -> Iterator[FusedStep]:
    """The whole chain of one drive, from the log to what the writers take."""
    profile, batch = threads.profile, detectors[0].info.batch_size * len(detectors)
    queue_bytes = round(config.decode.queue_mb * 1e6)
    window = None
    if source.lidar_topic is not None:
        window = SweepWindow(round(config.fuse.lidar_tolerance_ms * 1e6))
    grouped = flow.timed(
        steps(
            decodable(
                source,
                selected,
                span_ns,
                config,
                sweeps=window is not None,
                is_stored=lambda: segments.stored_video(preparer.wants_tile),
                on_other=segments.note_video,
            ),
            synchronizer,
            rig,
            trajectory,
            patience_ns=patience_ns,
            limit_bytes=round(config.sync.window_mb * 1e6),
            tail=tail,
            min_distance_m=config.sync.min_distance_m,
            sweeps=window,
            wait_for_lenses=source.calibration.follows_lenses,
        ),
        profile.stage("read"),
    )
    read = threads.ahead(
        grouped,
        "read",
        depth=16,
        limit_bytes=queue_bytes,
        size_of=lambda step: step.size_bytes,
    )
    ready = threads.ahead(
        threads.map(preparer, shots(segments.recalled(read)), "decode"),
        "decode",
        depth=2 * batch,
        limit_bytes=queue_bytes,
        size_of=lambda item: item.size_bytes,
    )
    boxes = detected(ready, detectors, config, segments.segment_of, profile, lanes)
    found = threads.ahead(
        segments.landing(detected_steps(boxes, tiles=draw is not None)),
        "detect",
        depth=max(4, -(-2 * batch // max(len(selected), 1))),  # timesteps
        limit_bytes=queue_bytes,
        size_of=lambda item: item.size_bytes,
    )
    return threads.ahead(
        fused_steps(found, objects, draw, profile, rig),
        "fuse",
        depth=4,
        limit_bytes=queue_bytes,
        size_of=lambda item: 0 if item.picture is None else item.picture.nbytes,
    )
