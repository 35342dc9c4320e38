"""ROS 1 bags that were cut or damaged give exactly what is still whole, and say what is not."""

from __future__ import annotations

import bz2
import resource
import struct
import tracemalloc
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
from rosbags.rosbag1 import Writer

from perception_batch.errors import LogError, UnsupportedEncoding
from perception_batch.read.containers.bag1_file import Bag1File
from perception_batch.read.containers.logfile import open_log_file

FORMATS = ["none", "bz2", "lz4"]
T0 = 1_700_000_000_123_456_789
Row = tuple[int, str, bytes]


def write_bag(path: Path, compression: str, messages: int = 24, chunk_bytes: int = 1500) -> Path:
    """Three topics in turn; a new chunk every `chunk_bytes`; messages of a few sizes."""
    writer = Writer(path)
    writer.chunk_threshold = chunk_bytes
    if compression != "none":
        writer.set_compression(Writer.CompressionFormat[compression.upper()])
    rng = np.random.default_rng(1)
    with writer:
        topics = [
            writer.add_connection(f"/t{i}", "std_msgs/msg/String", msgdef="string data\n", md5sum="0" * 32)
            for i in range(3)
        ]
        for i in range(messages):
            late = (i % 5 == 0) * 25_000_000  # log times are not in the order of writing
            writer.write(
                topics[i % 3], T0 + i * 10_000_000 + late, rng.bytes(5 + 97 * (i % 4)) + b"op=\x05" * (i % 2)
            )
    return path


def rows(path: Path) -> list[Row]:
    file = Bag1File(path)
    try:
        out = [(m.log_ns, m.channel.topic, m.data) for m in file.messages(file.channels)]
        again = [(m.log_ns, m.channel.topic, m.data) for m in file.messages(file.channels)]
        assert out == again
        assert [r[0] for r in out] == sorted(r[0] for r in out)
        lost = Counter({loss.topic: loss.count for loss in file.losses})
        topic = {c.id: c.topic for c in file.channels}
        stated = Counter[str]()
        for i, count in file.counts().items():
            stated[topic[i]] += count
        came = Counter(r[1] for r in out)
        assert all(stated[t] <= came[t] + lost[t] for t in stated), "what is counted is there or lost"
        assert sum(stated.values()) == file.message_count >= len(out)
        return out
    finally:
        file.close()


# ---------------------------------------------------------------------- the oracle: record by record


def header_of(data: bytes, at: int) -> tuple[dict[bytes, bytes], int, int] | None:
    """Fields, begin and end of the data; None where the header is not whole."""
    if at + 4 > len(data):
        return None
    (size,) = struct.unpack_from("<I", data, at)
    if at + 8 + size > len(data):
        return None
    fields, i = {}, at + 4
    while i < at + 4 + size:
        (n,) = struct.unpack_from("<I", data, i)
        name, _, value = data[i + 4 : i + 4 + n].partition(b"=")
        fields[name] = value
        i += 4 + n
    (length,) = struct.unpack_from("<I", data, i)
    return fields, i + 4, i + 4 + length


def unpack_what_is_there(name: bytes, data: bytes) -> bytes:
    if name == b"none":
        return data
    machine: Any = bz2.BZ2Decompressor() if name == b"bz2" else lz4.frame.LZ4FrameDecompressor()
    return bytes(machine.decompress(data))


def whole(data: bytes) -> list[Row]:
    """The messages whose bytes are all there."""
    topics: dict[bytes, str] = {}
    out: list[Row] = []
    at = len(b"#ROSBAG V2.0\n")
    while (record := header_of(data, at)) is not None:
        fields, begin, at = record
        if fields[b"op"] != b"\x05":
            continue
        chunk = unpack_what_is_there(fields[b"compression"], data[begin:at])
        i = 0
        while (inner := header_of(chunk, i)) is not None and inner[2] <= len(chunk):
            what, first, i = inner
            if what[b"op"] == b"\x07":
                topics[what[b"conn"]] = what[b"topic"].decode()
            elif what[b"op"] == b"\x02":
                s, ns = struct.unpack("<II", what[b"time"])
                out.append((s * 10**9 + ns, topics[what[b"conn"]], chunk[first:i]))
    return sorted(out, key=lambda r: r[0])


def boundaries(data: bytes) -> list[int]:
    """Where records begin, those inside chunks without compression too."""
    out, at = [], len(b"#ROSBAG V2.0\n")
    while (record := header_of(data, at)) is not None:
        out.append(at)
        fields, begin, at = record
        if fields.get(b"compression") == b"none":
            i = begin
            while i < at and (inner := header_of(data, i)) is not None:
                out.append(i)
                i = inner[2]
    return out


def check_cut(data: bytes, cut: int, path: Path) -> int:
    path.write_bytes(data[:cut])
    expected = whole(data[:cut])
    if cut <= 13:
        with pytest.raises(LogError):
            Bag1File(path)
        return 0
    assert sorted(rows(path)) == sorted(expected), f"cut at {cut}"
    return len(expected)


@pytest.mark.parametrize("compression", FORMATS)
def test_cut_at_every_record_boundary_and_anywhere(tmp_path: Path, compression: str) -> None:
    data = write_bag(tmp_path / "whole.bag", compression).read_bytes()
    assert rows(tmp_path / "whole.bag") == whole(data)
    assert len(whole(data)) == 24
    rng = np.random.default_rng(7)
    cuts = [*boundaries(data), *rng.integers(13, len(data), 500).tolist()]
    assert len(cuts) > 520
    came = {check_cut(data, cut, tmp_path / "cut.bag") for cut in cuts}
    assert came >= {0, 24}
    assert len(came) > (8 if compression == "none" else 4)


@pytest.mark.parametrize("compression", FORMATS)
def test_a_flipped_bit_costs_at_most_a_chunk(tmp_path: Path, compression: str) -> None:
    """Of 2,000 flips a third each: all messages of the chunks that the flip did not hit come out."""
    data = write_bag(tmp_path / "whole.bag", compression, messages=40).read_bytes()
    good = whole(data)
    most = 10
    assert len(good) == 40
    rng = np.random.default_rng(11)
    path = tmp_path / "flipped.bag"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(667):
        broken = bytearray(data)
        bit = int(rng.integers(0, len(data) * 8))
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        if bit // 8 < 13:
            with pytest.raises(LogError):
                open_log_file(path, 1 << 28)
            continue
        out = rows(path)
        assert len(out) >= len(good) - most, f"bit {bit}"
        if compression == "bz2":
            # A checksum guards the data (of the lz4 here only its structure): what comes out was written.
            assert {r[2] for r in out} <= {r[2] for r in good}, f"bit {bit}"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000, "KiB"


@pytest.mark.parametrize("compression", FORMATS)
def test_many_flips_are_a_clear_error_or_messages(tmp_path: Path, compression: str) -> None:
    data = write_bag(tmp_path / "whole.bag", compression).read_bytes()
    path = tmp_path / "flipped.bag"
    for seed in range(150):
        rng = np.random.default_rng(seed)
        broken = bytearray(data)
        for at in rng.integers(13, len(data), 30):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken[: rng.integers(13, len(data) + 1)])
        try:
            file = open_log_file(path, 1 << 28)
        except LogError as error:
            assert "\n" not in str(error)
            continue
        for message in file.messages(file.channels):
            assert len(message.data) < len(data) * 100
        assert all("\n" not in loss.reason for loss in file.losses)
        file.close()


# ---------------------------------------------------------------------- particular damage


def record(fields: dict[bytes, bytes], data: bytes) -> bytes:
    header = b"".join(
        struct.pack("<I", len(k) + 1 + len(v)) + k + b"=" + v for k, v in sorted(fields.items())
    )
    return struct.pack("<I", len(header)) + header + struct.pack("<I", len(data)) + data


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def connection(conn: int, topic: bytes, msgtype: bytes, definition: bytes) -> bytes:
    described = record(
        {b"topic": topic, b"type": msgtype, b"md5sum": b"0" * 32, b"message_definition": definition}, b""
    )
    fields = described[4 : 4 + struct.unpack_from("<I", described)[0]]
    return record({b"op": b"\x07", b"conn": u32(conn), b"topic": topic}, fields)


def message(conn: int, seconds: int, data: bytes) -> bytes:
    return record({b"op": b"\x02", b"conn": u32(conn), b"time": struct.pack("<II", seconds, 5)}, data)


def chunk(data: bytes, name: bytes = b"none", size: int | None = None) -> bytes:
    return record({b"op": b"\x05", b"compression": name, b"size": u32(size or len(data))}, data)


def index(conn: int, *entries: tuple[int, int]) -> bytes:
    data = b"".join(struct.pack("<III", seconds, 5, offset) for seconds, offset in entries)
    return record({b"op": b"\x04", b"ver": u32(1), b"conn": u32(conn), b"count": u32(len(entries))}, data)


def bag(*records: bytes, **extra: bytes) -> bytes:
    fields = {b"op": b"\x03", b"index_pos": bytes(8), b"conn_count": u32(0), b"chunk_count": u32(0)}
    fields |= {name.encode(): value for name, value in extra.items()}
    head = record(fields, b" " * 100)
    return b"#ROSBAG V2.0\n" + head + b"".join(records)


def test_one_topic_with_two_definitions_and_old_type_names(tmp_path: Path) -> None:
    """As recorders write them: the fields sorted, a connection only in the first chunk that needs it."""
    path = tmp_path / "a.bag"
    one = connection(0, b"//cam/image", b"sensor_msgs/Image", b"old") + message(0, 1, b"a")
    two = connection(7, b"/cam/image", b"sensor_msgs/Image", b"new") + message(7, 2, b"b")
    two += message(0, 3, b"c")
    path.write_bytes(bag(chunk(one), chunk(two)))
    with closing(Bag1File(path)) as file:
        assert [(c.id, c.topic, c.msgtype, c.definition) for c in file.channels] == [
            (0, "/cam/image", "sensor_msgs/msg/Image", "old"),
            (7, "/cam/image", "sensor_msgs/msg/Image", "new"),
        ]
        out = [(m.channel.id, m.data) for m in file.messages(file.channels)]
    assert out == [(0, b"a"), (7, b"b"), (0, b"c")]
    assert [(loss.topic, loss.count) for loss in file.losses] == [("*", 0)]
    assert "no index" in file.losses[0].reason
    assert file.losses[0].start_ns == 3_000_000_005


def test_a_scan_passes_over_chunks_whose_index_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    first = connection(0, b"/a", b"std_msgs/String", b"") + message(0, 1, bytes(50_000))
    offset = len(first) - len(message(0, 1, bytes(50_000)))
    body = message(0, 2, bytes(50_000))
    later = b"".join(chunk(body) + index(0, (2 + i, 0)) for i in range(20))
    path.write_bytes(bag(chunk(first), index(0, (1, offset)), later))
    read = []

    class Spy:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def read(self, size: int) -> bytes:
            read.append(size)
            return bytes(self.inner.read(size))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    with pytest.MonkeyPatch.context() as patch:
        from perception_batch.read.containers import place

        opened = place._open_raw
        patch.setattr(place, "_open_raw", lambda p: Spy(opened(p)))
        file = Bag1File(path)
        assert file.message_count == 21
        assert sum(read) < 60_000
        read.clear()
        assert sum(len(m.data) for m in file.messages(file.channels)) == 21 * 50_000
        assert sum(read) < 1.01 * path.stat().st_size
        file.close()


def test_a_chunk_that_cannot_be_unpacked_is_counted_by_its_index(tmp_path: Path) -> None:
    data = bytearray(write_bag(tmp_path / "a.bag", "bz2").read_bytes())
    good = whole(bytes(data))
    chunks = [i for i in range(len(data)) if data[i : i + 4] == b"BZh9"]
    data[chunks[1] + 30] ^= 0xFF
    (tmp_path / "a.bag").write_bytes(data)
    with closing(Bag1File(tmp_path / "a.bag")) as file:
        out = [(m.log_ns, m.channel.topic, m.data) for m in file.messages(file.channels)]
    assert set(out) < set(good)
    missing = Counter(r[1] for r in set(good) - set(out))
    assert {loss.topic: loss.count for loss in file.losses} == dict(missing)
    for loss in file.losses:
        gone = [r[0] for r in set(good) - set(out) if r[1] == loss.topic]
        assert (loss.start_ns, loss.stop_ns) == (min(gone), max(gone) + 1)
        assert "cannot be unpacked" in loss.reason


def test_an_index_that_points_nowhere_is_looked_up_in_its_chunk(tmp_path: Path) -> None:
    data = bytearray(write_bag(tmp_path / "a.bag", "none").read_bytes())
    good = whole(bytes(data))
    at = data.index(b"count=") + 10 + 4 + 8  # the first entry's offset, behind the size of the data
    data[at] ^= 0x40
    (tmp_path / "a.bag").write_bytes(data)
    assert rows(tmp_path / "a.bag") == good


@pytest.mark.parametrize("compression", FORMATS)
def test_a_chunk_of_a_wrong_length(tmp_path: Path, compression: str) -> None:
    data = bytearray(write_bag(tmp_path / "a.bag", compression).read_bytes())
    good = whole(bytes(data))
    at = data.index(b"size=", data.index(b"size=") + 1)  # the second chunk
    fields_end = data.index(b"compression=" + compression.encode(), at - 60) + 12 + len(compression)
    where = max(fields_end, at + 9)
    if data[where : where + 1] != b"" and data[where : where + 4] == b"\x04\0\0\0":
        where += 8
    data[where + 2] ^= 0x10  # a megabyte more
    (tmp_path / "a.bag").write_bytes(data)
    assert rows(tmp_path / "a.bag") == good


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from perception_batch.read.containers import bag1_chunks

    monkeypatch.setattr(bag1_chunks, "MAX_CHUNK_BYTES", 1 << 20)
    bomb = chunk(bz2.compress(bytes(50_000_000)), b"bz2")
    good = chunk(connection(0, b"/a", b"std_msgs/String", b"") + message(0, 9, b"x"))
    (tmp_path / "a.bag").write_bytes(bag(bomb, good))
    tracemalloc.start()
    try:
        file = Bag1File(tmp_path / "a.bag")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    with closing(file):
        assert [m.data for m in file.messages(file.channels)] == [b"x"]
    assert any("more than 1 MiB" in loss.reason for loss in file.losses)


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (bag(encryptor=b"rosbag/AesCbcEncryptor"), UnsupportedEncoding, "encrypted.*AesCbc.*rosbag decrypt"),
        (b"#ROSBAG V1.2\n" + bytes(99), LogError, "version"),
        (b"#ROSBAG Vx\n", LogError, "version"),
        (b"#ROSBAG V2.0\n", LogError, "damaged or cut off"),
    ],
)
def test_what_is_refused_is_one_clear_line(
    tmp_path: Path, data: bytes, kind: type[LogError], says: str
) -> None:
    (tmp_path / "a.bag").write_bytes(data)
    with pytest.raises(kind, match=says) as caught:
        open_log_file(tmp_path / "a.bag", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.real
@pytest.mark.parametrize("name", ["t265_stereo_fisheye.bag", "example-bz2.bag", "example-lz4.bag"])
def test_real_bags_cut_anywhere(tmp_path: Path, recordings: Path, name: str) -> None:
    data = (recordings / "odd" / name).read_bytes()
    rng = np.random.default_rng(3)
    came = [check_cut(data, int(cut), tmp_path / "cut.bag") for cut in rng.integers(20, len(data), 4)]
    assert max(came) > 0
