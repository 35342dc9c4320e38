"""What can still be read of a damaged rosbag2 database, row by row, without sqlite and without a copy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.read.containers.sqlite_pages import (
    Cell,
    PageDamagedError,
    SqlitePages,
    Value,
    layout,
    value,
    values,
)

_ROW = np.dtype([("stamp", "<i8"), ("rowid", "<i8"), ("topic", "<i8"), ("page", "<i8"), ("at", "<i4")])
_TEXT, _BLOB = 13, 12


class SqliteRescue:
    """The rows of a damaged database. Tables: see rosbag2_storage_sqlite3."""

    def __init__(self, path: Path) -> None:
        self._source = ByteSource(path)
        self._pages = SqlitePages(self._source)
        self.topics: dict[int, tuple[str, str, str]] = {}
        """By id: name, type and serialisation."""
        self.definitions: dict[str, tuple[str, bool]] = {}
        """By message type as the file writes it: its definition, and whether that is IDL."""
        self.metadata: Value = None
        """The text that a recorder leaves when it closes the file."""
        try:
            self._read()
        except BaseException:
            self._source.close()
            raise

    @property
    def missing_bytes(self) -> int:
        """How much shorter the file is than it says; 0 where it does not say."""
        return max(0, self._pages.stated * self._pages.page_bytes - self._source.size)

    def counts(self) -> dict[int, int]:
        """Messages found, by topic id."""
        ids, counts = np.unique(self.found["topic"], return_counts=True)
        return {int(i): int(n) for i, n in zip(ids, counts, strict=True)}

    def gaps(self) -> list[tuple[int, int, int, int]]:
        """(row, log time before, log time after, rows) of each run of absent rows: recorders number them without gaps."""
        by_row = np.sort(self.found, order="rowid")
        steps = np.diff(by_row["rowid"])
        return [
            (
                int(by_row["rowid"][i]) + 1,
                int(by_row["stamp"][i]),
                int(by_row["stamp"][i + 1]),
                int(steps[i]) - 1,
            )
            for i in np.flatnonzero(steps > 1)
        ]

    def messages(
        self,
        topics: Collection[int],
        start_ns: int | None,
        stop_ns: int | None,
        after: tuple[int, int] | None,
    ) -> Iterator[tuple[int, int, int, bytes | None]]:
        """Topic id, log time, row and data (None where damaged) of the messages of these topics.

        In order of log time and row; those later than `after` (log time, row).
        """
        found = self.found
        low = 0 if start_ns is None else int(np.searchsorted(found["stamp"], start_ns))
        high = len(found) if stop_ns is None else int(np.searchsorted(found["stamp"], stop_ns))
        number, page = 0, b""
        for row in found[low:high]:
            stamp, rowid, topic = int(row["stamp"]), int(row["rowid"]), int(row["topic"])
            if topic not in topics or (after is not None and (stamp, rowid) <= after):
                continue
            if number != row["page"]:
                number = int(row["page"])
                page = self._pages.page(number)
            cell = self._pages.cell(page, int(row["at"]))
            yield topic, stamp, rowid, None if cell is None else self._data(cell)

    def close(self) -> None:
        """Release the file."""
        self._source.close()

    def _data(self, cell: Cell) -> bytes | None:
        try:
            record = self._pages.record(cell)
            data = value(record, *layout(record)[3])
        except PageDamagedError:
            return None
        return data if isinstance(data, bytes) else None

    def _read(self) -> None:
        pages = self._pages
        roots: dict[str, int] = {}
        for _, row in pages.rows(1):
            if len(row) >= 4 and row[0] == "table" and isinstance(row[1], str) and isinstance(row[3], int):
                roots.setdefault(row[1], row[3])
        for table, keep in (
            ("topics", self._add_topic),
            ("message_definitions", self._add_definition),
            ("metadata", self._add_metadata),
        ):
            for rowid, row in pages.rows(roots[table]) if table in roots else ():
                keep(rowid, row)
        seen: set[int] = set()
        leaves, whole = pages.leaves(roots["messages"], seen) if "messages" in roots else ([], False)
        rows = [row for leaf in leaves for row in self._message_rows(leaf)]
        if not whole or not self.topics:
            known = {row[1] for row in rows}
            for leaf in pages.other_leaves(seen):
                more = [row for row in self._message_rows(leaf) if row[1] not in known]
                known.update(row[1] for row in more)
                rows += more
                if not more:
                    self._look_for_topics(leaf)
        self.found = np.sort(np.array(rows, _ROW), order=("stamp", "rowid"))
        """Messages whose beginning is there, in order of log time and row."""

    def _message_rows(self, leaf: int) -> list[tuple[int, int, int, int, int]]:
        rows = []
        for cell in self._pages.cells(leaf):
            try:
                places = layout(cell.local)
                if len(places) != 4 or places[3][0] < _BLOB or places[3][0] % 2 or places[3][2] != cell.size:
                    continue
                topic, stamp = value(cell.local, *places[1]), value(cell.local, *places[2])
            except PageDamagedError:
                continue
            if isinstance(topic, int) and isinstance(stamp, int):
                rows.append((stamp, cell.rowid, topic, leaf, cell.at))
        return rows

    def _look_for_topics(self, leaf: int) -> None:
        """Where the list of tables is damaged, topics are known by what they look like."""
        for cell in self._pages.cells(leaf):
            try:
                row = values(self._pages.record(cell))
            except PageDamagedError:
                continue
            texts = [v for v in row[1:5] if isinstance(v, str)]
            if len(row) >= 5 and len(texts) == 4 and texts[0].startswith("/") and "/" in texts[1]:
                self._add_topic(cell.rowid, row)
            elif len(texts) >= 3 and texts[1] in ("ros2msg", "ros2idl"):
                self._add_definition(cell.rowid, row)

    def _add_topic(self, rowid: int, row: tuple[Value, ...]) -> None:
        if len(row) >= 4:
            name, msgtype, serialization = row[1:4]
            if isinstance(name, str) and isinstance(msgtype, str):
                self.topics.setdefault(rowid, (name, msgtype, str(serialization)))

    def _add_definition(self, _: int, row: tuple[Value, ...]) -> None:
        if len(row) >= 4:
            msgtype, encoding, text = row[1:4]
            if isinstance(msgtype, str) and isinstance(text, str) and encoding in ("ros2msg", "ros2idl"):
                self.definitions.setdefault(msgtype, (text, encoding == "ros2idl"))

    def _add_metadata(self, _: int, row: tuple[Value, ...]) -> None:
        self.metadata = row[2] if len(row) > 2 else None
