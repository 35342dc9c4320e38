"""Pages of sqlite3 files, read without sqlite: what is whole comes out, whatever else is damaged.

Format: https://www.sqlite.org/fileformat2.html, sections 1.3, 1.6, 2.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from perception_batch.read.containers.byte_source import ByteSource

Value = int | float | str | bytes | None

_LEAF, _INTERIOR = 0x0D, 0x05
_MAX_DEPTH = 20
_STEP_PAGES = 256


class PageDamagedError(ValueError):
    """A page is absent, or what it says cannot be."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of a table as its leaf page holds it."""

    rowid: int
    """Number of the row."""
    at: int
    """Where the cell begins in its page."""
    local: bytes
    """The part of the record that stands in the page."""
    size: int
    """Bytes of the whole record."""
    overflow: int
    """The page where the record goes on; 0 where it does not."""


class SqlitePages:
    """The pages of one file."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        header = source.read(0, 100)
        size = int.from_bytes(header[16:18], "big")
        size = 65536 if size == 1 else size
        # A damaged header: sqlite's own default, which every recorder keeps.
        self.page_bytes = size if size >= 512 and size & (size - 1) == 0 else 4096
        reserved = header[20] if len(header) > 20 and header[20] <= self.page_bytes - 480 else 0
        self._usable = self.page_bytes - reserved
        self.count = source.size // self.page_bytes
        """Pages that are there as a whole."""
        self.stated = int.from_bytes(header[28:32], "big")
        """Pages that the file says it has; it may be outdated, or 0."""
        if header[24:28] != header[92:96]:
            self.stated = 0

    def page(self, number: int) -> bytes:
        """A page.

        Raises:
            PageDamagedError: it is not there.
        """
        if not 1 <= number <= self.count:
            raise PageDamagedError(f"page {number} is absent")
        return self._source.read((number - 1) * self.page_bytes, self.page_bytes)

    def leaves(self, root: int, seen: set[int]) -> tuple[list[int], bool]:
        """The leaf pages of the table that begins at `root`, and whether no others can be hidden elsewhere.

        A leaf that is absent or damaged hides none; a page above the leaves, all of which lie equally deep, may.

        Args:
            root: page number.
            seen: pages that are known already, which no table shares; added to.
        """
        found: list[int] = []
        gone: list[int] = []  # how deep the pages would be that cannot be followed
        leaf_depth = -1
        # (page, depth) still to be looked at, the next one last.
        todo = [(root, 0)]
        while todo:
            number, depth = todo.pop()
            try:
                page = self.page(number)
            except PageDamagedError:
                gone.append(depth)
                continue
            at = 100 if number == 1 else 0
            if number in seen or depth > _MAX_DEPTH or page[at] not in (_LEAF, _INTERIOR):
                gone.append(depth)
                continue
            seen.add(number)
            if page[at] == _LEAF:
                found.append(number)
                leaf_depth = depth
                continue
            stated = int.from_bytes(page[at + 3 : at + 5], "big")
            children = [int.from_bytes(page[c : c + 4], "big") for c in self._cell_places(page, at, 12)]
            if len(children) != stated:
                gone.append(depth)
            children.append(int.from_bytes(page[at + 8 : at + 12], "big"))
            todo += [(child, depth + 1) for child in reversed(children)]
        return found, all(depth == leaf_depth for depth in gone)

    def other_leaves(self, seen: set[int]) -> Iterator[int]:
        """Leaf pages that are not in `seen`; this reads the whole file.

        No page with the rest of a long record begins like a leaf: it begins with a page number, whose first
        byte is 0 in every file below 64 GB.
        """
        size = self.page_bytes
        for first in range(1, self.count + 1, _STEP_PAGES):
            starts = self._source.read((first - 1) * size, min(_STEP_PAGES, self.count + 1 - first) * size)[
                ::size
            ]
            yield from (first + i for i, kind in enumerate(starts) if kind == _LEAF and first + i not in seen)

    def cells(self, number: int) -> list[Cell]:
        """The rows of a leaf page; those that are damaged are left out."""
        try:
            page = self.page(number)
        except PageDamagedError:
            return []
        start = 100 if number == 1 else 0
        if page[start] != _LEAF:
            return []
        cells = []
        for at in self._cell_places(page, start, 8):
            cell = self.cell(page, at)
            if cell is not None:
                cells.append(cell)
        return cells

    def cell(self, page: bytes, at: int) -> Cell | None:
        """The row whose cell begins at `at`; None where it is damaged."""
        size, rowid_at = _varint(page, at)
        rowid, begin = _varint(page, rowid_at)
        if begin < 0 or size < 0 or size > self.count * self.page_bytes:
            return None
        most = self._usable - 35
        local = size
        if size > most:
            least = (self._usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (self._usable - 4)
            local = local if local <= most else least
        end = begin + local + (4 if local < size else 0)
        if end > self._usable:
            return None
        overflow = int.from_bytes(page[begin + local : end], "big") if local < size else 0
        return Cell(rowid, at, page[begin : begin + local], size, overflow)

    def record(self, cell: Cell) -> bytes:
        """The whole record of a row.

        Raises:
            PageDamagedError: a page of it is absent, or the trail of its pages leads nowhere.
        """
        parts = [cell.local]
        missing = cell.size - len(cell.local)
        number, most = cell.overflow, self._usable - 4
        while missing > 0:
            # Recorders write one message after another, so its pages follow each other: read them together.
            pages = min(-(-missing // most), self.count - number + 1)
            if number < 2 or pages < 1:
                raise PageDamagedError("a message is not all there")
            data = self._source.read((number - 1) * self.page_bytes, pages * self.page_bytes)
            for at in range(0, len(data), self.page_bytes):
                take = min(most, missing)
                parts.append(data[at + 4 : at + 4 + take])
                missing -= take
                following = int.from_bytes(data[at : at + 4], "big")
                number += 1
                if following != number or missing <= 0:
                    number = following
                    break
        if number:
            raise PageDamagedError("a message is followed by more pages than it has")
        return b"".join(parts)

    def rows(self, root: int) -> Iterator[tuple[int, tuple[Value, ...]]]:
        """Row number and values of every whole row of a table."""
        for leaf in self.leaves(root, set())[0]:
            for cell in self.cells(leaf):
                try:
                    yield cell.rowid, values(self.record(cell))
                except PageDamagedError:
                    continue

    def _cell_places(self, page: bytes, start: int, header_bytes: int) -> list[int]:
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        begin = start + header_bytes
        count = min(count, (self._usable - begin) // 2)
        places = struct.unpack_from(f">{count}H", page, begin)
        return [at for at in places if begin + 2 * count <= at <= self._usable - 4]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes and where it ends; (-1, -1) where it is cut off."""
    value = 0
    if at < 0:
        return -1, -1
    for i in range(9):
        if at + i >= len(data):
            return -1, -1
        byte = data[at + i]
        if i == 8:
            value = value << 8 | byte
            return value - (1 << 64 if value >> 63 else 0), at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return -1, -1


_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


def layout(record: bytes) -> list[tuple[int, int, int]]:
    """(serial type, begin, end) of each value of a record, of which only the beginning need be there.

    Raises:
        PageDamagedError: its header cannot be.
    """
    header_bytes, at = _varint(record, 0)
    if not 1 <= header_bytes <= len(record):
        raise PageDamagedError("a row is damaged")
    begin = header_bytes
    out = []
    while at < header_bytes:
        serial, at = _varint(record[:header_bytes], at)
        if serial < 0 or serial in (10, 11):
            raise PageDamagedError("a row is damaged")
        if serial >= 12:
            size = (serial - 12) // 2
        else:
            size = 0 if serial in (8, 9) else 8 if serial == 7 else _INTEGER_BYTES[serial]
        out.append((serial, begin, begin + size))
        begin += size
    return out


def value(record: bytes, serial: int, begin: int, end: int) -> Value:
    """One value of a record.

    Raises:
        PageDamagedError: it is not there.
    """
    if end > len(record):
        raise PageDamagedError("a row is damaged")
    raw = record[begin:end]
    if serial == 0:
        return None
    if serial in (8, 9):
        return serial - 8
    if serial == 7:
        return float(struct.unpack(">d", raw)[0])
    if serial < 7:
        return int.from_bytes(raw, "big", signed=True)
    return raw if serial % 2 == 0 else raw.decode("utf-8", "replace")


def values(record: bytes) -> tuple[Value, ...]:
    """All values of a whole record.

    Raises:
        PageDamagedError: it is damaged.
    """
    return tuple(value(record, *place) for place in layout(record))
