"""Image files, told apart by their first bytes.

The right pixels or none: decoders take some damaged files without a word, so each file's structure is checked before
(complete, known form, not too large), as far as its format allows; `stills` has a module for each.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from perception_batch.decode.deep import BitDepth, to_8_bits
from perception_batch.decode.stills import avif, bmp, jpeg, jpeg2000, png, tiff, webp
from perception_batch.decode.stills.header import StillHeader
from perception_batch.decode.undecodable import UndecodableError
from perception_batch.types import Image, StillPayload

_Reader = Callable[[memoryview], StillHeader]
ReduceBy = Callable[[tuple[int, int]], int]
"""By how much an image of this height and width, px, may be scaled down: 1, 2, 4 or 8."""
FORMATS = ("jpeg", "png", "webp", "bmp", "tiff", "jpeg2000", "avif")


def decode_still(
    payload: StillPayload,
    max_image_mpx: float,
    bit_depth: BitDepth = "auto",
    reduce_by: ReduceBy | None = None,
) -> tuple[Image, tuple[int, int]]:
    """(H, W, 3) RGB from an image file, one of `FORMATS`, whatever the message calls it; and its own height and width.

    They differ where `reduce_by` allows a JPEG to be decoded at a fraction of its size (rounded up).

    EXIF orientation and colour profiles are ignored: the pixels stay as the sensor gave them, as the calibration
    expects. Grey becomes three equal channels, a palette its colours, alpha is dropped; 16-bit samples as in `deep`.

    Raises:
        UndecodableError: ``broken_<format>``, ``too_large``, ``unknown_encoding``, ``unsupported_encoding``.
    """
    data = memoryview(payload.data).cast("B")
    head = bytes(data[:12])
    factor = 1
    if head.startswith(jpeg.MAGIC):
        found = jpeg.read_jpeg(data)
        size = (found.width_px, found.height_px)
        _refuse_too_large(size, max_image_mpx)
        factor = 1 if reduce_by is None else reduce_by((size[1], size[0]))
        image, broken = jpeg.decode_jpeg(data, found, factor), "broken_jpeg"
    else:
        name, read = _reader_of(head, len(data))
        header, broken = read(data), f"broken_{name}"
        size = (header.width_px, header.height_px)
        _refuse_too_large(size, max_image_mpx)
        image = _decode(data, header, broken, bit_depth)
    if image.shape != (-(-size[1] // factor), -(-size[0] // factor), 3):
        raise UndecodableError(
            broken,
            f"its header says {size[0]}x{size[1]}, decoded were {image.shape[1]}x{image.shape[0]}"
            + (f" at 1/{factor}" if factor > 1 else ""),
        )
    return image, (size[1], size[0])


def _reader_of(head: bytes, length: int) -> tuple[str, _Reader]:
    if head.startswith(png.MAGIC):
        return "png", png.read_png
    if webp.is_webp(head):
        return "webp", webp.read_webp
    if head.startswith(bmp.MAGIC):
        return "bmp", bmp.read_bmp
    if head.startswith(tiff.MAGICS):
        return "tiff", tiff.read_tiff
    if head.startswith((jpeg2000.FILE_MAGIC, jpeg2000.STREAM_MAGIC)):
        return "jpeg2000", jpeg2000.read_jpeg2000
    if avif.is_avif(head):
        return "avif", avif.read_avif
    raise UndecodableError(
        "unknown_encoding",
        f"{length} bytes that begin with {head[:8].hex()}; decoded are {', '.join(FORMATS)}",
    )


def _refuse_too_large(size: tuple[int, int], max_image_mpx: float) -> None:
    if size[0] * size[1] > max_image_mpx * 1e6:
        raise UndecodableError(
            "too_large",
            f"{size[0]}x{size[1]} pixels, allowed are {max_image_mpx:g} million (read.max_image_mpx)",
        )


def _decode(data: memoryview, header: StillHeader, broken: str, bit_depth: BitDepth) -> Image:
    # BGR, turned here: asked for RGB, OpenCV 5.0.0 gives 16-bit TIFF in part in the other order.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_ANYDEPTH if header.is_deep else 0)
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as problem:
        raise UndecodableError(broken, " ".join(str(problem).split())) from None
    if found is None:
        raise UndecodableError(broken, "the decoder refused it")
    pixels = to_8_bits(found.astype(np.uint16, copy=False), bit_depth) if found.dtype == np.uint16 else found
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
