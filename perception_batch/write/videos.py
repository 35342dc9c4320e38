"""The videos of a drive: the mosaic, and where wanted one a camera, cut from the same pictures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from perception_batch.types import Image
from perception_batch.write.annotation_scene import topic_parts
from perception_batch.write.atomic import PARTIAL_SUFFIX, disk_errors
from perception_batch.write.video import FILE_NAME, VideoSettings, VideoWriter

CAMERAS_NAME = "annotated_cameras"
_SMALLEST_PX = 16
"""Encoders refuse less; a tile so small shows nothing either."""


class DriveVideos:
    """A context manager that takes the mosaic's pictures; files are there when it is closed, those before them gone."""

    def __init__(
        self,
        directory: Path,
        size_wh: tuple[int, int],
        settings: VideoSettings,
        tiles: Mapping[str, tuple[int, int, int, int]] | None = None,
    ) -> None:
        """Open ``annotated.mp4``, and ``annotated_cameras/<camera>.mp4`` for each of the tiles.

        Args:
            directory: of the run.
            size_wh: width and height of the mosaic, px; even.
            settings: of all videos.
            tiles: left, top, width and height of each camera in the mosaic, px; None: no videos of single cameras.

        Raises:
            WriteError: no encoder, or it refuses; the disk refuses.
        """
        self._directory = directory
        self._mosaic = VideoWriter(directory / FILE_NAME, size_wh, settings)
        self._cameras: list[tuple[VideoWriter, tuple[slice, slice]]] = []
        try:
            names = topic_parts(tiles or {})
            for camera, (x, y, width, height) in (tiles or {}).items():
                width, height = width - width % 2, height - height % 2
                if min(width, height) < _SMALLEST_PX:
                    continue
                path = directory / CAMERAS_NAME / f"{names[camera]}.mp4"
                part = (slice(y, y + height), slice(x, x + width))
                self._cameras.append((VideoWriter(path, (width, height), settings), part))
        except BaseException:
            self.discard()
            raise

    @property
    def codec(self) -> str:
        """The encoder's name."""
        return self._mosaic.codec

    def write(self, stamp_ns: int, picture: Image) -> None:
        """Add one picture of the mosaic; stamps rise.

        Raises:
            WriteError: the disk is full or refuses; the file that it struck is gone then.
        """
        self._mosaic.write(stamp_ns, picture)
        for video, part in self._cameras:
            video.write(stamp_ns, picture[part])

    def close(self) -> None:
        """Finish the videos, put them in their places and remove those of cameras that are no longer wanted.

        Raises:
            WriteError: the disk is full or refuses.
        """
        made = {video.path.name for video, _ in self._cameras}
        try:
            self._mosaic.close()
            for video, _ in self._cameras:
                video.close()
        except BaseException:
            self.discard()
            raise
        _clear(self._directory / CAMERAS_NAME, keep=made)

    def discard(self) -> None:
        """Leave nothing of what is not closed yet."""
        for video in (self._mosaic, *(video for video, _ in self._cameras)):
            video.discard()

    def __enter__(self) -> DriveVideos:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        videos = (self._mosaic, *(video for video, _ in self._cameras))
        if error is None:
            self.close()
        else:  # each keeps what it has, as far as the disk lets it
            for video in videos:
                video.__exit__(kind, error, trace)


def remove_videos(directory: Path) -> None:
    """Remove the videos of an earlier run.

    Raises:
        WriteError: the place is read-only.
    """
    with disk_errors(directory):
        for ending in ("", PARTIAL_SUFFIX, ".smaller"):  # the last two: of a run that was killed
            (directory / (FILE_NAME + ending)).unlink(missing_ok=True)
        _clear(directory / CAMERAS_NAME, keep=set())


def _clear(folder: Path, keep: set[str]) -> None:
    """Remove videos from a folder, and the folder where nothing is left in it; other files stay."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in folder.iterdir():
        ours = path.name.endswith((".mp4", f".mp4{PARTIAL_SUFFIX}", ".mp4.smaller"))
        if ours and path.name not in keep:
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
