"""rosbag2's sqlite3 files. Nothing is ever written beside them.

Read with SQL of our own: to open a file, `rosbags` counts the messages of each topic, and as no index knows
topics that reads every page that begins a message: 3 % of a log of 75 KB JPEGs, before the first one.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perception_batch.read.containers.bag_metadata import StatedCounts, parse_metadata, topic_totals
from perception_batch.read.containers.logfile import MAX_NS, Channel, Message, normalize_type
from perception_batch.read.containers.zstd_message import unpack

_DEFINED_SINCE = 4
"""Schema version (ROS 2 Iron) from which a file carries its message definitions."""


class SqliteFile:
    """An open rosbag2 database; see `LogFile`."""

    counts_by_index = False

    def __init__(self, path: Path, max_message_bytes: int) -> None:
        self.path = path
        self._max_message_bytes = max_message_bytes
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._counts: Mapping[int, int] | None = None
        self._db: sqlite3.Connection | None = None
        try:
            # Immutable: neither locks nor a journal appear. One thread at a time reads, but not always the same.
            uri = f"file:{quote(str(self._settled(path)))}?mode=ro&immutable=1"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")
            self._load()
        except BaseException:
            self.close()
            raise

    def counts(self) -> Mapping[int, int]:
        """See `LogFile`. As the file's own metadata states them, where that adds up; else every row is looked at.

        Looking costs the first page of every message, read a second time later: 3 % of a log of 75 KB images.
        It cannot be had for less, and is needed for files without metadata, such as of a recorder that was
        killed, and for splits of a bag of which one is absent.
        In a damaged file, rows that cannot be read are not counted: the sum is below `message_count`.
        """
        if self._counts is None:
            self._counts = self._stated_counts() or self._counted()
        return self._counts

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """See `LogFile`."""
        by_id = {c.id: c for c in channels}
        try:
            for topic_id, log_ns, data in self._rows(tuple(by_id), start_ns, stop_ns) if by_id else ():
                if not isinstance(log_ns, int):  # sqlite does not enforce the type of a column
                    raise ValueError(f"a timestamp is {type(log_ns).__name__}, not a whole number")  # noqa: TRY004
                yield Message(log_ns, by_id[topic_id], unpack(data, self._max_message_bytes))
        finally:
            with suppress(sqlite3.Error):  # closed meanwhile
                self._ask("PRAGMA shrink_memory")  # a drive may have hundreds of these files

    def close(self) -> None:
        """See `LogFile`."""
        if self._db is not None:
            self._db.close()
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def _ask(self, sql: str, arguments: Sequence[Any] = ()) -> sqlite3.Cursor:
        if self._db is None:
            raise sqlite3.ProgrammingError("the database is not open")
        return self._db.execute(sql, arguments)

    def _load(self) -> None:
        tables = {name for (name,) in self._ask("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise ValueError("not a rosbag2 database: it has no tables `topics` and `messages`")
        definitions = self._definitions() if "message_definitions" in tables else {}
        rows = self._ask("SELECT id, name, type, serialization_format FROM topics ORDER BY id").fetchall()
        if not all(isinstance(row[0], int) and all(isinstance(v, str) for v in row[1:3]) for row in rows):
            raise ValueError("its columns hold values of a wrong type")
        self.channels: tuple[Channel, ...] = tuple(
            Channel(topic_id, topic, normalize_type(msgtype), "cdr", *definitions.get(msgtype, ("", False)))
            for topic_id, topic, msgtype, serialization in rows
            if serialization == "cdr"
        )
        self._topic_ids = [(topic_id, topic) for topic_id, topic, _, _ in rows]
        self._time_index = self._find_time_index()
        # The first form needs the two ends of the index, and then only its pages; the second reads once.
        first, last, count = self._ask(
            "SELECT (SELECT MIN(timestamp) FROM messages), (SELECT MAX(timestamp) FROM messages),"
            " (SELECT COUNT(*) FROM messages)"
            if self._time_index
            else "SELECT MIN(timestamp), MAX(timestamp), COUNT(*) FROM messages"
        ).fetchone()
        if not count:
            first, last = MAX_NS, -1
        if not isinstance(first, int) or not isinstance(last, int):
            raise ValueError("its columns hold values of a wrong type")  # noqa: TRY004
        self.start_ns, self.stop_ns, self.message_count = first, last + 1, int(count)

    def _definitions(self) -> dict[str, tuple[str, bool]]:
        """By message type as the file writes it: its definition, and whether that is IDL."""
        version = self._ask("SELECT MAX(schema_version) FROM schema").fetchone()[0]
        if not isinstance(version, int) or version < _DEFINED_SINCE:
            return {}
        found: dict[str, tuple[str, bool]] = {}
        for msgtype, encoding, text in self._ask(
            "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions ORDER BY id"
        ):
            if isinstance(text, str) and encoding in ("ros2msg", "ros2idl"):
                found.setdefault(msgtype, (text, encoding == "ros2idl"))
        return found

    def _find_time_index(self) -> str:
        """The name of an index by log time, quoted; empty where there is none, as in files of other writers."""
        for _, name, _, _, partial in self._ask("PRAGMA index_list(messages)").fetchall():
            columns = self._ask("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (name,)).fetchall()
            if not partial and columns and columns[0][0] == "timestamp":
                return '"' + str(name).replace('"', '""') + '"'
        return ""

    def _rows(self, ids: tuple[int, ...], start_ns: int | None, stop_ns: int | None) -> Iterator[Any]:
        """Topic, log time and data of the messages of these topics, in log-time order."""
        where, arguments = f"topic_id IN ({','.join('?' * len(ids))})", list(ids)
        for bound, value in ((" AND timestamp >= ?", start_ns), (" AND timestamp < ?", stop_ns)):
            if value is not None:
                where += bound
                arguments.append(min(max(value, -(2**63)), MAX_NS))
        columns = "SELECT topic_id, timestamp, data FROM messages"
        if self._time_index:
            by_time = f"{columns} INDEXED BY {self._time_index} WHERE {where} ORDER BY timestamp"
            return self._ask(by_time, arguments)
        # Sorting whole rows would copy the log into temporary files; the order alone is small.
        sorted_rows = f"SELECT rowid FROM messages WHERE {where} ORDER BY timestamp"  # noqa: S608
        order = array("q", (row for (row,) in self._ask(sorted_rows, arguments)))
        return (found for row in order for found in self._ask(f"{columns} WHERE rowid = ?", (row,)))

    def _stated_counts(self) -> Mapping[int, int] | None:
        """What the table ``metadata`` (since ROS 2 Humble) says, where it adds up; None else."""
        text = None
        with suppress(sqlite3.Error):
            (text,) = self._ask("SELECT metadata FROM metadata ORDER BY id DESC LIMIT 1").fetchone() or (
                None,
            )
        totals = topic_totals(parse_metadata(text))
        fits = StatedCounts((self.path,), totals).fits([self])
        unique = len({topic for _, topic in self._topic_ids}) == len(self._topic_ids)
        return {i: totals.get(topic, 0) for i, topic in self._topic_ids} if fits and unique else None

    def _counted(self) -> Mapping[int, int]:
        counts: Counter[int] = Counter()
        try:
            counts.update(topic_id for (topic_id,) in self._ask("SELECT topic_id FROM messages"))
        except sqlite3.DatabaseError:
            counts.clear()
            with suppress(sqlite3.DatabaseError):
                for row in self._ask("SELECT rowid FROM messages ORDER BY timestamp"):
                    with suppress(sqlite3.DatabaseError):
                        counts.update(
                            i for (i,) in self._ask("SELECT topic_id FROM messages WHERE rowid = ?", row)
                        )
        return counts

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
