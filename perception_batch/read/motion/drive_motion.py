"""The ego motion of one drive, from its log or from a file beside it: what the rest of `read` asks for."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from perception_batch.config import ReadConfig
from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.topics import TopicInfo
from perception_batch.read.motion.ego import EgoTracker
from perception_batch.read.motion.report import EgoReport, report_of
from perception_batch.read.motion.sources import check_setting
from perception_batch.read.motion.trajectory_file import TrajectoryFile, merged_by_stamp
from perception_batch.read.side_messages import SideMessages
from perception_batch.read.source import Head
from perception_batch.types import LogItem


class DriveMotion:
    """Gives the poses of a drive while it streams, and says where they come from."""

    def __init__(self, side: SideMessages, topics: Sequence[TopicInfo], settings: ReadConfig) -> None:
        """Open the trajectory file where the settings name one.

        Raises:
            ConfigError: ``read.ego`` names a topic that is not there, or ``read.trajectory`` cannot be read.
        """
        check_setting(settings.ego, topics)
        self._side = side
        self._topics = topics
        self._settings = settings
        self._tracker: EgoTracker | None = None
        self._streamed = False
        self._file: TrajectoryFile | None = None
        if settings.trajectory is not None:
            self._file = TrajectoryFile(settings.trajectory, settings.ego_offset_ms)

    @property
    def topics(self) -> frozenset[str]:
        """The topics that `items` wants to see."""
        return self._side.motion_topics if self._file is None else frozenset()

    @property
    def dropped(self) -> int:
        """Poses that came twice or went back in time, of those that were streamed."""
        if not self._streamed:
            return 0
        if self._file is not None:
            return self._file.sequence.dropped
        return 0 if self._tracker is None else self._tracker.sequence.dropped

    def begin(self, base_frame: str) -> None:
        """A stream begins: poses of `base_frame` are asked for from here on."""
        self._tracker = self._side.ego_tracker(base_frame)
        self._streamed = True
        self._side.begin_motion()

    def items(self, message: Message) -> Iterator[LogItem]:
        """The vehicle's pose that a message of the log gives, if any."""
        if self._tracker is not None and (pose := self._side.ego_pose(self._tracker, message)) is not None:
            yield pose

    def joined(self, items: Iterator[LogItem]) -> Iterator[LogItem]:
        """`items` of the log, with the poses of the file where there is one."""
        if self._file is None:
            return items
        return merged_by_stamp(items, self._file.poses, round(self._settings.max_pose_gap_s * 1e9))

    def report(self, base_frame: str | None, heads: Iterable[Head], stop_ns: int) -> EgoReport:
        """Where the motion comes from and how good it is: of what was streamed, else of the head.

        Args:
            base_frame: None as long as no rig was made; then nothing is known of the log's motion.
            heads: what was looked at; the first is used.
            stop_ns: end of log time.
        """
        head = next(iter(heads), None)
        skew_ns, span_ns = 0, None
        if head is not None:
            skew_ns = statistics.median_low([c.skew_ns for c in head.cameras.values() if c.stamps_ns] or [0])
            span_ns = (head.first_stamp_ns, max(head.first_stamp_ns, stop_ns - skew_ns))
        sampled = not self._streamed
        if self._file is not None:
            return self._file.report(span_ns, self._settings.max_pose_gap_s, sampled=sampled)
        if self._tracker is None or (sampled and self._tracker.base_frame != base_frame):
            if base_frame is None:
                return EgoReport()
            self._tracker = self._side.tracker_of_head(base_frame)
        return report_of(self._tracker, self._topics, self._settings, skew_ns, span_ns, sampled=sampled)
