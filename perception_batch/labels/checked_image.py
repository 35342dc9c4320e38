"""One image of a training set as a checker sees it: where it is, what its header and its labels say."""

from __future__ import annotations

import hashlib
import math
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perception_batch.labels.check_report import FindingList

OUTSIDE_PX = 0.1
"""Rounding in the formats stays below this."""
LARGEST_IMAGE_BYTES = 1 << 28
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image's file says."""

    width_px: int
    """0 where its header cannot be read."""
    height_px: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ReadBox:
    """One box as a label file gives it."""

    name: str
    """Its class; for duplicates only."""
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2: px."""
    place: str
    """Line or id."""


def is_regular(path: Path) -> bool:
    """A file, or a link to one: nothing that blocks when opened."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a name with a null byte
        return False


def read_facts(path: Path, place: str, found: FindingList) -> ImageFacts:
    """Size and hash of an image's file; what is wrong with it goes to `found`."""
    try:
        size = path.stat().st_size
        if size > LARGEST_IMAGE_BYTES:
            found.add("image-broken", place, f"{size} bytes; an image has at most {LARGEST_IMAGE_BYTES}")
            return ImageFacts(0, 0, "")
        data = path.read_bytes()
    except OSError as error:
        found.add("image-broken", place, error.strerror or "cannot be read")
        return ImageFacts(0, 0, "")
    height, width = _size_of(data)
    if not width or not height:
        found.add("image-broken", place, "no readable JPEG or PNG header")
    elif data.startswith(_JPEG) and not data.endswith(_JPEG_END):
        # Ultralytics takes such a file for corrupt and writes it anew, with other bytes.
        found.add("image-broken", place, "the JPEG does not end with its end mark (cut, or bytes behind it)")
    return ImageFacts(width, height, hashlib.sha256(data).hexdigest())


def _size_of(data: bytes) -> tuple[int, int]:
    """Height and width, px; zeros where the header does not say."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    if data.startswith(_JPEG):
        import simplejpeg  # type: ignore[import-untyped]  # it has no py.typed

        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except ValueError:
            return 0, 0
        return int(height), int(width)
    return 0, 0


def check_boxes(
    place: str, boxes: Iterable[ReadBox], width_px: float, height_px: float, found: FindingList
) -> None:
    """Whether the boxes of one image have an area, are inside and are there once."""
    seen: set[tuple[str, tuple[float, float, float, float]]] = set()
    for box in boxes:
        check_box(f"{place}, {box.place}", box.box, width_px, height_px, found)
        key = (box.name, box.box)
        if key in seen:
            found.add("box-duplicate", f"{place}, {box.place}", f"class {box.name}, {_text(box.box)}")
        seen.add(key)


def check_box(
    place: str, box: tuple[float, float, float, float], width_px: float, height_px: float, found: FindingList
) -> None:
    """Whether one box has an area and is inside of its image; a size of 0 is unknown."""
    x1, y1, x2, y2 = box
    if not all(map(math.isfinite, box)) or x2 <= x1 or y2 <= y1:
        found.add("box-empty", place, _text(box))
    elif min(x1, y1) < -OUTSIDE_PX or (
        width_px > 0 and height_px > 0 and (x2 > width_px + OUTSIDE_PX or y2 > height_px + OUTSIDE_PX)
    ):
        found.add("box-outside", place, f"{_text(box)} px in an image of {width_px}x{height_px}")


def _text(box: tuple[float, float, float, float]) -> str:
    return "(" + ", ".join(f"{v:.8g}" for v in box) + ")"
