"""One file for what detection leaves of one segment: it is there whole, with its key inside, or it does not count.

A ZIP archive without compression, so that every member has a CRC-32 and a file that was cut has no directory: ``key.json``
and, in Parquet, the tables of `segment_tables`. One file moves in one piece, to an object store too. There is no clock,
host or path in it: equal contents give equal bytes.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import error as zlib_error

from perception_batch.atomic import write_whole
from perception_batch.runs.segment_content import SCHEMA, SegmentContent, SegmentKey

MAX_BYTES = 4 << 30
"""Largest file that is read: a minute of six cameras leaves about 5 MB."""
_KEY = "key.json"
_MAX_KEY_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that ZIP knows

Why = Literal["missing", "damaged", "foreign", "newer"]


class SegmentRefused(Exception):
    """A segment's file that is not used; the segment is made again.

    Attributes:
        why: ``missing``; ``damaged`` (half-written too); ``foreign``: of another log, plan, model or setting;
            ``newer``: of a later version of this program.
        detail: one line.
    """

    def __init__(self, why: Why, detail: str) -> None:
        self.why: Why = why
        self.detail = detail
        super().__init__(f"{why}: {detail}")


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment's file, read."""

    key: SegmentKey
    """What it was made of."""
    content: SegmentContent
    """What it holds."""
    facts: Mapping[str, Any]
    """What is known of its making and decides nothing: device, batch size, seconds."""


def write_segment(
    path: Path, key: SegmentKey, content: SegmentContent, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a segment's file in one piece: beside its place, flushed to the disk, then renamed.

    Several processes may write the same one at once (a task that was started again elsewhere): the last one stays.

    Raises:
        WriteError: the disk is full or refuses; nothing is left then.
    """
    import pyarrow.parquet as pq

    from perception_batch.runs.segment_tables import tables_of

    head = {"key": key.to_dict(), "facts": dict(facts or {})}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, _KEY, json.dumps(head, sort_keys=True, allow_nan=False).encode())
        for name, table in tables_of(content).items():
            member = io.BytesIO()
            pq.write_table(table, member, compression="zstd", version="2.6", store_schema=False)
            _add(archive, f"{name}.parquet", member.getvalue())
    write_whole(path, buffer.getvalue(), f"{os.getpid():x}-{os.urandom(4).hex()}")


def read_segment(path: Path, key: SegmentKey) -> StoredSegment:
    """Read a segment's file, and trust it only if it is whole and was made of what `key` says.

    Raises:
        SegmentRefused: it must be made again.
        OSError: it is there and cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from perception_batch.runs.segment_tables import SCHEMAS, content_of_tables

    try:
        with _opened(path) as archive:
            found, facts = _head(archive)
            _check(found, key)
            tables = {
                name: pq.read_table(pa.BufferReader(archive.read(f"{name}.parquet")), use_threads=False)
                for name in SCHEMAS
            }
            content = content_of_tables(tables)
    except _DAMAGE as error:
        raise _damaged(error) from None
    except pa.ArrowException as error:
        raise _damaged(error) from None
    return StoredSegment(found, content, facts)


def check_segment(path: Path, key: SegmentKey) -> Mapping[str, Any]:
    """Whether `read_segment` would take the file, by its key and checksums, without making its contents; its facts.

    Raises:
        SegmentRefused: it must be made again.
        OSError: it is there and cannot be read.
    """
    try:
        with _opened(path) as archive:
            found, facts = _head(archive)
            _check(found, key)
            if (bad := archive.testzip()) is not None:
                raise SegmentRefused("damaged", f"checksum of {bad}")
    except _DAMAGE as error:
        raise _damaged(error) from None
    return facts


# What reading an archive raises where its bytes are not what was written; an OSError of the disk is none of these.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib_error,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
)


def _damaged(error: Exception) -> SegmentRefused:
    return SegmentRefused("damaged", " ".join(f"{type(error).__name__}: {error}".split())[:200])


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise SegmentRefused("missing", path.name) from None
    if not path.is_file():
        raise SegmentRefused("damaged", "no file")
    if size > MAX_BYTES:
        raise SegmentRefused("damaged", f"{size} bytes, at most {MAX_BYTES} are read")
    # From memory: zipfile takes an error of the disk for a damaged archive.
    archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    if any(info.file_size > size or info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise SegmentRefused("damaged", "a member claims more bytes than the file has")
    return archive


def _head(archive: zipfile.ZipFile) -> tuple[SegmentKey, dict[str, Any]]:
    if archive.getinfo(_KEY).file_size > _MAX_KEY_BYTES:
        raise SegmentRefused("damaged", "its key is too long")
    head = json.loads(archive.read(_KEY))
    if not isinstance(head, dict) or not isinstance(head.get("facts"), dict):
        raise SegmentRefused("damaged", "its key is none")
    schema = head.get("key", {}).get("schema") if isinstance(head.get("key"), dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise SegmentRefused("newer", f"schema {schema}, this version reads up to {SCHEMA}")
    return SegmentKey.of(head.get("key")), head["facts"]


def _check(found: SegmentKey, key: SegmentKey) -> None:
    mine, theirs = key.to_dict(), found.to_dict()
    other = [name for name, value in mine.items() if theirs[name] != value]
    if other:
        raise SegmentRefused("foreign", f"made with another {', '.join(other)}")


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system, info.external_attr = 3, 0o644 << 16
    archive.writestr(info, data)
