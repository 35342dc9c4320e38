"""A running drive and its segments: what has landed is taken from there, what is new lands, segment by segment.

The log is read and grouped from its start whatever has landed, by the frozen plan; so indices, rows, poses and losses come
out of one and the same sequence, and a run that goes on ends with the tables of one that was never stopped. What
has landed is only neither decoded nor detected again. In-log video is decoded from the key frame before what has not
landed; each segment's file says whether that is enough: whether all its frames of video, the unused ones too, turned
out as their packets said.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_batch import flow
from perception_batch.ego_motion import Step
from perception_batch.errors import EXIT_RETRY, WriteError, printable
from perception_batch.job import Job
from perception_batch.runs import (
    DetectedTimestep,
    EventLog,
    Made,
    SegmentContent,
    SegmentPlan,
    SegmentStore,
)
from perception_batch.types import EncodedFrame, FrameRow, FrameStatus, SkippedPayload

if TYPE_CHECKING:
    from perception_batch.detect import DetectorInfo
    from perception_batch.detected_steps import DetectedStep
    from perception_batch.drive_output import DriveOutput

_log = logging.getLogger(__name__)
VIDEO_AS_TOLD = "video_as_told"
"""The fact of a segment's file: its frames of video are what their packets said, so that its accounts need no decoder."""


def _nobody(_segment: int, _images: int) -> None:
    """Nobody wants to hear of it."""


class RunningSegments:
    """The segments of one drive while it is processed; `recalled` and `landing` may run in threads of their own."""

    def __init__(
        self,
        store: SegmentStore,
        facts: Mapping[str, Any] | None = None,
        on_landed: Callable[[int, int], None] = _nobody,
        on_dropped: Callable[[Path], None] = lambda _: None,
    ) -> None:
        """Begin the drive's store.

        Args:
            store: of this drive, plan and model.
            facts: what each file shall say of its making.
            on_landed: hears of each segment that lands, and of how many images.
            on_dropped: hears of each segment's file that is removed again.

        Raises:
            WriteError: the disk is full or refuses.
        """
        store.begin()
        self._store = store
        self._facts = dict(facts or {})
        self._on_landed = on_landed
        self._on_dropped = on_dropped
        self._landed = set(store.landed())
        self._again: set[int] = set()
        self._closed: set[int] = set()
        self._other_video: set[int] = set()
        self._told: set[int] = set()  # landed here, and their files say that the video is as told
        self.images_recalled = 0
        """Images that were neither decoded for detection nor detected."""

    def clear(self) -> None:
        """Remove all segments: the drive's tables hold them now."""
        self._store.clear()

    def segment_of(self, stamp_ns: int) -> int:
        """The segment of a timestep."""
        return self._store.plan.segment_of(stamp_ns)

    def note_video(self, frame: EncodedFrame) -> None:
        """Hear of a frame of a video that is not what its packet said; any thread may call."""
        segment = self.segment_of(frame.stamp_ns)
        self._other_video.add(segment)
        if segment in self._told:  # it came late: the segment's file says that there is none
            self._drop(segment)

    def stored_video(self, wants_tile: Callable[[int], bool]) -> Callable[[int], bool]:
        """Which stamps of video frames need no picture: call it before anything is recalled.

        Args:
            wants_tile: whether the picture of a timestep is still to be drawn.

        Returns:
            True for the stamp of a frame that only segments use that have landed.
        """
        plan, done = self._store.plan, []
        for segment in sorted(self._landed):
            at_ns = plan.origin_ns + segment * plan.length_ns
            found = None if wants_tile(at_ns) else self._store.read(segment)
            if found is not None and found.facts.get(VIDEO_AS_TOLD) is True:
                done.append(segment)
        starts, stops = _read_by_them_alone(plan, done)

        def is_stored(stamp_ns: int) -> bool:
            at = bisect_right(starts, stamp_ns) - 1
            return at >= 0 and stamp_ns < stops[at]

        return is_stored

    def recalled(self, source: Iterable[Step]) -> Iterator[Step]:
        """Timesteps with what has landed of them.

        Each is compared with what is stored. Where they differ (a log that was changed in its middle), the rest of that
        segment is detected again, and its file written anew.
        """
        stored: deque[DetectedTimestep] = deque()
        current: int | None = None
        with flow.closed(source):
            for step in source:
                segment = self.segment_of(step.frame_set.stamp_ns)
                if segment != current:
                    self._left(current, stored)
                    current, stored = segment, self._load(segment)
                if stored and _are_one(step, stored[0]):
                    yield replace(step, stored=stored.popleft())
                    continue
                if any(isinstance(f.payload, SkippedPayload) for f in step.frame_set.frames.values()):
                    self._give_up()
                if step.frame_set.frames:  # one without any has no detections, and is not stored
                    self._left(segment, stored)
                    stored.clear()
                yield step
            self._left(current, stored)

    def landing(self, source: Iterable[DetectedStep]) -> Iterator[DetectedStep]:
        """The same timesteps; each segment is on the disk once the first timestep after it comes, or the end."""
        current: int | None = None
        found: list[DetectedTimestep] = []
        is_new = False
        with flow.closed(source):
            for item in source:
                segment = self.segment_of(item.step.frame_set.stamp_ns)
                if segment != current:
                    if current is not None:
                        self._land(current, found, is_new=is_new)
                    current, found, is_new = segment, [], False
                stored = item.step.stored
                is_new = is_new or stored is None
                found.append(detected_timestep(item) if stored is None else stored)
                self.images_recalled += 0 if stored is None else len(stored.frame_stamps_ns)
                yield item
            if current is not None:
                self._land(current, found, is_new=is_new)

    def _load(self, segment: int) -> deque[DetectedTimestep]:
        if segment not in self._landed:
            return deque()
        self._landed.discard(segment)
        found = self._store.read(segment)
        return deque() if found is None else deque(found.content.timesteps)

    def _left(self, segment: int | None, stored: deque[DetectedTimestep]) -> None:
        if segment is not None and stored:
            self._again.add(segment)
            _log.warning(
                "%s: the log gives other timesteps than it did; the rest is detected again",
                printable(self._store.path(segment)),
            )

    def _give_up(self) -> None:
        """A picture is wanted that was not decoded, because a segment's file said that it is not."""
        for path in sorted(self._store.folder.glob("*.zip")):
            self._on_dropped(path)
        self._store.clear()
        raise WriteError(
            f"{printable(self._store.folder)}: the log gives other timesteps than it did when these segments were "
            "detected; they are removed: start again, and all is detected anew",
            exit_status=EXIT_RETRY,
        )

    def _drop(self, segment: int) -> None:
        """Remove a segment's file, wherever it has landed."""
        path = self._store.path(segment)
        path.unlink(missing_ok=True)
        self._on_dropped(path)

    def _land(self, segment: int, found: list[DetectedTimestep], *, is_new: bool) -> None:
        if segment in self._closed:
            # Stamps went back over a border: half a segment must not be taken for a whole one.
            self._drop(segment)
        elif is_new or segment in self._again:
            images = sum(len(step.frame_stamps_ns) for step in found)
            told = segment not in self._other_video
            facts = {**self._facts, "images": images, VIDEO_AS_TOLD: told}
            self._store.write(segment, SegmentContent(tuple(found)), facts)
            self._on_landed(segment, images)
            if told:
                self._told.add(segment)
                if segment in self._other_video:  # heard of while it was written
                    self._drop(segment)
        self._closed.add(segment)


def _read_by_them_alone(plan: SegmentPlan, done: Sequence[int]) -> tuple[list[float], list[float]]:
    """Begins and ends of the half-open ranges of stamps that no other segments read than those of `done` (sorted)."""
    starts: list[float] = []
    stops: list[float] = []
    last: int | None = None
    for segment in done:
        start, stop = plan.span_ns(segment)
        if last is None or segment != last + 1:
            starts.append(-inf if start is None else start + plan.lag_ns)
            stops.append(inf)
        stops[-1] = inf if stop is None else stop - plan.lead_in_ns
        last = segment
    return starts, stops


def open_segments(
    job: Job, plan: SegmentPlan, info: DetectorInfo, output: DriveOutput, events: EventLog | None = None
) -> RunningSegments:
    """What has landed of a drive, and where what is new lands.

    Args:
        job: the drive.
        plan: its cut.
        info: of what detects.
        output: takes what lands.
        events: hears of segments that land.

    Raises:
        WriteError: the disk is full or refuses.
    """
    store = SegmentStore(job.directory, plan, Made(info.sha256, info.backend, info.precision))
    if job.overwrite:
        store.clear()

    def on_landed(segment: int, images: int) -> None:
        output.land(store.path(segment))
        if events is not None:
            events.write("segment_landed", drive=job.drive, segment=segment, images=images)

    return RunningSegments(
        store, {"device": info.device, "batch_size": info.batch_size}, on_landed, output.drop
    )


def status_of(item: DetectedStep) -> dict[str, FrameStatus]:
    """By camera, in the cameras' order: as grouped, or ``undecodable``."""
    status: dict[str, FrameStatus] = dict(item.step.frame_set.status)
    status.update(dict.fromkeys(item.undecodable, "undecodable"))
    return status


def settled_rows(item: DetectedStep) -> tuple[FrameRow, ...]:
    """What became of the frames that a timestep settles: those that none uses, then its own, by camera."""
    frame_set = item.step.frame_set
    rows = [FrameRow.of_unused(frame) for frame in frame_set.unused]
    rows += [
        FrameRow.of_used(frame, frame_set.index, item.undecodable.get(name, ""), item.quality.get(name))
        for name, frame in sorted(frame_set.frames.items())
        if frame_set.status[name] != "held"  # counted where it was new
    ]
    return tuple(rows)


def detected_timestep(item: DetectedStep) -> DetectedTimestep:
    """What is stored of a timestep."""
    frame_set = item.step.frame_set
    stamps = {name: frame.stamp_ns for name, frame in frame_set.frames.items()}
    return DetectedTimestep(
        frame_set.stamp_ns,
        status_of(item),
        stamps,
        item.detections,
        item.image_hw,
        item.undecodable,
        item.quality,
    )


def _are_one(step: Step, stored: DetectedTimestep) -> bool:
    """Whether a timestep is the one that was stored, image by image."""
    frame_set = step.frame_set
    status: dict[str, FrameStatus] = dict(frame_set.status)
    status.update(dict.fromkeys(stored.undecodable, "undecodable"))
    stamps = {name: frame.stamp_ns for name, frame in frame_set.frames.items()}
    return (
        stored.stamp_ns == frame_set.stamp_ns
        and dict(stored.frame_stamps_ns) == stamps
        and dict(stored.status) == status
        and stored.detections.keys() | stored.undecodable.keys() == stamps.keys()
    )
