from __future__ import annotations

import random

import pytest
from video_maker import Packet, encode

from perception_batch.decode.h264_frame_numbers import FrameNumbers
from perception_batch.decode.start_codes import is_overwritten

STREAMS = [
    {"gop": 40},
    {"gop": 40, "b_frames": 3},
    {"gop": 10, "b_frames": 2},
    {"gop": 40, "options": {"x264-params": "scenecut=0:slices=4"}},
    {"gop": 40, "options": {"profile": "baseline"}},
    {"gop": 300, "count": 80},
    {"gop": 40, "options": {"x264-params": "interlaced=1"}},
    {"gop": 40, "pixel_format": "yuv444p"},
]


def missing(packets: list[Packet]) -> list[int]:
    numbers = FrameNumbers()
    return [numbers.missing_before(packet.data, packet.is_key) for packet in packets]


@pytest.mark.parametrize("settings", STREAMS)
def test_nothing_is_missing_in_whole_streams(settings: dict[str, object]) -> None:
    packets = encode(**{"count": 40, **settings})  # type: ignore[arg-type]
    assert not any(missing(packets))


@pytest.mark.parametrize("settings", STREAMS)
def test_missing_reference_pictures_are_counted_at_the_next(settings: dict[str, object]) -> None:
    packets = encode(**{"count": 40, **settings})  # type: ignore[arg-type]
    references = [n for n, p in enumerate(packets) if reference(p) and not p.is_key]
    for at in references[:-1]:
        kept = packets[:at] + packets[at + 1 :]
        if not kept[at].is_key:
            assert missing(kept)[at] == 1
            assert not any(missing(kept)[:at])


def reference(packet: Packet) -> bool:
    units = [u for u in packet.data.split(b"\0\0\1") if u and u[0] & 31 in (1, 5)]
    return bool(units[0][0] & 0x60)


def test_a_key_frame_begins_anew() -> None:
    packets = encode(count=30, gop=10)
    assert missing([*packets[:5], *packets[10:]]) == [0] * 25


def test_hostile_bytes_tell_nothing() -> None:
    rng = random.Random(2)
    packets = encode(count=6)
    for _ in range(400):
        numbers = FrameNumbers(rng.choice((b"", b"\1", b"\1" + rng.randbytes(30))))
        for packet in packets:
            data = bytearray(packet.data[:80])
            for _ in range(rng.choice((0, 1, 8))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            assert 0 <= numbers.missing_before(bytes(data), packet.is_key) < 1 << 16
    assert FrameNumbers().missing_before(b"\0\0\1" * 10_000, False) == 0
    assert FrameNumbers().missing_before(b"", False) == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b"\0\0\1\x65abc", False),
        (b"\0\0\0\1\x67abc\0\0\0\1\x65abc\0\0\0", False),
        (b"\0\0\0\0\0\1\x65abc\0\0\3\1", False),
        (b"\0\0\1\x65abc\0\0\0\x05", True),
        (b"\0\0\1\x65abc\0\0\2", True),
        (b"\0\0\1\x65a" + bytes(5000) + b"\x80", True),
        (b"\0\0\1\x65a" + bytes(5000) + b"\1\x41", False),
        (b"\x65abc\0\0\0\5", False),
    ],
)
def test_bytes_that_no_encoder_writes(data: bytes, expected: bool) -> None:
    assert is_overwritten(data) is expected
    assert is_overwritten(memoryview(data)) is expected


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_encoders_write_none_of_them(codec: str) -> None:
    assert not any(is_overwritten(p.data) for p in encode(codec, 30, size=(320, 192)))
