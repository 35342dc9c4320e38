"""MCAP files of ROS 2, through `rosbags`."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rosbags.interfaces import ConnectionExtRosbag2, MessageDefinitionFormat
from rosbags.rosbag2.storage_mcap import Channel as McapChannel
from rosbags.rosbag2.storage_mcap import McapReader

from perception_batch.errors import UnsupportedEncoding, printable
from perception_batch.read.containers.logfile import Channel, Message, normalize_type
from perception_batch.read.containers.zstd_message import unpack

_READABLE_SCHEMAS = (b"ros2msg", b"ros2idl", b"omgidl", b"")
_SCHEMA, _FOOTER = 0x03, 0x02


class _Reader(McapReader):
    """rosbags' reader, which refuses a whole file for one schema that is neither msg nor IDL.

    Such a schema belongs to a topic that is not ours: its text is blanked before the index is parsed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.channels = _Channels()

    def read_index(self) -> None:
        """Read schemas, channels, chunk index and statistics."""
        file, summary = self.bio, self.data_end
        if file is None:
            return
        file.seek(summary)
        self.bio, self.data_end = io.BytesIO(_without_foreign_schemas(file.read())), 0
        try:
            super().read_index()
        finally:
            self.bio, self.data_end = file, summary


def _without_foreign_schemas(summary: bytes) -> bytes:
    out, at = bytearray(), 0
    while at + 9 <= len(summary):
        kind, size = struct.unpack_from("<BQ", summary, at)
        record = summary[at : at + 9 + size]
        at += 9 + size
        if kind == _SCHEMA and len(record) == 9 + size:
            name_end = 15 + struct.unpack_from("<I", record, 11)[0]
            encoding_end = name_end + 4 + struct.unpack_from("<I", record, name_end)[0]
            if record[name_end + 4 : encoding_end] not in _READABLE_SCHEMAS:
                body = record[9:name_end] + bytes(8)  # no encoding, no text
                record = struct.pack("<BQ", kind, len(body)) + body
        out += record
        if kind == _FOOTER:
            break
    return bytes(out)


class _Channels(dict[int, McapChannel]):
    """rosbags also refuses a file for one odd QoS text, which nobody here reads."""

    def __setitem__(self, key: int, channel: McapChannel) -> None:
        super().__setitem__(key, channel._replace(metadata=b""))


class McapFile:
    """An open MCAP file; see `LogFile`."""

    counts_by_index = True

    def __init__(self, path: Path, max_message_bytes: int) -> None:
        self.path = path
        self._max_message_bytes = max_message_bytes
        self._reader = _Reader(path)
        try:
            self._reader.open()
        except Exception as error:
            if "Profile is not ros2" in str(error):
                raise UnsupportedEncoding(path, _describe(path)) from error
            raise
        reader = self._reader
        self._by_id = {c.id: c for c in reader.connections}
        self.channels: tuple[Channel, ...] = tuple(
            Channel(
                c.id,
                c.topic,
                normalize_type(c.msgtype),
                "cdr",
                c.msgdef.data,
                c.msgdef.format is MessageDefinitionFormat.IDL,
            )
            for c in reader.connections
            if isinstance(c.ext, ConnectionExtRosbag2) and c.ext.serialization_format == "cdr"
        )
        self._counts = {c.id: c.msgcount for c in reader.connections}
        self.message_count = sum(self._counts.values())
        self.start_ns = reader.metadata.start_time
        self.stop_ns = reader.metadata.end_time

    def counts(self) -> Mapping[int, int]:
        """See `LogFile`."""
        return self._counts

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """See `LogFile`."""
        by_id = {c.id: c for c in channels if self._counts[c.id]}
        if not by_id:
            return
        reader = self._reader
        # Without chunks rosbags reads from where the file stands, so two readings cannot share it.
        own = None if reader.chunks else _Reader(self.path)
        if own is not None:
            own.open()
            reader = own
        try:
            wanted = [self._by_id[i] for i in by_id]
            for connection, log_ns, data in reader.messages(wanted, start_ns, stop_ns):
                yield Message(log_ns, by_id[connection.id], unpack(data, self._max_message_bytes))
        finally:
            if own is not None:
                own.close()

    def close(self) -> None:
        """See `LogFile`."""
        if self._reader.bio is not None:
            self._reader.close()


def _describe(path: Path) -> str:
    """What a file without the ros2 profile holds, from its summary, where that is cheap to say."""
    said = "an MCAP file that is not of ROS 2 (its profile is not `ros2`), which this version does not read"
    held: list[Any] = []
    with suppress(Exception), path.open("rb") as file:
        file.seek(-28, 2)
        (summary,) = struct.unpack("<Q", file.read(8))
        if summary:
            reader = _Reader(path)
            reader.bio, reader.data_end = file, summary
            reader.read_index()
            held = [
                f"{printable(c.topic)} ({printable(c.msgtype)}, "
                f"{printable(getattr(c.ext, 'serialization_format', '?'))})"
                for c in reader.connections
            ]
    if held:
        more = f" and {len(held) - 8} more" if len(held) > 8 else ""
        said += f"; it holds {', '.join(held[:8])}{more}"
    return said
