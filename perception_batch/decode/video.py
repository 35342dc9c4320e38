"""Video packets to pictures: one sequential decoder a camera, between reading and synchronising.

What can be noticed, and what not:

- A damaged packet is noticed where the decoder trips over it: nearly always in H.264, often in AV1, and in H.265 and
  VP9 where headers suffer; zeroed stretches in H.264 and H.265. Damage that decodes to valid pixels is not.
- A missing packet is noticed in H.264 by its frame numbers (missing reference pictures; others harm nothing), in
  H.265 by its reference lists, in VP9 only where the size or a reference no longer fits, in AV1 not at all.
- From there to the next key frame every frame of the camera is undecodable: its pictures would be wrong.

FFmpeg's own threads may decode ahead; the pictures and the verdicts are the same with any number of them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from perception_batch.decode.packet_stream import MAX_THREADS, PacketCount, PacketStream, Slot
from perception_batch.types import (
    BrokenPayload,
    EncodedFrame,
    LogItem,
    PicturePayload,
    SkippedPayload,
    VideoPayload,
)

_PATIENCE_FRAMES, _HURRY_FRAMES, _HURRY_BYTES = 2000, 100, 256 << 20


def pictures(
    items: Iterator[LogItem],
    *,
    max_image_mpx: float,
    threads: int = 0,
    is_stored: Callable[[int], bool] | None = None,
    on_other: Callable[[EncodedFrame], None] = lambda _: None,
    count: PacketCount | None = None,
) -> Iterator[LogItem]:
    """The same items in the same order, every video packet replaced by its picture.

    A frame's payload is then a `PicturePayload`, or a `BrokenPayload` (``broken_video``, ``too_large``,
    ``unsupported_encoding``). Frames before the first key frame are ``unused="lead_in"``; packets that are
    ``is_warm_up`` feed the decoder and are not given on. Of groups of pictures in which none is wanted (all are
    ``is_warm_up`` or `is_stored`) nothing is decoded. Later items wait while a picture is not out yet, which
    takes as many packets as the decoder reorders or decodes ahead. For a camera that fell silent at most 2000
    frames of the others wait (100 where they are more than 256 MB); it then begins again at a key frame.

    Args:
        items: frames, poses and triggers in log order; packets of one camera in decoding order.
        max_image_mpx: largest picture that is decoded, millions of pixels.
        threads: threads a camera that FFmpeg may use; 0: one a core, at most four.
        is_stored: says of a stamp that no picture of it is wanted; the payload is then a `SkippedPayload`. None: all are wanted.
        on_other: hears of each frame that turned out another one than its packet said: it has another size, or
            cannot have a picture (``lead_in``). Of the others all but their pictures is known without decoding.
        count: of the packets, for people.
    """
    count = PacketCount() if count is None else count
    threads = min(threads or os.cpu_count() or 1, MAX_THREADS)
    streams: dict[str, PacketStream] = {}
    queue: deque[Slot] = deque()
    frames = waiting_bytes = 0
    try:
        for item in items:
            slot = Slot(item)
            if isinstance(item, EncodedFrame):
                frames += 1
                waiting_bytes += item.size_bytes
                stream = streams.get(item.camera)
                if stream is None and isinstance(item.payload, VideoPayload):
                    stream = streams[item.camera] = PacketStream(max_image_mpx, threads, count)
                if stream is not None:
                    slot.is_wanted = _is_wanted(item, is_stored)
                    stream.queue(slot, frames)
            queue.append(slot)
            while queue:
                head = queue[0]
                if head.stream is not None and not head.stream.settles(head):
                    passed = frames - head.stream.last_arrival
                    if passed < _PATIENCE_FRAMES and (passed < _HURRY_FRAMES or waiting_bytes < _HURRY_BYTES):
                        break
                    head.stream.drain()
                queue.popleft()
                waiting_bytes -= head.item.size_bytes if isinstance(head.item, EncodedFrame) else 0
                if (out := _result(head, on_other)) is not None:
                    yield out
        while queue:
            head = queue.popleft()
            if head.stream is not None and not head.stream.settles(head):
                head.stream.drain()
            if (out := _result(head, on_other)) is not None:
                yield out
    finally:
        queue.clear()
        streams.clear()
        if (close := getattr(items, "close", None)) is not None:
            close()


def _is_wanted(frame: EncodedFrame, is_stored: Callable[[int], bool] | None) -> bool:
    """Whether the picture of a frame of a video is wanted."""
    payload = frame.payload
    if isinstance(payload, VideoPayload) and payload.is_warm_up:
        return False
    if is_stored is None:
        return True
    return isinstance(payload, VideoPayload) and not frame.unused and not is_stored(frame.stamp_ns)


def _result(slot: Slot, on_other: Callable[[EncodedFrame], None]) -> LogItem | None:
    """What a settled slot gives on; None for a warm-up packet."""
    frame = slot.item
    if slot.stream is None or not isinstance(frame, EncodedFrame):
        return frame
    if not isinstance(frame.payload, VideoPayload):
        return frame
    if frame.payload.is_warm_up:
        return None
    if frame.unused:
        return frame.without_payload()
    if not slot.is_wanted:
        return replace(frame, payload=SkippedPayload())
    if slot.picture is not None:
        picture = slot.picture
        if (picture.width, picture.height) != (frame.width_px, frame.height_px):
            on_other(frame)
        size = sum(plane.buffer_size for plane in picture.planes)
        return replace(
            frame,
            payload=PicturePayload(picture, size),
            width_px=picture.width,
            height_px=picture.height,
        )
    if slot.reason == "lead_in":
        on_other(frame)
        return replace(frame.without_payload(), unused="lead_in")
    return replace(frame, payload=BrokenPayload(slot.reason, slot.fault))
