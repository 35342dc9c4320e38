"""ROS 1 bags, whole, without index, cut off or damaged."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_batch.errors import LogError, UnsupportedEncoding, printable
from perception_batch.read.containers.bag1_chunks import (
    ChunkRefused,
    Content,
    Entries,
    Walk,
    unpack_chunk,
    walk,
)
from perception_batch.read.containers.bag1_index import (
    MAGIC,
    IndexDamagedError,
    complete,
    read_index,
    scan,
    times_ns,
)
from perception_batch.read.containers.bag1_records import BAG_HEADER, message_at, read_record
from perception_batch.read.containers.logfile import MAX_NS, Channel, Message
from perception_batch.read.containers.lost_messages import LostMessages
from perception_batch.read.containers.place import FileBytes, MemoryBytes, is_remote
from perception_batch.types import Loss

# Bags that were converted topic by topic (kitti2bag) want one chunk of each topic at the same time; with
# only the last chunk kept, each would be unpacked again and again.
CHUNK_CACHE_BYTES = 64 << 20
REMOTE_AT_ONCE_BYTES = 4 << 20
"""Behind a URL a chunk without compression is read as a whole up to this size; else message by message."""
MESSAGE_LOOK_BYTES = 64
"""Holds the header of a message (46 bytes), and little of what follows."""
_BLOCK = 1 << 14

_Times = npt.NDArray[np.int64]
_Places = npt.NDArray[np.int64]


class Bag1File:
    """An open ROS 1 bag; see `LogFile`."""

    counts_by_index = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lost = LostMessages()
        self._cache: OrderedDict[int, Content] = OrderedDict()
        self._walks: dict[int, Walk] = {}
        self._refused: dict[int, str] = {}
        self._topics: dict[int, str] = {}
        self._file = FileBytes(path)
        self._at_once_bytes = REMOTE_AT_ONCE_BYTES if is_remote(path) else 0
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise
        index = self._index
        self.channels: tuple[Channel, ...] = tuple(
            Channel(c.id, c.topic, c.msgtype, "ros1", c.definition, False)
            for c in sorted(index.connections.values(), key=lambda c: c.id)
        )
        self._topics = {c.id: c.topic for c in self.channels}
        self._plans = {c.id: self._plan(c.id) for c in self.channels}
        self._counts = {i: len(times) for i, (times, _) in self._plans.items()}
        self.message_count = sum(self._counts.values())
        filled = [times for times, _ in self._plans.values() if len(times)]
        self.start_ns = min((int(t[0]) for t in filled), default=MAX_NS)
        self.stop_ns = max((int(t[-1]) + 1 for t in filled), default=0)
        self._note_what_is_lost()
        if not is_remote(path):
            self._file.look_bytes = MESSAGE_LOOK_BYTES

    @property
    def losses(self) -> tuple[Loss, ...]:
        """See `LogFile`."""
        return self._lost.as_losses()

    def counts(self) -> Mapping[int, int]:
        """See `LogFile`."""
        return self._counts

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """See `LogFile`. A message that cannot be read is counted, and the next one follows."""
        for times, places, conns in self._merged(channels, start_ns, stop_ns):
            for log_ns, place, conn in zip(times.tolist(), places.tolist(), conns.tolist(), strict=True):
                data = self._message(place >> 32, place & 0xFFFFFFFF, conn.id, log_ns)
                if data is not None:
                    yield Message(log_ns, conn, data)
        self._cache.clear()

    def close(self) -> None:
        """See `LogFile`."""
        self._cache.clear()
        self._file.close()

    # ------------------------------------------------------------------ opening

    def _read(self) -> None:
        file, path = self._file, self.path
        magic = re.match(rb"#ROSBAG V([0-9.]{1,8})\n", file.read(0, 32))
        if magic is None or magic[0] != MAGIC:
            version = "an unknown" if magic is None else magic[1].decode()
            raise LogError(
                path, f"a bag of {version} version, 2.0 is read; `rosbag migrate` updates old bags"
            )
        header = read_record(file, len(MAGIC))
        if header is not None and header.kind == BAG_HEADER and header.fields.get(b"encryptor"):
            encryptor = printable(header.fields[b"encryptor"].decode("utf-8", "replace"))
            raise UnsupportedEncoding(
                path, f"an encrypted bag ({encryptor}); decrypt it with `rosbag decrypt`"
            )
        is_header = header is not None and header.kind == BAG_HEADER
        self._closed_at = header.number(b"index_pos") if header is not None and is_header else 0
        try:
            index = read_index(file, header if is_header else None)
            self._why_scanned = ""
        except IndexDamagedError as error:
            self._why_scanned = str(error)
            if file.size <= len(MAGIC):
                raise LogError(path, "damaged or cut off: nothing follows its first line") from error
            index = scan(file, len(MAGIC))
        self._index = index
        complete(index, self._walk)

    def _plan(self, conn: int) -> tuple[_Times, _Places]:
        """(N,) log times and (N,) places (chunk << 32 | offset) of a connection's messages, in log-time order."""
        times: list[_Times] = [np.zeros(0, np.int64)]
        places: list[_Places] = [np.zeros(0, np.int64)]
        for number, chunk in enumerate(self._index.chunks):
            if conn in chunk.entries:
                entries = chunk.entries[conn]
                times.append(times_ns(entries))
                places.append((np.int64(number) << 32) + entries["offset"].astype(np.int64))
        all_times, all_places = np.concatenate(times), np.concatenate(places)
        order = np.lexsort((all_places, all_times))
        return all_times[order], all_places[order]

    def _note_what_is_lost(self) -> None:
        """Losses that are known before a message is read."""
        index = self._index
        for number in self._refused:
            self._lose_chunk(number)
        for number, chunk in enumerate(index.chunks):
            walked = self._walks.get(number)
            for i, (conn, log_ns) in enumerate(walked.lost if walked is not None else ()):
                reason = "cut off" if chunk.cut else "a message in the log is damaged"
                topic = self._topics.get(conn, "*")
                times = (log_ns, log_ns + 1) if conn >= 0 else (0, 0)
                key = (number, i)
                self._lost.add(topic, reason, key=key, start_ns=times[0], stop_ns=times[1], count=conn >= 0)
            for conn, entries in chunk.entries.items():
                if conn not in self._topics and len(entries):
                    self._lose_entries("*", "the log no longer tells of which topic", (number, conn), entries)
        for i, (conn, entries) in enumerate(index.orphans):
            topic = self._topics.get(conn, "*")
            self._lose_entries(topic, "a chunk of the log is damaged", ("orphan", i), entries)
        for at in index.damaged_at:
            self._lost.add("*", f"damaged at byte {at}", key=at, count=0)
        size, closed_at = self._file.size, self._closed_at
        last = max(self.stop_ns - 1, 0)
        if self._why_scanned and closed_at > size:
            self._lost.add("*", f"cut off after {size} bytes", key="end", start_ns=last, count=0)
        elif self._why_scanned and index.cut_at >= 0 and not 0 < closed_at <= index.cut_at:
            reason = f"cut off or damaged from byte {index.cut_at} on"
            self._lost.add("*", reason, key="end", start_ns=last, count=0)
        elif self._why_scanned and not closed_at:
            self._lost.add("*", self._why_scanned, key="end", start_ns=last, count=0)

    # ------------------------------------------------------------------ reading

    def _merged(
        self, channels: Sequence[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[_Times, _Places, npt.NDArray[np.object_]]]:
        """Log times, places and channels of all messages wanted, in log-time order, a block at a time."""
        times, places, which = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        for i, channel in enumerate(channels):
            mine, where = self._plans[channel.id]
            low = 0 if start_ns is None else int(np.searchsorted(mine, start_ns))
            high = len(mine) if stop_ns is None else int(np.searchsorted(mine, stop_ns))
            times.append(mine[low:high])
            places.append(where[low:high])
            which.append(np.full(max(high - low, 0), i, np.int32))
        all_times, all_places, all_which = (
            np.concatenate(times),
            np.concatenate(places),
            np.concatenate(which),
        )
        order = np.lexsort((all_places, all_times))
        table = np.empty(len(channels), object)
        table[:] = channels
        for begin in range(0, len(order), _BLOCK):
            rows = order[begin : begin + _BLOCK]
            yield all_times[rows], all_places[rows], table[all_which[rows]]

    def _message(self, number: int, offset: int, conn: int, log_ns: int) -> bytes | None:
        """The message that begins `offset` bytes into chunk `number`; None where it is lost, and counted."""
        content = self._content(number)
        if content is None:
            return None
        source = content.source
        place = message_at(source, content.begin + offset, content.stop, conn)
        if place is None:
            place = self._elsewhere(number, content, conn, log_ns)
        if place is None:
            reason = "a message in the log is damaged"
            topic = self._topics[conn]
            self._lost.add(topic, reason, key=(number, offset), start_ns=log_ns, stop_ns=log_ns + 1)
            return None
        return source.read(*place)

    def _elsewhere(self, number: int, content: Content, conn: int, log_ns: int) -> tuple[int, int] | None:
        """The message of this connection and log time, where the index names a wrong place in its chunk."""
        walked = self._walk(number)
        if walked is None or conn not in walked.entries:
            return None
        entries = walked.entries[conn]
        listed = set(self._index.chunks[number].entries[conn]["offset"].tolist())
        for i in np.flatnonzero(times_ns(entries) == log_ns):
            offset = int(entries["offset"][i])
            if offset not in listed:
                return message_at(content.source, content.begin + offset, content.stop, conn)
        return None

    def _content(self, number: int) -> Content | None:
        """The records of a chunk; None where it cannot be unpacked, and its messages are counted as lost."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        if number in self._refused:
            return None
        try:
            content = unpack_chunk(self._file, self._index.chunks[number], self._at_once_bytes)
        except ChunkRefused as error:
            self._refused[number] = str(error)
            self._lose_chunk(number)
            return None
        self._cache[number] = content
        while len(self._cache) > 1 and sum(map(_memory, self._cache.values())) > CHUNK_CACHE_BYTES:
            self._cache.popitem(last=False)
        return content

    def _walk(self, number: int) -> Walk | None:
        if number not in self._walks:
            content = self._content(number)
            if content is None:
                return None
            self._walks[number] = walk(content)
        return self._walks[number]

    # ------------------------------------------------------------------ losses

    def _lose_chunk(self, number: int) -> None:
        entries = self._index.chunks[number].entries
        for conn, mine in entries.items():
            if conn in self._topics:
                self._lose_entries(self._topics[conn], self._refused[number], ("chunk", number, conn), mine)
        if not entries:
            self._lost.add("*", self._refused[number], key=("chunk", number), count=0)

    def _lose_entries(self, topic: str, reason: str, key: Hashable, entries: Entries) -> None:
        if len(entries):
            times = times_ns(entries)
            start, stop = int(times.min()), int(times.max()) + 1
            self._lost.add(topic, reason, key=key, start_ns=start, stop_ns=stop, count=len(entries))


def _memory(content: Content) -> int:
    return content.source.size if isinstance(content.source, MemoryBytes) else 0
