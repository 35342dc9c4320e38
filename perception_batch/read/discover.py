"""From the paths that a user gives to the files of one drive, and what its metadata says is absent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from perception_batch.errors import LogError, UnsupportedEncoding, printable
from perception_batch.read.logfile import READABLE, normalize_type

SUFFIXES = (".bag", ".mcap", ".db3")
MAX_METADATA_BYTES = 16 << 20


@dataclass(slots=True)
class AbsentSplits:
    """Files that a ``metadata.yaml`` lists and that are not there."""

    names: list[str]
    """File names."""
    start_ns: int
    """Log time of the first of them; 0 where not stated."""
    stop_ns: int
    """Just after the last of them; 0 where not stated."""
    totals: dict[str, tuple[str, int]]
    """By topic: normalised type, and messages in all splits together."""


@dataclass(slots=True)
class Found:
    """The files of one drive."""

    files: list[Path] = field(default_factory=list)
    """In the order given; splits in the order of their metadata."""
    absent: list[AbsentSplits] = field(default_factory=list)
    """One entry a folder with absent splits."""


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
        else:
            raise LogError(path, "no such file or folder")
    unique: dict[Path, Path] = {}
    for file in found.files:
        unique.setdefault(file.resolve(), file)
    found.files = list(unique.values())
    return found


def _folder(folder: Path, found: Found) -> None:
    on_disk = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
    metadata = _metadata(folder / "metadata.yaml")
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


def _metadata(path: Path) -> dict[str, Any]:
    """The content of a ``metadata.yaml``; empty where there is none, or none that can be read."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_METADATA_BYTES:
            return {}
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        loaded = yaml.load(path.read_text(encoding="utf-8", errors="replace"), Loader=loader)  # noqa: S506
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return {}
    info = loaded.get("rosbag2_bagfile_information") if isinstance(loaded, dict) else None
    return info if isinstance(info, dict) else {}


def _absent(metadata: dict[str, Any], missing: Iterable[str]) -> AbsentSplits:
    names = list(missing)
    starts, stops = [], []
    for entry in _dicts(metadata.get("files")):
        if PurePosixPath(str(entry.get("path"))).name in names:
            start = _number(entry, "starting_time", "nanoseconds_since_epoch")
            starts.append(start)
            stops.append(start + _number(entry, "duration", "nanoseconds") + 1)
    totals: dict[str, tuple[str, int]] = {}
    for entry in _dicts(metadata.get("topics_with_message_count")):
        topic = entry.get("topic_metadata")
        if isinstance(topic, dict):
            kind = normalize_type(str(topic.get("type")))
            totals[str(topic.get("name"))] = (kind, _number(entry, "message_count"))
    return AbsentSplits(names, min(starts, default=0), max(stops, default=0), totals)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _number(value: Any, *keys: str) -> int:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0
