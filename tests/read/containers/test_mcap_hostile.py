"""MCAP files that claim too much: one clear line or a counted loss, and no memory for claims."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from mcap_samples import KINDS, read_all, records, sample, whole_messages

from perception_batch.errors import LogError
from perception_batch.read.containers import mcap_scan, mcap_spans
from perception_batch.read.containers.logfile import open_log_file

MAGIC = b"\x89MCAP0\r\n"
HUGE = 2**62


def record(kind: int, body: bytes, size: int | None = None) -> bytes:
    return struct.pack("<BQ", kind, len(body) if size is None else size) + body


def text(value: bytes, size: int | None = None) -> bytes:
    return struct.pack("<I", len(value) if size is None else size) + value


def channel(number: int, topic: bytes = b"/a", encoding: bytes = b"json") -> bytes:
    return record(4, struct.pack("<HH", number, 0) + text(topic) + text(encoding) + text(b""))


def message(number: int, log_ns: int, data: bytes = b"x") -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, log_ns, log_ns) + data)


def chunk(
    packed: bytes, unpacked: int, compression: bytes = b"", size: int | None = None, crc: int = 0
) -> bytes:
    body = struct.pack("<QQQI", 1, 9, unpacked, crc) + text(compression)
    return record(6, body + struct.pack("<Q", len(packed) if size is None else size) + packed)


@pytest.fixture
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20


BOMB = bytes(50 << 20)
HOSTILE = {
    "only the magic": b"",
    "zeros": bytes(3 << 20),
    "noise": random.Random(1).randbytes(3 << 20),
    "a record of 2^62 bytes": record(5, bytes(30), HUGE),
    "a schema of 2^32 bytes": record(3, b"\1\0" + text(b"a") + text(b"b") + text(b"", 2**32 - 1)),
    "a topic of 2^32 bytes": record(4, struct.pack("<HH", 1, 1) + text(b"", 2**32 - 1)),
    "a chunk that claims 2^62 bytes": chunk(zstandard.compress(b"abc"), HUGE, b"zstd"),
    "a packed chunk that claims 2^62 bytes": chunk(b"abc", 3, b"zstd", HUGE),
    "a compression with a long name": chunk(b"abc", 3, b"zstd" * 1000),
    "an unknown compression": chunk(b"abc", 3, b"brotli"),
    "a chunk in a chunk": chunk(c := chunk(message(1, 5), 32), len(c)),
    "nothing but heads of chunks": chunk(b"", 0) * 5_000,
    "nothing but places that look like records": b"\5\1\0\0\0\0\0\0\0" * 30_000,
    "nothing but damaged records": (record(0x11, b"") + record(9, b"")) * 20_000,
    "a message index of 2^32 bytes": chunk(b"", 0) + record(7, b"\1\0" + struct.pack("<I", 2**32 - 16)),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", HOSTILE)
def test_no_message_and_no_crash(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.mcap"
    path.write_bytes(MAGIC + HOSTILE[name])
    with pytest.raises(LogError, match="damaged or cut off: no topic is left in it"):
        read_all(path)
    # The same behind something good, which stays.
    path.write_bytes(MAGIC + channel(1) + message(1, 3) + HOSTILE[name])
    got, file = read_all(path)
    assert [m[1] for m in got] == [3]
    assert 1 <= len(file.losses) <= 10, "no end of the file was written"


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("honest", [True, False])
def test_a_chunk_that_unpacks_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, honest: bool
) -> None:
    monkeypatch.setattr(mcap_spans, "MAX_CHUNK_BYTES", 10 << 20)
    packed = zstandard.compress(BOMB) if codec == "zstd" else lz4.frame.compress(BOMB)
    path = tmp_path / "log.mcap"
    good = channel(1) + message(1, 3)
    path.write_bytes(
        MAGIC + chunk(good, len(good)) + chunk(packed, len(BOMB) if honest else 100, codec.encode())
    )
    got, file = read_all(path)
    assert [m[1] for m in got] == [3]
    assert any("more than 10485760 bytes" in loss.reason for loss in file.losses)


def test_too_many_messages_in_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcap_spans, "MAX_MESSAGES", 50)
    good = channel(1) + message(1, 3)
    many = message(1, 4) * 100
    path = tmp_path / "log.mcap"
    path.write_bytes(MAGIC + chunk(good, len(good)) + chunk(many, len(many)))
    got, file = read_all(path)
    assert [m[1] for m in got] == [3]
    assert sum(loss.count for loss in file.losses) == 100


def test_too_many_chunks_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcap_scan, "MAX_SPANS", 100)
    path = tmp_path / "log.mcap"
    path.write_bytes(MAGIC + chunk(b"", 0) * 101)
    with pytest.raises(LogError, match="more than 100 chunks"):
        open_log_file(path, 1 << 20)


def test_every_channel_number(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    path.write_bytes(
        MAGIC
        + b"".join(channel(i, b"/t%d" % i) for i in range(1 << 16))
        + channel(1, b"/other")
        + b"".join(message(i, i) for i in range(1 << 16))
    )
    got, file = read_all(path)
    assert len(file.channels) == len(got) == 1 << 16
    assert got[1][0] == "/t1", "what is defined first counts"


def test_a_footer_that_points_at_itself(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    path.write_bytes(MAGIC + record(15, bytes(4)) + record(2, struct.pack("<QQI", 21, 21, 0)) + MAGIC)
    got, file = read_all(path)
    assert (got, file.losses) == ([], ())


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    path.write_bytes(MAGIC + channel(1, b"/\xff\x1b[2J") + message(1, 3))
    got, file = read_all(path)
    assert [m[0] for m in got] == ["/\ufffd\x1b[2J"]
    file.close()


@pytest.mark.parametrize("field", ["size", "packed size", "both"])
def test_a_chunk_whose_sizes_are_damaged(tmp_path: Path, field: str) -> None:
    """In a file without index, one of its two sizes is enough."""
    data = bytearray(sample(KINDS["no summary"], seed=8))
    original = whole_messages(bytes(data))
    at = [at for at, kind, _ in records(bytes(data), 8) if kind == 6][2]
    if field in ("size", "both"):
        data[at + 4] ^= 0x80
    if field in ("packed size", "both"):
        data[at + 9 + 36] ^= 0x10
    path = tmp_path / "log.mcap"
    path.write_bytes(data)
    got, file = read_all(path)
    if field == "both":
        inside = len(original) - len(got)
        assert 2 < inside < 10
        assert [m for m in original if m in got] == got
        assert sum(loss.count for loss in file.losses) == inside, "the message index behind it tells"
    else:
        assert got == original


def test_a_message_whose_size_is_damaged_is_lost_alone(tmp_path: Path) -> None:
    for name in ("bare", "bare, no crc, no summary", "none, no crc"):
        data = sample(KINDS[name], seed=9)
        original = whole_messages(data)
        for bit in (0, 3, 7, 9, 20):
            place = data.index(original[20][3]) - 31
            broken = bytearray(data)
            broken[place + 1 + bit // 8] ^= 1 << bit % 8
            path = tmp_path / "log.mcap"
            path.write_bytes(broken)
            got, file = read_all(path)
            assert [m for m in original if m not in got] == [original[20]], (name, bit)
            assert len(got) == len(original) - 1
            assert sum(loss.count for loss in file.losses) == 1
