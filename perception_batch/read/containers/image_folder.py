"""A folder of image files: one camera a folder, its stamps in a file beside the images or in their names.

- KITTI raw: ``image_02/data/0000000005.png`` with ``image_02/timestamps.txt``, whose line 5 (from 0) is its stamp.
- nuScenes: ``samples/CAM_FRONT/<anything>__1531883530412470.jpg``, microseconds; ``sweeps`` are read as well.
- Any other: ``stamps``, ``timestamps`` or ``times`` (``.csv`` or ``.txt``) among the images or in the folder above, a
  line each, with the file's name or in the order of the files; or names that are stamps (s, ms, us or ns by
  their 10, 13, 16 or 19 digits), alone or at the end.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perception_batch.errors import LogError, printable
from perception_batch.read.containers.logfile import MAX_NS, STILL_FILE, Channel, Message, reason_of
from perception_batch.read.containers.stamps_file import (
    fields,
    parse_stamp,
    read_lines,
    read_stamps,
    stamp_in_name,
)
from perception_batch.types import Loss

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"))
"""Image files, by their names; what they are is read from their bytes."""

_STAMP_FILES = tuple(
    name + suffix for name in ("stamps", "timestamps", "times") for suffix in (".csv", ".txt")
)
_NO_NAMES = frozenset(("data", "samples", "sweeps"))  # folders that say nothing of the camera
_MAX_DEPTH = 3
_MAX_FOLDERS = 1000
_IN_NAME = re.compile(r"(?:^|[_-])([0-9]{10}\.[0-9]{1,9}|[0-9]{19}|[0-9]{16}|[0-9]{13}|[0-9]{10})$")


@dataclass(slots=True)
class _Camera:
    """The images of one topic."""

    channel: Channel
    files: list[tuple[int, Path]] = field(default_factory=list)
    """(stamp, file), sorted."""

    def entries(self) -> Iterator[tuple[int, Channel, Path]]:
        """Stamp, channel and file of each image."""
        return ((stamp_ns, self.channel, file) for stamp_ns, file in self.files)


class ImageFolder:
    """A folder of images; see `LogFile`. Log time is the image's stamp."""

    counts_by_index = True

    def __init__(self, path: Path, max_message_bytes: int) -> None:
        """Find the images and their stamps; no image is opened.

        Raises:
            LogError: no images, or images without stamps.
        """
        self.path = path
        self._max_message_bytes = max_message_bytes
        self._losses: list[Loss] = []
        self._cameras: dict[str, _Camera] = {}
        for folder, images in _image_folders(path):
            self._add(_topic(path, folder), folder, images)
        if not self._cameras:
            raise LogError(path, "the folder holds no images")
        for camera in self._cameras.values():
            camera.files.sort()
        self.channels: tuple[Channel, ...] = tuple(camera.channel for camera in self._cameras.values())
        stamps = [entry[0] for c in self._cameras.values() for entry in (c.files[0], c.files[-1])]
        self.start_ns, self.stop_ns = min(stamps, default=MAX_NS), max(stamps, default=-1) + 1
        self.message_count = sum(len(camera.files) for camera in self._cameras.values())

    @property
    def losses(self) -> tuple[Loss, ...]:
        """See `LogFile`."""
        return tuple(self._losses)

    def counts(self) -> Mapping[int, int]:
        """See `LogFile`."""
        return {camera.channel.id: len(camera.files) for camera in self._cameras.values()}

    def contents(self) -> Iterator[bytes]:
        """What tells this folder from another: each image's topic, stamp and size."""
        for topic, camera in self._cameras.items():
            for stamp_ns, file in camera.files:
                yield f"{topic} {stamp_ns} {file.stat().st_size}\n".encode()

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """See `LogFile`."""
        wanted = {channel.id for channel in channels}
        runs = [c.entries() for c in self._cameras.values() if c.channel.id in wanted]
        for stamp_ns, channel, file in heapq.merge(*runs, key=lambda entry: entry[0]):
            if start_ns is not None and stamp_ns < start_ns:
                continue
            if stop_ns is not None and stamp_ns >= stop_ns:
                return
            try:
                if file.stat().st_size > self._max_message_bytes:
                    self._lose(
                        channel.topic, stamp_ns, 1, f"{printable(file.name)} is too large for an image"
                    )
                    continue
                data = file.read_bytes()
            except OSError as error:
                self._lose(channel.topic, stamp_ns, 1, f"{printable(file.name)}: {reason_of(error)}")
                continue
            yield Message(stamp_ns, channel, data, stamp_ns)

    def close(self) -> None:
        """See `LogFile`. Nothing stays open."""

    def _add(self, topic: str, folder: Path, images: list[Path]) -> None:
        stamped, absent = _stamps_of(folder, images)
        if not stamped:
            raise LogError(
                folder,
                f"{len(images)} images without stamps: wanted is {_STAMP_FILES[0]} or {_STAMP_FILES[3]} with one "
                "stamp a line (or `name,stamp`), or file names that are stamps of 10, 13, 16 or 19 digits",
            )
        if topic not in self._cameras:
            channel = Channel(len(self._cameras), topic, STILL_FILE, "file", "", False)
            self._cameras[topic] = _Camera(channel)
        self._cameras[topic].files += stamped
        where = printable(folder.name)
        if len(images) > len(stamped):
            self._lose(topic, 0, len(images) - len(stamped), f"images in {where} have no stamp")
        if absent:
            loss = Loss(
                topic, min(absent), max(absent) + 1, len(absent), f"{where} lacks images that have a stamp"
            )
            self._losses.append(loss)

    def _lose(self, topic: str, stamp_ns: int, count: int, reason: str) -> None:
        loss = Loss(topic, stamp_ns, stamp_ns + 1 if stamp_ns else 0, count, reason)
        if loss not in self._losses:
            self._losses.append(loss)


def is_image_folder(path: Path) -> bool:
    """True for a folder that holds images, at most three folders down."""
    return path.is_dir() and next(_image_folders(path), None) is not None


def _image_folders(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Folders that hold image files, and these, by name; links to folders are not followed."""
    waiting = [(top, 0)]
    seen = 0
    while waiting:
        folder, depth = waiting.pop()
        seen += 1
        if seen > _MAX_FOLDERS:
            raise LogError(
                top, f"more than {_MAX_FOLDERS} folders; name the one with the cameras of one drive"
            )
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        images = [e for e in entries if e.suffix.lower() in SUFFIXES and not e.name.startswith(".")]
        if images:
            yield folder, images
        if depth < _MAX_DEPTH:
            below = [e for e in entries if e.is_dir() and not e.is_symlink() and not e.name.startswith(".")]
            waiting += [(entry, depth + 1) for entry in reversed(below)]


def _topic(top: Path, folder: Path) -> str:
    """The way from `top` to `folder` without parts that say nothing; the nearest name that says something."""
    parts = [part for part in folder.relative_to(top).parts if part not in _NO_NAMES]
    if not parts:
        names = [p.name for p in (folder, *folder.parents) if p.name and p.name not in _NO_NAMES]
        parts = [names[0] if names else "camera"]
    return "/" + "/".join(parts)


def _stamps_of(folder: Path, images: list[Path]) -> tuple[list[tuple[int, Path]], list[int]]:
    """Images with their stamps (ns), and the stamps of images that are not there."""
    places = (folder, folder.parent) if folder.name in _NO_NAMES else (folder,)
    for place in places:
        for name in _STAMP_FILES:
            if (place / name).is_file():
                return _by_list(place / name, images)
    found = [(_stamp_of_name(image), image) for image in images]
    return [(stamp, image) for stamp, image in found if stamp], []


def _stamp_of_name(image: Path) -> int:
    match = _IN_NAME.search(image.stem)
    return (stamp_in_name(match[1]) or 0) if match else 0


def _by_list(list_file: Path, images: list[Path]) -> tuple[list[tuple[int, Path]], list[int]]:
    """By the lines of a file: by name where they have one, else by number or order.

    Raises:
        LogError: a line without a stamp, or lines and images that do not belong together.
    """
    by_name = _named_stamps(list_file, images)
    if by_name:
        there = {image.name: image for image in images} | {image.stem: image for image in images}
        stamped = {there[name]: stamp for name, stamp in by_name.items() if name in there}
        absent = [stamp for name, stamp in by_name.items() if name not in there]
        return [(stamp, image) for image, stamp in stamped.items() if stamp > 0], absent
    stamps = read_stamps(list_file)
    if len(stamps) == len(images):
        return [(stamp, image) for stamp, image in zip(stamps, images, strict=True) if stamp > 0], []
    numbers = [int(image.stem) if image.stem.isascii() and image.stem.isdigit() else -1 for image in images]
    if min(numbers) < 0 or max(numbers) >= len(stamps):
        raise LogError(
            list_file,
            f"{len(stamps)} stamps for {len(images)} images, whose names do not tell which belongs to which; "
            "put the file's name before each stamp (`name,stamp`)",
        )
    taken = set(numbers)
    absent = [stamp for number, stamp in enumerate(stamps) if number not in taken]
    pairs = zip(numbers, images, strict=True)
    return [(stamps[number], image) for number, image in pairs if stamps[number] > 0], absent


def _named_stamps(list_file: Path, images: list[Path]) -> dict[str, int]:
    """Stamps by the file names in the lines; empty where the lines have none."""
    known = {image.name for image in images} | {image.stem for image in images}
    out: dict[str, int] = {}
    has_names = False
    for line in read_lines(list_file):
        columns = fields(line)
        stamps = [stamp for stamp in map(parse_stamp, columns[1:]) if stamp is not None]
        if len(columns) > 1 and stamps:
            name = columns[0].replace("\\", "/").rpartition("/")[2]
            has_names = has_names or name in known
            out[name] = stamps[-1]
    return out if has_names else {}
