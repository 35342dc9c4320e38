"""A video that came out larger than it may be (`render.max_mb`), encoded once more at a mean rate."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

from perception_batch.write.atomic import PARTIAL_SUFFIX
from perception_batch.write.encoder import EncoderSettings, MeanRate
from perception_batch.write.picture_clock import PictureClock
from perception_batch.write.video import VideoWriter

SMALLER_SUFFIX = ".smaller"
_TRIES = 4
"""How often a video is encoded again to reach its size; a mean rate is kept only roughly in a short one."""
_ROOM = 0.96
"""Of the size that is left for pictures when it is encoded again; the rest are the container's tables, and margin."""

_log = logging.getLogger(__name__)


def fit(
    path: Path, limit_bytes: int, size_wh: tuple[int, int], settings: EncoderSettings, clock: PictureClock
) -> None:
    """Encode a finished file again, at a lower rate each time, until it is as small as it must be.

    Args:
        path: the file; replaced by a smaller one.
        limit_bytes: the most that it may have.
        size_wh: width and height, px.
        settings: as it was encoded with.
        clock: of its pictures.

    Raises:
        WriteError: the disk is full or refuses; the file is as it was.
    """
    size = path.stat().st_size
    if size <= limit_bytes:
        return
    name = path.name.removesuffix(PARTIAL_SUFFIX)
    smaller = path.with_name(f"{name}{SMALLER_SUFFIX}")
    seconds = (clock.last + clock.step) / clock.ticks_per_s
    rate = _ROOM * limit_bytes * 8 / seconds
    per_s = Fraction(clock.pictures / seconds).limit_denominator(1000)
    try:
        for _ in range(_TRIES):
            _again(path, smaller, size_wh, settings, clock, MeanRate(max(round(rate), 1000), per_s))
            size = smaller.stat().st_size
            if size <= limit_bytes:
                break
            rate *= _ROOM * limit_bytes / size
        smaller.replace(path)
    finally:
        smaller.unlink(missing_ok=True)
    if size > limit_bytes:
        _log.warning(
            "%s: %.1f MB is the least for %d pictures of %dx%d, more than render.max_mb allows; lower render.width_px",
            name,
            size / 1e6,
            clock.pictures,
            *size_wh,
        )


def _again(
    path: Path,
    smaller: Path,
    size_wh: tuple[int, int],
    settings: EncoderSettings,
    clock: PictureClock,
    mean: MeanRate,
) -> None:
    """Encode the pictures of one file into another."""
    import av

    with av.open(str(path)) as source:
        video = VideoWriter(smaller, size_wh, settings, mean=mean, clock=clock)
        try:
            stream = source.streams.video[0]
            scale = stream.time_base * clock.ticks_per_s if stream.time_base else Fraction(1)
            for frame in source.decode(stream):
                video.put_yuv(_copy(frame), round((frame.pts or 0) * scale))
            video.close()
        except BaseException:
            video.discard()
            raise


def _copy(decoded: Any) -> Any:
    """A decoded picture as a new one: the decoder's own says which type it was encoded as, and it would be again."""
    import av

    frame = av.VideoFrame.from_ndarray(decoded.to_ndarray(), format="yuv420p")
    frame.colorspace, frame.color_range = 1, 1  # BT.709 (ITU-T H.273), limited range
    return frame
