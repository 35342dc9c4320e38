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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perception_batch.decode.h264_frame_numbers import FrameNumbers
from perception_batch.decode.start_codes import is_overwritten
from perception_batch.errors import printable
from perception_batch.types import BrokenPayload, EncodedFrame, LogItem, PicturePayload, VideoPayload

if TYPE_CHECKING:
    import av

# FFmpeg's names. Its own AV1 decoder needs special hardware, dav1d none.
_DECODERS = {"h264": "h264", "h265": "hevc", "av1": "libdav1d", "vp9": "vp9", "vp8": "vp8", "mpeg4": "mpeg4"}
# H.265 is decoded with the threads inside a picture: with whole pictures in flight, FFmpeg reports an error in a
# packet's data too late to say which packet it was.
_SLICE_THREADED = frozenset({"h265"})
_MAX_THREADS = 4
_COUNTED = frozenset({"h264", "h265"})
WINDOW = 16 + _MAX_THREADS + 4
"""Packets fed after which a picture that has not come will not come: H.264 and H.265 reorder at most 16 (A.4.2),
threads hold back one each, and some to spare."""
_PATIENCE_FRAMES, _HURRY_FRAMES, _HURRY_BYTES = 2000, 100, 256 << 20
_UNTAGGED = 2  # AVCOL_TRC_UNSPECIFIED and AVCOL_PRI_UNSPECIFIED: nobody here uses these tags
BROKEN = "broken_video"
_AFTER_DAMAGE = "its reference pictures are lost; decoding begins again at the next key frame"


@dataclass(slots=True)
class _Slot:
    """An item on its way through; a video frame waits here for its picture."""

    item: LogItem
    stream: _Stream | None = None
    number: int = -1
    """Position among the packets of its camera."""
    is_settled: bool = False
    """Nothing more will become known of it."""
    picture: Any = None
    fault: str = ""
    """Why its picture is wrong or will not come."""
    reason: str = BROKEN
    twin: _Slot | None = None
    """The packet before it, where both are the same packet, recorded twice."""
    is_beginning: bool = False
    """A decoder begins with it."""
    is_leading: bool = False
    """Shown before the key frame at which decoding began: it may need pictures from before."""


def pictures(items: Iterator[LogItem], *, max_image_mpx: float, threads: int = 0) -> Iterator[LogItem]:
    """The same items in the same order, every video packet replaced by its picture.

    A frame's payload is then a `PicturePayload`, or a `BrokenPayload` (``broken_video``, ``too_large``,
    ``unsupported_encoding``). Frames before the first key frame are ``unused="lead_in"``; packets that are
    ``is_warm_up`` feed the decoder and are not given on. Later items wait while a picture is not out yet, which
    takes as many packets as the decoder reorders or decodes ahead. For a camera that fell silent at most 2000
    frames of the others wait (100 where they are more than 256 MB); it then begins again at a key frame.

    Args:
        items: frames, poses and triggers in log order; packets of one camera in decoding order.
        max_image_mpx: largest picture that is decoded, millions of pixels.
        threads: threads a camera that FFmpeg may use; 0: one a core, at most four.
    """
    threads = min(threads or os.cpu_count() or 1, _MAX_THREADS)
    streams: dict[str, _Stream] = {}
    queue: deque[_Slot] = deque()
    frames = waiting_bytes = 0
    try:
        for item in items:
            slot = _Slot(item)
            if isinstance(item, EncodedFrame):
                frames += 1
                waiting_bytes += item.size_bytes
                stream = streams.get(item.camera)
                if stream is None and isinstance(item.payload, VideoPayload):
                    stream = streams[item.camera] = _Stream(max_image_mpx, threads)
                if stream is not None:
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
                if (out := _result(head)) is not None:
                    yield out
        while queue:
            head = queue.popleft()
            if head.stream is not None and not head.stream.settles(head):
                head.stream.drain()
            if (out := _result(head)) is not None:
                yield out
    finally:
        queue.clear()
        streams.clear()
        if (close := getattr(items, "close", None)) is not None:
            close()


def _result(slot: _Slot) -> LogItem | None:
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
    if slot.picture is not None:
        picture = slot.picture
        size = sum(plane.buffer_size for plane in picture.planes)
        return replace(
            frame,
            payload=PicturePayload(picture, size),
            width_px=picture.width,
            height_px=picture.height,
        )
    if slot.reason == "lead_in":
        return replace(frame.without_payload(), unused="lead_in")
    return replace(frame, payload=BrokenPayload(slot.reason, slot.fault))


class _Stream:
    """The packets of one camera, in order, and its decoder."""

    def __init__(self, max_image_mpx: float, threads: int) -> None:
        import av.logging

        av.logging.set_level(None)  # otherwise FFmpeg writes to stderr of its own accord
        self.last_arrival = 0
        """Frames of all cameras that had come with its last packet."""
        self._waiting: deque[_Slot] = deque()
        self._limit_px = max_image_mpx * 1e6
        self._max_image_mpx = max_image_mpx
        self._threads = threads
        self._decoder: av.VideoCodecContext | None = None
        self._made_for: tuple[str, bytes] = ("", b"")
        self._numbers: FrameNumbers | None = None
        self._fed = 0
        self._open: dict[int, _Slot] = {}  # fed and not settled, in order
        self._began = False  # there was a key frame
        self._lost: tuple[str, str] | None = None  # why no picture is right until the next key frame
        self._regained = False  # decoding began again at the last key frame
        self._lead_until_ns: int | None = None
        self._last_data: bytes | memoryview = b""
        self._twin: _Slot | None = None

    def queue(self, slot: _Slot, arrival: int) -> None:
        """Take note of a packet that will be decoded when its turn comes: compressed it takes less memory."""
        slot.stream, self.last_arrival = self, arrival
        self._waiting.append(slot)

    def settles(self, slot: _Slot) -> bool:
        """Decode until all is known of `slot`; False where more packets are needed for that."""
        while not slot.is_settled and self._waiting:
            self._take(self._waiting.popleft())
        return slot.is_settled

    def drain(self) -> None:
        """Get every picture out of the decoder, which ends with it; settles all packets that it was fed."""
        if self._decoder is not None:
            self._receive(None)
            self._decoder = None
        self._settle(self._fed)

    def _take(self, slot: _Slot) -> None:
        """Feed a packet; settles it and those before it as far as it can be done."""
        frame = slot.item
        if not isinstance(frame, EncodedFrame):
            return
        payload = frame.payload
        slot.number, self._fed = self._fed, self._fed + 1
        self._open[slot.number] = slot
        if not isinstance(payload, VideoPayload):
            slot.fault = "it is no packet of the video"  # a hole: what follows it lacks a reference
        elif frame.width_px * frame.height_px > self._limit_px:
            self._refuse_size(slot, frame.width_px, frame.height_px)
        elif payload.codec not in _DECODERS:
            self._refuse_codec(slot, payload.codec, f"decoded are {', '.join(_DECODERS)}")
        elif payload.is_key or self._decoder is not None:
            self._feed(slot, frame, payload)
        elif self._began:
            slot.fault = _AFTER_DAMAGE
        else:
            slot.reason, slot.fault = "lead_in", "before the first key frame"
        self._settle(self._fed - WINDOW)

    def _feed(self, slot: _Slot, frame: EncodedFrame, payload: VideoPayload) -> None:
        import av

        self._began = self._began or payload.is_key
        made_for = (payload.codec, payload.extradata)
        if payload.is_key and (self._decoder is None or self._made_for != made_for):
            later = self._open.pop(slot.number)
            self.drain()
            self._open[slot.number] = later
            if not self._create(slot, payload):
                return
            slot.is_beginning = True
            self._made_for = made_for
        if payload.is_key:
            self._lead_until_ns = frame.stamp_ns if frame.stamp_ok else None
        elif self._lead_until_ns is not None:
            slot.is_leading = frame.stamp_ok and frame.stamp_ns < self._lead_until_ns
            self._lead_until_ns = self._lead_until_ns if slot.is_leading else None
        if not len(payload.data):
            slot.fault = "the packet is empty"
            return
        # No two pictures of these have the same bits: each counts on from the one before.
        if self._twin is not None and payload.codec in _COUNTED and payload.data == self._last_data:
            slot.twin = self._twin
            return
        if payload.codec in _COUNTED and payload.extradata[:1] != b"\1" and is_overwritten(payload.data):
            slot.fault = "a part of it is overwritten"
        if self._numbers is not None:
            missing = self._numbers.missing_before(payload.data, payload.is_key)
            if missing:
                slot.fault = f"{missing} reference picture(s) before it are missing"
        self._twin, self._last_data = slot, payload.data
        # A copy in FFmpeg's own memory: it has the padding that decoders read into, and a worker thread that lets
        # go of it needs no GIL, which is held here while a decoder is being closed (a deadlock otherwise).
        packet = av.Packet(len(payload.data))
        packet.update(payload.data)
        packet.pts = slot.number
        self._receive(packet)

    def _create(self, slot: _Slot, payload: VideoPayload) -> bool:
        """A fresh decoder; False (and a fault) where there is none."""
        import av

        try:
            decoder = av.VideoCodecContext.create(_DECODERS[payload.codec], "r")
            decoder.thread_count = self._threads
            decoder.thread_type = "SLICE" if payload.codec in _SLICE_THREADED else "FRAME"
            # Coded sizes are rounded up to blocks; the picture itself is held to the limit when it comes.
            options = {"max_pixels": str(int(self._limit_px * 1.1) + (1 << 20))}
            if payload.codec in _SLICE_THREADED:
                options["err_detect"] = "explode"
            decoder.options = options
            if payload.extradata:
                decoder.extradata = payload.extradata
            decoder.open()
        except (av.FFmpegError, ValueError) as error:
            self._refuse_codec(slot, payload.codec, printable(error)[:100])
            return False
        self._decoder = decoder
        self._numbers = FrameNumbers(payload.extradata) if payload.codec == "h264" else None
        self._twin = None
        return True

    def _receive(self, packet: av.Packet | None) -> None:
        """Give `packet` to the decoder (None: its end), and what comes out to those who wait for it."""
        import av

        decoder = self._decoder
        if decoder is None:
            return
        more = True
        while more:
            try:
                got = decoder.decode(packet)
            except av.EOFError:
                return
            except av.FFmpegError as error:
                if packet is None:
                    return
                # With pictures in flight the error may be another packet's; that one gets no picture.
                if self._made_for[0] in _SLICE_THREADED:
                    self._open[packet.pts or 0].fault = f"the decoder refused it: {printable(error.strerror)}"
                return
            for picture in got:
                self._hand_out(picture)
            more = packet is None and bool(got)

    def _hand_out(self, picture: av.VideoFrame) -> None:
        slot = self._open.get(-1 if picture.pts is None else picture.pts)
        if slot is None or slot.picture is not None or slot.fault:
            return
        if picture.width * picture.height > self._limit_px:
            self._refuse_size(slot, picture.width, picture.height)
        elif picture.is_corrupt:
            slot.fault = "it is damaged"
        else:
            picture.color_trc = picture.color_primaries = _UNTAGGED
            slot.picture = picture

    def _refuse_size(self, slot: _Slot, width_px: int, height_px: int) -> None:
        slot.reason = "too_large"
        slot.fault = (
            f"{width_px}x{height_px} pixels, allowed are {self._max_image_mpx:g} million (read.max_image_mpx)"
        )

    def _refuse_codec(self, slot: _Slot, codec: str, why: str) -> None:
        slot.reason = "unsupported_encoding"
        slot.fault = f"no decoder for {printable(codec)[:40]}: {why}"

    def _settle(self, overdue: int) -> None:
        """Settle packets in order, as far as all is known of them; those before number `overdue` in any case."""
        while self._open:
            number = next(iter(self._open))
            slot = self._open[number]
            if slot.picture is None and not slot.fault and slot.twin is None:
                if number >= overdue:
                    return
                slot.fault = "the decoder gave no picture for it"
            del self._open[number]
            slot.is_settled = True
            self._judge(slot)

    def _judge(self, slot: _Slot) -> None:
        """The verdict on a packet, those before it being judged."""
        if slot.twin is not None:
            slot.picture, slot.fault, slot.reason = slot.twin.picture, slot.twin.fault, slot.twin.reason
            slot.twin = None
        frame = slot.item
        payload = frame.payload if isinstance(frame, EncodedFrame) else None
        is_key = isinstance(payload, VideoPayload) and payload.is_key
        if slot.is_leading and self._regained:
            slot.picture, slot.reason = None, "lead_in"
        elif slot.fault:
            slot.picture = None
            if slot.reason != "lead_in":
                self._lost = (slot.reason, _AFTER_DAMAGE) if self._lost is None or is_key else self._lost
        elif is_key:
            self._regained, self._lost = slot.is_beginning or self._lost is not None, None
        elif self._lost is not None:
            slot.picture = None
            slot.reason, slot.fault = self._lost
