"""rosbag2's sqlite3 files, through `rosbags`. Nothing is ever written beside them."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from rosbags.interfaces import ConnectionExtRosbag2, MessageDefinitionFormat
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from perception_batch.read.logfile import Channel, Message, normalize_type
from perception_batch.read.zstd_message import unpack


class SqliteFile:
    """An open rosbag2 database; see `LogFile`."""

    def __init__(self, path: Path, max_message_bytes: int) -> None:
        self.path = path
        self._max_message_bytes = max_message_bytes
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        try:
            # rosbags puts the path into a URI as it is (immutable=1), so it is quoted here.
            self._reader = Sqlite3Reader(Path(quote(str(self._settled(path)))))
            self._reader.open()
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        reader = self._reader
        stated = (
            reader.metadata.start_time,
            reader.metadata.end_time,
            *(c.msgcount for c in reader.connections),
        )
        names = (n for c in reader.connections for n in (c.topic, c.msgtype))
        if not all(isinstance(n, int) for n in stated) or not all(isinstance(n, str) for n in names):
            raise ValueError("its columns hold values of a wrong type")
        self._by_id = {c.id: c for c in reader.connections}
        self.channels: tuple[Channel, ...] = tuple(
            Channel(
                c.id,
                c.topic,
                normalize_type(c.msgtype),
                c.msgcount,
                2,
                c.msgdef.data,
                c.msgdef.format is MessageDefinitionFormat.IDL,
            )
            for c in reader.connections
            if isinstance(c.ext, ConnectionExtRosbag2) and c.ext.serialization_format == "cdr"
        )
        self.start_ns = reader.metadata.start_time
        self.stop_ns = reader.metadata.end_time

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """See `LogFile`."""
        by_id = {c.id: c for c in channels}
        wanted = [self._by_id[c.id] for c in channels]
        if wanted:
            for connection, log_ns, data in self._reader.messages(wanted, start_ns, stop_ns):
                if not isinstance(log_ns, int):  # sqlite does not enforce the type of a column
                    raise ValueError(f"a timestamp is {type(log_ns).__name__}, not a whole number")  # noqa: TRY004
                yield Message(log_ns, by_id[connection.id], unpack(data, self._max_message_bytes))

    def close(self) -> None:
        """See `LogFile`."""
        reader = getattr(self, "_reader", None)
        if reader is not None and reader.dbconn is not None:
            reader.close()
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def _settled(self, path: Path) -> Path:
        """`path`, or a copy elsewhere that has taken in the journal beside it.

        A recorder that was killed leaves messages in ``-wal`` (or a rollback journal). Reading the file
        without it would lose them, opening both in place would write beside the input.
        """
        beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
        journals = [p for p in beside if p.is_file() and p.stat().st_size]
        if not journals:
            return path
        self._copy = tempfile.TemporaryDirectory(prefix="perception_batch_")
        copy = Path(self._copy.name) / "log.db3"
        shutil.copyfile(path, copy)
        for journal in journals:
            shutil.copyfile(journal, copy.with_name(copy.name + journal.name[len(path.name) :]))
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        return copy
