"""Small encoded videos for tests: every picture can be told from the others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from perception_batch.types import BrokenPayload, EgoPose, EncodedFrame, PicturePayload, VideoPayload

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000

ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "fast", "x264-params": "scenecut=0"}),
    "h265": (
        "libx265",
        {"preset": "fast", "x265-params": "log-level=none:scenecut=0:open-gop=0:repeat-headers=1"},
    ),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "av1": ("libaom-av1", {"usage": "realtime", "cpu-used": "10", "lag-in-frames": "0"}),
}


@dataclass(frozen=True)
class Packet:
    """One encoded packet, in the order of decoding."""

    data: bytes
    shown: int
    """Number of its picture in the order shown."""
    is_key: bool


def scene(number: int, width: int, height: int) -> Any:
    """(H, W, 3) RGB: texture that moves, so that each picture needs those before it."""
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 256, (height // 4 + 40, width // 4 + 80, 3)).astype(np.uint8)
    texture = texture.repeat(4, 0).repeat(4, 1)
    return np.ascontiguousarray(texture[number : number + height, 2 * number : 2 * number + width])


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """SVT-AV1 makes the thread that opens it a real-time one (SCHED_FIFO, 99) where it may, as root; and leaves it so.

    All later tests would then run before everything else on the machine, the kernel's own threads included: that can
    hang it.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@usual_scheduling()
def encode(
    codec: str = "h264",
    count: int = 20,
    *,
    gop: int = 10,
    b_frames: int = 0,
    size: tuple[int, int] = (128, 96),
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    colors: tuple[int, int] | None = None,
) -> list[Packet]:
    """`count` pictures as packets; skips the test where FFmpeg was built without the encoder."""
    name, defaults = ENCODERS[codec]
    try:
        context = av.VideoCodecContext.create(name, "w")
    except Exception:
        for name in {"av1": ["libsvtav1"]}.get(codec, []):
            context = av.VideoCodecContext.create(name, "w")
            defaults = {"preset": "12", "svtav1-params": "pred-struct=1"}
            break
        else:
            pytest.skip(f"this FFmpeg has no {name}")
    context.width, context.height = size
    context.pix_fmt, context.time_base, context.gop_size = pixel_format, Fraction(1, 10), gop
    context.max_b_frames, context.thread_count = b_frames, 1
    context.options = defaults | (options or {})
    if colors is not None:
        context.colorspace, context.color_range = colors
    packets = []
    for number in [*range(count), None]:
        frame = None
        if number is not None:
            frame = av.VideoFrame.from_ndarray(scene(number, *size), format="rgb24").reformat(
                format=pixel_format
            )
            frame.pts = number
        packets += [Packet(bytes(p), p.pts or 0, p.is_keyframe) for p in context.encode(frame)]
    return packets


def frames(
    packets: Sequence[Packet], codec: str = "h264", camera: str = "a", **payload: Any
) -> list[EncodedFrame]:
    """The packets as the reader gives them."""
    return [
        EncodedFrame(
            camera=camera,
            stamp_ns=START_NS + packet.shown * PERIOD_NS,
            log_ns=START_NS + number * PERIOD_NS,
            payload=VideoPayload(packet.data, codec, packet.is_key, **payload),
            encoding=codec,
            sequence=number,
            width_px=0,
            height_px=0,
            original_stamp_ns=START_NS + packet.shown * PERIOD_NS,
        )
        for number, packet in enumerate(packets)
    ]


def decoded_alone(packets: Sequence[Packet], codec: str = "h264") -> dict[int, Any]:
    """The oracle: FFmpeg on one thread, from first to last; (planes as one array) by the number shown."""
    name = {"h265": "hevc", "av1": "libdav1d"}.get(codec, codec)
    context = av.VideoCodecContext.create(name, "r")
    context.thread_count = 1
    out = {}
    for item in [*packets, None]:
        packet = None
        if item is not None:
            packet = av.Packet(item.data)
            packet.pts = item.shown
        for picture in context.decode(packet):
            out[picture.pts] = picture.to_ndarray()
    return out


def letters(items: Sequence[EncodedFrame | EgoPose]) -> str:
    """``P`` a picture, ``x`` a broken one, ``l`` lead-in, ``b`` a bad stamp, ``-`` anything else."""
    out = ""
    for item in items:
        if isinstance(item, EncodedFrame) and item.unused:
            out += item.unused[0]
        elif isinstance(item, EncodedFrame) and isinstance(item.payload, (PicturePayload, BrokenPayload)):
            out += "P" if isinstance(item.payload, PicturePayload) else "x"
        else:
            out += "-"
    return out


def write_video(
    path: Path,
    count: int = 20,
    *,
    gop: int = 10,
    b_frames: int = 0,
    times_ms: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """A video file of `count` pictures, H.264; shown at `times_ms` (default 10 Hz)."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.gop_size, stream.max_b_frames = gop, b_frames
        stream.options = {"preset": "fast", "x264-params": "scenecut=0"}
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.thread_count = 1
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(scene(number, 128, 96), format="rgb24").reformat(
                format="yuv420p"
            )
            frame.pts = times_ms[number] if times_ms else 100 * number
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def closing(items: Sequence[Any], closed: list[bool]) -> Iterator[Any]:
    """The items; notes in `closed` that the generator was closed."""
    try:
        yield from items
    finally:
        closed.append(True)
