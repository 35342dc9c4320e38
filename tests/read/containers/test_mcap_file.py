"""MCAP files as they should be: every channel, log-time order, ranges, and no byte read twice."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from mcap_samples import KINDS, START_NS, Kind, Whole, read_all, records, sample, whole_messages

from perception_batch.read.containers import log_order
from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.read.containers.logfile import MAX_NS, open_log_file
from perception_batch.read.containers.mcap_file import McapFile


def written(path: Path, **options: object) -> tuple[Path, Writer]:
    writer = Writer(str(path), **options)  # type: ignore[arg-type]
    writer.start("", "test")
    return path, writer


@pytest.mark.parametrize("name", KINDS)
def test_all_messages_in_log_time_order(tmp_path: Path, name: str) -> None:
    data = sample(KINDS[name], seed=4)
    path = tmp_path / "log.mcap"
    path.write_bytes(data)
    got, file = read_all(path)
    assert got == whole_messages(data)
    assert len(got) == file.message_count == KINDS[name].messages
    assert file.losses == ()
    assert file.salvaged == (KINDS[name].summary == "none")
    by_topic = {c.topic: file.counts().get(c.id, 0) for c in file.channels}
    assert by_topic == {t: sum(m[0] == t for m in got) for t in by_topic}
    times = [m[1] for m in got]
    if KINDS[name].chunked and KINDS[name].index:
        assert (file.start_ns, file.stop_ns) == (min(times), max(times) + 1)
    assert {c.topic: (c.encoding, c.msgtype, bool(c.definition), c.schema[:2]) for c in file.channels} == {
        "/a": ("cdr", "sensor_msgs/msg/CompressedImage", True, b""),
        "/b": ("cdr", "sensor_msgs/msg/CompressedImage", True, b""),
        "/p": ("protobuf", "foxglove.CompressedImage", False, b"\0\1"),
        "/j": ("json", "", False, b""),
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(KINDS)),
    low=st.none() | st.integers(-50, 500),
    high=st.none() | st.integers(-50, 500),
    topics=st.sets(st.sampled_from(["/a", "/b", "/p", "/j"])),
)
def test_a_range_and_topics_are_a_filter(
    tmp_path: Path, name: str, low: int | None, high: int | None, topics: set[str]
) -> None:
    path = tmp_path / f"{name}.mcap"
    if not path.exists():
        path.write_bytes(sample(KINDS[name], seed=5))
    start = None if low is None else START_NS + low * 1_000_000
    stop = None if high is None else START_NS + high * 1_000_000
    expected = [
        m
        for m in whole_messages(path.read_bytes())
        if m[0] in topics and (start is None or m[1] >= start) and (stop is None or m[1] < stop)
    ]
    file = McapFile(path, 1 << 20)
    wanted = [c for c in file.channels if c.topic in topics]
    got = [(m.channel.topic, m.log_ns, m.publish_ns, m.data) for m in file.messages(wanted, start, stop)]
    file.close()
    assert got == expected


@pytest.mark.parametrize("budget", [0, 2000, 1 << 30])
def test_chunks_that_overlap_by_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """Each chunk begins with a message from the very start, as when a clock was not set."""
    path, writer = written(tmp_path / "log.mcap", chunk_size=600, compression=CompressionType.ZSTD)
    channel = writer.register_channel("/a", "json", 0)
    chance = random.Random(1)
    expected = []
    for i in range(200):
        stamp = i if i % 7 == 0 else START_NS + i * 1000 + chance.randrange(-5000, 5000)
        data = chance.randbytes(60)
        expected.append((stamp, data))
        writer.add_message(channel, stamp, data, stamp)
    writer.finish()
    held: list[int] = []
    original = log_order._spare

    def spare(running: list[tuple[int, int, log_order._Run]], excess: int) -> int:
        freed = original(running, excess)
        held.append(sum(bool(run.entries) for _, _, run in running))
        return freed

    monkeypatch.setattr(log_order, "_spare", spare)
    monkeypatch.setattr(log_order.in_log_order, "__defaults__", (budget,))
    got, _ = read_all(path)
    assert [(m[1], m[3]) for m in got] == sorted(expected, key=lambda m: m[0])
    assert max(held) <= {0: 1, 2000: 4}.get(budget, 200)
    assert budget < 1 << 30 or max(held) > 10


def read_amount(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    amount = [0]
    original = ByteSource.read

    def counted(self: ByteSource, at: int, size: int) -> bytes:
        data = original(self, at, size)
        amount[0] += len(data)
        return data

    monkeypatch.setattr(ByteSource, "read", counted)
    return amount


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_no_byte_is_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunked: bool, whole: bool
) -> None:
    kind = Kind(CompressionType.ZSTD, chunked=chunked, messages=200, body=60_000, chunk=1 << 20)
    data = sample(kind)
    if not whole:
        data = data[: len(data) * 9 // 10]
    path = tmp_path / "log.mcap"
    path.write_bytes(data)
    amount = read_amount(monkeypatch)
    file = McapFile(path, 1 << 20)
    opened = amount[0]
    assert file.salvaged is not whole
    count = sum(1 for _ in file.messages(file.channels))
    file.close()
    assert count == file.message_count == len(whole_messages(data))
    assert 0.97 * len(data) < amount[0] < 1.01 * len(data)
    # The first chunk holds the definitions and the last one is cut: both are kept for their messages.
    assert opened < (0.005 if whole or not chunked else 0.25) * len(data)


def test_chunks_without_wanted_messages_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, writer = written(tmp_path / "log.mcap", chunk_size=10_000)
    large, small = writer.register_channel("/large", "json", 0), writer.register_channel("/small", "json", 0)
    for i in range(100):
        writer.add_message(small if i == 50 else large, i, random.Random(i).randbytes(9_000), i)
    writer.finish()
    amount = read_amount(monkeypatch)
    file = McapFile(path, 1 << 20)
    assert len(list(file.messages([c for c in file.channels if c.topic == "/small"]))) == 1
    file.close()
    assert amount[0] < path.stat().st_size / 10


def test_channels_of_all_sorts(tmp_path: Path) -> None:
    path, writer = written(tmp_path / "log.mcap")
    ros1 = writer.register_schema("sensor_msgs/Image", "ros1msg", "Header header\u00e9".encode())
    idl = writer.register_schema("a/msg/B", "ros2idl", b"module a { \xff };")
    cbor = writer.register_schema("C", "cddl", b"x")
    for i, (topic, encoding, schema) in enumerate(
        [
            ("/one", "ros1", ros1),
            ("/two", "cdr", idl),
            ("/three", "cbor", cbor),
            ("/twice", "json", 0),
            ("/twice", "cdr", idl),
        ]
    ):
        number = writer.register_channel(topic, encoding, schema)
        writer.add_message(number, 10 + i, b"payload", 0)
    writer.finish()
    got, file = read_all(path)
    assert [(c.topic, c.encoding, c.msgtype, c.is_idl) for c in file.channels] == [
        ("/one", "ros1", "sensor_msgs/msg/Image", False),
        ("/two", "cdr", "a/msg/B", True),
        ("/twice", "json", "", False),
        ("/twice", "cdr", "a/msg/B", True),
    ]
    assert [m[0] for m in got] == ["/one", "/two", "/twice", "/twice"]
    assert file.message_count == 5, "of all topics together"
    assert "\ufffd" in file.channels[1].definition
    assert file.losses == ()


def test_one_message_that_cannot_be_unpacked_is_one_loss(tmp_path: Path) -> None:
    path, writer = written(tmp_path / "log.mcap")
    channel = writer.register_channel("/a", "cdr", 0)
    good = b"\0\1\0\0" + bytes(5000)
    for i, data in enumerate([good, bytes(50_000_000), good]):
        writer.add_message(channel, i, zstandard.compress(data), i)
    json = writer.register_channel("/j", "json", 0)
    writer.add_message(json, 9, b"\x28\xb5\x2f\xfd stays as it is", 9)
    writer.finish()
    got, file = read_all(path)
    assert [m[3] for m in got] == [good, good, b"\x28\xb5\x2f\xfd stays as it is"]
    (loss,) = file.losses
    assert (loss.topic, loss.start_ns, loss.stop_ns, loss.count) == ("/a", 1, 2, 1)
    assert "claims 50000000 bytes" in loss.reason


def test_times_beyond_63_bits(tmp_path: Path) -> None:
    path, writer = written(tmp_path / "log.mcap")
    channel = writer.register_channel("/a", "json", 0)
    for stamp in (5, 2**64 - 1, 2**63):
        writer.add_message(channel, stamp, b"x", stamp)
    writer.finish()
    got, file = read_all(path)
    assert [m[1:3] for m in got] == [(5, 5), (MAX_NS - 1, MAX_NS - 1), (MAX_NS - 1, MAX_NS - 1)]
    assert (file.start_ns, file.stop_ns) == (5, MAX_NS)


def test_a_summary_that_leaves_a_chunk_out(tmp_path: Path) -> None:
    data = sample(KINDS["none, no crc"], seed=6)
    out = bytearray(data[:8])
    left_out = False
    for at, kind, body in records(data, 8):
        if kind == 8 and not left_out:
            kind, left_out = 0x91, True  # as large, but nobody's
        out += struct.pack("<BQ", kind, len(body)) + body
        if kind == 2:
            out += data[at + 29 :]
            break
    assert len(out) == len(data)
    path = tmp_path / "log.mcap"
    path.write_bytes(out)
    got, file = read_all(path)
    assert got == whole_messages(data)
    assert file.message_count == len(got)
    assert file.losses == ()
    assert not file.salvaged


def test_statistics_that_count_too_many_are_a_loss_only_where_a_checksum_covers_them(tmp_path: Path) -> None:
    data = bytearray(sample(KINDS["none, no crc"], seed=6))
    place = next(at for at, kind, _ in records(bytes(data), 8) if kind == 11)
    data[place + 9] ^= 0x40  # messages in all
    data[place + 9 + 46 + 2] ^= 0x40  # of the first channel
    path = tmp_path / "log.mcap"
    path.write_bytes(data)
    got, file = read_all(path)
    assert file.message_count == len(got) == 40
    assert file.losses == ()


def test_a_chunk_that_fails_its_checksum_is_counted_by_topic(tmp_path: Path) -> None:
    data = bytearray(sample(KINDS["none"], seed=7))
    chunks = [(at, body) for at, kind, body in records(bytes(data), 8) if kind == 6]
    at, body = chunks[3]
    data[at + 9 + len(body) - 1] ^= 1
    path = tmp_path / "log.mcap"
    path.write_bytes(data)
    got, file = read_all(path)
    inside = whole_messages(
        bytes(data[:8]) + bytes(data[chunks[0][0] : chunks[1][0]]) + struct.pack("<BQ", 6, len(body)) + body
    )
    first = whole_messages(bytes(data[:8]) + bytes(data[chunks[0][0] : chunks[1][0]]))
    lost = [m for m in inside if m not in first]
    assert len(got) == 40 - len(lost)
    by_topic = {loss.topic: loss for loss in file.losses}
    assert {t: loss.count for t, loss in by_topic.items()} == {
        t: sum(m[0] == t for m in lost) for t in {m[0] for m in lost}
    }
    span = struct.unpack_from("<QQ", body)
    assert all((x.start_ns, x.stop_ns) == (span[0], span[1] + 1) for x in file.losses)
    assert all("checksum" in x.reason for x in file.losses)


def test_two_readings_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    path.write_bytes(sample(KINDS["bare"]))
    file = McapFile(path, 1 << 20)
    pairs = list(zip(file.messages(file.channels), file.messages(file.channels), strict=True))
    assert len(pairs) == 40
    assert all(a == b for a, b in pairs)
    file.close()


def test_behind_a_url(tmp_path: Path) -> None:
    upath = pytest.importorskip("upath")
    data = sample(KINDS["zstd"])
    remote = upath.UPath("memory://drives/log.mcap")
    remote.write_bytes(data)
    file = open_log_file(remote, 1 << 20)
    got: list[Whole] = [
        (m.channel.topic, m.log_ns, m.publish_ns, m.data) for m in file.messages(file.channels)
    ]
    file.close()
    assert got == whole_messages(data)


def test_an_empty_log(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = Writer(out)
    writer.start("", "")
    writer.register_channel("/a", "json", 0)
    writer.finish()
    path = tmp_path / "log.mcap"
    path.write_bytes(out.getvalue())
    got, file = read_all(path)
    assert (got, file.message_count, file.start_ns, file.stop_ns, file.losses) == ([], 0, MAX_NS, 0, ())


REAL = {
    "dashcam_h264.mcap": (38, {("protobuf", "foxglove.CompressedVideo")}),
    "odd/foxglove_json_cameras.mcap": (
        30,
        {("json", "foxglove.CameraCalibration"), ("json", "foxglove.CompressedImage")},
    ),
    "odd/mixed_json_protobuf.mcap": (293, {("json", "MouseEvent"), ("protobuf", "foxglove.PoseInFrame")}),
    "odd/soccer_goal_split/soccer_goal_12.mcap": (2, {("cdr", "sensor_msgs/msg/Image")}),
}


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_files(recordings: Path, name: str) -> None:
    count, types = REAL[name]
    got, file = read_all(recordings / name)
    assert len(got) == file.message_count == count
    assert types <= {(c.encoding, c.msgtype) for c in file.channels}
    assert file.losses == ()


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["odd/ros2_one_of_each.mcap", "dashcam_h264.mcap", "ddad_surround/ddad_surround.mcap"]
)
def test_real_files_cut(recordings: Path, tmp_path: Path, name: str) -> None:
    data = (recordings / name).read_bytes()
    chance = random.Random(name)
    for _ in range(4):
        cut = chance.randrange(1000, len(data))
        (tmp_path / "log.mcap").write_bytes(data[:cut])
        got, _ = read_all(tmp_path / "log.mcap")
        assert got == whole_messages(data[:cut])
