"""Images of a log as files of a training set: the same bytes where that can be, without what training tools stumble over."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.errors import WriteError
from perception_batch.labels.label_settings import Encode

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 60
_PNG = b"\x89PNG\r\n\x1a\n"
JPEG_QUALITY = 95


def file_name(drive: str, camera: str, stamp_ns: int) -> str:
    """Stem of an image's files: drive, camera and stamp, of safe characters only; a changed part ends in its checksum."""
    return f"{_safe(drive)}_{_safe(camera)}_{stamp_ns}"


def _safe(text: str) -> str:
    clean = _UNSAFE.sub("-", text).strip(".-") or "x"
    if clean == text and len(clean) <= _LONGEST:
        return clean
    return f"{clean[:_LONGEST]}-{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


def as_file(data: bytes | memoryview) -> tuple[bytes | memoryview, str] | None:
    """An image file's bytes and suffix, ready for a training set; None where it must be encoded anew.

    JPEG and 8-bit PNG stay as they are. Two things are cut from a JPEG, its pixels untouched: bytes after its end, which tools
    take for damage, and EXIF that says to turn the picture, which boxes here do not follow.
    """
    view = memoryview(data).cast("B")
    if bytes(view[:3]) == b"\xff\xd8\xff":
        return _clean_jpeg(view), ".jpg"
    if bytes(view[:8]) == _PNG and len(view) > 25 and view[24] == 8:
        return data, ".png"
    return None


def _clean_jpeg(view: memoryview) -> bytes | memoryview:
    if bytes(view[-2:]) != b"\xff\xd9":
        end = bytes(view).rfind(b"\xff\xd9")
        view = view[: end + 2] if end > 0 else view
    position = 2
    while position + 4 <= len(view) and view[position] == 0xFF and view[position + 1] != 0xDA:
        length = int.from_bytes(view[position + 2 : position + 4], "big")
        segment = bytes(view[position + 4 : position + 2 + length])
        if view[position + 1] == 0xE1 and segment.startswith(b"Exif\0") and _turns(segment[6:]):
            return bytes(view[:position]) + bytes(view[position + 2 + length :])
        position += 2 + length
    return view


def _turns(tiff: bytes) -> bool:
    """Whether the EXIF block has an orientation other than upright (tag 0x0112, TIFF 6.0); a broken one counts as such."""
    order = {b"II": "little", b"MM": "big"}.get(tiff[:2])
    if order is None:
        return True

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], "little" if order == "little" else "big")

    start = number(4, 4)
    for entry in range(min(number(start, 2), 200)):
        at = start + 2 + 12 * entry
        if number(at, 2) == 0x0112:
            return number(at + 8, 2) not in (0, 1)
    return False


def encoded(rgb: npt.NDArray[np.uint8], form: Encode) -> tuple[bytes, str]:
    """Pixels as a file; JPEG at quality 95.

    Raises:
        WriteError: the encoder refused.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if form == "jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    done, data = cv2.imencode(f".{form}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise WriteError(f"the encoder refused an image of {rgb.shape[1]}x{rgb.shape[0]} pixels as {form}")
    return data.tobytes(), f".{form}"


def unique_names(names: Iterable[str]) -> list[str]:
    """Names of drives, the second of a name with ``-2``, and so on."""
    out: list[str] = []
    for name in names:
        number, chosen = 1, name
        while chosen in out:
            number += 1
            chosen = f"{name}-{number}"
        out.append(chosen)
    return out
