"""One camera's packets of video and its decoder: which packet's picture is which, and which pictures are wrong."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perception_batch.decode.h264_frame_numbers import FrameNumbers
from perception_batch.decode.held_packets import HeldPackets
from perception_batch.decode.start_codes import is_overwritten
from perception_batch.errors import printable
from perception_batch.types import EncodedFrame, LogItem, VideoPayload

if TYPE_CHECKING:
    import av

# FFmpeg's names. Its own AV1 decoder needs special hardware, dav1d none.
_DECODERS = {"h264": "h264", "h265": "hevc", "av1": "libdav1d", "vp9": "vp9", "vp8": "vp8", "mpeg4": "mpeg4"}
VIDEO_CODECS = frozenset(_DECODERS)
"""What `EncodedFrame.encoding` is of in-log video."""
# H.265 is decoded with the threads inside a picture: with whole pictures in flight, FFmpeg reports an error in a
# packet's data too late to say which packet it was.
_SLICE_THREADED = frozenset({"h265"})
_COUNTED = frozenset({"h264", "h265"})
MAX_THREADS = 4
"""Threads that a decoder may use."""
WINDOW = 16 + MAX_THREADS + 4
"""Packets fed after which a picture that has not come will not come: H.264 and H.265 reorder at most 16 (A.4.2),
threads hold back one each, and some to spare."""
_UNTAGGED = 2  # AVCOL_TRC_UNSPECIFIED and AVCOL_PRI_UNSPECIFIED: nobody here uses these tags
BROKEN = "broken_video"
"""Why a frame of a video is undecodable."""
_AFTER_DAMAGE = "its reference pictures are lost; decoding begins again at the next key frame"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Slot:
    """An item on its way through; a video frame waits here for its picture."""

    item: LogItem
    stream: PacketStream | None = None
    is_wanted: bool = True
    """False: it may be needed by the decoder, but nothing is wanted of its own picture."""
    number: int = -1
    """Position among the packets of its camera."""
    is_settled: bool = False
    """Nothing more will become known of it."""
    picture: Any = None
    fault: str = ""
    """Why its picture is wrong or will not come."""
    reason: str = BROKEN
    twin: Slot | None = None
    """The packet before it, where both are the same packet, recorded twice."""
    is_beginning: bool = False
    """A decoder begins with it."""
    is_leading: bool = False
    """Shown before the key frame at which decoding began: it may need pictures from before."""


@dataclass(slots=True)
class PacketCount:
    """Packets of video, all cameras together."""

    came: int = 0
    """In the log, warm-up included."""
    decoded: int = 0
    """Given to a decoder; the others were held back and are not needed."""


class PacketStream:
    """The packets of one camera, in order, and its decoder."""

    def __init__(self, max_image_mpx: float, threads: int, count: PacketCount) -> None:
        import av.logging

        av.logging.set_level(None)  # otherwise FFmpeg writes to stderr of its own accord
        self.last_arrival = 0
        """Frames of all cameras that had come with its last packet."""
        self._waiting: deque[Slot] = deque()
        self._held: HeldPackets[Slot] = HeldPackets()
        self._count = count
        self._limit_px = max_image_mpx * 1e6
        self._max_image_mpx = max_image_mpx
        self._threads = threads
        self._decoder: av.VideoCodecContext | None = None
        self._made_for: tuple[str, bytes] = ("", b"")
        self._numbers: FrameNumbers | None = None
        self._fed = 0
        self._open: dict[int, Slot] = {}  # fed and not settled, in order
        self._began = False  # there was a key frame
        self._lost: tuple[str, str] | None = None  # why no picture is right until the next key frame
        self._lost_leads = False  # but only those that lead the last one: no other refers to them
        self._regained = False  # decoding began again at the last key frame
        self._may_lead = False  # no picture has come after the last key frame but those that lead it
        self._lead_until_ns: int | None = None
        self._last_data: bytes | memoryview = b""
        self._twin: Slot | None = None

    def queue(self, slot: Slot, arrival: int) -> None:
        """Take note of a packet that will be decoded when its turn comes: compressed it takes less memory."""
        slot.stream, self.last_arrival = self, arrival
        self._waiting.append(slot)

    def settles(self, slot: Slot) -> bool:
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

    def _take(self, slot: Slot) -> None:
        """Take the next packet; one that nobody wants yet is held back and settled."""
        frame = slot.item
        if not isinstance(frame, EncodedFrame):
            return
        self._count.came += 1
        overflowed = self._held.overflows > 0
        turn = self._held.take(slot, frame.payload, is_wanted=slot.is_wanted)
        if not turn.feed:
            if isinstance(frame.payload, VideoPayload):  # a view would hold all that was read with it
                slot.item = replace(frame, payload=replace(frame.payload, data=bytes(frame.payload.data)))
            slot.is_settled = True
            return
        if self._held.overflows and not overflowed:
            _log.info(
                "%s: its key frames are too far apart for it to be passed over; it is decoded though none of it is wanted",
                printable(frame.camera),
            )
        for other in turn.feed[:-1]:
            self._decode(Slot(other.item, self))  # its own has been given on
        self._decode(slot)
        if turn.is_end:
            self.drain()
            self._lost = None

    def _decode(self, slot: Slot) -> None:
        """Feed a packet; settles it and those before it as far as it can be done."""
        frame = slot.item
        if not isinstance(frame, EncodedFrame):
            return
        self._count.decoded += 1
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

    def _feed(self, slot: Slot, frame: EncodedFrame, payload: VideoPayload) -> None:
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
        if payload.has_picture and not payload.is_leading:
            self._may_lead = payload.is_key
        slot.is_leading = payload.is_leading and self._may_lead  # otherwise its key frame is missing
        if payload.is_key:  # where the packets do not say what leads them, stamps do
            self._lead_until_ns = frame.stamp_ns if frame.stamp_ok and not payload.is_restart else None
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

    def _create(self, slot: Slot, payload: VideoPayload) -> bool:
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

    def _refuse_size(self, slot: Slot, width_px: int, height_px: int) -> None:
        slot.reason = "too_large"
        slot.fault = (
            f"{width_px}x{height_px} pixels, allowed are {self._max_image_mpx:g} million (read.max_image_mpx)"
        )

    def _refuse_codec(self, slot: Slot, codec: str, why: str) -> None:
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

    def _judge(self, slot: Slot) -> None:
        """The verdict on a packet, those before it being judged."""
        if slot.twin is not None:
            slot.picture, slot.fault, slot.reason = slot.twin.picture, slot.twin.fault, slot.twin.reason
            slot.twin = None
        frame = slot.item
        payload = frame.payload if isinstance(frame, EncodedFrame) else None
        is_key = isinstance(payload, VideoPayload) and payload.is_key
        leads = isinstance(payload, VideoPayload) and payload.is_leading
        if self._lost_leads and not leads:
            self._lost, self._lost_leads = None, False
        if slot.is_leading and self._regained:
            slot.picture, slot.reason = None, "lead_in"
        elif slot.fault:
            slot.picture = None
            if slot.reason != "lead_in" and (self._lost is None or is_key):
                self._lost, self._lost_leads = (slot.reason, _AFTER_DAMAGE), leads
        elif is_key:
            self._regained, self._lost = slot.is_beginning or self._lost is not None, None
        elif self._lost is not None:
            slot.picture = None
            slot.reason, slot.fault = self._lost
