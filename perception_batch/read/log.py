"""A drive's log: its cameras, calibration and ego motion, and its frames in log-time order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType, TracebackType

from perception_batch.calibration import Rig
from perception_batch.config import CameraConfig, ReadConfig
from perception_batch.errors import LogError, TopicNotFound, printable
from perception_batch.read.containers.drive_files import DriveFiles
from perception_batch.read.containers.logfile import Message
from perception_batch.read.containers.place import log_path
from perception_batch.read.containers.tape import Tape
from perception_batch.read.images.camera_types import family_of
from perception_batch.read.images.first_look import FirstLook
from perception_batch.read.images.frames import FrameMaker, parse_image
from perception_batch.read.images.stamps import ClockStep, StampJudge
from perception_batch.read.images.topics import DEPTH_ENCODINGS, CameraTopic, TopicInfo, find_cameras
from perception_batch.read.images.video_packet import CODECS
from perception_batch.read.key_frames import before_key_frames
from perception_batch.read.lidar.drive_lidar import DriveLidar
from perception_batch.read.motion.drive_motion import DriveMotion
from perception_batch.read.motion.report import EgoReport
from perception_batch.read.rigs.drive_calibration import DriveCalibration
from perception_batch.read.rigs.rig import CameraFacts, build_rig
from perception_batch.read.rigs.rig_file import read_rig_file
from perception_batch.read.side_messages import SideMessages
from perception_batch.read.source import Head
from perception_batch.read.trigger import TriggerReader
from perception_batch.types import EncodedFrame, LogItem, Loss, VideoPayload

SEEK_MARGIN_NS = 5_000_000_000
"""Log time read before and after a requested range, besides the measured skew: recorders deliver late."""

LATE_SAMPLE = 10
"""Images looked at of a camera that is silent in the head."""


class DriveLog:
    """One drive's log, open; made by `open_log`. Implements `FrameSource`."""

    def __init__(
        self,
        paths: Sequence[Path | str],
        settings: ReadConfig,
        cameras: Mapping[str, CameraConfig],
        *,
        cameras_needed: bool = True,
        trigger_topic: str | None = None,
        lidar: str | None = None,
    ) -> None:
        self.paths = tuple(log_path(p) if isinstance(p, str) else p for p in paths)
        self._settings = settings
        self._camera_settings = cameras
        self._tape: Tape | None = None
        self._clock_steps: Sequence[ClockStep] = ()
        self._judge = StampJudge({})
        self._heads: dict[tuple[str, ...], Head] = {}
        self._base_frame: str | None = None
        self._pictures: dict[str, bool] = {}
        self._files = DriveFiles(self.paths, int(settings.max_image_mpx * 8e6) + (1 << 20))
        self._side = SideMessages(self._files, settings)
        self._trigger = None if trigger_topic is None else TriggerReader(trigger_topic, settings.clock)
        try:
            self._lidar = DriveLidar(lidar, self.topics)
            self._motion = DriveMotion(self._side, self.topics, settings)
            self._changes = DriveCalibration(self._side, self.topics)
            self._cameras = self._find_cameras(cameras_needed)
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------ what there is

    @property
    def topics(self) -> tuple[TopicInfo, ...]:
        """Every topic of the log, by name."""
        return self._files.topics

    @property
    def cameras(self) -> Mapping[str, CameraTopic]:
        """Every camera of the log, by name, enabled or not."""
        return MappingProxyType(self._cameras)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What is known to be lost; grows while streaming where a file turns out to be damaged."""
        triggers = () if self._trigger is None else self._trigger.losses(self._judge.bad_triggers)
        own = (*self._files.losses, *self._side.losses, *self._changes.losses)
        return (*own, *triggers, *self._lidar.losses)

    @property
    def clock_steps(self) -> tuple[ClockStep, ...]:
        """Cameras' clocks that jumped; grows while streaming."""
        return tuple(self._clock_steps)

    @property
    def ego_source(self) -> str | None:
        """``tf``, a topic or a file that `stream` takes the vehicle's motion from; None where there is none."""
        return self.ego_report.source or None

    @property
    def ego_dropped(self) -> int:
        """Ego poses that came late or twice, in the last `stream`."""
        return self._motion.dropped

    @property
    def ego_report(self) -> EgoReport:
        """Where the ego motion comes from and how good it is: of what `stream` gave, else of the head after `rig`."""
        return self._motion.report(self._base_frame, self._heads.values(), self.stop_ns)

    @property
    def calibration(self) -> DriveCalibration:
        """What `stream` follows of lenses and mounts that change, and what of it did in the last one."""
        return self._changes

    @property
    def lidar_topic(self) -> str | None:
        """The topic whose point clouds `stream` gives as sweeps if asked; None without one. Settled by `rig`."""
        return self._lidar.topic

    @property
    def stamp_sources(self) -> tuple[str, ...]:
        """Where the times of video files come from; one line each."""
        return self._files.stamp_sources

    @property
    def transform_frames(self) -> tuple[str, ...]:
        """Names of all frames between which the log has transforms, as far as it was looked at."""
        return tuple(sorted(self._side.tree.frames))

    @property
    def start_ns(self) -> int:
        """Log time of the first message of any topic."""
        return self._files.start_ns

    @property
    def stop_ns(self) -> int:
        """Just after the log time of the last message of any topic."""
        return self._files.stop_ns

    def _find_cameras(self, needed: bool) -> dict[str, CameraTopic]:
        if not needed and not any(family_of(topic.type) for topic in self.topics):
            return {}
        if not self.stop_ns:
            raise LogError(self.paths[0], "the log holds no messages")
        return find_cameras(self.topics, self._camera_settings, self.paths[0], self._frame_id_of)

    def select(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The enabled cameras, or those named, sorted by name.

        Raises:
            TopicNotFound: a name is none of the log's cameras.
            LogError: no camera is enabled.
        """
        if names is not None:
            unknown = [name for name in names if name not in self._cameras]
            if unknown or not names:
                raise TopicNotFound(self.paths[0], unknown or ["nothing"], self._cameras)
            return tuple(sorted(set(names)))
        self._find_depth()
        chosen = tuple(name for name, camera in self._cameras.items() if camera.enabled)
        if not chosen:
            why = "; ".join(f"{printable(n)}: {c.why_not}" for n, c in self._cameras.items())
            raise LogError(self.paths[0], f"no camera is enabled ({why})")
        return chosen

    def fingerprint(self) -> str:
        """Identity of the log's content; see `DriveFiles.fingerprint`."""
        return self._files.fingerprint()

    def close(self) -> None:
        """Release the files."""
        self._tape = None
        self._files.close()

    def __enter__(self) -> DriveLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ the first seconds, and calibration

    def head(self, selected: Sequence[str]) -> Head:
        """Look at the first `head_s` seconds or `head_mb` megabytes, once; `stream` replays them."""
        key = tuple(sorted(selected))
        if key in self._heads:
            return self._heads[key]
        names = {self._cameras[name].topic: name for name in key}
        looks = {name: FirstLook() for name in key}
        tape = self._tape_with(frozenset(names) | self._side.topics)
        tape.wind()
        for message in tape.kept:
            self._side.look_at(message)
            if self._trigger is not None and message.channel.topic == self._trigger.topic:
                self._trigger.look_at(message)
            if message.channel.topic in names:
                looks[names[message.channel.topic]].take(message)
        stop = tape.kept[-1].log_ns if tape.kept else self.start_ns
        for topic, name in names.items():
            if looks[name].saw_none and not tape.ended:  # a camera that begins later
                for message in islice(self._files.messages({topic}, stop), LATE_SAMPLE):
                    looks[name].take(message)
        triggers_ns = () if self._trigger is None else self._stamps_of(self._trigger, stop, tape.ended)
        heads = {n: look.result(self._settings.clock, self._offset_ns(n)) for n, look in looks.items()}
        first = min((stamp for h in heads.values() for stamp, _ in h.stamps_ns), default=self.start_ns)
        self._heads[key] = Head(MappingProxyType(heads), first, stop, tape.ended, triggers_ns)
        return self._heads[key]

    def _stamps_of(self, trigger: TriggerReader, after_ns: int, ended: bool) -> tuple[tuple[int, int], ...]:
        """Decide on the clock of the trigger topic; one that begins later is looked for."""
        if trigger.saw_none and not ended:
            for message in islice(self._files.messages({trigger.topic}, after_ns), LATE_SAMPLE):
                trigger.look_at(message)
        return trigger.decide()

    def rig(self, selected: Sequence[str], rig_file: Path | None = None, base_frame: str = "auto") -> Rig:
        """Calibration of the selected cameras; config over file over log. Also sets the frame of the ego poses.

        Args:
            selected: names of cameras.
            rig_file: see `read_rig_file`.
            base_frame: a frame's name, or ``auto``: the topmost one above the cameras, below ``odom``.

        Raises:
            CalibrationError: the file or the config contradicts itself or the images.
            ConfigError: `base_frame` is no frame of the log.
        """
        head = self.head(selected)
        topics = {name: self._cameras[name].topic for name in sorted(selected)}
        if not head.complete:
            frame_ids = {topic: head.cameras[name].frame_id for name, topic in topics.items()}
            self._side.fetch_calibration(frame_ids, head.stop_ns)
        facts = []
        for name, topic in topics.items():
            seen = head.cameras[name]
            info = self._side.camera_info(topic, seen.frame_id)
            frame_id = seen.frame_id or ("" if info is None else str(info.header.frame_id))
            size_px = (seen.width_px, seen.height_px)
            facts.append(CameraFacts(name, topic, frame_id, size_px, info, self._setting(name)))
        file = None if rig_file is None else read_rig_file(rig_file)
        rig = build_rig(facts, self._side.tree, file, base_frame)
        self._base_frame = rig.base_frame
        self._changes.follow(rig, facts, head, {name: self._offset_ns(name) for name in topics})
        if self._lidar.topic is not None and not head.complete:
            self._side.fetch_static(head.stop_ns)
        return self._lidar.placed(rig, self._side.tree, self._first_of)

    # ------------------------------------------------------------------ all messages

    def stream(
        self,
        selected: Sequence[str],
        start_ns: int | None = None,
        stop_ns: int | None = None,
        *,
        warm_up: bool = False,
        sweeps: bool = False,
    ) -> Iterator[LogItem]:
        """Frames with start_ns <= stamp_ns < stop_ns, ego poses and triggers (lidar sweeps if asked) read on the way, in log-time order.

        The first call replays the head and reads on, so each byte is read once. A range that begins after
        the head is sought by log time; then `EncodedFrame.sequence` counts from the first frame read.
        Frames with an implausible stamp belong to the range in which they were recorded.

        Args:
            selected: names of cameras.
            start_ns: first stamp; None: from the beginning.
            stop_ns: first stamp that is not given any more; None: to the end.
            warm_up: also give the packets of videos that are read but lie outside the range, from the key frame
                before `start_ns` on, marked ``is_warm_up``: a decoder needs them for its pictures within.
            sweeps: also give the point clouds of `lidar_topic`, where the log was opened with one.
        """
        names = tuple(sorted(selected))
        head = self.head(names)
        if self._base_frame is None:
            self.rig(names)
        skews = {name: seen.skew_ns for name, seen in head.cameras.items()}
        low = None if start_ns is None else start_ns + min(skews.values(), default=0) - SEEK_MARGIN_NS
        high = None if stop_ns is None else stop_ns + max(skews.values(), default=0) + SEEK_MARGIN_NS
        if warm_up and low is not None:
            videos = [n for n, seen in head.cameras.items() if seen.encoding in CODECS]
            low = before_key_frames(self._files, [self._cameras[name].topic for name in videos], low)
        judge = StampJudge({n: seen.skew_ns for n, seen in head.cameras.items() if seen.clock != "log"})
        if self._trigger is not None and self._trigger.clock != "log":
            judge.watch_trigger(self._trigger.topic, self._trigger.skew_ns)
        self._clock_steps, self._judge = judge.steps, judge
        for item in judge.judge(self._items(head, low, high, sweeps=sweeps)):
            if not isinstance(item, EncodedFrame):
                yield item
                continue
            at = item.stamp_ns if item.stamp_ok else item.log_ns - skews[item.camera]
            if (start_ns is None or at >= start_ns) and (stop_ns is None or at < stop_ns):
                yield item
            elif warm_up and isinstance(
                item.payload, VideoPayload
            ):  # after the range too: B-frames look ahead
                yield replace(item, payload=replace(item.payload, is_warm_up=True))

    def head_frames(self, selected: Sequence[str]) -> Iterator[EncodedFrame]:
        """The frames that the head holds, in log order; `stream` gives them again. None once it has begun."""
        head = self.head(selected)
        makers = self._makers(head)
        for message in () if self._tape is None else self._tape.kept:
            if message.channel.topic in makers:
                yield makers[message.channel.topic].make(message)

    def _makers(self, head: Head) -> dict[str, FrameMaker]:
        """What makes the frames of each image topic."""
        return {
            self._cameras[name].topic: FrameMaker(name, seen.clock, seen.skew_ns, self._offset_ns(name))
            for name, seen in head.cameras.items()
        }

    def _items(
        self, head: Head, low_ns: int | None, high_ns: int | None, *, sweeps: bool
    ) -> Iterator[LogItem]:
        """Frames, poses and triggers (and sweeps) recorded in the range, in log order."""
        self._motion.begin(self._base_frame or "")
        self._changes.begin()
        return self._motion.joined(self._logged(head, low_ns, high_ns, sweeps=sweeps))

    def _logged(
        self, head: Head, low_ns: int | None, high_ns: int | None, *, sweeps: bool
    ) -> Iterator[LogItem]:
        """Frames, poses, triggers and sweeps of the log itself."""
        makers, reader = self._makers(head), self._trigger
        topics = self._motion.topics | makers.keys() | self._lidar.begin(head, wanted=sweeps)
        topics |= self._changes.topics
        if reader is not None:
            topics |= {reader.topic}
            reader.bad = 0
        for message in self._play(topics, head, low_ns, high_ns):
            topic = message.channel.topic
            if reader is not None and topic == reader.topic and (trigger := reader.make(message)) is not None:
                yield trigger  # its topic may be a camera's too
            if topic in makers:
                yield makers[topic].make(message)
                continue
            if (sweep := self._lidar.sweep(message)) is not None:
                yield sweep
            yield from self._changes.items(message)
            yield from self._motion.items(message)

    def _play(
        self, topics: Collection[str], head: Head, low_ns: int | None, high_ns: int | None
    ) -> Iterator[Message]:
        """Messages with low_ns <= log time < high_ns, from the tape where it is there and begins early enough."""
        tape, self._tape = self._tape, None
        too_late = low_ns is not None and low_ns > head.stop_ns
        if tape is None or too_late or not tape.topics.issuperset(topics):
            yield from self._changes.said_before(self._files, head.stop_ns, low_ns)
            yield from self._files.messages(topics, low_ns, high_ns)
            return
        for message in tape.play():
            if high_ns is not None and message.log_ns >= high_ns:
                return
            if message.channel.topic in topics:
                yield message

    # ------------------------------------------------------------------ inside

    def _setting(self, name: str) -> CameraConfig:
        return self._camera_settings.get(self._cameras[name].config_name, CameraConfig())

    def _offset_ns(self, name: str) -> int:
        return round(self._setting(name).stamp_offset_ms * 1e6)

    def _tape_with(self, topics: frozenset[str]) -> Tape:
        """The tape, a new one unless it holds all of `topics`, the trigger's and the lidar's."""
        topics |= self._lidar.topics
        if self._trigger is not None:
            topics |= {self._trigger.topic}
        if self._tape is None or not topics <= self._tape.topics:
            span_ns, size = self._settings.head_s * 1e9, self._settings.head_mb * 1e6
            self._tape = Tape(self._files.messages(topics), topics, span_ns, size)
        return self._tape

    def _frame_id_of(self, topic: str) -> str:
        """The frame of a topic that leaves no name, from its first image."""
        found = self._tape_with(frozenset({topic}) | self._side.topics).first_of([topic]).get(topic)
        if found is None:
            self._tape = None
        return "" if found is None else parse_image(found).frame_id

    def _first_of(self, topic: str) -> Message | None:
        """The first message of a topic."""
        kept = () if self._tape is None else self._tape.kept
        found = next((message for message in kept if message.channel.topic == topic), None)
        return found or next(iter(self._files.messages({topic})), None)

    def _find_depth(self) -> None:
        """Switch off topics whose images turn out to be depth; what is named in the config stays."""
        enabled = {n: c for n, c in self._cameras.items() if c.enabled}
        unsure = {
            c.topic: n
            for n, c in enabled.items()
            if c.topic not in self._pictures and self._setting(n).topic is None
        }
        if not unsure:
            return
        tape = self._tape_with(frozenset(c.topic for c in enabled.values()) | self._side.topics)
        for topic, message in tape.first_of(unsure).items():
            image = parse_image(message)
            self._pictures[topic] = not image.is_depth and image.encoding not in DEPTH_ENCODINGS
            if not self._pictures[topic]:
                name = unsure[topic]
                self._cameras[name] = replace(
                    self._cameras[name], enabled=False, why_not="depth images; read when named"
                )


def open_log(
    paths: Sequence[Path | str],
    settings: ReadConfig | None = None,
    cameras: Mapping[str, CameraConfig] | None = None,
    *,
    cameras_needed: bool = True,
    trigger_topic: str | None = None,
    lidar: str | None = None,
) -> DriveLog:
    """Open the log of one drive: a file, a bag folder, or several of them.

    Args:
        paths: files or folders of one drive.
        settings: the config's section ``read``.
        cameras: the config's ``cameras``, by name.
        cameras_needed: False opens a log without images too, to see what it has.
        trigger_topic: a topic of any type whose messages `stream` gives as triggers, with their stamps.
        lidar: a topic of point clouds that `stream` gives as sweeps, or ``auto``; None: no lidar.

    Raises:
        LogError: no such path, not a log, damaged, empty, or without cameras.
        ConfigError: `cameras` names one that the log does not have.
    """
    return DriveLog(
        paths,
        settings or ReadConfig(),
        cameras or {},
        cameras_needed=cameras_needed,
        trigger_topic=trigger_topic,
        lidar=lidar,
    )
