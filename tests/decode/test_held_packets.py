"""Pictures that nobody wants are not decoded, and those that are wanted come out as if all had been."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_maker import PERIOD_NS, START_NS, Packet, encode, frames

from perception_batch.decode import PacketCount, held_packets, pictures
from perception_batch.decode.held_packets import HeldPackets, Turn
from perception_batch.read.images.video_packet import packet_facts
from perception_batch.types import (
    BrokenPayload,
    EncodedFrame,
    PicturePayload,
    SkippedPayload,
    StillPayload,
    VideoPayload,
)

COUNT, GOP = 40, 8
STREAMS: dict[str, tuple[str, int, dict[str, str]]] = {
    "h264": ("h264", 0, {}),
    "h264 with B-frames": ("h264", 3, {}),
    "h264 with open groups": ("h264", 3, {"x264-params": "scenecut=0:open-gop=1"}),
    "h265": ("h265", 0, {}),
    "h265 with B-frames": ("h265", 3, {}),
    "h265 with open groups": (
        "h265",
        3,
        {"x265-params": "log-level=none:scenecut=0:open-gop=1:repeat-headers=1"},
    ),
    "vp9": ("vp9", 0, {}),
    "av1": ("av1", 0, {}),
}


@lru_cache
def packets(stream: str) -> tuple[Packet, ...]:
    codec, b_frames, options = STREAMS[stream]
    return tuple(encode(codec, COUNT, gop=GOP, b_frames=b_frames, options=options))


def as_read(stream: str, some: Sequence[Packet]) -> list[EncodedFrame]:
    """As the reader gives them: what a packet is stands in its bytes."""
    codec = STREAMS[stream][0]
    out = []
    for frame, packet in zip(frames(some, codec), some, strict=True):
        facts = packet_facts(codec, packet.data)
        payload = VideoPayload(
            packet.data,
            codec,
            facts.is_key,
            is_restart=facts.is_restart,
            is_leading=facts.is_leading,
            has_picture=facts.has_picture,
        )
        out.append(replace(frame, payload=payload))
    return out


def run(
    items: Sequence[EncodedFrame], wanted: Iterable[int] | None, threads: int = 1
) -> tuple[list[Any], int]:
    """What comes out, and how many packets were decoded; `wanted` are numbers in the order shown."""
    count = PacketCount()
    stamps = {START_NS + number * PERIOD_NS for number in wanted or ()}
    out = list(
        pictures(
            iter(items),
            max_image_mpx=10,
            threads=threads,
            is_stored=None if wanted is None else lambda stamp_ns: stamp_ns not in stamps,
            count=count,
        )
    )
    assert count.came == len(items)
    return out, count.decoded


def same(got: EncodedFrame, expected: EncodedFrame) -> bool:
    """Whether two frames are one, pixels and verdicts."""
    one, other = got.payload, expected.payload
    if isinstance(one, PicturePayload) and isinstance(other, PicturePayload):
        if not np.array_equal(one.picture.to_ndarray(), other.picture.to_ndarray()):
            return False
    elif isinstance(one, BrokenPayload) and isinstance(other, BrokenPayload):
        if one.reason != other.reason:
            return False
    elif one != other:
        return False
    return replace(got, payload=StillPayload(b"")) == replace(expected, payload=StillPayload(b""))


def compare(items: Sequence[EncodedFrame], wanted: set[int], threads: int) -> int:
    whole, _ = run(items, None, threads)
    some, decoded = run(items, wanted, threads)
    assert [f.sequence for f in some] == [f.sequence for f in whole]
    for got, expected in zip(some, whole, strict=True):
        if (got.stamp_ns - START_NS) // PERIOD_NS in wanted:
            assert same(got, expected), (got.sequence, got.payload, expected.payload)
        else:
            assert isinstance(got.payload, SkippedPayload)
    return decoded


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("threads", [1, 3])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_wanted_pictures_are_those_of_a_whole_decoding(stream: str, threads: int, data: Any) -> None:
    ranges = data.draw(st.lists(st.tuples(st.integers(0, COUNT), st.integers(1, 12)), max_size=3))
    wanted = {number for start, length in ranges for number in range(start, min(start + length, COUNT))}
    compare(as_read(stream, packets(stream)), wanted, threads)


def test_a_packet_of_which_nothing_is_left_may_have_been_one_that_leads() -> None:
    some = list(packets("h265 with open groups"))
    items = as_read("h265 with open groups", some)
    for key in (
        n for n, f in enumerate(items) if n and isinstance(f.payload, VideoPayload) and f.payload.is_key
    ):
        damaged = [*some[: key + 1], replace(some[key + 1], data=b""), *some[key + 2 :]]
        for number in range(key, min(key + 5, COUNT)):
            compare(as_read("h265 with open groups", damaged), {some[number].shown}, 1)


@pytest.mark.parametrize("stream", STREAMS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_so_are_the_verdicts_on_a_damaged_video(stream: str, data: Any) -> None:
    some = list(packets(stream))
    for number in data.draw(st.sets(st.integers(0, COUNT - 1), max_size=3)):
        at = data.draw(st.integers(0, len(some[number].data) - 1))
        some[number] = replace(some[number], data=some[number].data[:at])
    for number in sorted(data.draw(st.sets(st.integers(0, COUNT - 1), max_size=2)), reverse=True):
        del some[number]
    start = data.draw(st.integers(0, COUNT))
    compare(as_read(stream, some), set(range(start, min(start + data.draw(st.integers(1, 12)), COUNT))), 1)


@pytest.mark.parametrize("stream", ["h264", "h264 with B-frames", "h265", "h265 with B-frames", "vp9", "av1"])
def test_only_groups_in_which_a_picture_is_wanted_are_decoded(stream: str) -> None:
    items = as_read(stream, packets(stream))
    assert [n for n, p in enumerate(packets(stream)) if p.is_key] == [0, 8, 16, 24, 32]
    assert compare(items, set(), 1) == 0
    # The key frame after it, and the picture that shows that no other leads it, tell where a group ends.
    assert compare(items, {19}, 1) == GOP + 2
    assert compare(items, {23}, 1) == GOP + 2
    # For all that is known by then, pictures that lead this key frame may be wanted too.
    assert compare(items, {32}, 1) == GOP + 2
    assert compare(items, {33}, 1) == GOP
    assert compare(items, {19, 27}, 1) == 2 * GOP + 4  # the end of the one is the beginning of the other
    assert compare(items, {3, 36}, 1) == 2 * GOP + 2


def test_an_open_group_of_h264_is_never_begun_with() -> None:
    """From such a key frame on decoders may still refer to what was before it."""
    items = as_read("h264 with open groups", packets("h264 with open groups"))
    assert compare(items, {COUNT - 1}, 1) == COUNT


def test_leading_pictures_of_an_open_group_need_the_group_before() -> None:
    name = "h265 with open groups"
    items = as_read(name, packets(name))
    keys = [n for n, f in enumerate(items) if isinstance(f.payload, VideoPayload) and f.payload.is_key]
    leading = [n for n, f in enumerate(items) if isinstance(f.payload, VideoPayload) and f.payload.is_leading]
    first = next(n for n in leading if n > keys[2])
    assert compare(items, {packets(name)[first].shown}, 1) > first - keys[1]
    after = max(n for n in leading if n < keys[3]) + 1
    assert compare(items, {packets(name)[after].shown}, 1) <= keys[3] - keys[2] + len(leading)


def test_warm_up_packets_are_decoded_from_the_last_key_frame_on() -> None:
    items = as_read("h264", packets("h264"))
    for number in (*range(27), *range(30, COUNT)):
        payload = items[number].payload
        assert isinstance(payload, VideoPayload)
        items[number] = replace(items[number], payload=replace(payload, is_warm_up=True))
    out, decoded = run(items, None)
    assert [frame.sequence for frame in out] == [27, 28, 29]
    assert all(isinstance(frame.payload, PicturePayload) for frame in out)
    assert decoded == GOP + 2


def test_packets_are_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A video with one key frame, at its beginning."""
    some = tuple(encode("h264", COUNT, gop=1000))
    items = as_read("h264", some)
    assert compare(items, {COUNT - 1}, 1) == COUNT
    assert compare(items, {}, 1) == 0  # type: ignore[arg-type]
    size = sum(len(packet.data) for packet in some)
    monkeypatch.setattr(held_packets.HeldPackets.__init__, "__defaults__", (size // 2,))
    assert compare(items, set(), 1) == COUNT
    assert compare(items, {COUNT - 1}, 1) == COUNT


@given(
    kinds=st.lists(st.sampled_from("KklLp-"), max_size=40),
    wanted=st.sets(st.integers(0, 39)),
    limit=st.integers(0, 12),
)
def test_what_is_held_is_bounded_and_whole(kinds: list[str], wanted: set[int], limit: int) -> None:
    """K a key frame, k one that later pictures reach behind, l and L leading, p another, - no packet; a byte each."""
    held: HeldPackets[int] = HeldPackets(limit)
    fed: list[int] = []
    for number, kind in enumerate(kinds):
        payload: Any = VideoPayload(
            b"x", "h265", kind in "Kk", is_restart=kind == "K", is_leading=kind in "lL"
        )
        turn: Turn[int] = held.take(
            number, BrokenPayload("", size_bytes=1) if kind == "-" else payload, is_wanted=number in wanted
        )
        assert len(held._held) <= limit + 2
        fed += turn.feed
        if number in wanted:
            assert turn.feed[-1] == number
            # What is fed with it reaches back to a key frame without a gap, or to the beginning.
            run_of = [n for n in fed if n <= number]
            first = number
            while first - 1 in run_of:
                first -= 1
            assert first == 0 or kinds[first] == "K"
            if kinds[first] == "K" and first:
                between = kinds[first + 1 : number + 1]
                assert not (kinds[number] in "lL" and all(kind in "lL-" for kind in between))
        if turn.is_end:
            assert number not in wanted


def test_a_key_frame_over_the_limit_does_not_end_the_decoding() -> None:
    """Else it would be held back, with what leads it, beside what the limit allows."""
    held: HeldPackets[int] = HeldPackets(0)
    for number, is_leading in enumerate([False, False, True, False]):
        payload = VideoPayload(b"x", "h265", not is_leading, is_restart=not is_leading, is_leading=is_leading)
        turn = held.take(number, payload, is_wanted=False)
        assert (turn.feed, turn.is_end) == ((number,), False)
        assert len(held._held) <= 1
