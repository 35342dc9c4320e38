"""The videos of a drive: the mosaic, and where wanted one a camera, cut from the same pictures.

They are encoded in parts, one a segment of the drive: each begins with a key frame of an encoder that was opened for it, and so
rests on nothing that was drawn before. At the end the parts are joined packet by packet. A run that was stopped draws only the
segments whose parts had not landed, and ends with the same packets.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from perception_batch.errors import WriteError
from perception_batch.types import Image
from perception_batch.write.annotation_scene import topic_parts
from perception_batch.write.atomic import PARTIAL_SUFFIX, disk_errors, put_in_place
from perception_batch.write.encoder import EncoderSettings, needed_codec, stream_head, ticks_per_s
from perception_batch.write.picture_clock import PictureClock
from perception_batch.write.video import VideoWriter
from perception_batch.write.video_join import join
from perception_batch.write.video_parts import VideoParts, one_segment
from perception_batch.write.video_size import SMALLER_SUFFIX, fit

FILE_NAME = "annotated.mp4"
CAMERAS_NAME = "annotated_cameras"
_SMALLEST_PX = 16
"""Encoders refuse less; a tile so small shows nothing either."""
_log = logging.getLogger(__name__)


class VideoSettings(EncoderSettings, Protocol):
    """What this file takes of the section `render` of the settings."""

    @property
    def max_mb(self) -> float | None:
        """Largest size of a video, MB (10^6 bytes); None: any."""


class _Video:
    """One of the videos."""

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        settings: VideoSettings,
        part: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self.size_wh = size_wh
        self.codec = needed_codec(settings, size_wh)
        self.head = stream_head(path, size_wh, settings)
        self.clock = PictureClock(path.name, ticks_per_s(self.codec))
        self.part = part
        self.starts: dict[int, int] = {}
        """When each segment begins, ticks."""
        self.writer: VideoWriter | None = None
        self._settings = settings

    def facts(self) -> list[object]:
        """What the packets rest on besides the pictures."""
        return [self.path.name, *self.size_wh, self.codec, hashlib.sha256(self.head).hexdigest()]

    def open(self, path: Path) -> None:
        """Begin the file of a part."""
        self.writer = VideoWriter(path, self.size_wh, self._settings, clock=self.clock)

    def close(self, end_ticks: int | None) -> None:
        """Finish the file of the part."""
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.close(end_ticks)

    def discard(self) -> None:
        """Leave nothing of the part that is being written."""
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.discard()

    def join(self, parts: list[tuple[Path, int]]) -> None:
        """Put the whole video in its place."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        join(parts, self.partial, self.clock.ticks_per_s)
        try:
            if self._settings.max_mb:
                limit_bytes = round(self._settings.max_mb * 1e6)
                with disk_errors(self.path):
                    fit(self.partial, limit_bytes, self.size_wh, self._settings, self.clock)
            put_in_place(self.partial, self.path)
        except BaseException:
            self.partial.unlink(missing_ok=True)
            raise


class DriveVideos:
    """A context manager that takes the mosaic's pictures; videos are there when it is closed, those before them gone."""

    def __init__(
        self,
        directory: Path,
        size_wh: tuple[int, int],
        settings: VideoSettings,
        tiles: Mapping[str, tuple[int, int, int, int]] | None = None,
        parts: VideoParts | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Look for what landed of ``annotated.mp4``, and of ``annotated_cameras/<camera>.mp4`` for each of the tiles.

        Args:
            directory: of the run.
            size_wh: width and height of the mosaic, px; even.
            settings: of all videos.
            tiles: left, top, width and height of each camera in the mosaic, px; None: no videos of single cameras.
            parts: where parts land; None: in the directory, the drive not cut.
            facts: what the pictures rest on besides results and images, as plain JSON.

        Raises:
            WriteError: no encoder, or it refuses; the disk refuses.
        """
        self.missing: list[int] = []
        """Segments without a part at the end: what had landed of them was drawn from other results."""
        self._directory = directory
        self._parts = VideoParts(directory) if parts is None else parts
        self._videos = [_Video(directory / FILE_NAME, size_wh, settings)]
        names = topic_parts(tiles or {})
        for camera, (x, y, width, height) in (tiles or {}).items():
            width, height = width - width % 2, height - height % 2
            if min(width, height) < _SMALLEST_PX:
                continue
            path = directory / CAMERAS_NAME / f"{names[camera]}.mp4"
            part = (slice(y, y + height), slice(x, x + width))
            self._videos.append(_Video(path, (width, height), settings, part))
        if not all(video.head for video in self._videos):
            self._parts.segment_of = one_segment
            _log.warning(
                "%s: the parts of a video by %s cannot be joined; where a run is stopped, it is drawn again from its start",
                FILE_NAME,
                self.codec,
            )
        with disk_errors(self._parts.folder):
            whole = self._parts.segment_of is one_segment
            made = {"whole": whole, "videos": [video.facts() for video in self._videos], **(facts or {})}
            self._parts.begin(len(self._videos), made)
        self._segment: int | None = None
        self._hash = hashlib.sha256()
        self._is_open = True

    @property
    def codec(self) -> str:
        """The encoder's name."""
        return self._videos[0].codec

    def write(self, stamp_ns: int, picture: Image | None, drawn_from: bytes = b"") -> None:
        """Add the next timestep, whether its picture is there already or not; stamps rise.

        Args:
            stamp_ns: of the timestep.
            picture: of the mosaic; None where none is wanted (`VideoParts.wants`).
            drawn_from: hash of the result that it shows.

        Raises:
            WriteError: the disk is full or refuses; the file that it struck is gone then.
        """
        if not self._is_open:
            raise ValueError(f"{FILE_NAME}: written to after it was closed")
        ticks = [video.clock.at(stamp_ns) for video in self._videos]
        segment = self._parts.segment_of(stamp_ns)
        if (
            self._segment is None or segment > self._segment
        ):  # one that goes back stays in the part that is open
            self._end_part(ticks)
            self._segment = segment
            for video, start in zip(self._videos, ticks, strict=True):
                video.starts[segment] = start
                if picture is not None and not self._parts.has(segment):
                    video.open(self._parts.path(segment, self._videos.index(video)))
        self._hash.update(drawn_from)
        if picture is None:
            self._discard()
            return
        for video, time in zip(self._videos, ticks, strict=True):
            if video.writer is not None:
                video.writer.put(picture[video.part], time)

    def _end_part(self, next_ticks: list[int] | None = None) -> None:
        """Land the part of the segment that ends; its last pictures last until `next_ticks`."""
        segment, videos = self._segment, self._videos
        if segment is None:
            return
        digest = self._hash.hexdigest()
        if self._parts.has(segment):
            if not self._parts.check(segment, digest):
                self.missing.append(segment)
        elif any(video.writer is None for video in videos):
            self.missing.append(segment)
        else:
            for number, video in enumerate(videos):
                video.close(None if next_ticks is None else next_ticks[number])
            self._parts.land(segment, len(videos), digest)

    def close(self) -> None:
        """Land the last part; join the videos, put them in their places and remove those of cameras that are no longer wanted.

        Where parts are `missing`, nothing is joined. The parts stay until `clear_video_parts`: who stops now goes on from them.

        Raises:
            WriteError: the disk is full or refuses.
        """
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._end_part()
        except BaseException:
            self._discard()
            raise
        if self.missing:
            return
        made = set()
        for number, video in enumerate(self._videos):
            if video.starts:
                video.join([(self._parts.path(s, number), start) for s, start in video.starts.items()])
                made.add(video.path.name)
        _clear(self._directory / CAMERAS_NAME, keep=made)

    def discard(self) -> None:
        """Leave nothing of what has not landed yet; does nothing after `close`."""
        self._is_open = False
        self._discard()

    def _discard(self) -> None:
        for video in self._videos:
            video.discard()

    def _keep(self) -> None:
        """Make videos of what is there, for one to look at who stopped the run; what is not whole does not land."""
        for number, video in enumerate(self._videos):
            parts = [
                (self._parts.path(segment, number), start)
                for segment, start in video.starts.items()
                if segment != self._segment and segment not in self.missing
            ]
            if video.writer is not None and self._segment is not None and video.writer.pictures:
                end = video.writer.path
                video.close(None)
                parts.append((end, video.starts[self._segment]))
            if parts:
                video.join(parts)

    def __enter__(self) -> DriveVideos:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
            return
        if not self._is_open:
            return
        self._is_open = False
        try:  # each keeps what it has, as far as the disk lets it
            self._keep()
        except (WriteError, OSError) as failure:
            _log.warning("while stopping: %s", failure)
        finally:
            self._discard()


def remove_videos(directory: Path) -> None:
    """Remove the videos of an earlier run; their parts stay.

    Raises:
        WriteError: the place is read-only.
    """
    with disk_errors(directory):
        for ending in _ENDINGS:
            (directory / (FILE_NAME + ending)).unlink(missing_ok=True)
        _clear(directory / CAMERAS_NAME, keep=set())


_ENDINGS = ("", PARTIAL_SUFFIX, SMALLER_SUFFIX, SMALLER_SUFFIX + PARTIAL_SUFFIX)
"""The last three: of a run that was killed."""


def _clear(folder: Path, keep: set[str]) -> None:
    """Remove videos from a folder, and the folder where nothing is left in it; other files stay."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in folder.iterdir():
        ours = path.name.endswith(tuple(f".mp4{ending}" for ending in _ENDINGS))
        if ours and path.name not in keep:
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
