from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_maker import (
    PERIOD_NS,
    START_NS,
    Packet,
    closing,
    decoded_alone,
    encode,
    frames,
    letters,
)

from perception_batch.decode import decode_frame, pictures
from perception_batch.decode.packet_stream import WINDOW
from perception_batch.geometry import SE3
from perception_batch.types import (
    BrokenPayload,
    EgoPose,
    EncodedFrame,
    PicturePayload,
    RawPayload,
    StillPayload,
    VideoPayload,
)

CODECS = ("h264", "h265", "vp9", "av1")


def run(items: Any, threads: int = 1, max_image_mpx: float = 10.0) -> list[Any]:
    return list(pictures(iter(items), max_image_mpx=max_image_mpx, threads=threads))


def planes(frame: EncodedFrame) -> Any:
    assert isinstance(frame.payload, PicturePayload)
    return frame.payload.picture.to_ndarray()


def still(camera: str, number: int) -> EncodedFrame:
    stamp = START_NS + number * PERIOD_NS
    return EncodedFrame(camera, stamp, stamp, StillPayload(b"jpeg"), "jpeg", number, 0, 0, stamp)


def pose(number: int) -> EgoPose:
    return EgoPose(START_NS + number, "odom", SE3.identity(), np.zeros(3), "tf")


@pytest.fixture(scope="module")
def plain() -> list[Packet]:
    return encode(count=30)


# ---------------------------------------------------------------- whole streams


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("threads", [1, 4])
def test_every_packet_becomes_its_own_picture(codec: str, threads: int) -> None:
    packets = encode(codec)
    out = run(frames(packets, codec), threads)
    oracle = decoded_alone(packets, codec)
    assert letters(out) == "P" * 20
    for number, frame in enumerate(out):
        assert np.array_equal(planes(frame), oracle[number])
        assert (frame.width_px, frame.height_px, frame.sequence) == (128, 96, number)
        assert frame.encoding == codec
        assert frame.size_bytes >= 128 * 96 * 3 // 2


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("threads", [1, 4])
def test_pictures_stored_in_another_order_than_shown(codec: str, threads: int) -> None:
    packets = encode(codec, 24, gop=12, b_frames=3)
    assert [p.shown for p in packets] != sorted(p.shown for p in packets)
    out = run(frames(packets, codec), threads)
    oracle = decoded_alone(packets, codec)
    assert [f.sequence for f in out] == list(range(24))
    for packet, frame in zip(packets, out, strict=True):
        assert np.array_equal(planes(frame), oracle[packet.shown])


def test_the_size_may_change_at_a_key_frame() -> None:
    small, large = encode(count=5, size=(64, 48)), encode(count=5, size=(160, 128))
    out = run(frames(small + large))
    assert [(f.width_px, f.height_px) for f in out] == [(64, 48)] * 5 + [(160, 128)] * 5
    assert letters(out) == "P" * 10


def test_two_codecs_one_after_the_other() -> None:
    out = run(frames(encode("h264", 5)) + frames(encode("vp9", 5), "vp9"))
    assert letters(out) == "P" * 10


# ---------------------------------------------------------------- order, and what is no video


def test_without_video_nothing_changes_and_nothing_waits() -> None:
    items = [still("a", 0), pose(0), still("b", 1), pose(1)]
    taken: list[Any] = []

    def source() -> Any:
        for item in items:
            taken.append(item)
            yield item

    for count, out in enumerate(pictures(source(), max_image_mpx=1), 1):
        assert out is items[count - 1]
        assert len(taken) == count


def test_the_order_of_all_items_is_kept(plain: list[Packet]) -> None:
    a, b = frames(plain[:20], camera="a"), frames(plain[:20], camera="b")
    items: list[Any] = []
    for number in range(20):
        items += [a[number], pose(number), b[number], still("c", number)]
    out = run(items, threads=4)

    def key(item: Any) -> Any:
        return (item.camera, item.sequence) if isinstance(item, EncodedFrame) else item.stamp_ns

    assert [key(item) for item in out] == [key(item) for item in items]
    assert letters(out) == "P-P-" * 20


def test_a_silent_camera_does_not_hold_up_the_others_for_ever(plain: list[Packet]) -> None:
    a = frames(plain[:4], camera="a")
    others = [still("b", number) for number in range(2100)]
    seen = 0

    def source() -> Any:
        nonlocal seen
        for item in a + others:
            seen += 1
            yield item
        pytest.fail("the pictures of a silent camera waited for the end of the log")

    got = list(islice(pictures(source(), max_image_mpx=1, threads=4), 5))
    assert letters(got) == "PPPP-"
    assert 2000 <= seen <= 2010


def test_large_frames_wait_less_long(plain: list[Packet]) -> None:
    big = RawPayload(np.zeros(3 << 20, np.uint8), 1, False)
    others = [replace(still("b", number), payload=big) for number in range(200)]
    source = iter(frames(plain[:4]) + others)
    assert letters(list(islice(pictures(source, max_image_mpx=1, threads=4), 5))) == "PPPP-"
    assert 90 <= len(list(source)) <= 110


def test_closing_closes_the_source(plain: list[Packet]) -> None:
    closed: list[bool] = []
    stream = pictures(closing(frames(plain), closed), max_image_mpx=1)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert closed == [True]


# ---------------------------------------------------------------- where decoding begins


def test_frames_before_the_first_key_frame_are_counted(plain: list[Packet]) -> None:
    out = run(frames(plain[3:]))
    assert letters(out) == "l" * 7 + "P" * 20
    assert all(f.payload == StillPayload(b"") and f.unused == "lead_in" for f in out[:7])


def test_a_video_without_key_frames_gives_no_picture(plain: list[Packet]) -> None:
    assert letters(run(frames(plain[1:10]))) == "l" * 9


def test_warm_up_packets_feed_the_decoder_and_are_swallowed(plain: list[Packet]) -> None:
    items = [
        replace(f, payload=replace(f.payload, is_warm_up=number < 5))
        for number, f in enumerate(frames(plain))
        if isinstance(f.payload, VideoPayload)
    ]
    out = run(items)
    assert [f.sequence for f in out] == list(range(5, 30))
    assert np.array_equal(planes(out[0]), decoded_alone(plain)[5])


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_pictures_shown_before_an_open_key_frame_need_what_came_before(codec: str) -> None:
    params = "scenecut=0:open-gop=1" + (":log-level=none:repeat-headers=1" if codec == "h265" else "")
    name = "x264-params" if codec == "h264" else "x265-params"
    packets = encode(codec, 30, gop=10, b_frames=3, options={name: params})
    key = next(n for n, p in enumerate(packets) if p.is_key and n)
    leading = [n for n in range(key, len(packets)) if packets[n].shown < packets[key].shown]
    assert leading
    whole = run(frames(packets, codec))
    assert letters(whole) == "P" * 30
    begun = run(frames(packets[key:], codec))
    assert [key + n for n, c in enumerate(letters(begun)) if c == "l"] == leading
    assert "x" not in letters(begun)
    damaged = [*packets[:2], replace_data(packets[2], b""), *packets[3:]]
    after = letters(run(frames(damaged, codec)))[key:]
    assert after == letters(begun)


def replace_data(packet: Packet, data: bytes) -> Packet:
    return replace(packet, data=data)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("data", [b"", b"\0\0\1", b"no packet at all" * 9, b"\0\0\1\x65" + b"\xff" * 30])
def test_a_packet_of_rubbish_loses_until_the_next_key_frame(
    plain: list[Packet], data: bytes, threads: int
) -> None:
    packets = [*plain[:4], replace_data(plain[4], data), *plain[5:]]
    out = run(frames(packets), threads)
    assert letters(out) == "PPPPxxxxxx" + "P" * 20
    assert all(f.payload.reason == "broken_video" and f.payload.detail for f in out[4:10])
    with pytest.raises(Exception, match="broken_video"):
        decode_frame(out[4], 10)


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_missing_packet_loses_until_the_next_key_frame(codec: str, threads: int) -> None:
    packets = encode(codec, 20)
    out = run(frames(packets[:4] + packets[5:], codec), threads)
    assert letters(out) == "PPPP" + "x" * 5 + "P" * 10


def test_a_missing_packet_in_a_stream_with_lengths() -> None:
    """As MP4 files have it: lengths before the NAL units, parameter sets outside."""
    packets = encode(count=20)
    sets, with_lengths = lengths_for_start_codes(packets)
    assert letters(run(frames(with_lengths, extradata=sets))) == "P" * 20
    broken = with_lengths[:4] + with_lengths[5:]
    assert letters(run(frames(broken, extradata=sets))) == "PPPP" + "x" * 5 + "P" * 10


def lengths_for_start_codes(packets: list[Packet]) -> tuple[bytes, list[Packet]]:
    sps, pps, out = b"", b"", []
    for packet in packets:
        units = [u.rstrip(b"\0") for u in packet.data.split(b"\0\0\1") if u.rstrip(b"\0")]
        sps = next((u for u in units if u[0] & 31 == 7), sps)
        pps = next((u for u in units if u[0] & 31 == 8), pps)
        body = b"".join(len(u).to_bytes(4, "big") + u for u in units if u[0] & 31 in (1, 5))
        out.append(replace_data(packet, body))
    head = b"\1" + sps[1:4] + b"\xff\xe1" + len(sps).to_bytes(2, "big") + sps
    return head + b"\1" + len(pps).to_bytes(2, "big") + pps, out


def test_a_dropped_picture_that_is_no_reference_harms_nothing() -> None:
    packets = encode(count=24, gop=24, b_frames=2, options={"x264-params": "scenecut=0:b-pyramid=none"})
    at = next(n for n, p in enumerate(packets) if n and p.shown < packets[n - 1].shown)
    oracle = decoded_alone(packets)
    kept = packets[:at] + packets[at + 1 :]
    out = run(frames(kept))
    assert letters(out) == "P" * 23
    assert all(np.array_equal(planes(f), oracle[p.shown]) for p, f in zip(kept, out, strict=True))


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_packet_recorded_twice_gives_the_same_picture_twice(codec: str) -> None:
    packets = encode(codec, 20)
    twice = [*packets[:6], packets[5], *packets[6:]]
    out = run(frames(twice, codec))
    oracle = decoded_alone(packets, codec)
    assert letters(out) == "P" * 21
    assert all(np.array_equal(planes(f), oracle[p.shown]) for p, f in zip(twice, out, strict=True))


def test_what_is_no_packet_is_a_hole_in_the_video(plain: list[Packet]) -> None:
    items = frames(plain)
    items[4] = replace(items[4], payload=BrokenPayload("broken_message"))
    out = run(items)
    assert letters(out) == "PPPP" + "x" * 6 + "P" * 20
    assert out[4] is items[4]


def test_a_frame_with_a_bad_stamp_feeds_the_decoder(plain: list[Packet]) -> None:
    items = frames(plain)
    items[4] = replace(items[4], unused="bad_stamp")
    out = run(items)
    assert letters(out) == "PPPPb" + "P" * 25
    assert out[4].size_bytes == 0


def test_damage_gives_right_pictures_or_none_whatever_the_threads() -> None:
    """Cut packets and zeroed stretches in H.264: the decoder notices these."""
    packets = encode(count=30, size=(320, 192))
    oracle = decoded_alone(packets)
    rng = random.Random(7)
    for _ in range(15):
        at = rng.choice([number for number, packet in enumerate(packets) if not packet.is_key])
        data = bytearray(packets[at].data)
        if rng.random() < 0.5:
            data = data[: rng.randrange(8, len(data) // 2)]
        else:
            start = rng.randrange(5, len(data) // 2)
            data[start : start + 60] = bytes(60)
        hurt = [*packets[:at], replace_data(packets[at], bytes(data)), *packets[at + 1 :]]
        one, four = run(frames(hurt), 1), run(frames(hurt), 4)
        assert letters(one) == letters(four)
        assert "x" in letters(one)
        for number, (a, b) in enumerate(zip(one, four, strict=True)):
            if isinstance(a.payload, PicturePayload):
                assert np.array_equal(planes(a), oracle[number])
                assert np.array_equal(planes(b), oracle[number])


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_zeroed_stretch_is_noticed(codec: str) -> None:
    packets = encode(codec, 10, size=(320, 192))
    for at, start in ((0, 500), (3, 20), (7, 200), (5, -40)):
        data = bytearray(packets[at].data)
        data[start : start + 12] = bytes(12)
        hurt = [*packets[:at], replace_data(packets[at], bytes(data)), *packets[at + 1 :]]
        assert letters(run(frames(hurt, codec))) == "P" * at + "x" * (10 - at)


@pytest.mark.parametrize("codec", CODECS)
def test_flipped_bits_end_in_frames_never_in_errors(codec: str) -> None:
    packets = encode(codec, 12, gop=6)
    rng = random.Random(3)
    for trial in range(12):
        hurt = []
        for packet in packets:
            data = bytearray(packet.data)
            for _ in range(rng.choice((0, 0, 1, 5))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            hurt.append(replace_data(packet, bytes(data)))
        assert len(run(frames(hurt, codec), threads=1 + trial % 4)) == 12


def test_a_picture_is_waited_for_within_bounds(plain: list[Packet]) -> None:
    packets = [plain[0], replace_data(plain[1], b"\0\0\1\x09\xf0"), *plain[2:10], *plain[10:] * 3]
    source = iter(frames(packets))
    assert letters(list(islice(pictures(source, max_image_mpx=1), 2))) == "Px"
    assert len(packets) - len(list(source)) <= 2 + WINDOW + 1


# ---------------------------------------------------------------- limits


def test_a_claimed_size_over_the_limit_is_not_decoded(plain: list[Packet]) -> None:
    items = [replace(f, width_px=60_000, height_px=60_000) for f in frames(plain[:3])]
    out = run(items)
    assert [f.payload.reason for f in out] == ["too_large"] * 3
    assert "60000x60000" in out[0].payload.detail


def test_a_picture_over_the_limit_is_not_given_on(plain: list[Packet]) -> None:
    out = run(frames(plain[:3]), max_image_mpx=0.01)
    assert [f.payload.reason for f in out] == ["too_large"] * 3
    assert letters(run(frames(plain[:3]), max_image_mpx=0.0123)) == "PPP"


def test_the_decoder_refuses_to_allocate_what_the_limit_forbids() -> None:
    out = run(frames(encode(count=3, size=(2048, 1600))), max_image_mpx=0.1)
    assert [f.payload.reason for f in out] == ["broken_video"] * 3


def test_an_unknown_codec_is_named(plain: list[Packet]) -> None:
    out = run(frames(plain[:3], "rv40\x1b"))
    assert [f.payload.reason for f in out] == ["unsupported_encoding"] * 3
    assert "rv40\\x1b" in out[0].payload.detail


def test_the_source_is_read_once_and_errors_pass_through(plain: list[Packet]) -> None:
    def source() -> Any:
        yield from frames(plain[:3])
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        list(pictures(source(), max_image_mpx=1))


@pytest.mark.real
@pytest.mark.parametrize("threads", [1, 4])
def test_real_dashcam(recordings: Path, threads: int) -> None:
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    with (recordings / "dashcam_h264.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        data = [bytes(message.data) for _, _, _, message in reader.iter_decoded_messages()]
    packets = [Packet(d, n, b"\0\0\1\x67" in d[:40]) for n, d in enumerate(data)]
    out = run(frames(packets), threads)
    oracle = decoded_alone(packets)
    assert letters(out) == "P" * 38
    assert all(np.array_equal(planes(f), oracle[n]) for n, f in enumerate(out))
    assert decode_frame(out[-1], 10).image.shape == (720, 1280, 3)
