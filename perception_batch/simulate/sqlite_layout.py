"""Where each message of a sqlite3 log lies in the file, page by page (sqlite.org/fileformat2.html)."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table ``messages``."""

    topic: str
    """Topic."""
    log_ns: int
    """Timestamp."""
    path: tuple[tuple[int, int], ...]
    """Ranges of bytes without which it is not found: pages above it, head and pointers of its own page."""
    own: tuple[tuple[int, int], ...]
    """Ranges of its own bytes: its cell, its overflow pages."""


def is_sqlite(data: memoryview) -> bool:
    """Whether the file says that it is a database of SQLite 3."""
    return bytes(data[:16]) == b"SQLite format 3\x00"


def sqlite_rows(path: Path, data: memoryview) -> Iterator[Row]:
    """All messages in the order of their ids, which is that of the log."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        topics = dict(database.execute("SELECT id, name FROM topics"))
        roots = dict(database.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
    finally:
        database.close()
    pages = _Pages(data)
    # The schema on page 1 names the tables, the table of topics says what the messages are.
    common = (pages.span(1), *(span for span in pages.spans_of(roots["topics"])))
    for path_pages, own, values in pages.rows(roots["messages"], common):
        yield Row(topics[values[0]], values[1], path_pages, own)


Span = tuple[int, int]


class _Pages:
    """Table b-trees of one database."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        size = struct.unpack_from(">H", data, 16)[0]
        self._size = 65536 if size == 1 else size
        self._usable = self._size - data[20]

    def span(self, page: int) -> Span:
        """Bytes of a page; pages count from 1."""
        return ((page - 1) * self._size, page * self._size)

    def spans_of(self, root: int) -> Iterator[Span]:
        """All pages of a small table, overflow left out."""
        yield self.span(root)
        if self._head(root)[0] == 5:
            for child in self._children(root):
                yield from self.spans_of(child)

    def rows(
        self, page: int, above: tuple[Span, ...]
    ) -> Iterator[tuple[tuple[Span, ...], tuple[Span, ...], tuple[int, int]]]:
        """(path, own bytes, (topic id, timestamp)) of each row below a page."""
        kind, cells, head = self._head(page)
        base = self.span(page)[0]
        if kind == 5:
            for child in self._children(page):
                yield from self.rows(child, (*above, self.span(page)))
            return
        path = (*above, (base, head + 2 * cells))
        for i in range(cells):
            cell = base + struct.unpack_from(">H", self._data, head + 2 * i)[0]
            payload, at = self._varint(cell)
            _, at = self._varint(at)
            local = self._local(payload)
            stop = at + local
            own = [(cell, stop if local == payload else stop + 4)]
            if local < payload:
                left = payload - local
                (number,) = struct.unpack_from(">I", self._data, stop)
                while number and left > 0:
                    start = self.span(number)[0]
                    used = min(left, self._usable - 4)
                    own.append((start, start + 4 + used))
                    left -= used
                    (number,) = struct.unpack_from(">I", self._data, start)
            yield path, tuple(own), self._values(at)

    def _head(self, page: int) -> tuple[int, int, int]:
        """Kind (5 interior, 13 leaf), number of cells, first byte of the pointers."""
        at = self.span(page)[0] + (100 if page == 1 else 0)
        kind = self._data[at]
        return kind, struct.unpack_from(">H", self._data, at + 3)[0], at + (12 if kind == 5 else 8)

    def _children(self, page: int) -> Iterator[int]:
        _, cells, head = self._head(page)
        base = self.span(page)[0]
        for i in range(cells):
            pointer = struct.unpack_from(">H", self._data, head + 2 * i)[0]
            yield struct.unpack_from(">I", self._data, base + pointer)[0]
        yield struct.unpack_from(">I", self._data, head - 4)[0]

    def _local(self, payload: int) -> int:
        """How much of a row stands in its own page (section 1.6 of the format)."""
        most = self._usable - 35
        if payload <= most:
            return payload
        least = (self._usable - 12) * 32 // 255 - 23
        some = least + (payload - least) % (self._usable - 4)
        return some if some <= most else least

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for i in range(8):
            byte = self._data[at + i]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value, at + i + 1
        return value << 8 | self._data[at + 8], at + 9

    def _values(self, at: int) -> tuple[int, int]:
        """Columns topic_id and timestamp of the row whose content begins at `at` (id is null: the row's own)."""
        header, field = self._varint(at)
        body, values = at + header, []
        for _ in range(3):
            serial, field = self._varint(field)
            width = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}[serial]
            number = int.from_bytes(self._data[body : body + width], "big", signed=True)
            values.append(serial - 8 if serial in (8, 9) else number)
            body += width
        return values[1], values[2]
