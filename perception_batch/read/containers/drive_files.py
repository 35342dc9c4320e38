"""The open files of a drive as one log: its topics, its messages in log-time order, and what it lacks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from perception_batch.errors import LogError, printable
from perception_batch.read.containers.bag_metadata import StatedCounts
from perception_batch.read.containers.discover import AbsentSplits, discover
from perception_batch.read.containers.image_folder import ImageFolder
from perception_batch.read.containers.logfile import LogFile, Message, open_log_file
from perception_batch.read.containers.place import FileBytes
from perception_batch.read.containers.tape import merged
from perception_batch.read.containers.video_file import VideoFile
from perception_batch.read.images.frames import int64
from perception_batch.read.images.topics import TopicInfo
from perception_batch.types import Loss


class DriveFiles:
    """All files of one drive, open, in the order of their log times."""

    def __init__(self, paths: Sequence[Path], max_message_bytes: int) -> None:
        """Open what `paths` name; see `open_log_file` for the limit.

        Raises:
            LogError: no path, no such path, no file that can be read, or no messages.
        """
        self.opened: list[LogFile] = []
        """By the log time of their first message."""
        self._losses: list[Loss] = []
        self.topics: tuple[TopicInfo, ...] = ()
        """Every topic, by name."""
        if not paths:
            raise LogError("", "no log was named")
        try:
            found = discover(paths)
            self._open(found.files, max_message_bytes)
            self.topics = _topics(self.opened, found.stated)
            for absent in found.absent:
                self._lose_absent(absent)
        except BaseException:
            self.close()
            raise

    @property
    def start_ns(self) -> int:
        """Log time of the first message of any topic."""
        return int64(min((f.start_ns for f in self.opened if f.stop_ns), default=0))

    @property
    def stop_ns(self) -> int:
        """Just after the log time of the last message of any topic."""
        return int64(max((f.stop_ns for f in self.opened), default=0))

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Absent and unreadable files, and what the others are known to lack; it grows while they are read."""
        found = list(self._losses)
        for file in self.opened:
            name = printable(file.path.name)
            found += [replace(loss, reason=f"{name}: {loss.reason}") for loss in file.losses]
        return tuple(dict.fromkeys(found))

    @property
    def stamp_sources(self) -> tuple[str, ...]:
        """Where the times of files come from that have none of their own, such as videos; one line each."""
        sources = ((file.path.name, str(getattr(file, "stamp_source", ""))) for file in self.opened)
        words = {"1970": "nowhere: it begins in 1970; put its start into a file .start_ns beside it"}
        return tuple(
            f"{printable(name)}: its time comes from {words.get(source, source + ' beside it')}"
            for name, source in sources
            if source
        )

    def of_types(self, *types: str) -> frozenset[str]:
        """Names of the topics of these message types."""
        return frozenset(t.name for t in self.topics if t.type in types)

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """Messages of `topics` with start_ns <= log time < stop_ns, in log-time order.

        A file that turns out to be damaged ends there and is added to `losses`.
        """
        return merged(self.opened, topics, start_ns, stop_ns, self._lose)

    def fingerprint(self) -> str:
        """SHA-256 over each file's size, beginning and end, in the order of the files.

        A quarter per cent of each file at either end, at least 16 KiB and at most 1 MiB: it tells one
        recording from another, whose index stands at the end, without reading it twice.
        """
        digest = hashlib.sha256()
        for file in self.opened:
            if isinstance(file, ImageFolder):
                digest.update(b"".join(file.contents()))
                continue
            if isinstance(file, VideoFile):
                digest.update(file.stamps_identity())
            with closing(FileBytes(file.path)) as content:
                part = min(max(content.size // 400, 16 << 10), 1 << 20)
                digest.update(content.size.to_bytes(8, "little"))
                for at in (0, max(0, content.size - part)):
                    digest.update(content.read(at, part))
        return digest.hexdigest()

    def close(self) -> None:
        """Release the files."""
        for file in self.opened:
            file.close()

    def _open(self, paths: Iterable[Path], max_message_bytes: int) -> None:
        refused: list[LogError] = []
        for path in paths:
            try:
                self.opened.append(open_log_file(path, max_message_bytes))
            except LogError as error:
                refused.append(error)
        if not self.opened:
            raise refused[0]
        self.opened.sort(key=lambda f: f.start_ns)
        for refusal in refused:
            self._lose(Loss("*", 0, 0, 0, f"{printable(refusal.path.name)}: {refusal.detail}"))

    def _lose(self, loss: Loss) -> None:
        if loss not in self._losses:
            self._losses.append(loss)

    def _lose_absent(self, absent: AbsentSplits) -> None:
        here = {topic.name: topic.count for topic in self.topics}
        names = ", ".join(map(printable, absent.names[:3])) + (", ..." if len(absent.names) > 3 else "")
        reason = f"{len(absent.names)} file(s) that metadata.yaml lists are absent: {names}"
        for topic, total in sorted(absent.totals.items()):
            missing = total - here.get(topic, 0)
            if missing > 0:
                self._lose(Loss(topic, absent.start_ns, absent.stop_ns, missing, reason))


def _topics(files: Sequence[LogFile], stated: Sequence[StatedCounts]) -> tuple[TopicInfo, ...]:
    """All topics of `files`; counted by the files' own indexes, or else as stated where that adds up."""
    counts: Counter[str] = Counter()
    types: dict[str, str] = {}
    for file in files:
        for channel in file.channels:
            types.setdefault(channel.topic, channel.msgtype)
    uncounted = {file.path: file for file in files}
    for bag in stated:
        members = [uncounted[path] for path in bag.files if path in uncounted]
        counted = all(file.counts_by_index for file in members)
        if not counted and len(members) == len(bag.files) and bag.fits(members):
            counts.update(bag.totals)
            uncounted = {path: file for path, file in uncounted.items() if path not in bag.files}
    for file in uncounted.values():
        by_id = file.counts()
        for channel in file.channels:
            counts[channel.topic] += by_id.get(channel.id, 0)
    return tuple(TopicInfo(name, types[name], counts[name]) for name in sorted(types))
