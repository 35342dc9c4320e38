"""What one packet of in-log video is, from its own bits: can decoding begin here, and how large is the picture.

H.264 and H.265 as Annex B or with lengths before their NAL units (as MP4 has them), AV1 as OBUs with sizes, VP9
frames. Only what stands before the first slice is looked at. Hostile bytes are packets without a key frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from perception_batch.read.images.sequence_header import (
    MAX_HEADER_BYTES,
    Bits,
    MalformedHeader,
    av1_size,
    h264_size,
    h265_size,
    unescaped,
    vp9_key_size,
)

CODECS = ("h264", "h265", "av1", "vp9")
"""What is decoded."""

# Foxglove, FFmpeg and container names of codecs and of FFmpeg's encoders, which old drivers wrote instead.
_NAMES = (
    ("h264", re.compile(r"(lib)?(x264|openh264)|h\.?264|avc")),
    ("h265", re.compile(r"(lib)?x265|h\.?265|hevc|hev1|hvc1")),
    ("av1", re.compile(r"(lib)?(aom-?av1|svt-?av1|rav1e|dav1d)|av0?1")),
    ("vp9", re.compile(r"(libvpx-)?vp0?9")),
    ("mjpeg", re.compile(r"m-?jpe?g|jpe?g")),
)
_START = re.compile(rb"\x00\x00\x01")
_MAX_UNITS = 256
_MAX_SCAN_BYTES = 1 << 20  # before the first slice: parameter sets and supplemental information
_MAX_SETS_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """What a packet says of itself."""

    is_entry: bool = False
    """Its picture needs no other: decoding can begin here once the parameter sets are known."""
    has_sets: bool = False
    """All parameter sets that its codec needs are in the packet or in the extradata; VP9 needs none."""
    has_picture: bool = False
    """False for a packet of parameter sets alone."""
    width_px: int = 0
    """Of the picture, where a parameter set or key frame states it; else 0."""
    height_px: int = 0
    """Of the picture, where a parameter set or key frame states it; else 0."""
    sets: bytes = b""
    """The parameter sets in the packet, as a decoder takes them before a key frame (Annex B, or an OBU)."""
    has_lengths: bool = False
    """NAL units come with lengths, not start codes."""
    is_restart: bool = False
    """As in `VideoPayload`. An H.264 picture from which decoding merely recovers is none: later ones may still refer
    to what was before it."""
    is_leading: bool = False
    """As in `VideoPayload`."""

    @property
    def is_key(self) -> bool:
        """Decoding can begin here."""
        return self.is_entry and self.has_sets


NOTHING = PacketFacts()


def codec_of(name: str) -> str:
    """``h264 h265 av1 vp9 mjpeg`` for a codec's or encoder's name (``hevc;yuv420p;bgr8``); empty for others."""
    first = re.split(r"[;,\s]", name.strip().lower().removeprefix("video/"), maxsplit=1)[0]
    return next((codec for codec, names in _NAMES if names.match(first)), "")


def is_key(codec: str, data: bytes | memoryview, extradata: bytes = b"") -> bool:
    """True where decoding can begin with this packet: a key frame with its parameter sets."""
    return packet_facts(codec, data, extradata).is_key


def packet_facts(codec: str, data: bytes | memoryview, extradata: bytes = b"") -> PacketFacts:
    """What a packet is.

    Args:
        codec: one of `CODECS`; of others nothing is known.
        data: the packet.
        extradata: parameter sets outside the packets, as MP4 and MKV have them, or in Annex B.
    """
    view = memoryview(data).cast("B")
    try:
        if codec in ("h264", "h265"):
            return _nal_facts(codec, view, extradata)
        if codec == "av1":
            return _av1_facts(view, extradata)
        if codec == "vp9":
            size = vp9_key_size(bytes(view[:32]))
            return PacketFacts(size is not None, True, True, *(size or (0, 0)), is_restart=size is not None)
    except MalformedHeader:
        pass
    return NOTHING


def with_start_codes(data: bytes | memoryview) -> bytes:
    """NAL units with lengths of four bytes as Annex B: a copy, for packets with `PacketFacts.has_lengths`."""
    out = bytearray(data)
    for start, _ in _by_lengths(memoryview(data).cast("B"), 4):
        out[start - 4 : start] = b"\0\0\0\1"
    return bytes(out)


# ---------------------------------------------------------------------- H.264 and H.265


class _Sets:
    """Parameter sets met so far."""

    def __init__(self, codec: str) -> None:
        self.size = (0, 0)
        self.data = bytearray()
        self._kinds: set[int] = set()
        self._is_h264 = codec == "h264"
        # H.264: sequence and picture; H.265: video, sequence and picture.
        self._needed = {7, 8} if self._is_h264 else {32, 33, 34}

    @property
    def complete(self) -> bool:
        """All that a decoder needs."""
        return self._needed <= self._kinds

    def take(self, unit: memoryview) -> None:
        """Keep a NAL unit where it is a parameter set of the base layer."""
        if len(unit) < 3:
            return
        kind = unit[0] & 31 if self._is_h264 else unit[0] >> 1 & 63
        if kind not in self._needed or not (self._is_h264 or _is_base_layer(unit)):
            return
        if kind == (7 if self._is_h264 else 33):
            header = bytes(unit[:MAX_HEADER_BYTES])
            try:
                self.size = h264_size(header) if self._is_h264 else h265_size(header)
            except MalformedHeader:
                return
        self._kinds.add(kind)
        if len(self.data) + len(unit) < _MAX_SETS_BYTES:
            self.data += b"\0\0\0\1"
            self.data += unit

    def take_extradata(self, data: memoryview) -> int:
        """Keep what stands in extradata; the bytes of a length before each NAL unit, 0 for start codes."""
        if len(data) < 7 or data[0] != 1:  # Annex B, or none
            for start, stop in _by_start_codes(data):
                self.take(data[start : _end(data, start) if stop is None else stop])
            return 0
        if self._is_h264:  # ISO/IEC 14496-15, 5.3.3.1
            at, length_size = 5, (data[4] & 3) + 1
            for mask in (31, 255):
                if at < len(data):
                    at = self._take_array(data, at + 1, data[at] & mask)
            return length_size
        length_size = (data[21] & 3) + 1 if len(data) > 22 else 4  # ISO/IEC 14496-15, 8.3.3.1
        at = 23
        for _ in range(data[22] if len(data) > 22 else 0):
            at = self._take_array(data, at + 3, int.from_bytes(data[at + 1 : at + 3], "big"))
        return length_size

    def _take_array(self, data: memoryview, at: int, count: int) -> int:
        for _ in range(count):
            if at + 2 > len(data):
                break
            size = int.from_bytes(data[at : at + 2], "big")
            self.take(data[at + 2 : at + 2 + size])
            at += 2 + size
        return at


def _nal_facts(codec: str, data: memoryview, extradata: bytes) -> PacketFacts:
    outside, inside = _Sets(codec), _Sets(codec)
    length_size = outside.take_extradata(memoryview(extradata)[:_MAX_SETS_BYTES]) if extradata else 0
    lengths = [] if bytes(data[:4]) == b"\0\0\0\1" else _by_lengths(data, length_size or 4)
    entry = picture = recovers = restart = leading = False
    for start, stop in lengths or _by_start_codes(data):
        kind = data[start] & 31 if codec == "h264" else data[start] >> 1 & 63
        if codec == "h264" and kind in (1, 2, 5):
            picture = True
            restart = kind == 5
            entry = restart or (recovers and _is_intra(bytes(data[start : start + 32])))
            break
        if codec == "h265" and kind < 32:
            picture = True
            entry = restart = 16 <= kind <= 21  # IRAP pictures (H.265, table 7-1)
            leading = 6 <= kind <= 9  # RADL and RASL pictures
            break
        unit = data[start : _end(data, start) if stop is None else stop]
        if codec == "h264" and kind == 6:
            recovers = recovers or _recovers_at_once(bytes(unit[:MAX_HEADER_BYTES]))
        else:
            inside.take(unit)
    size = inside.size if inside.size[0] else outside.size
    sets = bytes(inside.data) if inside.complete else b""
    has_sets = inside.complete or outside.complete
    return PacketFacts(entry, has_sets, picture, *size, sets, bool(lengths), restart, leading)


def _by_start_codes(data: memoryview) -> Iterator[tuple[int, int | None]]:
    """Begin of each NAL unit after a start code, as far as one looks for a picture's first slice; see `_end`."""
    stop = min(len(data), _MAX_SCAN_BYTES)
    at = 0
    for _ in range(_MAX_UNITS):
        found = _START.search(data, at, stop)
        if found is None or found.end() >= len(data):
            return
        at = found.end()
        yield at, None


def _end(data: memoryview, start: int) -> int:
    """The end of the NAL unit that begins at `start`: the next start code, or the end of what one looks at."""
    stop = min(len(data), _MAX_SCAN_BYTES)
    found = _START.search(data, start, stop)
    end = stop if found is None else found.start()
    # Zeros before a start code belong to no unit (H.264, B.1.1): its last byte is none.
    return start + max(1, len(bytes(data[start:end]).rstrip(b"\0")))


def _by_lengths(data: memoryview, length_size: int) -> list[tuple[int, int]]:
    """Begin and end of each NAL unit behind its length; empty where the lengths do not lead exactly to the end."""
    units: list[tuple[int, int]] = []
    at = 0
    while at < len(data):
        start = at + length_size
        at = start + int.from_bytes(data[at:start], "big")
        # A NAL unit has at least a byte of header, whose first bit is 0.
        if at > len(data) or at == start or data[start] & 0x80 or len(units) == _MAX_UNITS:
            return []
        units.append((start, at))
    return units


def _is_base_layer(unit: memoryview) -> bool:
    """nuh_layer_id is 0 (H.265, 7.3.1.2)."""
    return not unit[0] & 1 and not unit[1] >> 3


def _recovers_at_once(unit: bytes) -> bool:
    """True for supplemental information that says: from this picture on all is right (H.264, D.2.8)."""
    content = unescaped(unit[1:])
    at = 0
    while at + 2 < len(content):
        numbers = []
        for _ in range(2):  # type and size
            value = 0
            while at < len(content) and content[at] == 255:
                value, at = value + 255, at + 1
            numbers.append(value + (content[at] if at < len(content) else 0))
            at += 1
        if numbers[0] == 6:
            return Bits(content[at : at + 8]).ue() == 0
        at += numbers[1]
    return False


def _is_intra(unit: bytes) -> bool:
    """True for a slice that refers to no other picture: slice_type I (H.264, 7.3.3)."""
    bits = Bits(unescaped(unit[1:]))
    bits.ue()
    return bits.ue() in (2, 7)


# ---------------------------------------------------------------------- AV1


def _av1_facts(data: memoryview, extradata: bytes) -> PacketFacts:
    # av1C (AV1 in ISOBMFF, 2.3): four bytes, then OBUs.
    outside = extradata[4:] if extradata[:1] == b"\x81" else extradata
    size, sets = (0, 0), b""
    for kind, _, content in _obus(memoryview(outside)[:_MAX_SETS_BYTES]):
        if kind == 1:
            size, has_sets = av1_size(bytes(content[:MAX_HEADER_BYTES])), True
            break
    else:
        has_sets = False
    still = False
    for kind, whole, content in _obus(data):
        if kind == 1:
            header = bytes(content[:MAX_HEADER_BYTES])
            size, has_sets = av1_size(header), True
            still = bool(header[0] & 8)  # reduced_still_picture_header
            sets = bytes(whole) if len(whole) < _MAX_SETS_BYTES and whole[0] & 2 else b""
        elif kind in (3, 6):  # a frame header, a frame
            # show_existing_frame, then frame_type: 0 is a key frame (AV1, 5.9.2).
            entry = still or (len(content) > 0 and not content[0] & 0xE0)
            # A key frame that is not shown resets nothing until it is (7.20).
            restart = entry and (still or bool(content[0] & 0x10))
            return PacketFacts(entry, has_sets, True, *size, sets, is_restart=restart)
    return PacketFacts(False, has_sets, False, *size, sets)


def _obus(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Type, all bytes and content of each OBU (AV1, 5.3)."""
    at = 0
    for _ in range(_MAX_UNITS):
        if at >= len(data):
            return
        start, head = at, data[at]
        if head & 0x80:
            raise MalformedHeader("no OBU")
        at += 2 if head & 4 else 1
        size = len(data) - at
        if head & 2:
            size, at = _leb128(data, at)
        if size < 0 or at + size > len(data):
            raise MalformedHeader("cut off")
        yield head >> 3 & 15, data[start : at + size], data[at : at + size]
        at += size


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 56, 7):
        if at >= len(data):
            break
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise MalformedHeader("a size without end")
