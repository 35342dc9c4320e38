"""From the paths that a user gives to the files of one drive, and what its metadata says is absent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from perception_batch.errors import LogError, UnsupportedEncoding, printable
from perception_batch.read.containers.bag_metadata import (
    StatedCounts,
    dicts,
    number,
    read_metadata,
    topic_totals,
)
from perception_batch.read.containers.logfile import READABLE

SUFFIXES = (".bag", ".mcap", ".db3")


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
        if path.is_dir():
            _folder(path, found)
        elif path.exists():
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


def _folder(folder: Path, found: Found) -> None:
    on_disk = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
    metadata = read_metadata(folder / "metadata.yaml")
    listed = metadata.get("relative_file_paths") or []
    # Only the last part counts: a log does not decide which folders are read.
    names = [PurePosixPath(str(name)).name for name in listed] if isinstance(listed, list) else []
    if str(metadata.get("compression_mode", "")).lower() == "file":
        raise UnsupportedEncoding(
            folder, "its files are compressed as a whole (compression_mode FILE); unpack them first"
        )
    here = [folder / name for name in names if name and (folder / name).is_file()]
    if here:
        missing = [name for name in names if name and not (folder / name).is_file()]
        if missing:
            found.absent.append(_absent(metadata, missing))
        else:
            found.stated.append(StatedCounts(tuple(here), topic_totals(metadata)))
        found.files += here
    elif on_disk:
        # A bag whose files were renamed, or without metadata: what is there is the log.
        found.files += on_disk
    elif names:
        raise LogError(
            folder,
            f"none of the files that its metadata.yaml lists is there: "
            f"{', '.join(map(printable, names[:5]))}{', ...' if len(names) > 5 else ''}",
        )
    elif any(p.name.endswith((".zstd", ".zst")) for p in folder.iterdir()):
        raise UnsupportedEncoding(folder, "its files are compressed as a whole (zstd); unpack them first")
    else:
        raise LogError(folder, f"the folder holds no log; this version reads {READABLE}")


def _absent(metadata: dict[str, Any], missing: Iterable[str]) -> AbsentSplits:
    names = list(missing)
    starts, stops = [], []
    for entry in dicts(metadata.get("files")):
        if PurePosixPath(str(entry.get("path"))).name in names:
            start = number(entry, "starting_time", "nanoseconds_since_epoch")
            starts.append(start)
            stops.append(start + number(entry, "duration", "nanoseconds") + 1)
    return AbsentSplits(names, min(starts, default=0), max(stops, default=0), topic_totals(metadata))
