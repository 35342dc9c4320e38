"""When a drive has stopped growing: ``run --watch`` must not take one that is still being recorded."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Readiness = Literal["growing", "quiet", "open", "ready"]

_MCAP = b"\x89MCAP0\r\n"
_BAG = b"#ROSBAG V2"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a drive's files."""

    sizes: tuple[tuple[str, int], ...]
    """Name and bytes of every file, sorted."""
    closed: bool
    """Whether they look as their recorder leaves them when it has ended."""


@dataclass(slots=True)
class _Seen:
    look: Look
    since_s: float
    """When it was first seen so, on the watcher's clock."""


class GrowthWatcher:
    """Decides from looks at a drive, again and again, whether it may be processed.

    The clock is monotonic (`time.monotonic`): one that was set back or forward in the night neither starts a drive too early
    nor keeps it waiting. Nothing is taken from the times of files.
    """

    def __init__(self, quiet_s: float, unclosed_s: float) -> None:
        """Begin with no drive known.

        Args:
            quiet_s: a drive whose files are closed must not have changed for so long.
            unclosed_s: the same for one whose files were never closed: its recorder may be paused, or may have died.
        """
        self._quiet_s = quiet_s
        self._unclosed_s = max(quiet_s, unclosed_s)
        self._seen: dict[str, _Seen] = {}

    def observe(self, drive: str, look: Look, now_s: float) -> Readiness:
        """Take a look at a drive.

        Args:
            drive: its name.
            look: from `look_at`.
            now_s: the monotonic clock.

        Returns:
            ``ready``; ``growing``: it has changed since the last look, or is seen for the first time; ``quiet``: not long
            enough; ``open``: quiet, but never closed.
        """
        seen = self._seen.get(drive)
        if seen is None or seen.look != look:
            self._seen[drive] = _Seen(look, now_s)
            if self._quiet_s > 0 or not look.closed:
                return "growing"
            return "ready"
        seen.since_s = min(
            seen.since_s, now_s
        )  # a clock that went back: the wait begins anew rather than ends
        still_s = now_s - seen.since_s
        if look.closed:
            return "ready" if still_s >= self._quiet_s else "quiet"
        if still_s >= self._unclosed_s:
            return "ready"
        return "open" if still_s >= self._quiet_s else "quiet"

    def forget(self, known: Collection[str]) -> None:
        """Keep only these drives: those that were removed, or are done, cost no memory for ever."""
        for drive in [name for name in self._seen if name not in known]:
            del self._seen[drive]


def look_at(paths: Sequence[Path]) -> Look:
    """Look at the files of a drive: sizes, and a few bytes at either end of a log.

    Raises:
        OSError: a file cannot be read. One that has gone meanwhile is a change, not an error.
    """
    sizes: list[tuple[str, int]] = []
    closed = True
    for path in paths:
        if path.is_dir():
            names = [(Path(place) / name) for place, _, found in os.walk(path) for name in found]
            has_logs = any(name.suffix in (".mcap", ".db3", ".bag") for name in names)
            # rosbag2 writes metadata.yaml when it closes the bag; a folder of images has none and never ends.
            closed = closed and (not has_logs or (path / "metadata.yaml").is_file())
        else:
            names = [path]
        for name in names:
            try:
                size = name.stat().st_size
                closed = closed and _is_closed(name, size)
            except FileNotFoundError:
                size, closed = -1, False
            sizes.append((str(name), size))
    return Look(tuple(sorted(sizes)), closed)


def _is_closed(path: Path, size: int) -> bool:
    """Whether one file ends as its format ends; what has no end of its own is closed where nothing says otherwise."""
    name = path.name
    if name.endswith((".active", ".part", ".partial", ".tmp", ".crdownload", ".filepart", "-journal")):
        return False
    if name.endswith("-wal"):
        return size == 0
    if size == 0:
        return name == "COLCON_IGNORE" or path.suffix not in (".mcap", ".bag", ".db3")
    if path.suffix not in (".mcap", ".bag", ".db3"):
        return True
    with path.open("rb") as stream:
        head = stream.read(64)
        if head.startswith(_MCAP):
            stream.seek(max(0, size - len(_MCAP)))
            return size >= 2 * len(_MCAP) and stream.read() == _MCAP
        if head.startswith(_BAG):
            # The first record's header: `index_pos` is 0 until the bag is closed (http://wiki.ros.org/Bags/Format/2.0).
            data = head + stream.read(4096)
            at = data.find(b"index_pos=")
            return at >= 0 and any(data[at + 10 : at + 18])
    beside = path.with_name(name + "-wal")
    return not (beside.is_file() and beside.stat().st_size)
