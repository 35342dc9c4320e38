"""``annotated.mp4``: a video whose pictures stand at their real times, playable from the first byte."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from perception_batch.errors import WriteError, printable
from perception_batch.types import Image
from perception_batch.write.atomic import PARTIAL_SUFFIX, disk_errors, put_in_place
from perception_batch.write.encoder import EncoderSettings, MeanRate, add_stream, choose_codec

FILE_NAME = "annotated.mp4"
TICKS_PER_S = 90_000
"""Clock of presentation times of H.264, as in `encoder`."""
_LONGEST_S = (1 << 30) / TICKS_PER_S
"""Longest time between two pictures, 3.3 hours: within MP4's 32-bit sample durations, with a margin for players."""
_LONE_PICTURE_S = 1
_BT709 = 1
"""Number of BT.709 for matrix, primaries and transfer alike (ITU-T H.273)."""
_TRIES = 4
"""How often a video is encoded again to reach its size; a mean rate is kept only roughly in a short one."""
_ROOM = 0.96
"""Of the size that is left for pictures when it is encoded again; the rest are the container's tables, and margin."""

_log = logging.getLogger(__name__)


class VideoSettings(EncoderSettings, Protocol):
    """What this file takes of the section `render` of the settings."""

    @property
    def max_mb(self) -> float | None:
        """Largest size of a video, MB (10^6 bytes); None: any."""


class VideoWriter:
    """A context manager that takes pictures with their stamps.

    The presentation time of a picture is its stamp less the first one's, to the nearest tick. A picture is
    encoded when the next one comes, since only then its duration is known; the last one lasts as long as the
    one before. One encoder thread: the same pictures give the same bytes (but for NVENC's). A video that comes out larger
    than it may be is encoded once more, at a mean rate.
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        settings: VideoSettings,
        *,
        mean: MeanRate | None = None,
    ) -> None:
        """Open ``<path>.partial``.

        Args:
            path: where the video will be.
            size_wh: width and height of all pictures, px; even.
            settings: rate factor, preset, encoder and largest size.
            mean: a rate instead of the rate factor; the largest size is not looked at then.

        Raises:
            WriteError: no encoder, or it refuses the size; the disk refuses.
        """
        import av
        from av.video.reformatter import VideoReformatter

        width, height = size_wh
        if width % 2 or height % 2 or width <= 0 or height <= 0:
            raise ValueError(f"4:2:0 wants even sizes, got {width}x{height}")
        codec = choose_codec(settings, size_wh)
        if codec is None:
            raise WriteError(_no_codec(settings.codec))
        self.path = path
        self.pictures = 0
        self.codec = codec
        """The encoder's name."""
        self._settings = settings
        self._limit_bytes = round(settings.max_mb * 1e6) if settings.max_mb and mean is None else None
        self._size_wh = size_wh
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._first_ns = 0
        self._pending: Any = None
        self._reformatter: Any = VideoReformatter()
        self._durations: dict[int, int] = {}
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
            self._container: Any = av.open(
                str(self._partial), "w", format="mp4", options={"movflags": "+faststart"}
            )
        try:
            self._stream, self._ticks_per_s = add_stream(self._container, codec, size_wh, settings, mean)
        except av.FFmpegError as error:
            self.discard()
            raise WriteError(
                f"{printable(path)}: the encoder {codec} refuses {width}x{height} with preset "
                f"{settings.preset}, crf {settings.crf}: {error}; change render.width_px"
            ) from error
        except BaseException:
            self.discard()
            raise
        self._step_ticks = _LONE_PICTURE_S * self._ticks_per_s

    def write(self, stamp_ns: int, picture: Image) -> None:
        """Add one picture; stamps rise.

        Args:
            stamp_ns: time of the timestep, ns.
            picture: (H, W, 3) uint8 RGB, of the size given at the start.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        width, height = self._size_wh
        if self._container is None:
            raise ValueError(f"{self.path.name}: written to after it was closed")
        if picture.shape != (height, width, 3):
            raise ValueError(f"expected a picture of ({height}, {width}, 3), got {picture.shape}")
        if self.pictures == 0:
            self._first_ns = stamp_ns
        # In integers: a float of nanoseconds would round.
        ticks = ((stamp_ns - self._first_ns) * self._ticks_per_s * 2 + 1_000_000_000) // 2_000_000_000
        self._put(_to_yuv(picture, self._reformatter), ticks)

    def _put(self, frame: Any, ticks: int) -> None:
        """Add a picture in 4:2:0 at a presentation time."""
        frame.pts, frame.time_base = ticks, Fraction(1, self._ticks_per_s)
        if self._pending is not None:
            frame.pts = self._pending.pts + self._step(frame.pts - self._pending.pts)
            self._step_ticks = frame.pts - self._pending.pts
            self._encode(self._pending, self._step_ticks)
        self._pending = frame
        self.pictures += 1

    def _step(self, ticks: int) -> int:
        """The time to the next picture: `ticks`, unless MP4 cannot hold it."""
        held = min(max(ticks, 1), int(_LONGEST_S * self._ticks_per_s))
        if held != ticks:
            _log.warning(
                "%s: picture %d comes %.6f s after the one before, which MP4 cannot hold; shown after %.6f s",
                self.path.name,
                self.pictures,
                ticks / self._ticks_per_s,
                held / self._ticks_per_s,
            )
        if held < ticks:  # what follows keeps its distance to this picture
            self._first_ns += (ticks - held) * 1_000_000_000 // self._ticks_per_s
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
        seconds = (pending.pts + self._step_ticks) / self._ticks_per_s
        try:
            with disk_errors(self.path):
                container, self._container = self._container, None
                container.close()
                self._fit(seconds)
            put_in_place(self._partial, self.path)
        except BaseException:
            self._partial.unlink(missing_ok=True)
            raise

    def _fit(self, seconds: float) -> None:
        """Encode the finished file again, at a lower rate each time, until it is as small as it must be."""
        limit, size = self._limit_bytes, self._partial.stat().st_size
        if limit is None or size <= limit:
            return
        smaller = self._partial.with_name(f"{self.path.name}.smaller")
        rate, per_s = _ROOM * limit * 8 / seconds, Fraction(self.pictures / seconds).limit_denominator(1000)
        try:
            for _ in range(_TRIES):
                self._again(smaller, MeanRate(max(round(rate), 1000), per_s))
                size = smaller.stat().st_size
                if size <= limit:
                    break
                rate *= _ROOM * limit / size
            smaller.replace(self._partial)
        finally:
            smaller.unlink(missing_ok=True)
        if size > limit:
            _log.warning(
                "%s: %.1f MB is the least for %d pictures of %dx%d, more than render.max_mb allows; lower render.width_px",
                self.path.name,
                size / 1e6,
                self.pictures,
                *self._size_wh,
            )

    def _again(self, path: Path, mean: MeanRate) -> None:
        """Encode the finished file's pictures into another one."""
        import av

        with (
            av.open(str(self._partial)) as source,
            VideoWriter(path, self._size_wh, self._settings, mean=mean) as video,
        ):
            stream = source.streams.video[0]
            scale = stream.time_base * self._ticks_per_s if stream.time_base else Fraction(1)
            for frame in source.decode(stream):
                video._put(_copy(frame), round((frame.pts or 0) * scale))

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


def _no_codec(wanted: str) -> str:
    if wanted in ("auto", "libx264"):
        return (
            "PyAV was built without libx264, so there is no video; install its wheel from PyPI (pip install "
            "--force-reinstall av) or run with --no-video"
        )
    return (
        f"render.codec {wanted} does not work here (no encoder of that name in PyAV, or no card that encodes); give "
        "--set render.codec=auto or libx264"
    )


def _to_yuv(picture: Image, reformatter: Any) -> Any:
    """The picture in 4:2:0, BT.709, limited range: what players assume of H.264, and what the tags say.

    PyAV's `reformatter` is kept, and the picture lent instead of copied: that saves two fifths of the time.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    frame = reformatter.reformat(
        av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(picture), format="rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
    )
    frame.colorspace, frame.color_range = _BT709, 1
    return frame


def _copy(decoded: Any) -> Any:
    """A decoded picture as a new one: the decoder's own says which type it was encoded as, and it would be again."""
    import av

    frame = av.VideoFrame.from_ndarray(decoded.to_ndarray(), format="yuv420p")
    frame.colorspace, frame.color_range = _BT709, 1
    return frame
