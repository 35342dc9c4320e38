"""One file of video, playable from the first byte, whose pictures stand at their real times."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

from perception_batch.errors import WriteError
from perception_batch.types import Image
from perception_batch.write.atomic import PARTIAL_SUFFIX, disk_errors, put_in_place
from perception_batch.write.encoder import (
    EncoderSettings,
    MeanRate,
    add_stream,
    needed_codec,
    refusal,
    ticks_per_s,
)
from perception_batch.write.picture_clock import PictureClock
from perception_batch.write.planes import Planes

_log = logging.getLogger(__name__)


class VideoWriter:
    """A context manager that takes pictures with their stamps.

    The file's first picture is a key frame at time 0. A picture is encoded when the next one comes, since only then its duration
    is known; the last one lasts as long as the one before, or as long as `close` says. One encoder thread: the same pictures give
    the same bytes (but for NVENC's).
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        settings: EncoderSettings,
        *,
        mean: MeanRate | None = None,
        clock: PictureClock | None = None,
    ) -> None:
        """Open ``<path>.partial``.

        Args:
            path: where the file will be.
            size_wh: width and height of all pictures, px; even.
            settings: rate factor, preset and encoder.
            mean: a rate instead of the rate factor.
            clock: of the video that this file is a part of; None: it is all of it.

        Raises:
            WriteError: no encoder, or it refuses the size; the disk refuses.
        """
        import av

        width, height = size_wh
        if width % 2 or height % 2 or width <= 0 or height <= 0:
            raise ValueError(f"4:2:0 wants even sizes, got {width}x{height}")
        self.codec = needed_codec(settings, size_wh)
        """The encoder's name."""
        self.path = path
        self.pictures = 0
        """How many this file has."""
        self._clock = PictureClock(path.name, ticks_per_s(self.codec)) if clock is None else clock
        self._size_wh = size_wh
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._start = 0
        self._pending: Any = None
        self._planes = Planes(size_wh)
        self._durations: dict[int, int] = {}
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
            self._container: Any = av.open(
                str(self._partial), "w", format="mp4", options={"movflags": "+faststart"}
            )
        try:
            self._stream = add_stream(self._container, self.codec, size_wh, settings, mean)
        except av.FFmpegError as error:
            self.discard()
            raise refusal(path, self.codec, size_wh, settings, error) from error
        except BaseException:
            self.discard()
            raise

    def write(self, stamp_ns: int, picture: Image) -> None:
        """Add one picture; stamps rise.

        Args:
            stamp_ns: time of the timestep, ns.
            picture: (H, W, 3) uint8 RGB, of the size given at the start.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        self.put(picture, self._clock.at(stamp_ns))

    def put(self, picture: Image, ticks: int) -> None:
        """Add one picture whose time was asked of the clock.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        width, height = self._size_wh
        if picture.shape != (height, width, 3):
            raise ValueError(f"expected a picture of ({height}, {width}, 3), got {picture.shape}")
        self.put_yuv(self._planes(picture), ticks)

    def put_yuv(self, frame: Any, ticks: int) -> None:
        """Add one picture in 4:2:0, PyAV's own.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._container is None:
            raise ValueError(f"{self.path.name}: written to after it was closed")
        if self.pictures == 0:
            self._start = ticks
        frame.pts, frame.time_base = ticks, Fraction(1, self._clock.ticks_per_s)
        if self._pending is not None:
            self._encode(self._pending, ticks - self._pending.pts)
        self._pending = frame
        self.pictures += 1

    def _encode(self, frame: Any, duration_ticks: int) -> None:
        if frame is not None:
            self._durations[frame.pts] = duration_ticks
        try:
            with disk_errors(self.path):
                for packet in self._stream.encode(frame):
                    packet.duration = self._durations.pop(packet.pts, duration_ticks)
                    packet.pts -= self._start
                    packet.dts -= self._start
                    self._container.mux(packet)
        except BaseException:
            self.discard()
            raise

    def close(self, end_ticks: int | None = None) -> None:
        """Finish the file and put it in its place; one without pictures is not left behind.

        Args:
            end_ticks: when the picture after the last one is shown; None: it lasts as long as the one before.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._container is None:
            return
        if self._pending is None:
            self.discard()
            return
        pending, self._pending = self._pending, None
        last = self._clock.step if end_ticks is None else end_ticks - pending.pts
        self._encode(pending, last)
        self._encode(None, last)
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
