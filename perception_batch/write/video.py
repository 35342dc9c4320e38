"""``annotated.mp4``: H.264 whose pictures stand at their real times, playable from the first byte."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from perception_batch.errors import WriteError, printable
from perception_batch.types import Image
from perception_batch.write.atomic import PARTIAL_SUFFIX, disk_errors, put_in_place

FILE_NAME = "annotated.mp4"
TICKS_PER_S = 90_000
"""Clock of presentation times: the 90 kHz of MPEG systems (ISO/IEC 13818-1); a tick is 11 µs."""
_MAX_STEP_TICKS = 1 << 30
"""Longest time between two pictures, 3.3 hours: within MP4's 32-bit sample durations, with a margin for players."""
_LONE_PICTURE_TICKS = TICKS_PER_S
_PICTURES_BETWEEN_KEYS = 30
"""Seeking lands within 3 s at 10 Hz; a mosaic of all cameras rarely moves as a whole, so keys cost little."""
_BT709 = 1
"""Number of BT.709 for matrix, primaries and transfer alike (ITU-T H.273)."""

_log = logging.getLogger(__name__)


class EncoderSettings(Protocol):
    """What this file takes of the section `render` of the settings."""

    @property
    def crf(self) -> int:
        """x264's constant rate factor, 0 (lossless) to 51."""

    @property
    def preset(self) -> str:
        """x264's preset, such as ``superfast``."""


class VideoWriter:
    """A context manager that takes pictures with their stamps.

    The presentation time of a picture is its stamp less the first one's, to the nearest tick. A picture is
    encoded when the next one comes, since only then its duration is known; the last one lasts as long as the
    one before. One encoder thread: the same pictures give the same bytes.
    """

    def __init__(self, path: Path, size_wh: tuple[int, int], settings: EncoderSettings) -> None:
        """Open ``<path>.partial``.

        Args:
            path: where the video will be.
            size_wh: width and height of all pictures, px; even.
            settings: rate factor and preset.

        Raises:
            WriteError: no H.264 encoder, or it refuses the size; the disk refuses.
        """
        import av

        width, height = size_wh
        if width % 2 or height % 2 or width <= 0 or height <= 0:
            raise ValueError(f"H.264 in 4:2:0 wants even sizes, got {width}x{height}")
        if "libx264" not in av.codecs_available:
            raise WriteError(
                "PyAV was built without libx264, so there is no video; install its wheel from PyPI (pip install "
                "--force-reinstall av) or run with --no-video"
            )
        self.path = path
        self.pictures = 0
        self._size_wh = size_wh
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._first_ns = 0
        self._pending: Any = None
        self._step_ticks = _LONE_PICTURE_TICKS
        self._durations: dict[int, int] = {}
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
            self._container: Any = av.open(
                str(self._partial), "w", format="mp4", options={"movflags": "+faststart"}
            )
        try:
            self._open_stream(settings)
        except BaseException:
            self.discard()
            raise

    def _open_stream(self, settings: EncoderSettings) -> None:
        import av

        options = {
            "preset": settings.preset,
            "crf": str(settings.crf),
            "bf": "0",
            "x264-params": "threads=1:lookahead-threads=1:sliced-threads=0",
        }
        stream = self._container.add_stream("libx264", options=options)
        stream.width, stream.height = self._size_wh
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1
        codec.gop_size = _PICTURES_BETWEEN_KEYS
        stream.time_base = codec.time_base = Fraction(1, TICKS_PER_S)
        codec.color_range = 1  # "tv", 16..235
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        self._stream = stream
        try:
            codec.open()
        except av.FFmpegError as error:
            width, height = self._size_wh
            raise WriteError(
                f"{printable(self.path)}: the H.264 encoder refuses {width}x{height} with preset "
                f"{settings.preset}, crf {settings.crf}: {error}; change render.width_px"
            ) from error

    def write(self, stamp_ns: int, picture: Image) -> None:
        """Add one picture; stamps rise.

        Args:
            stamp_ns: time of the timestep, ns.
            picture: (H, W, 3) uint8 RGB, of the size given at the start.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._container is None:
            raise ValueError(f"{self.path.name}: written to after it was closed")
        width, height = self._size_wh
        if picture.shape != (height, width, 3):
            raise ValueError(f"expected a picture of ({height}, {width}, 3), got {picture.shape}")
        if self.pictures == 0:
            self._first_ns = stamp_ns
        frame = _to_yuv(picture)
        # In integers: a float of nanoseconds would round.
        frame.pts = ((stamp_ns - self._first_ns) * TICKS_PER_S * 2 + 1_000_000_000) // 2_000_000_000
        if self._pending is not None:
            frame.pts = self._pending.pts + self._step(frame.pts - self._pending.pts)
            self._step_ticks = frame.pts - self._pending.pts
            self._encode(self._pending, self._step_ticks)
        self._pending = frame
        self.pictures += 1

    def _step(self, ticks: int) -> int:
        """The time to the next picture: `ticks`, unless MP4 cannot hold it."""
        held = min(max(ticks, 1), _MAX_STEP_TICKS)
        if held != ticks:
            _log.warning(
                "%s: picture %d comes %.6f s after the one before, which MP4 cannot hold; shown after %.6f s",
                self.path.name,
                self.pictures,
                ticks / TICKS_PER_S,
                held / TICKS_PER_S,
            )
        if held < ticks:  # what follows keeps its distance to this picture
            self._first_ns += (ticks - held) * 1_000_000_000 // TICKS_PER_S
        return held

    def _encode(self, frame: Any, duration_ticks: int) -> None:
        if frame is not None:
            self._durations[frame.pts] = duration_ticks
        try:
            with disk_errors(self.path):
                for packet in self._stream.encode(frame):
                    packet.duration = self._durations.pop(packet.pts, duration_ticks)
                    self._container.mux(packet)
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Finish the video and put it in its place; a video without pictures is not left behind.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._container is None:
            return
        if self._pending is None:
            self.discard()
            return
        pending, self._pending = self._pending, None
        self._encode(pending, self._step_ticks)
        self._encode(None, self._step_ticks)
        try:
            with disk_errors(self.path):
                container, self._container = self._container, None
                container.close()
            put_in_place(self._partial, self.path)
        except BaseException:
            self._partial.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        import av

        if self._container is None:
            return
        container, self._container, self._pending = self._container, None, None
        try:
            container.close()
        except (av.FFmpegError, OSError, ValueError) as error:
            _log.debug("%s: while discarding: %s", self.path.name, error)
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None and self._container is not None:
            try:
                self.close()
            except WriteError as failure:
                _log.warning("while stopping: %s", failure)
            return
        self.close()


def _to_yuv(picture: Image) -> Any:
    """The picture in 4:2:0, BT.709, limited range: what players assume of H.264, and what the tags say."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    frame.time_base = Fraction(1, TICKS_PER_S)
    frame.colorspace, frame.color_range = _BT709, 1
    return frame
