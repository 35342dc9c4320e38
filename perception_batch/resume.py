"""A running drive and its segments: what has landed is taken from there, what is new lands, segment by segment.

The log is read and grouped from its start whatever has landed, by the frozen plan; so indices, rows, poses and losses come
out of one and the same sequence, and a run that goes on ends with the tables of one that was never stopped. What
has landed is only neither decoded nor detected again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perception_batch import flow
from perception_batch.ego_motion import Step
from perception_batch.errors import printable
from perception_batch.job import Job
from perception_batch.runs import (
    DetectedTimestep,
    EventLog,
    Made,
    SegmentContent,
    SegmentPlan,
    SegmentStore,
)
from perception_batch.types import FrameStatus

if TYPE_CHECKING:
    from perception_batch.chain import DetectedStep
    from perception_batch.detect import DetectorInfo

_log = logging.getLogger(__name__)


def _nobody(_segment: int, _images: int) -> None:
    """Nobody wants to hear of it."""


class RunningSegments:
    """The segments of one drive while it is processed; `recalled` and `landing` may run in threads of their own."""

    def __init__(
        self,
        store: SegmentStore,
        facts: Mapping[str, Any] | None = None,
        on_landed: Callable[[int, int], None] = _nobody,
    ) -> None:
        """Begin the drive's store.

        Args:
            store: of this drive, plan and model.
            facts: what each file shall say of its making.
            on_landed: hears of each segment that lands, and of how many images.

        Raises:
            WriteError: the disk is full or refuses.
        """
        store.begin()
        self._store = store
        self._facts = dict(facts or {})
        self._on_landed = on_landed
        self._landed = set(store.landed())
        self._again: set[int] = set()
        self.images_recalled = 0
        """Images that were neither decoded for detection nor detected."""

    def clear(self) -> None:
        """Remove all segments: the drive's tables hold them now."""
        self._store.clear()

    def segment_of(self, stamp_ns: int) -> int:
        """The segment of a timestep."""
        return self._store.plan.segment_of(stamp_ns)

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
                if step.frame_set.frames:  # one without any has no detections, and is not stored
                    self._left(segment, stored)
                    stored.clear()
                yield step
            self._left(current, stored)

    def landing(self, source: Iterable[DetectedStep]) -> Iterator[DetectedStep]:
        """The same timesteps; each segment is on the disk once the first timestep after it comes, or the end."""
        current: int | None = None
        found: list[DetectedTimestep] = []
        closed: set[int] = set()
        is_new = False
        with flow.closed(source):
            for item in source:
                segment = self.segment_of(item.step.frame_set.stamp_ns)
                if segment != current:
                    if current is not None:
                        self._land(current, found, is_new=is_new, twice=current in closed)
                        closed.add(current)
                    current, found, is_new = segment, [], False
                stored = item.step.stored
                is_new = is_new or stored is None
                found.append(_detected(item) if stored is None else stored)
                self.images_recalled += 0 if stored is None else len(stored.frame_stamps_ns)
                yield item
            if current is not None:
                self._land(current, found, is_new=is_new, twice=current in closed)

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

    def _land(self, segment: int, found: list[DetectedTimestep], *, is_new: bool, twice: bool) -> None:
        if twice:  # stamps that went back over a border: half a segment must not be taken for a whole one
            self._store.path(segment).unlink(missing_ok=True)
        elif is_new or segment in self._again:
            images = sum(len(step.frame_stamps_ns) for step in found)
            self._store.write(segment, SegmentContent(tuple(found)), {**self._facts, "images": images})
            self._on_landed(segment, images)


def open_segments(
    job: Job, plan: SegmentPlan, info: DetectorInfo, events: EventLog | None = None
) -> RunningSegments:
    """What has landed of a drive, and where what is new lands.

    Args:
        job: the drive.
        plan: its cut.
        info: of what detects.
        events: hears of segments that land.

    Raises:
        WriteError: the disk is full or refuses.
    """
    store = SegmentStore(job.directory, plan, Made(info.sha256, info.backend, info.precision))
    if job.overwrite:
        store.clear()

    def on_landed(segment: int, images: int) -> None:
        if events is not None:
            events.write("segment_landed", drive=job.drive, segment=segment, images=images)

    return RunningSegments(store, {"device": info.device, "batch_size": info.batch_size}, on_landed)


def status_of(item: DetectedStep) -> dict[str, FrameStatus]:
    """By camera, in the cameras' order: as grouped, or ``undecodable``."""
    status: dict[str, FrameStatus] = dict(item.step.frame_set.status)
    status.update(dict.fromkeys(item.undecodable, "undecodable"))
    return status


def _detected(item: DetectedStep) -> DetectedTimestep:
    """What is stored of a timestep."""
    frame_set = item.step.frame_set
    stamps = {name: frame.stamp_ns for name, frame in frame_set.frames.items()}
    return DetectedTimestep(
        frame_set.stamp_ns, status_of(item), stamps, item.detections, item.image_hw, item.undecodable
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
