"""One camera image as the log holds it, to RGB pixels. No threads here: any number of them may call."""

from __future__ import annotations

from perception_batch.decode.raw import decode_raw
from perception_batch.decode.still import decode_still
from perception_batch.errors import DecodeError
from perception_batch.types import BrokenPayload, EncodedFrame, Frame, RawPayload, StillPayload

__all__ = ["decode_frame"]


def decode_frame(frame: EncodedFrame, max_image_mpx: float) -> Frame:
    """Decode one frame to (H, W, 3) uint8 RGB, C-contiguous.

    The image of raw ``rgb8`` without row padding is a read-only view of the payload, nothing is copied.

    Args:
        frame: as it came from the log; nothing in it is trusted.
        max_image_mpx: largest image that is decoded, millions of pixels.

    Raises:
        DecodeError: its `reason` is one of ``broken_jpeg``, ``broken_png``, ``too_large``, ``short_data``,
            ``bad_step``, ``no_pixels``, ``unknown_encoding``, ``unsupported_encoding``.
    """
    claimed = frame.width_px * frame.height_px
    if claimed > max_image_mpx * 1e6:
        raise DecodeError(
            "",
            frame.camera,
            frame.stamp_ns,
            "too_large",
            f"{frame.width_px}x{frame.height_px} pixels, allowed are {max_image_mpx:g} million "
            "(read.max_image_mpx)",
        )
    payload = frame.payload
    if isinstance(payload, RawPayload):
        image = decode_raw(frame, payload)
    elif isinstance(payload, StillPayload):
        image = decode_still(frame, payload, max_image_mpx)
    elif isinstance(payload, BrokenPayload):
        raise DecodeError("", frame.camera, frame.stamp_ns, payload.reason, payload.detail)
    else:
        raise TypeError(f"a video's packets are decoded in order, not one by one; got {payload!r}")
    return Frame(frame.camera, frame.stamp_ns, image)
