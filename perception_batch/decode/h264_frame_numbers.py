"""Missing pictures in an H.264 stream, by the numbers in its slice headers.

FFmpeg conceals a dropped packet without a word and shows wrong pictures until the next key frame. But every
reference picture counts ``frame_num`` up by one (ITU-T H.264, 7.4.3), so a gap tells. A dropped picture that is no
reference leaves no gap, and does no harm to the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

_START = re.compile(rb"\x00\x00\x01")
_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_MAX_UNITS = 64  # before the first slice
_MAX_SET_BYTES = 4096
_SLICE_HEADER_BYTES = 48
# ITU-T H.264, 7.3.2.1.1: profiles whose parameter sets begin with the chroma format.
_HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))


@dataclass(frozen=True, slots=True)
class _Sps:
    number_bits: int
    """Bits of ``frame_num``."""
    has_separate_planes: bool
    allows_gaps: bool


class _Bits:
    """Reads bits of a NAL unit's payload; beyond the end is a `ValueError`."""

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")  # emulation prevention (7.3.1)
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("cut off")
        return self._value >> self._left & (1 << count) - 1

    def unsigned(self) -> int:
        """Exp-Golomb, 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("no number")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


class FrameNumbers:
    """Follows the packets of one camera, in order; `extradata` as MP4 files have it, or Annex B, or nothing."""

    def __init__(self, extradata: bytes = b"") -> None:
        self._sps: dict[int, _Sps] = {}
        self._sps_of_pps: dict[int, int] = {}
        self._last: int | None = None
        self._length_bytes = 0  # of the length before each NAL unit; 0: start codes
        self._read_outside(extradata)

    def missing_before(self, data: bytes | memoryview, is_key: bool) -> int:
        """How many reference pictures are missing before this packet's; 0 where none is, or none can be told."""
        if is_key:
            self._last = None
        for at, kind, is_reference in self._units(data):
            try:
                if kind == _SPS:
                    self._read_sps(bytes(data[at + 1 : at + _MAX_SET_BYTES]))
                elif kind == _PPS:
                    self._read_pps(bytes(data[at + 1 : at + 17]))
                elif kind in (_SLICE, _IDR):
                    header = bytes(data[at + 1 : at + _SLICE_HEADER_BYTES])
                    return self._read_slice(header, kind == _IDR, is_reference)
            except ValueError:
                break
        return 0

    def _units(self, data: bytes | memoryview) -> Iterator[tuple[int, int, bool]]:
        """Where each NAL unit begins, its type, and whether it is a reference; not beyond the first slices."""
        size = self._length_bytes
        if not size:
            for match in islice(_START.finditer(data), _MAX_UNITS):
                if (at := match.end()) < len(data):
                    yield at, data[at] & 31, bool(data[at] & 0x60)
            return
        at = 0
        for _ in range(_MAX_UNITS):
            start = at + size
            if start >= len(data):
                return
            yield start, data[start] & 31, bool(data[start] & 0x60)
            at = start + int.from_bytes(data[at:start], "big")

    def _read_outside(self, data: bytes) -> None:
        """Parameter sets that stand outside the packets: as in MP4 (ISO/IEC 14496-15, 5.3.3.1), or Annex B."""
        if data[:1] != b"\1" or len(data) < 7:
            self.missing_before(data, is_key=True)
            return
        self._length_bytes = (data[4] & 3) + 1
        at = 5
        for read, mask in ((self._read_sps, 31), (self._read_pps, 255)):
            count, at = (data[at] & mask if at < len(data) else 0), at + 1
            for _ in range(count):
                size = int.from_bytes(data[at : at + 2], "big")
                with suppress(ValueError):
                    read(data[at + 3 : at + 2 + size])
                at += 2 + size

    def _read_pps(self, unit: bytes) -> None:
        bits = _Bits(unit)
        number = bits.unsigned() & 255
        self._sps_of_pps[number] = bits.unsigned() & 31

    def _read_slice(self, unit: bytes, is_idr: bool, is_reference: bool) -> int:
        bits = _Bits(unit)
        bits.unsigned()  # first_mb_in_slice
        bits.unsigned()  # slice_type
        sps = self._sps.get(self._sps_of_pps.get(bits.unsigned(), -1))
        if sps is None:
            return 0
        if sps.has_separate_planes:
            bits.take(2)
        number, last = bits.take(sps.number_bits), self._last
        if is_reference:
            self._last = number
        if is_idr or last is None or sps.allows_gaps:
            return 0
        # Equal numbers: the second field of a frame, or an encoder that counts late; nothing is missing.
        gap = (number - last) % (1 << sps.number_bits)
        return max(gap - 1, 0)

    def _read_sps(self, unit: bytes) -> None:
        """7.3.2.1.1, as far as the flag for gaps."""
        if len(unit) < 4:
            raise ValueError("cut off")
        bits = _Bits(unit[3:])
        number = bits.unsigned()
        separate = False
        if unit[0] in _HIGH_PROFILES:
            chroma = bits.unsigned()
            separate = chroma == 3 and bool(bits.take(1))
            bits.unsigned()
            bits.unsigned()
            bits.take(1)
            if bits.take(1):
                for i in range(8 if chroma != 3 else 12):
                    if bits.take(1):
                        _skip_scaling_list(bits, 16 if i < 6 else 64)
        number_bits = bits.unsigned() + 4
        order = bits.unsigned()
        if order == 0:
            bits.unsigned()
        elif order == 1:
            bits.take(1)
            bits.signed()
            bits.signed()
            for _ in range(min(bits.unsigned(), 255)):
                bits.signed()
        bits.unsigned()
        if number_bits > 16:
            raise ValueError("no such width")
        self._sps[number & 31] = _Sps(number_bits, separate, bool(bits.take(1)))


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    """7.3.2.1.1.1."""
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
