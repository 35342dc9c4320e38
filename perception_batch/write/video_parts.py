"""The parts of a drive's videos, a segment each: ``OUT/<drive>/.video_parts/``, from which a run that was stopped goes on drawing.

A part is what was drawn of one segment: a file of every video, and a record that lands after them and says what they were made
of. Without it, or with another key than is wanted now, the files count for nothing.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perception_batch.errors import printable
from perception_batch.write.atomic import write_whole

FOLDER = ".video_parts"
SCHEMA = 1
"""Version of the records."""
_RECORD = re.compile(r"^part_([0-9]{5,18})\.json$")
_BLOCK = 1 << 20
_MOST_RECORD_BYTES = 1 << 20
_log = logging.getLogger(__name__)


def one_segment(_stamp_ns: int) -> int:
    """The cut of a drive that is not cut."""
    return 0


@dataclass(frozen=True, slots=True)
class _Record:
    """What stands in a part's record."""

    key: Mapping[str, Any]
    """What all parts of the videos were made of."""
    drawn_from: str
    """Hash of all results up to the end of the segment."""
    files: Sequence[Mapping[str, int]]
    """Of each video in order: ``bytes`` and ``crc32``."""


class VideoParts:
    """The parts on disk; `wants` may be asked from any thread."""

    def __init__(
        self,
        directory: Path,
        segment_of: Callable[[int], int] = one_segment,
        key: Mapping[str, Any] | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            directory: of the run.
            segment_of: the segment of a timestep, by its stamp.
            key: what the videos are made of, as plain JSON: settings, log, weights, versions.
        """
        self.folder = directory / FOLDER
        self.segment_of = segment_of
        self._key = dict(key or {})
        self._landed: dict[int, _Record] = {}
        self._kept: frozenset[int] = frozenset()

    def begin(self, videos: int, facts: Mapping[str, Any]) -> None:
        """Look for what landed; what is not of these videos is removed.

        Args:
            videos: how many files a part has.
            facts: what more the videos are made of, as plain JSON.
        """
        self._key = json.loads(json.dumps({"schema": SCHEMA, **self._key, **facts}))
        self._landed = {}
        names = set()
        for path in self._files():
            match = _RECORD.match(path.name)
            record = None if match is None else self._read(path, int(match[1]), videos)
            if match is not None and record is not None:
                self._landed[int(match[1])] = record
                names |= {path.name, *(self.path(int(match[1]), video).name for video in range(videos))}
        for path in self._files():
            if path.name not in names and path.is_file():
                path.unlink()
        self._kept = frozenset(self._landed)

    def wants(self, stamp_ns: int) -> bool:
        """Whether the picture of a timestep is still to be drawn."""
        return self.segment_of(stamp_ns) not in self._kept

    def has(self, segment: int) -> bool:
        """Whether a segment's part was there at the beginning."""
        return segment in self._kept

    def path(self, segment: int, video: int) -> Path:
        """Where a segment's file of a video is, or will be."""
        return self.folder / f"part_{segment:05d}_{video}.mp4"

    def check(self, segment: int, drawn_from: str) -> bool:
        """Whether a part that was there was drawn from these results; it is removed where not."""
        record = self._landed.get(segment)
        if record is not None and record.drawn_from == drawn_from:
            return True
        _log.warning(
            "%s: was drawn from other results than there are now; drawn again",
            printable(self._record(segment)),
        )
        self.remove(segment)
        return False

    def land(self, segment: int, videos: int, drawn_from: str) -> None:
        """Say that the files of a segment are there; it is on the disk when this returns.

        Raises:
            WriteError: the disk is full or refuses.
        """
        facts = [_facts(self.path(segment, video)) for video in range(videos)]
        text = json.dumps(asdict(_Record(self._key, drawn_from, facts)), sort_keys=True)
        write_whole(self._record(segment), text.encode() + b"\n")

    def remove(self, segment: int) -> None:
        """Remove what is there of one segment."""
        self._record(segment).unlink(missing_ok=True)
        for path in self.folder.glob(f"part_{segment:05d}_*"):
            path.unlink(missing_ok=True)

    def _record(self, segment: int) -> Path:
        return self.folder / f"part_{segment:05d}.json"

    def _files(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _read(self, path: Path, segment: int, videos: int) -> _Record | None:
        """A record whose files are there, as they were written, and of these videos."""
        try:
            if path.stat().st_size > _MOST_RECORD_BYTES:
                return None
            record = _Record(**json.loads(path.read_bytes()))
            whole = [dict(facts) for facts in record.files] == [
                _facts(self.path(segment, video)) for video in range(videos)
            ]
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return record if whole and record.key == self._key else None


def clear_video_parts(directory: Path) -> None:
    """Remove what is left of parts in ``OUT/<drive>``, whose videos hold it all."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def _facts(path: Path) -> dict[str, int]:
    """Size and checksum of a file."""
    size = crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return {"bytes": size, "crc32": crc}
