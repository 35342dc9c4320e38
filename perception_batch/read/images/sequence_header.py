"""The picture size in a video stream's own headers, bit by bit.

ITU-T H.264 (7.3.2.1.1), ITU-T H.265 (7.3.2.2, 7.3.3), the AV1 bitstream specification (5.5), the VP9 bitstream
specification (6.2). What is read is foreign: every function gives a size or raises `MalformedHeader`, after a number
of steps that the header's few bytes bound.
"""

from __future__ import annotations

from functools import lru_cache

MAX_HEADER_BYTES = 1024
"""Of a sequence header only so much is read; real ones have some dozen bytes."""

# Profiles whose sequence parameter set says what the chroma format is (H.264, 7.3.2.1.1).
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MAX_CYCLE = 255  # H.264, 7.4.2.1.1: num_ref_frames_in_pic_order_cnt_cycle


class MalformedHeader(ValueError):
    """The bytes are no such header, or it is cut off."""


class Bits:
    """Reads bits, the highest of each byte first; never beyond the end."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """The next `count` bits as a number."""
        if count > self._left:
            raise MalformedHeader("cut off")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def ue(self) -> int:
        """An unsigned Exp-Golomb number (H.264, 9.1); AV1's ``uvlc`` is the same."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise MalformedHeader("a number of more than 32 bits")
        return (1 << zeros) - 1 + self.read(zeros)

    def se(self) -> int:
        """A signed Exp-Golomb number (H.264, 9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def unescaped(unit: bytes) -> bytes:
    """A NAL unit without its emulation prevention bytes (H.264, 7.4.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")


@lru_cache(maxsize=32)
def h264_size(unit: bytes) -> tuple[int, int]:
    """Width and height, px, in a sequence parameter set, a NAL unit with its header byte; cropped.

    Raises:
        MalformedHeader: it is none.
    """
    bits = Bits(unescaped(unit[1:]))
    profile = bits.read(8)
    bits.read(16)
    bits.ue()
    chroma = 1
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        lists = 12 if chroma == 3 else 8
        if chroma == 3 and bits.read(1):
            chroma = 0  # three planes, each coded like grey
        bits.ue()
        bits.ue()
        bits.read(1)
        if bits.read(1):
            for i in range(lists):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    bits.ue()
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.read(1)
        bits.se()
        bits.se()
        cycle = bits.ue()
        if cycle > _MAX_CYCLE:
            raise MalformedHeader(f"a cycle of {cycle}")
        for _ in range(cycle):
            bits.se()
    bits.ue()
    bits.read(1)
    width, height = 16 * (bits.ue() + 1), 16 * (bits.ue() + 1)
    frames_only = bits.read(1)
    height *= 2 - frames_only
    if not frames_only:
        bits.read(1)
    bits.read(1)
    if bits.read(1):
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = (2 if chroma == 1 else 1) * (2 - frames_only)
        width -= unit_x * (bits.ue() + bits.ue())
        height -= unit_y * (bits.ue() + bits.ue())
    return _positive(width, height)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = 8
    for _ in range(size):
        last = (last + bits.se()) % 256
        if not last:  # the rest repeats the one before
            return


@lru_cache(maxsize=32)
def h265_size(unit: bytes) -> tuple[int, int]:
    """Width and height, px, in a sequence parameter set, a NAL unit with its two header bytes; cropped.

    Raises:
        MalformedHeader: it is none.
    """
    bits = Bits(unescaped(unit[2:]))
    bits.read(4)
    layers = bits.read(3)
    bits.read(1)
    bits.read(96)  # profile and level
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
    bits.ue()
    chroma = bits.ue()
    if chroma == 3:
        bits.read(1)
    width, height = bits.ue(), bits.ue()
    if bits.read(1):
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = 2 if chroma == 1 else 1
        width -= unit_x * (bits.ue() + bits.ue())
        height -= unit_y * (bits.ue() + bits.ue())
    return _positive(width, height)


@lru_cache(maxsize=32)
def av1_size(content: bytes) -> tuple[int, int]:
    """Width and height, px, in the content of a sequence header OBU.

    Raises:
        MalformedHeader: it is none.
    """
    bits = Bits(content)
    bits.read(4)
    if bits.read(1):  # reduced_still_picture_header
        bits.read(5)
    else:
        delay = _skip_av1_timing(bits) if bits.read(1) else 0
        display_delay = bits.read(1)
        for _ in range(bits.read(5) + 1):
            bits.read(12)
            if bits.read(5) > 7:
                bits.read(1)
            if delay and bits.read(1):
                bits.read(2 * delay + 1)
            if display_delay and bits.read(1):
                bits.read(4)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return _positive(bits.read(width_bits) + 1, bits.read(height_bits) + 1)


def _skip_av1_timing(bits: Bits) -> int:
    """Skip timing_info and decoder_model_info; the length of its delays in bits, 0 where there is none."""
    bits.read(64)
    if bits.read(1):
        bits.ue()
    if not bits.read(1):
        return 0
    delay = bits.read(5) + 1
    bits.read(32 + 10)
    return delay


def vp9_key_size(data: bytes) -> tuple[int, int] | None:
    """Width and height, px, of a VP9 key frame; None where the frame is none.

    Raises:
        MalformedHeader: it is no frame of VP9.
    """
    bits = Bits(data)
    if bits.read(2) != 2:
        raise MalformedHeader("no frame of VP9")
    profile = bits.read(1) + 2 * bits.read(1)
    if profile == 3:
        bits.read(1)
    if bits.read(1) or bits.read(1):  # shows a frame from before, or depends on one
        return None
    bits.read(2)
    if bits.read(24) != 0x498342:
        raise MalformedHeader("no sync code")
    if profile >= 2:
        bits.read(1)
    srgb = bits.read(3) == 7
    if not srgb:
        bits.read(1)
    if profile in (1, 3):
        bits.read(1 if srgb else 3)
    elif srgb:
        raise MalformedHeader("RGB in a profile without it")
    return _positive(bits.read(16) + 1, bits.read(16) + 1)


def _positive(width: int, height: int) -> tuple[int, int]:
    if width <= 0 or height <= 0:
        raise MalformedHeader(f"{width}x{height} pixels")
    return width, height
