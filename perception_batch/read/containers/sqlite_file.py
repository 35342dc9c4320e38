"""rosbag2's sqlite3 files. Nothing is ever written beside them.

Read with SQL of our own: to open a file, `rosbags` counts the messages of each topic, and as no index knows
topics that reads every page that begins a message: 3 % of a log of 75 KB JPEGs, before the first one.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perception_batch.read.containers.bag_metadata import StatedCounts, parse_metadata, topic_totals
from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.read.containers.logfile import MAX_NS, Channel, Message, normalize_type, reason_of
from perception_batch.read.containers.lost_messages import LostMessages
from perception_batch.read.containers.place import TemporaryCopies, is_remote
from perception_batch.read.containers.sqlite_pages import SqlitePages
from perception_batch.read.containers.sqlite_rescue import SqliteRescue
from perception_batch.read.containers.zstd_message import unpack
from perception_batch.types import Loss

_DEFINED_SINCE = 4
"""Schema version (ROS 2 Iron) from which a file carries its message definitions."""
_STEPS = 1_000_000
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


class SqliteFile:
    """An open rosbag2 database; see `LogFile`."""

    counts_by_index = False

    def __init__(self, path: Path, max_message_bytes: int) -> None:
        self.path = path
        self._max_message_bytes = max_message_bytes
        self._copies: TemporaryCopies | None = None
        self._counts: Mapping[int, int] | None = None
        self._db: sqlite3.Connection | None = None
        self._rescue: SqliteRescue | None = None
        self._lost = LostMessages()
        self._steps = 0
        try:
            self._here = self._settled(path)
            try:
                self._open()
                self._load()
            except (sqlite3.DatabaseError, OverflowError) as error:
                self._load_rescued(reason_of(error))
        except BaseException:
            self.close()
            raise

    @property
    def losses(self) -> tuple[Loss, ...]:
        """See `LogFile`."""
        return self._lost.as_losses()

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
        """See `LogFile`. At a damaged page it goes on with the rows on all others."""
        by_id = {c.id: c for c in channels}
        if not by_id:
            return
        after: tuple[int, int] | None = None
        if self._rescue is None:
            try:
                for topic_id, log_ns, rowid, data in _in_order(self._rows(tuple(by_id), start_ns, stop_ns)):
                    message = self._message(by_id[topic_id], log_ns, rowid, data)
                    if isinstance(log_ns, int):
                        after = (log_ns, rowid)
                    if message is not None:
                        yield message
            except sqlite3.ProgrammingError:  # closed meanwhile
                raise
            except sqlite3.DatabaseError as error:
                self._begin_rescue(reason_of(error))
            finally:
                with suppress(sqlite3.Error):
                    self._ask("PRAGMA shrink_memory")  # a drive may have hundreds of these files
        if self._rescue is not None:
            for topic_id, log_ns, rowid, data in self._rescue.messages(by_id, start_ns, stop_ns, after):
                message = self._message(by_id[topic_id], log_ns, rowid, data)
                if message is not None:
                    yield message

    def close(self) -> None:
        """See `LogFile`."""
        if self._db is not None:
            self._db.close()
        if self._rescue is not None:
            self._rescue.close()
        if self._copies is not None:
            self._copies.close()
            self._copies = None

    # ------------------------------------------------------------------ opening

    def _open(self) -> None:
        whole = _missing_bytes(self._here) == 0
        if not whole:
            raise sqlite3.DatabaseError("the end of the file is missing")
        # Immutable: neither locks nor a journal appear. One thread at a time reads, but not always the same.
        uri = f"file:{quote(str(self._here))}?mode=ro&immutable=1"
        self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self._db.set_progress_handler(self._is_endless, _STEPS)
        # A log has no views or triggers that are worth running.
        self._db.execute("PRAGMA trusted_schema=OFF")
        self._db.execute("PRAGMA cell_size_check=ON")
        self._most_steps = 2 + self._here.stat().st_size // _STEPS * 4

    def _is_endless(self) -> bool:
        """True where one statement does more work than the file has bytes: its pages lead in circles."""
        self._steps += 1
        return self._steps > self._most_steps

    def _ask(self, sql: str, arguments: Sequence[Any] = ()) -> sqlite3.Cursor:
        if self._db is None:
            raise sqlite3.ProgrammingError("the database is not open")
        self._steps = 0
        return self._db.execute(sql, arguments)

    def _load(self) -> None:
        tables = {name for (name,) in self._ask("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise ValueError("not a rosbag2 database: it has no tables `topics` and `messages`")
        definitions = self._definitions() if "message_definitions" in tables else {}
        rows = self._ask("SELECT id, name, type, serialization_format FROM topics ORDER BY id").fetchall()
        fit = [row for row in rows if isinstance(row[0], int) and all(isinstance(v, str) for v in row[1:3])]
        for row in rows:
            if row not in fit:
                self._lost.add("*", "the name or type of a topic is damaged", key=repr(row[0]), count=0)
        self._set_topics(fit, definitions)
        self._time_index = self._find_time_index()
        # The first form needs the two ends of the index, and then only its pages; the second reads once.
        bounds = (
            "SELECT (SELECT MIN(timestamp) FROM messages), (SELECT MAX(timestamp) FROM messages),"
            " (SELECT COUNT(timestamp) FROM messages)"
            if self._time_index
            else "SELECT MIN(timestamp), MAX(timestamp), COUNT(*) FROM messages"
        )
        first, last, count = self._ask(bounds).fetchone()
        self._check_index(count)
        if count and not (isinstance(first, int) and isinstance(last, int)):
            only_good = " FROM messages WHERE typeof(timestamp) = 'integer'"
            first, last = self._ask(f"SELECT MIN(timestamp), MAX(timestamp){only_good}").fetchone()
        if not count or first is None:
            first, last = MAX_NS, -1
        self.start_ns, self.stop_ns, self.message_count = first, last + 1, int(count)

    def _set_topics(self, rows: Sequence[Any], definitions: Mapping[str, tuple[str, bool]]) -> None:
        self.channels: tuple[Channel, ...] = tuple(
            Channel(topic_id, topic, normalize_type(msgtype), "cdr", *definitions.get(msgtype, ("", False)))
            for topic_id, topic, msgtype, serialization in rows
            if serialization == "cdr"
        )
        self._topic_ids = [(topic_id, topic) for topic_id, topic, _, _ in rows]

    def _check_index(self, count: int) -> None:
        """Let an index that lacks messages be damage: sqlite believes it. Rows are numbered without gaps."""
        if not self._time_index or not count:
            return
        (span,) = self._ask(
            "SELECT (SELECT MAX(rowid) FROM messages) - MIN(rowid) + 1 FROM messages"
        ).fetchone()
        if span != count:
            (rows,) = self._ask("SELECT COUNT(topic_id) FROM messages NOT INDEXED").fetchone()
            if rows != count:
                raise sqlite3.DatabaseError(f"its index has {count} of {rows} messages")

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
        columns = "SELECT topic_id, timestamp, rowid, data FROM messages"
        if self._time_index:
            by_time = f"{columns} INDEXED BY {self._time_index} WHERE {where} ORDER BY timestamp, rowid"
            return self._ask(by_time, arguments)
        # Sorting whole rows would copy the log into temporary files; the order alone is small.
        sorted_rows = f"SELECT rowid FROM messages WHERE {where} ORDER BY timestamp, rowid"  # noqa: S608
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
        """By looking at every row."""
        counts: Counter[int] = Counter()
        try:
            counts.update(topic_id for (topic_id,) in self._ask("SELECT topic_id FROM messages"))
        except sqlite3.DatabaseError as error:
            return self._begin_rescue(reason_of(error)).counts()
        known = {topic_id for topic_id, _ in self._topic_ids}
        for topic_id in counts.keys() - known:
            self._lost.add(
                "*", "no topic is listed for some messages", key=repr(topic_id), count=counts[topic_id]
            )
        return counts

    # ------------------------------------------------------------------ damage

    def _message(self, channel: Channel, log_ns: object, rowid: int, data: object) -> Message | None:
        """A row as a message; None where it cannot be, and it is counted."""
        if not isinstance(log_ns, int):  # sqlite does not enforce the type of a column
            self._lost.add(channel.topic, "its time in the log is no whole number", key=rowid)
            return None
        try:
            if data is None:
                raise ValueError("a message in the log is damaged")  # noqa: TRY301
            return Message(log_ns, channel, unpack(data, self._max_message_bytes))
        except ValueError as error:
            reason = reason_of(error)
            self._lost.add(channel.topic, reason, key=rowid, start_ns=log_ns, stop_ns=log_ns + 1)
            return None

    def _begin_rescue(self, why: str) -> SqliteRescue:
        """From here on, rows are read without sqlite. What is known to be lost is noted."""
        if self._rescue is None:
            self._rescue = SqliteRescue(self._here)
            if self._counts is None:
                self._counts = self._stated_counts()
            self._note_rescued(self._rescue, f"the database is damaged: {why}", self._counts)
        return self._rescue

    def _load_rescued(self, why: str) -> None:
        """Open without sqlite."""
        rescue = self._rescue = SqliteRescue(self._here)
        if not rescue.topics:
            raise ValueError(f"nothing in the database can be read: {why}")
        topics = [(i, *described) for i, described in sorted(rescue.topics.items())]
        self._set_topics(topics, rescue.definitions)
        stamps = rescue.found["stamp"]
        self.start_ns = int(stamps[0]) if len(stamps) else MAX_NS
        self.stop_ns = int(stamps[-1]) + 1 if len(stamps) else 0
        self.message_count = len(stamps)
        self._counts = rescue.counts()
        for topic_id in self._counts.keys() - rescue.topics.keys():
            count = self._counts[topic_id]
            self._lost.add("*", "no topic is listed for some messages", key=repr(topic_id), count=count)
        totals = topic_totals(parse_metadata(rescue.metadata))
        stated = {i: totals.get(topic, 0) for i, topic in self._topic_ids}
        agrees = all(stated.get(i, 0) >= n for i, n in self._counts.items())
        reason = f"the database is damaged: {why}"
        self._note_rescued(rescue, reason, stated if totals and agrees else None)

    def _note_rescued(self, rescue: SqliteRescue, reason: str, stated: Mapping[int, int] | None) -> None:
        """Losses: by topic where the messages of each are `stated`, else by the numbers of the rows."""
        if rescue.missing_bytes:
            reason = f"the last {rescue.missing_bytes} bytes of the file are missing"
            last = int(rescue.found["stamp"][-1]) if len(rescue.found) else 0
            self._lost.add("*", reason, key="end", start_ns=last, count=0)
        gaps = [(row, min(a, b), max(a, b) + 1, count) for row, a, b, count in rescue.gaps()]
        if stated is None:
            for row, start, stop, count in gaps:
                self._lost.add("*", reason, key=row, start_ns=start, stop_ns=stop, count=count)
            return
        found = rescue.counts()
        start = min((gap[1] for gap in gaps), default=0)
        stop = 0 if rescue.missing_bytes else max((gap[2] for gap in gaps), default=0)
        for topic_id, topic in self._topic_ids:
            missing = stated.get(topic_id, 0) - found.get(topic_id, 0)
            if missing > 0:
                self._lost.add(topic, reason, key="rows", start_ns=start, stop_ns=stop, count=missing)

    def _settled(self, path: Path) -> Path:
        """`path`, or a copy elsewhere: of a file behind a URL, or one that has taken in the journal beside it.

        A recorder that was killed leaves messages in ``-wal`` (or a rollback journal). Reading the file
        without it would lose them, opening both in place would write beside the input.
        """
        suffixes = [""]
        for suffix in ("-wal", "-journal"):
            with suppress(OSError):
                beside = path.with_name(path.name + suffix)
                if beside.is_file() and beside.stat().st_size:
                    suffixes.append(suffix)
        if len(suffixes) == 1 and not is_remote(path):
            return path
        self._copies = TemporaryCopies()
        self._copies.add([(path.with_name(path.name + suffix), "log.db3" + suffix) for suffix in suffixes])
        copy = self._copies.path / "log.db3"
        if "-journal" in suffixes:
            _forget_other_journals(copy.with_name("log.db3-journal"))
        try:
            with closing(sqlite3.connect(copy)) as connection:
                connection.execute("PRAGMA trusted_schema=OFF")
                connection.execute("PRAGMA journal_mode=DELETE").fetchall()
                connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except sqlite3.DatabaseError as error:
            reason = f"the journal beside the file cannot be taken in: {reason_of(error)}"
            self._lost.add("*", reason, key="journal", count=0)
        return copy


def _in_order(rows: Iterator[Any]) -> Iterator[Any]:
    """Rows with a damaged log time, which their place in the index contradicts, take that of the row before."""
    last: int | None = None
    row = next(rows, None)
    while row is not None:
        following = next(rows, None)
        topic_id, log_ns, rowid, data = row
        if isinstance(log_ns, int):
            later = following[1] if following is not None else None
            is_wild = isinstance(later, int) and later < log_ns and (last is None or last <= later)
            if is_wild:
                log_ns = later if last is None else last
            log_ns = log_ns if last is None else max(log_ns, last)
            last = log_ns
        yield topic_id, log_ns, rowid, data
        row = following


def _missing_bytes(path: Path) -> int:
    """How much shorter a database is than it says."""
    with ByteSource(path) as source:
        pages = SqlitePages(source)
        return max(0, pages.stated * pages.page_bytes - source.size)


def _forget_other_journals(journal: Path) -> None:
    """Cut off the name of the file that a journal belongs to: sqlite would open it, and delete it when done."""
    with journal.open("r+b") as file:
        if file.seek(0, 2) >= 8:
            file.seek(-8, 2)
            if file.read() == _JOURNAL_MAGIC:
                file.seek(-8, 2)
                file.write(bytes(8))
