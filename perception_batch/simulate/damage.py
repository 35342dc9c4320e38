"""Breaks a finished log and says exactly which messages survive.

The undamaged file is walked record by record, so that what is told does not depend on any reader of damaged files.
Every message of the log gets one of these words in ``survivors.parquet``:

================  ==================================================================================================
status            meaning
================  ==================================================================================================
``intact``        all its bytes are there and unchanged, and so is everything on the way to it from the file's start
``cut_chunk``     all its bytes are there, but its chunk (not compressed) breaks off later
``unreachable``   all its bytes are there, but something is changed that says where it is, what it is, or a checksum
                  over it: a reader may get it by an index, or by trying
``altered``       bytes of it are changed (in a compressed chunk: bytes of the chunk)
``lost``          bytes of it are cut off
================  ==================================================================================================
"""

from __future__ import annotations

import bisect
import json
import mmap
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from perception_batch.errors import ConfigError, LogError, WriteError, printable
from perception_batch.simulate.log_layout import Part, bag_parts, is_bag, is_mcap, mcap_parts
from perception_batch.simulate.sqlite_layout import is_sqlite, sqlite_rows
from perception_batch.simulate.truth import TableRows
from perception_batch.simulate.truth_tables import SURVIVORS

Status = Literal["intact", "cut_chunk", "unreachable", "altered", "lost"]


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to a log, in this order: the index is taken away, the end cut off, bits flipped."""

    drop_index: bool = False
    """As after a crash of the recorder: no summary (MCAP), no index (bag), no index on time (sqlite3), and no
    metadata.yaml."""
    keep: float = 1.0
    """Share of the file's bytes that is kept, from its start."""
    flip_bits: int = 0
    """How many bits are flipped, anywhere in what is kept, each in a byte of its own."""
    flip_at: tuple[int, ...] = ()
    """Bytes whose lowest bit is flipped, for tests that want a certain place."""
    seed: int = 0
    """Of where bits are flipped."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ConfigError(f"--truncate is {self.keep:g}, allowed is more than 0 and at most 1")
        if not 0 <= self.flip_bits <= 1_000_000:
            raise ConfigError(f"--flip-bits is {self.flip_bits}, allowed is 0 to 1000000")

    @property
    def does_something(self) -> bool:
        """False where the log would stay as it is."""
        return self.drop_index or self.keep < 1 or self.flip_bits > 0 or bool(self.flip_at)


@dataclass(frozen=True, slots=True)
class DamageReport:
    """What became of a log."""

    log: Path
    """The damaged copy."""
    survivors: Path
    """Parquet: one row per message of the undamaged log."""
    counts: dict[str, int]
    """Messages by status."""


def damage_log(log: Path, folder: Path, damage: Damage) -> DamageReport:
    """Copy `log` (a file, or a rosbag2 folder with one) into the new folder `folder`, and break the copy.

    Raises:
        WriteError: `folder` exists.
        LogError: the log is of no format that can be walked.
        ConfigError: there are fewer bytes than bits to flip.
    """
    if folder.exists():
        raise WriteError(f"{printable(folder)} exists; remove it or choose another")
    folder.mkdir(parents=True)
    try:
        return _damage(log, folder, damage)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _damage(log: Path, folder: Path, damage: Damage) -> DamageReport:
    copy = folder / log.name
    if log.is_dir():
        shutil.copytree(log, copy)
        files = [p for p in sorted(copy.iterdir()) if p.suffix in (".mcap", ".db3")]
        if len(files) != 1:
            raise LogError(log, f"has {len(files)} storage files, one is needed")
        file = files[0]
        if damage.drop_index:
            (copy / "metadata.yaml").unlink(missing_ok=True)
    else:
        shutil.copyfile(log, copy)
        file = copy
    if damage.drop_index:
        _drop_index(file)
    size = file.stat().st_size
    cut = max(1, int(size * damage.keep))
    flips = _flips(damage, cut)
    with _mapped(file) as data:
        counts = _tell(file, data, cut, [byte for byte, _ in flips], folder / SURVIVORS.file_name)
    with file.open("r+b") as stream:
        stream.truncate(cut)
        for byte, bit in flips:
            stream.seek(byte)
            value = stream.read(1)[0]
            stream.seek(byte)
            stream.write(bytes([value ^ 1 << bit]))
    report = {
        "file": str(file.relative_to(folder)),
        "index_dropped": damage.drop_index,
        "bytes_before": size,
        "bytes_kept": cut,
        "flipped": [[byte, bit] for byte, bit in flips],
        "messages": counts,
    }
    (folder / "damage.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    return DamageReport(copy, folder / SURVIVORS.file_name, counts)


def _flips(damage: Damage, size: int) -> list[tuple[int, int]]:
    """Distinct bytes in order, each with the number of its bit."""
    if damage.flip_bits + len(damage.flip_at) > size:
        raise ConfigError(f"--flip-bits is {damage.flip_bits}, but only {size} bytes are kept")
    if outside := [byte for byte in damage.flip_at if not 0 <= byte < size]:
        raise ConfigError(f"byte {outside[0]} is to be flipped, but only {size} bytes are kept")
    chance = np.random.Generator(np.random.PCG64(np.random.SeedSequence([damage.seed, 0xDA])))
    chosen = dict.fromkeys(damage.flip_at, 0)
    while len(chosen) < damage.flip_bits + len(set(damage.flip_at)):
        chosen.setdefault(int(chance.integers(size)), int(chance.integers(8)))
    return sorted(chosen.items())


class _mapped:  # noqa: N801
    """A file's bytes, without reading them all."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self._map = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)

    def __enter__(self) -> memoryview:
        return self._view

    def __exit__(self, *_: object) -> None:
        self._view.release()
        self._map.close()
        self._stream.close()


def _drop_index(file: Path) -> None:
    with _mapped(file) as data:
        mcap, bag, sqlite = is_mcap(data), is_bag(data), is_sqlite(data)
        parts = mcap_parts(data) if mcap else bag_parts(data) if bag else iter(())
        start = next((part.start for part in parts if part.kind == "index"), len(data))
        header_at = bytes(data[:4096]).find(b"index_pos=")
        del parts
    if sqlite:
        database = sqlite3.connect(file)
        with database:
            database.execute("DROP INDEX timestamp_idx")
        database.close()
        return
    with file.open("r+b") as stream:
        stream.truncate(start)
        if bag:  # what a bag looks like that was never closed: index_pos, conn_count and chunk_count are 0
            head = bytearray(_head(stream))
            struct.pack_into("<Q", head, header_at + 10, 0)
            for name in (b"conn_count=", b"chunk_count="):
                struct.pack_into("<I", head, head.index(name) + len(name), 0)
            stream.seek(0)
            stream.write(head)


def _head(stream: Any) -> bytes:
    stream.seek(0)
    return bytes(stream.read(4096))


def _tell(file: Path, data: memoryview, cut: int, flips: list[int], target: Path) -> dict[str, int]:
    """Write what becomes of each message; counts by status."""

    def flipped(start: int, stop: int) -> bool:
        return bisect.bisect_left(flips, start) < bisect.bisect_left(flips, stop)

    if is_sqlite(data):
        told: Iterable[tuple[str, int, Status]] = _of_sqlite(file, data, cut, flipped)
    elif is_mcap(data):
        told = _of_parts(mcap_parts(data), cut, flipped)
    elif is_bag(data):
        told = _of_parts(bag_parts(data), cut, flipped)
    else:
        raise LogError(file, "is no MCAP, no ROS 1 bag and no sqlite3 log")
    rows = TableRows(target.parent, SURVIVORS)
    counts: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for topic, log_ns, status in told:
        rows.add(topic, log_ns, numbers[topic], status)
        numbers[topic] += 1
        counts[status] += 1
    rows.close()
    return dict(sorted(counts.items()))


def _of_parts(parts: Iterator[Part], cut: int, flipped: Any) -> Iterator[tuple[str, int, Status]]:
    broken = False  # the way through the file
    lost_channels: set[int] = set()
    chunk: Part | None = None
    chunk_broken = False
    for part in parts:
        if chunk is not None and part.start >= chunk.stop:
            chunk, chunk_broken = None, False
        hit = flipped(part.start, part.stop)
        if part.kind == "spine":
            broken |= hit
        elif part.kind == "chunk":
            chunk = part
            chunk_broken = flipped(*part.head) or (part.sealed and hit)
        elif part.kind == "link":
            chunk_broken |= hit
        elif part.kind == "definition" and hit:
            lost_channels.add(part.channel)
        elif part.kind == "message":
            whole_chunk = chunk is None or chunk.stop <= cut
            if part.stop > cut or (chunk is not None and chunk.packed and not whole_chunk):
                status: Status = "lost"
            elif hit:
                status = "altered"
            elif broken or chunk_broken or lost_channels & {part.channel, -1}:
                status = "unreachable"
            else:
                status = "intact" if whole_chunk else "cut_chunk"
            yield part.topic, part.log_ns, status


def _of_sqlite(file: Path, data: memoryview, cut: int, flipped: Any) -> Iterator[tuple[str, int, Status]]:
    for row in sqlite_rows(file, data):
        if any(stop > cut for _, stop in row.own):
            status: Status = "lost"
        elif any(flipped(*span) for span in row.own):
            status = "altered"
        elif any(stop > cut or flipped(start, stop) for start, stop in row.path):
            status = "unreachable"
        else:
            status = "intact"
        yield row.topic, row.log_ns, status
