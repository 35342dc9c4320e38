"""A drive's log: its cameras, calibration and ego motion, and its frames in log-time order."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from perception_batch.calibration import Rig
from perception_batch.config import CameraConfig, ReadConfig
from perception_batch.errors import LogError, TopicNotFound, printable
from perception_batch.read.camera_info import info_topics_beside
from perception_batch.read.discover import AbsentSplits, discover
from perception_batch.read.ego import EgoTracker
from perception_batch.read.frames import (
    FrameMaker,
    choose_clock,
    int64,
    median_skew_ns,
    parse_image,
    plausible,
)
from perception_batch.read.logfile import MAX_NS, LogFile, Message, open_log_file
from perception_batch.read.rig import CameraFacts, build_rig
from perception_batch.read.rig_file import read_rig_file
from perception_batch.read.small_message import CAMERA_INFO, ODOMETRY, TF_TYPES, SmallMessages
from perception_batch.read.source import CameraHead, Head
from perception_batch.read.tape import Tape, merged
from perception_batch.read.topics import (
    DEPTH_ENCODINGS,
    CameraTopic,
    TopicInfo,
    find_cameras,
)
from perception_batch.read.transforms import TransformTree, frame_name
from perception_batch.types import EgoPose, EncodedFrame, Loss

log = logging.getLogger(__name__)

SEEK_MARGIN_NS = 5_000_000_000
"""Log time read before and after a requested range, besides the measured skew: recorders deliver late."""

MAX_FETCH_MESSAGES = 2000
"""Calibration messages fetched beyond the head; a healthy log has one a topic."""

LATE_SAMPLE = 10
"""Images looked at of a camera that is silent in the head."""


class DriveLog:
    """One drive's log, open; made by `open_log`. Implements `FrameSource`."""

    def __init__(
        self, paths: Sequence[Path], settings: ReadConfig, cameras: Mapping[str, CameraConfig]
    ) -> None:
        self.paths = tuple(Path(p) for p in paths)
        self.ego_dropped = 0
        """Ego poses that came late or twice, in the last `stream`."""
        self._settings = settings
        self._camera_settings = cameras
        self._losses: list[Loss] = []
        self._broken: Counter[str] = Counter()
        self._small = SmallMessages()
        self._files: list[LogFile] = []
        self._tape: Tape | None = None
        self._heads: dict[tuple[str, ...], Head] = {}
        self._seen: dict[str, Any] = {}
        self._tree, self._static = TransformTree(), TransformTree()
        self._odometry: dict[str, Any] = {}
        self._base_frame: str | None = None
        self._pictures: dict[str, bool] = {}
        if not self.paths:
            raise LogError("", "no log was named")
        try:
            self._open_files()
            self._topics = self._list_topics()
            self._cameras = find_cameras(self._topics, cameras, self.paths[0], self._frame_id_of)
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------ what there is

    @property
    def topics(self) -> tuple[TopicInfo, ...]:
        """Every topic of the log, by name."""
        return self._topics

    @property
    def cameras(self) -> Mapping[str, CameraTopic]:
        """Every camera of the log, by name, enabled or not."""
        return MappingProxyType(self._cameras)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What is known to be lost; grows while streaming where a file turns out to be damaged."""
        unparsed = tuple(
            Loss(topic, 0, 0, count, "messages that cannot be parsed")
            for topic, count in sorted(self._broken.items())
        )
        return (*self._losses, *unparsed)

    @property
    def ego_source(self) -> str | None:
        """``tf`` or the odometry topic that `stream` takes the vehicle's motion from; None where there is none."""
        if self._base_frame is None:
            return None
        ego = EgoTracker(self._base_frame, self._static.copy())
        ego.choose(self._tree, self._odometry)
        return ego.source or None

    @property
    def start_ns(self) -> int:
        """Log time of the first message of any topic."""
        return int64(min((f.start_ns for f in self._files if f.stop_ns), default=0))

    @property
    def stop_ns(self) -> int:
        """Just after the log time of the last message of any topic."""
        return int64(max((f.stop_ns for f in self._files), default=0))

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
        """SHA-256 over each file's size, beginning and end, in the order of the files.

        A quarter per cent of each file at either end, at least 16 KiB and at most 1 MiB: it tells one
        recording from another, whose index stands at the end, without reading it twice.
        """
        digest = hashlib.sha256()
        for file in self._files:
            with file.path.open("rb", buffering=0) as handle:
                size = handle.seek(0, 2)
                part = min(max(size // 400, 16 << 10), 1 << 20)
                digest.update(size.to_bytes(8, "little"))
                for at in (0, max(0, size - part)):
                    handle.seek(at)
                    digest.update(handle.read(part))
        return digest.hexdigest()

    def close(self) -> None:
        """Release the files."""
        self._tape = None
        for file in self._files:
            file.close()

    def __enter__(self) -> DriveLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ the first seconds

    def head(self, selected: Sequence[str]) -> Head:
        """Look at the first `head_s` seconds or `head_mb` megabytes, once; `stream` replays them."""
        key = tuple(sorted(selected))
        if key in self._heads:
            return self._heads[key]
        tape = self._wind(frozenset(self._cameras[name].topic for name in key) | self._side_topics())
        names = {self._cameras[name].topic: name for name in key}
        stamps: dict[str, list[tuple[int, int]]] = {name: [] for name in key}
        looks: dict[str, tuple[str, int, int]] = {}
        frame_ids: dict[str, str] = {}

        def look_at(message: Message) -> None:
            name = names[message.channel.topic]
            image = parse_image(message)
            if image.ok:
                stamps[name].append((image.stamp_ns, message.log_ns))
                frame_ids.setdefault(name, image.frame_id)
                if name not in looks or not looks[name][1]:
                    looks[name] = (image.encoding, image.width_px, image.height_px)

        for message in tape.kept:
            self._look_at_side(message)
            if message.channel.topic in names:
                look_at(message)
        stop = tape.kept[-1].log_ns if tape.kept else self.start_ns
        for name in key:
            if not stamps[name] and not tape.ended:  # a camera that begins later
                later = merged(self._files, {self._cameras[name].topic}, stop, None, self._lose)
                for message in islice(later, LATE_SAMPLE):
                    look_at(message)
        heads = {}
        for name in key:
            clock = choose_clock(self._settings.clock, stamps[name])
            offset = self._offset_ns(name)
            pairs = [
                (int64((stamp if clock == "header" else log_ns) + offset), int64(log_ns))
                for stamp, log_ns in stamps[name]
                if clock == "log" or plausible(stamp, log_ns)
            ]
            skew = median_skew_ns(pairs) if clock == "header" else 0
            look = looks.get(name, ("unknown", 0, 0))
            heads[name] = CameraHead(clock, skew, tuple(pairs), frame_ids.get(name, ""), *look)
        first = min((stamp for h in heads.values() for stamp, _ in h.stamps_ns), default=self.start_ns)
        self._heads[key] = Head(MappingProxyType(heads), first, stop, tape.ended)
        return self._heads[key]

    # ------------------------------------------------------------------ calibration

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
        names = tuple(sorted(selected))
        self._fetch_infos(names, head)
        frames = [frame_name(head.cameras[name].frame_id) for name in names]
        if not set(frames) <= set(self._tree.frames) or len({self._tree.top(f) for f in frames}) > 1:
            self._fetch_static(head)
        facts = []
        for name in names:
            info = self._info_of(name, head)
            seen = head.cameras[name]
            frame_id = seen.frame_id or ("" if info is None else str(info.header.frame_id))
            facts.append(
                CameraFacts(
                    name,
                    self._cameras[name].topic,
                    frame_id,
                    (seen.width_px, seen.height_px),
                    info,
                    self._setting(name),
                )
            )
        file = None if rig_file is None else read_rig_file(rig_file)
        rig = build_rig(facts, self._tree, file, base_frame)
        self._base_frame = rig.base_frame
        return rig

    # ------------------------------------------------------------------ all messages

    def stream(
        self, selected: Sequence[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[EncodedFrame | EgoPose]:
        """Frames with start_ns <= stamp_ns < stop_ns, and the ego poses read on the way, in log-time order.

        The first call replays the head and reads on, so each byte is read once. A range that begins after
        the head is sought by log time; then `EncodedFrame.sequence` counts from the first frame read.
        Frames with an implausible stamp belong to the range in which they were recorded.
        """
        names = tuple(sorted(selected))
        head = self.head(names)
        if self._base_frame is None:
            self.rig(names)
        makers = {
            self._cameras[name].topic: FrameMaker(
                name, head.cameras[name].clock, head.cameras[name].skew_ns, self._offset_ns(name)
            )
            for name in names
        }
        skews = {name: seen.skew_ns for name, seen in head.cameras.items()}
        ego = EgoTracker(self._base_frame or "", self._static.copy())
        ego.choose(self._tree, self._odometry)
        self.ego_dropped = 0
        for topic in self._motion_topics():
            self._broken.pop(topic, None)
        for message in self._play(frozenset(makers), head, list(skews.values()), start_ns, stop_ns):
            maker = makers.get(message.channel.topic)
            if maker is None:
                pose = self._ego_pose(ego, message)
                self.ego_dropped = ego.dropped
                if pose is not None:
                    yield pose
                continue
            frame = maker.make(message)
            at = frame.stamp_ns if frame.stamp_ok else frame.log_ns - skews[frame.camera]
            if (start_ns is None or at >= start_ns) and (stop_ns is None or at < stop_ns):
                yield frame

    def _play(
        self,
        images: frozenset[str],
        head: Head,
        skews: list[int],
        start_ns: int | None,
        stop_ns: int | None,
    ) -> Iterator[Message]:
        low = None if start_ns is None else start_ns + min(skews, default=0) - SEEK_MARGIN_NS
        high = None if stop_ns is None else stop_ns + max(skews, default=0) + SEEK_MARGIN_NS
        topics = images | self._motion_topics()
        tape, self._tape = self._tape, None
        if tape is not None and topics <= tape.topics and (low is None or low <= head.stop_ns):
            for message in tape.play():
                if high is not None and message.log_ns >= high:
                    return
                if message.channel.topic in topics:
                    yield message
            return
        yield from merged(self._files, topics, low, high, self._lose)

    def _ego_pose(self, ego: EgoTracker, message: Message) -> EgoPose | None:
        channel = message.channel
        if channel.msgtype not in TF_TYPES and channel.msgtype != ODOMETRY:
            return None
        if channel.msgtype == ODOMETRY and ego.source not in ("", channel.topic):
            return None
        try:
            content = self._small.read(channel, message.data)
            if channel.msgtype == ODOMETRY:
                return ego.on_odometry(channel.topic, content, message.log_ns)
            return ego.on_tf(content, message.log_ns, static=_is_static(channel.topic))
        except (ValueError, AttributeError, TypeError):
            self._broken[channel.topic] += 1
            return None

    # ------------------------------------------------------------------ inside

    def _open_files(self) -> None:
        found = discover(self.paths)
        limit = int(self._settings.max_image_mpx * 8e6) + (1 << 20)
        refused: list[LogError] = []
        for path in found.files:
            try:
                self._files.append(open_log_file(path, limit))
            except LogError as error:
                refused.append(error)
        if not self._files:
            raise refused[0]
        if not any(f.stop_ns for f in self._files):
            raise LogError(self.paths[0], "the log holds no messages")
        self._files.sort(key=lambda f: f.start_ns)
        for refusal in refused:
            reason = f"{printable(refusal.path.name)}: {refusal.detail}"
            self._losses.append(Loss("*", 0, 0, 0, reason))
        for absent in found.absent:
            self._lose_absent(absent)

    def _lose_absent(self, absent: AbsentSplits) -> None:
        here: Counter[str] = Counter()
        for file in self._files:
            for channel in file.channels:
                here[channel.topic] += channel.count
        names = ", ".join(map(printable, absent.names[:3])) + (", ..." if len(absent.names) > 3 else "")
        reason = f"{len(absent.names)} file(s) that metadata.yaml lists are absent: {names}"
        for topic, (_, total) in sorted(absent.totals.items()):
            if total > here[topic]:
                self._losses.append(Loss(topic, absent.start_ns, absent.stop_ns, total - here[topic], reason))

    def _lose(self, loss: Loss) -> None:
        if loss not in self._losses:
            self._losses.append(loss)

    def _list_topics(self) -> tuple[TopicInfo, ...]:
        counts: Counter[str] = Counter()
        types: dict[str, str] = {}
        for file in self._files:
            for channel in file.channels:
                counts[channel.topic] += channel.count
                types.setdefault(channel.topic, channel.msgtype)
        return tuple(TopicInfo(name, types[name], counts[name]) for name in sorted(types))

    def _of_types(self, *types: str) -> frozenset[str]:
        return frozenset(t.name for t in self._topics if t.type in types)

    def _motion_topics(self) -> frozenset[str]:
        return self._of_types(*TF_TYPES, ODOMETRY)

    def _side_topics(self) -> frozenset[str]:
        return self._motion_topics() | self._of_types(CAMERA_INFO)

    def _setting(self, name: str) -> CameraConfig:
        return self._camera_settings.get(self._cameras[name].config_name, CameraConfig())

    def _offset_ns(self, name: str) -> int:
        return round(self._setting(name).stamp_offset_ms * 1e6)

    def _messages(self, topics: Collection[str]) -> Iterator[Message]:
        return merged(self._files, topics, None, None, self._lose)

    def _wind(self, topics: frozenset[str]) -> Tape:
        """The tape with at least `topics`, its head read."""
        if self._tape is None or not topics <= self._tape.topics:
            self._tape = Tape(self._messages(topics), topics)
        tape = self._tape
        while not self._head_full(tape) and tape.pull() is not None:
            pass
        return tape

    def _head_full(self, tape: Tape) -> bool:
        if not tape.kept:
            return False
        span = tape.kept[-1].log_ns - tape.kept[0].log_ns
        return span > self._settings.head_s * 1e9 or tape.kept_bytes > self._settings.head_mb * 1e6

    def _peek(self, wanted: Collection[str], topics: frozenset[str]) -> dict[str, Message]:
        """The first message of each of `wanted`, within the head; what is read on the way is kept."""
        if self._tape is None or not topics <= self._tape.topics:
            self._tape = Tape(self._messages(topics), topics)
        tape = self._tape
        first: dict[str, Message] = {}
        for message in tape.kept:
            first.setdefault(message.channel.topic, message)
        while not set(wanted) <= set(first) and not self._head_full(tape):
            message_or_end = tape.pull()
            if message_or_end is None:
                break
            first.setdefault(message_or_end.channel.topic, message_or_end)
        return {topic: first[topic] for topic in wanted if topic in first}

    def _frame_id_of(self, topic: str) -> str:
        """The frame of a topic that leaves no name, from its first image."""
        found = self._peek([topic], frozenset({topic}) | self._side_topics())
        self._tape = None if topic not in found else self._tape
        return parse_image(found[topic]).frame_id if topic in found else ""

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
        topics = frozenset(c.topic for c in enabled.values()) | self._side_topics()
        for topic, message in self._peek(list(unsure), topics).items():
            image = parse_image(message)
            self._pictures[topic] = not image.is_depth and image.encoding not in DEPTH_ENCODINGS
            if not self._pictures[topic]:
                name = unsure[topic]
                self._cameras[name] = replace(
                    self._cameras[name], enabled=False, why_not="depth images; read when named"
                )

    def _look_at_side(self, message: Message) -> None:
        """Keep what a message tells of calibration, transforms and odometry."""
        channel = message.channel
        if channel.msgtype not in (CAMERA_INFO, ODOMETRY, *TF_TYPES):
            return
        if channel.topic in self._seen and channel.msgtype in (CAMERA_INFO, ODOMETRY):
            return
        try:
            content = self._small.read(channel, message.data)
            if channel.msgtype in TF_TYPES:
                self._tree.add_message(content)
                if _is_static(channel.topic):
                    self._static.add_message(content)
            elif channel.msgtype == ODOMETRY:
                self._odometry[channel.topic] = content
        except (ValueError, AttributeError, TypeError) as error:
            if channel.msgtype == CAMERA_INFO:
                log.debug("%s: %s", printable(channel.topic), error)
                self._broken[channel.topic] += 1
            return
        self._seen[channel.topic] = content

    def _fetch_infos(self, names: Sequence[str], head: Head) -> None:
        """First CameraInfo of the selected cameras that the head did not have."""
        if head.complete:
            return
        infos = self._of_types(CAMERA_INFO)
        wanted: set[str] = set()
        for name in names:
            if self._info_of(name, head) is None:
                wanted |= set(info_topics_beside(self._cameras[name].topic, infos)) or infos
        for topic in sorted(wanted - set(self._seen)):
            for message in merged(self._files, {topic}, head.stop_ns, None, self._lose):
                self._look_at_side(message)
                break

    def _fetch_static(self, head: Head) -> None:
        """Static transforms that were published after the head."""
        if head.complete:
            return
        static = {t for t in self._of_types(*TF_TYPES) if _is_static(t)}
        for i, message in enumerate(merged(self._files, static, head.stop_ns, MAX_NS, self._lose)):
            self._look_at_side(message)
            if i >= MAX_FETCH_MESSAGES:
                break

    def _info_of(self, name: str, head: Head) -> Any | None:
        """CameraInfo of a camera: of a sibling topic, else the only one with the images' frame."""
        infos = {t: self._seen[t] for t in sorted(self._of_types(CAMERA_INFO)) if t in self._seen}
        for topic in info_topics_beside(self._cameras[name].topic, infos):
            return infos[topic]
        frame = frame_name(head.cameras[name].frame_id)
        same = [i for i in infos.values() if frame and frame_name(i.header.frame_id) == frame]
        return same[0] if same else None


def _is_static(topic: str) -> bool:
    return topic.rsplit("/", 1)[-1] == "tf_static"


def open_log(
    paths: Sequence[Path],
    settings: ReadConfig | None = None,
    cameras: Mapping[str, CameraConfig] | None = None,
) -> DriveLog:
    """Open the log of one drive: a file, a bag folder, or several of them.

    Args:
        paths: files or folders of one drive.
        settings: the config's section ``read``.
        cameras: the config's ``cameras``, by name.

    Raises:
        LogError: no such path, not a log, damaged, empty, or without cameras.
        ConfigError: `cameras` names one that the log does not have.
    """
    return DriveLog(paths, settings or ReadConfig(), cameras or {})
