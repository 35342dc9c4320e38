"""What the page takes from ``annotated.mp4``: the times of its pictures, and a few of them, small."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perception_batch.errors import printable
from perception_batch.report.run_files import FloatArray

FILE_NAME = "annotated.mp4"
_WIDTH_PX = 400
_JPEG_QUALITY = 72
_MAX_PIXELS = 64_000_000


@dataclass(frozen=True, slots=True, eq=False)
class VideoPictures:
    """The video of a run."""

    seconds: FloatArray
    """(P,) when each picture is shown, rising."""
    size_wh: tuple[int, int]
    """Of its pictures, px."""
    bytes: int
    """Of the file."""
    thumbnails: Mapping[int, str] = field(default_factory=dict)
    """``data:`` URI by number of the picture."""


def read_video(path: Path, wanted: Iterable[int]) -> VideoPictures:
    """Look into the video: all times, and the `wanted` pictures that it has.

    Raises:
        ValueError: it is no video that can be shown; the text says why.
        OSError: it is not there, or cannot be read.
    """
    import av

    size = path.stat().st_size
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError("it holds no pictures")
            stream = container.streams.video[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            if width <= 0 or height <= 0 or width * height > _MAX_PIXELS:
                raise ValueError(f"its pictures are {width}x{height}")
            ticks = sorted(p.pts for p in container.demux(stream) if p.pts is not None)
            if not ticks:
                raise ValueError("it holds no pictures")
            base = float(stream.time_base)
            start = ticks[0]
            seconds = np.array([(t - start) * base for t in ticks])
            small: dict[int, str] = {}
            for number in sorted({n for n in wanted if 0 <= n < len(ticks)}):
                picture = _picture_at(container, stream, ticks[number])
                if picture is not None:
                    small[number] = _as_uri(picture)
            return VideoPictures(seconds, (width, height), size, small)
    except av.FFmpegError as error:
        raise ValueError(printable(error.strerror or error)) from None


def _picture_at(container: Any, stream: Any, pts: int) -> Any:
    """The picture shown at `pts`, scaled down, (H, W, 3) uint8 BGR; None where decoding fails."""
    import av

    try:
        container.seek(pts, stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts >= pts:
                height = max(2, round(frame.height * _WIDTH_PX / frame.width))
                return frame.to_ndarray(width=_WIDTH_PX, height=height, format="bgr24", interpolation="AREA")
    except av.FFmpegError:
        return None
    return None


def _as_uri(picture: Any) -> str:
    import cv2

    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
