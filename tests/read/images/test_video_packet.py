"""Key frames and sizes of packets against what PyAV encoded, and hostile bytes."""

from __future__ import annotations

import os
import random
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_maker import usual_scheduling

from perception_batch.read.images.sequence_header import MalformedHeader, av1_size, h264_size, h265_size
from perception_batch.read.images.video_packet import codec_of, is_key, packet_facts, with_start_codes

ENCODERS = {
    "h264": (
        "libx264",
        {"tune": "zerolatency", "x264-params": "annexb=1:repeat-headers=1:scenecut=0:threads=1"},
    ),
    "h265": (
        "libx265",
        {
            "tune": "zerolatency",
            "x265-params": "annexb=1:repeat-headers=1:scenecut=0:pools=none:log-level=none",
        },
    ),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1:lp=1"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
}


@lru_cache(maxsize=64)
@usual_scheduling()
def packets(
    codec: str,
    size: tuple[int, int] = (96, 64),
    count: int = 7,
    gop: int = 3,
    more: str = "",
    pixels: str = "yuv420p",
) -> tuple[tuple[bytes, bool], ...]:
    """Data and FFmpeg's key flag of each packet, one a picture."""
    name, options = ENCODERS[codec]
    if name not in av.codecs_available:
        pytest.skip(f"this PyAV has no {name}")
    options = dict(options)
    if more:
        options[f"{name.removeprefix('lib')}-params"] += ":" + more
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = *size, pixels
    context.framerate, context.time_base = Fraction(10), Fraction(1, 10)
    context.gop_size, context.max_b_frames, context.thread_count = gop, 2 if "open-gop" in more else 0, 1
    if "open-gop" in more:
        options.pop("tune")
    context.options = options
    out = []
    rng = np.random.default_rng(3)
    for i in range(count):
        image = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
        frame.pts = i
        out += context.encode(frame)
    out += context.encode(None)
    return tuple((bytes(packet), packet.is_keyframe) for packet in out)


def units(data: bytes) -> list[bytes]:
    """NAL units of Annex B, slowly."""
    parts = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


def with_lengths(data: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units(data))


@pytest.mark.parametrize("codec", ENCODERS)
def test_key_frames_are_those_that_ffmpeg_flags(codec: str) -> None:
    for data, key in packets(codec):
        facts = packet_facts(codec, data)
        assert (facts.is_key, facts.has_picture) == (key, True)
        assert is_key(codec, memoryview(data)) == key
        if key:
            assert (facts.width_px, facts.height_px) == (96, 64)
    assert sum(key for _, key in packets(codec)) >= 2


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize("size", [(64, 64), (98, 66), (640, 362), (130, 1000)])
def test_sizes_with_cropping(codec: str, size: tuple[int, int]) -> None:
    facts = packet_facts(codec, packets(codec, size, 1)[0][0])
    assert (facts.width_px, facts.height_px, facts.is_key) == (*size, True)


@pytest.mark.parametrize(
    ("codec", "more", "pixels"),
    [
        ("h264", "fake-interlaced=1", "yuv420p"),
        ("h264", "cqm=jvt", "yuv420p"),
        ("h264", "", "yuv444p"),
        ("h264", "", "yuv422p"),
        ("h264", "", "gray"),
        ("h265", "", "yuv444p"),
        ("h265", "", "yuv422p10le"),
        ("h265", "temporal-layers=2", "yuv420p"),
        ("h265", "aud=1:hrd=0:vui-timing-info=1", "yuv420p"),
    ],
)
def test_sizes_of_other_profiles(codec: str, more: str, pixels: str) -> None:
    size = (102, 72)
    facts = packet_facts(codec, packets(codec, size, 1, more=more, pixels=pixels)[0][0])
    assert (facts.width_px, facts.height_px, facts.is_key) == (*size, True)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_parameter_sets_elsewhere(codec: str) -> None:
    data = packets(codec)[0][0]
    kinds = {7, 8} if codec == "h264" else {32, 33, 34}

    def kind(unit: bytes) -> int:
        return unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63

    sets = [unit for unit in units(data) if kind(unit) in kinds]
    rest = b"".join(b"\0\0\1" + unit for unit in units(data) if kind(unit) not in kinds)
    alone = b"".join(b"\0\0\0\1" + unit for unit in sets)
    assert packet_facts(codec, data).sets == alone
    assert not is_key(codec, rest)
    assert packet_facts(codec, rest).is_entry
    assert is_key(codec, rest, alone)
    config = packet_facts(codec, alone)
    assert (config.has_picture, config.is_key, config.sets, config.width_px) == (False, False, alone, 96)
    for missing in sets:
        some = b"".join(b"\0\0\1" + unit for unit in sets if unit is not missing)
        assert not is_key(codec, some + rest)
    # As MP4 has it: lengths in the packets, sets in the extradata (ISO/IEC 14496-15).
    if codec == "h264":
        sps, pps = sets
        extradata = b"\1" + sps[1:4] + b"\xff\xe1" + len(sps).to_bytes(2, "big") + sps
        extradata += b"\1" + len(pps).to_bytes(2, "big") + pps
    else:
        extradata = b"\1" + bytes(20) + b"\x03\x03"
        for unit in sets:
            extradata += bytes([kind(unit)]) + b"\0\1" + len(unit).to_bytes(2, "big") + unit
    facts = packet_facts(codec, with_lengths(rest), extradata)
    assert (facts.is_key, facts.has_lengths, facts.width_px, facts.height_px) == (True, True, 96, 64)
    later = packets(codec)[1][0]
    assert not is_key(codec, with_lengths(later), extradata)
    for cut in range(len(extradata)):
        packet_facts(codec, with_lengths(rest), extradata[:cut])


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_lengths_instead_of_start_codes(codec: str) -> None:
    for data, key in packets(codec):
        facts = packet_facts(codec, with_lengths(data))
        assert (facts.is_key, facts.has_lengths) == (key, True)
        assert units(with_start_codes(with_lengths(data))) == units(data)
        assert not packet_facts(codec, data).has_lengths


def test_recovery_point_with_an_intra_picture_is_a_key() -> None:
    """An open group of pictures: x264 begins it with a recovery point, which FFmpeg flags as a key frame."""
    found = packets("h264", more="open-gop=1:keyint=6:bframes=2:min-keyint=1", count=25)
    kinds = [{unit[0] & 31 for unit in units(data)} for data, _ in found]
    assert any(5 not in kind and key for kind, (_, key) in zip(kinds, found, strict=True)), "the encoder did"
    for data, key in found:
        assert is_key("h264", data) == key


def test_av1_without_sequence_header() -> None:
    data = packets("av1")[0][0]
    sets = packet_facts("av1", data).sets
    assert sets
    assert sets in data
    without = data.replace(sets, b"")
    assert packet_facts("av1", without).is_entry
    assert not is_key("av1", without)
    assert is_key("av1", without, sets)
    assert is_key("av1", without, b"\x81\0\0\0" + sets)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("h264", "h264"), ("H.264", "h264"), ("avc1", "h264"), ("libx264", "h264"), ("h264_nvenc", "h264")),
        *(("h264;yuv420p;bgr8;bgr8", "h264"), ("hevc", "h265"), ("hevc_nvenc", "h265"), ("h265", "h265")),
        *(
            ("libx265;x", "h265"),
            ("video/hevc", "h265"),
            ("av1", "av1"),
            ("libsvtav1", "av1"),
            ("av01", "av1"),
        ),
        *(("vp9", "vp9"), ("libvpx-vp9", "vp9"), ("mjpeg", "mjpeg"), ("jpeg; compressed bgr8", "mjpeg")),
        *(("", ""), ("vp8", ""), ("rgb8", ""), ("mpeg4", ""), ("\x00\x1b[31m", ""), ("png", "")),
    ],
)
def test_codec_names(name: str, codec: str) -> None:
    assert codec_of(name) == codec


@given(
    data=st.binary(max_size=300), extradata=st.binary(max_size=60), codec=st.sampled_from([*ENCODERS, "x"])
)
def test_any_bytes(data: bytes, extradata: bytes, codec: str) -> None:
    for start in (b"", b"\0\0\0\1\x67", b"\0\0\1\x42\1", b"\x12\0\x0a", b"\x82\x49\x83\x42"):
        for outside in (b"", extradata, b"\1" + extradata):
            facts = packet_facts(codec, start + data, outside)
            assert min(facts.width_px, facts.height_px) >= 0
    for size in (h264_size, h265_size, av1_size):
        try:
            assert min(size(data)) > 0
        except MalformedHeader:
            continue


@pytest.mark.parametrize("codec", ENCODERS)
def test_damaged_packets(codec: str) -> None:
    rng = random.Random(5)
    data = packets(codec, count=1)[0][0]
    for _ in range(400):
        bad = bytearray(data[: rng.randrange(1, len(data))] if rng.random() < 0.5 else data)
        for _ in range(3):
            bad[rng.randrange(min(len(bad), 80))] = rng.randrange(256)
        packet_facts(codec, bytes(bad))
    for big in (bytes(3 << 20), b"\0\0\1" * (1 << 20), b"\0\0\1\x09" * (1 << 19), b"\xff" * (3 << 20)):
        assert not is_key(codec, big)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux alone")
def test_no_encoder_leaves_a_real_time_thread() -> None:
    before = os.sched_getscheduler(0)
    packets("av1", count=3)
    assert os.sched_getscheduler(0) == before
    left = {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}
    assert not left & {os.SCHED_FIFO, os.SCHED_RR}  # a run's threads that live on may be a batch job's
