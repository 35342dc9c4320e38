"""From the paths that a user gives to the files of one drive, and what its metadata says is absent."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perception_batch.errors import LogError, printable
from perception_batch.read.containers.bag_metadata import (
    StatedCounts,
    dicts,
    file_name,
    number,
    read_metadata,
    topic_totals,
)
from perception_batch.read.containers.image_folder import is_image_folder
from perception_batch.read.containers.logfile import READABLE
from perception_batch.read.containers.video_file import SUFFIXES as VIDEO_SUFFIXES

SUFFIXES = (".bag", ".mcap", ".db3")
PACKED_SUFFIXES = (".zstd", ".zst", ".lz4")
_SPLIT = re.compile(r"^(?P<stem>.+)_[0-9]{1,18}\.[a-z0-9.]+$")


@dataclass(slots=True)
class AbsentSplits:
    """Files that a ``metadata.yaml`` lists and that are not there."""

    names: list[str]
    """File names."""
    start_ns: int
    """Log time of the first of them; 0 where not stated."""
    stop_ns: int
    """Just after the last of them; 0 where not stated."""
    totals: dict[str, int]
    """By topic: messages in all splits together."""


@dataclass(slots=True)
class Found:
    """The files of one drive."""

    files: list[Path] = field(default_factory=list)
    """In the order given; splits in the order of their metadata."""
    absent: list[AbsentSplits] = field(default_factory=list)
    """One entry a folder with absent splits."""
    stated: list[StatedCounts] = field(default_factory=list)
    """One entry a bag with a ``metadata.yaml``."""


def discover(paths: Sequence[Path]) -> Found:
    """The files of the drive that `paths` name: files, and folders of files.

    Raises:
        LogError: a path does not exist, or a folder holds no log.
    """
    found = Found()
    for path in paths:
        # Is it a file? comes first: whether a web address is a folder is only known from all of its content.
        is_file = path.is_file()
        if not is_file and path.is_dir():
            _folder(path, found)
        elif is_file or path.exists():
            found.files.append(path)
            if totals := topic_totals(read_metadata(path.with_name("metadata.yaml"))):
                found.stated.append(StatedCounts((path,), totals))
        else:
            raise LogError(path, "no such file or folder")
    unique: dict[Path, Path] = {}
    for file in found.files:
        unique.setdefault(file.resolve(), file)
    found.files = list(unique.values())
    return found


def is_log_name(name: str) -> bool:
    """True for names that logs have, packed as a whole file or not, and of a bag that was never closed."""
    name = _unpacked(name)
    return name.removesuffix(".active").endswith(".bag") or name.endswith(SUFFIXES)


def without_twins(names: Collection[str]) -> list[str]:
    """`names` less those that are another form of one of them, sorted.

    These are what ``rosbag reindex`` keeps of a bag before it mends it (``a.orig.bag``), a bag that was being
    recorded beside the finished one (``a.bag.active``), and a packed file beside its content.
    """
    here = set(names)

    def is_twin(name: str) -> bool:
        others = [name.removesuffix(suffix) for suffix in (*PACKED_SUFFIXES, ".active")]
        others += [re.sub(r"\.orig(?=\.(bag|active)$)", "", name)]
        return any(other != name and other in here for other in others)

    return sorted(name for name in here if not is_twin(name))


def _folder(folder: Path, found: Found) -> None:
    entries = {path.name: path for path in folder.iterdir()}
    metadata = read_metadata(folder / "metadata.yaml")
    listed = metadata.get("relative_file_paths")
    names = list(dict.fromkeys(filter(None, map(file_name, listed)))) if isinstance(listed, list) else []
    there = {name: _form_of(name, entries) for name in names}
    here = [path for path in there.values() if path is not None and path.is_file()]
    on_disk = without_twins([name for name in entries if is_log_name(name)])
    if here:
        missing = [name for name in names if there[name] not in here]
        taken = {_unpacked(path.name) for path in here}
        more = [name for name in on_disk if _unpacked(name) not in taken and _continues(name, names)]
        here += [path for path in map(entries.__getitem__, more) if path.is_file()]
        if missing:
            found.absent.append(_absent(metadata, missing))
        else:
            found.stated.append(StatedCounts(tuple(here), topic_totals(metadata)))
        found.files += here
        return
    # A bag whose files were renamed, or without metadata: what is there is the log.
    files = [path for path in map(entries.__getitem__, on_disk) if path.is_file()]
    if not files and names:
        raise LogError(
            folder,
            f"none of the files that its metadata.yaml lists is there: "
            f"{', '.join(map(printable, names[:5]))}{', ...' if len(names) > 5 else ''}",
        )
    if not files:
        files = [path for name, path in sorted(entries.items()) if name.lower().endswith(VIDEO_SUFFIXES)]
    if not files and is_image_folder(folder):
        files = [folder]
    if not files:
        raise LogError(folder, f"the folder holds no log; this version reads {READABLE}")
    found.files += files


def _form_of(name: str, entries: Mapping[str, Path]) -> Path | None:
    """A listed file, packed or unpacked since it was listed."""
    bare = _unpacked(name)
    forms = [name, bare, *(bare + suffix for suffix in PACKED_SUFFIXES)]
    return next((entries[form] for form in forms if form in entries), None)


def _unpacked(name: str) -> str:
    for suffix in PACKED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _continues(name: str, listed: Sequence[str]) -> bool:
    """True for a split that follows those listed, as where a recorder was killed before it listed it."""
    match = _SPLIT.match(name)
    stems = {m["stem"] for m in map(_SPLIT.match, listed) if m}
    return match is not None and match["stem"] in stems


def _absent(metadata: dict[str, Any], missing: Iterable[str]) -> AbsentSplits:
    names = list(missing)
    starts, stops = [], []
    for entry in dicts(metadata.get("files")):
        if file_name(entry.get("path")) in names:
            start = number(entry, "starting_time", "nanoseconds_since_epoch")
            starts.append(start)
            stops.append(start + number(entry, "duration", "nanoseconds") + 1)
    return AbsentSplits(names, min(starts, default=0), max(stops, default=0), topic_totals(metadata))
