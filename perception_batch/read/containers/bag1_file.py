"""ROS 1 bags, through the index that `rosbags` reads."""

from __future__ import annotations

import heapq
import io
import os
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rosbags.rosbag1 import Reader
from rosbags.rosbag1.reader import Header, IndexData, RecordType, read_bytes, read_uint32

from perception_batch.errors import LogError
from perception_batch.read.containers.logfile import MAX_NS, Channel, Message

# Bags that were converted topic by topic (kitti2bag) want one chunk of each topic at the same time; with
# only the last chunk kept, as in rosbags' own `messages`, each chunk would be read again and again.
CHUNK_CACHE_BYTES = 64 << 20
# Index records are small and lie far apart: a larger buffer would read bytes that nobody asked for.
INDEX_BUFFER_BYTES = 1024


class _SmallReads(type(Path())):  # type: ignore[misc]
    """A path whose file is opened with a small buffer."""

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        return open(os.fspath(self), mode, buffering=INDEX_BUFFER_BYTES)  # noqa: PTH123


class Bag1File:
    """An open ROS 1 bag; see `LogFile`."""

    counts_by_index = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = Reader(_SmallReads(path))
        self._reader.open()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self.channels: tuple[Channel, ...] = tuple(
            Channel(c.id, c.topic, c.msgtype, "ros1", c.msgdef.data, False) for c in self._reader.connections
        )
        self._counts = {c.id: c.msgcount for c in self._reader.connections}
        self.message_count = sum(self._counts.values())
        self.start_ns = min((i[0].time for i in self._reader.indexes.values() if i), default=MAX_NS)
        self.stop_ns = max((i[-1].time + 1 for i in self._reader.indexes.values() if i), default=0)

    def counts(self) -> Mapping[int, int]:
        """See `LogFile`."""
        return self._counts

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """See `LogFile`."""
        by_id = {c.id: c for c in channels}
        reader = self._reader
        runs = [_between(reader.indexes[c.id], start_ns, stop_ns) for c in channels]
        for entry in heapq.merge(*runs):
            chunk = io.BytesIO(self._chunk(entry.chunk_pos))
            chunk.seek(entry.offset)
            while True:
                header = Header.read(chunk)
                if header.get_uint8("op") != RecordType.CONNECTION:
                    break
                chunk.seek(read_uint32(chunk), os.SEEK_CUR)
            if header.get_uint8("op") != RecordType.MSGDATA:
                raise LogError(self.path, "the index points at something that is no message")
            channel = by_id.get(header.get_uint32("conn"))
            if channel is None:
                raise LogError(self.path, "the index points at a message of another topic")
            yield Message(entry.time, channel, read_bytes(chunk, read_uint32(chunk)))
        self._cache.clear()

    def close(self) -> None:
        """See `LogFile`."""
        if self._reader.bio is not None:
            self._reader.close()
        self._cache.clear()

    def _chunk(self, position: int) -> bytes:
        if position in self._cache:
            self._cache.move_to_end(position)
            return self._cache[position]
        chunk = self._reader.chunks[position]
        file = self._reader.bio
        if file is None:
            raise LogError(self.path, "read after it was closed")
        file.seek(chunk.datapos)
        data = chunk.decompressor(read_bytes(file, chunk.datasize))
        self._cache[position] = data
        while len(self._cache) > 1 and sum(map(len, self._cache.values())) > CHUNK_CACHE_BYTES:
            self._cache.popitem(last=False)
        return data


def _between(index: list[IndexData], start_ns: int | None, stop_ns: int | None) -> Iterator[IndexData]:
    low = 0 if start_ns is None else bisect_left(index, IndexData(start_ns, 0, 0))
    high = len(index) if stop_ns is None else bisect_left(index, IndexData(stop_ns, 0, 0))
    return (index[i] for i in range(low, high))
