"""One camera image as the log holds it, to RGB pixels. No threads here: any number of them may call."""

from __future__ import annotations

from perception_batch.decode.deep import BitDepth
from perception_batch.decode.packet_stream import VIDEO_CODECS, PacketCount
from perception_batch.decode.picture import picture_to_rgb
from perception_batch.decode.quality import picture_quality
from perception_batch.decode.raw import decode_raw
from perception_batch.decode.still import ReduceBy, decode_still
from perception_batch.decode.undecodable import UndecodableError
from perception_batch.decode.video import pictures
from perception_batch.errors import DecodeError, printable
from perception_batch.types import (
    BrokenPayload,
    EncodedFrame,
    Frame,
    Image,
    PicturePayload,
    RawPayload,
    StillPayload,
)

__all__ = ["VIDEO_CODECS", "PacketCount", "decode_frame", "picture_quality", "pictures"]


def decode_frame(
    frame: EncodedFrame,
    max_image_mpx: float,
    bit_depth: BitDepth = "auto",
    reduce_by: ReduceBy | None = None,
) -> Frame:
    """Decode one frame to (H, W, 3) uint8 RGB, C-contiguous.

    The image of raw ``rgb8`` without row padding is a read-only view of the payload, nothing is copied.

    Args:
        frame: as it came from the log; nothing in it is trusted.
        max_image_mpx: largest image that is decoded, millions of pixels.
        bit_depth: bits that the camera uses of 16-bit samples, 8..16; ``auto``: by each image's brightest
            sample (see `deep`).
        reduce_by: asked with the height and width of a JPEG by how much it may be scaled down: 1, 2, 4 or 8. Its
            sides become that fraction, rounded up; `Frame.original_hw` keeps them. Other images stay as they are.

    Raises:
        DecodeError: its `reason` is one of ``broken_jpeg`` (``_png``, ``_webp``, ``_bmp``, ``_tiff``,
            ``_jpeg2000``, ``_avif``), ``too_large``, ``short_data``, ``bad_step``, ``no_pixels``,
            ``unknown_encoding``, ``unsupported_encoding``, or what a `BrokenPayload` names.
    """
    try:
        if isinstance(frame.payload, StillPayload):
            _refuse_too_large(frame, max_image_mpx)
            image, original_hw = decode_still(frame.payload, max_image_mpx, bit_depth, reduce_by)
            return Frame(frame.camera, frame.stamp_ns, image, original_hw)
        return Frame(frame.camera, frame.stamp_ns, _pixels(frame, max_image_mpx, bit_depth))
    except UndecodableError as error:
        raise DecodeError("", frame.camera, frame.stamp_ns, error.reason, error.detail) from None


def _refuse_too_large(frame: EncodedFrame, max_image_mpx: float) -> None:
    if frame.width_px * frame.height_px > max_image_mpx * 1e6:
        raise UndecodableError(
            "too_large",
            f"{frame.width_px}x{frame.height_px} pixels, allowed are {max_image_mpx:g} million "
            "(read.max_image_mpx)",
        )


def _pixels(frame: EncodedFrame, max_image_mpx: float, bit_depth: BitDepth) -> Image:
    _refuse_too_large(frame, max_image_mpx)
    payload = frame.payload
    if isinstance(payload, RawPayload):
        return decode_raw(frame, payload, bit_depth)
    if isinstance(payload, PicturePayload):
        try:
            return picture_to_rgb(payload.picture)
        except (ValueError, OSError, NotImplementedError) as error:  # FFmpeg's errors are these
            raise UndecodableError("unsupported_encoding", printable(error)) from error
    if isinstance(payload, BrokenPayload):
        raise UndecodableError(payload.reason, payload.detail)
    raise TypeError(f"a video's packets are decoded in order, not one by one; got {type(payload).__name__}")
