"""What rosbag2 writes about a bag: ``metadata.yaml`` beside its files, and the same text inside sqlite3 files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from perception_batch.read.containers.logfile import LogFile

MAX_METADATA_BYTES = 16 << 20
MAX_DEPTH = 50
"""Of lists in lists: the parser's stack ends the program at some thousands; a recorder writes six."""


@dataclass(frozen=True, slots=True)
class StatedCounts:
    """How many messages a bag's metadata says that its files hold together."""

    files: tuple[Path, ...]
    """All files of the bag."""
    totals: Mapping[str, int]
    """Messages by topic, those without any too."""

    def fits(self, files: Sequence[LogFile]) -> bool:
        """True where the statement names every topic of `files` and adds up to their messages.

        A file that was cut, mended, renamed or exchanged does not pass, and is counted.
        """
        topics = {channel.topic for file in files for channel in file.channels}
        return self.totals.keys() >= topics and sum(self.totals.values()) == sum(
            file.message_count for file in files
        )


def read_metadata(path: Path) -> dict[str, Any]:
    """The content of a ``metadata.yaml``; empty where there is none, or none that can be read."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_METADATA_BYTES:
            return {}
        loaded = _load(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}
    info = loaded.get("rosbag2_bagfile_information")
    return info if isinstance(info, dict) else {}


def parse_metadata(written: object) -> dict[str, Any]:
    """The text in the table ``metadata`` of a sqlite3 file; empty where it says nothing."""
    return _load(written) if isinstance(written, str) and len(written) <= MAX_METADATA_BYTES else {}


def topic_totals(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Messages by topic, in all files of a bag together."""
    totals: dict[str, int] = {}
    for entry in dicts(metadata.get("topics_with_message_count")):
        topic = entry.get("topic_metadata")
        if isinstance(topic, dict):
            totals[text(topic.get("name"))] = number(entry, "message_count")
    return totals


def dicts(value: object) -> list[dict[str, Any]]:
    """The mappings in a list that may be anything."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """A text; empty for anything else."""
    return value if isinstance(value, str) else ""


def file_name(value: object) -> str:
    """The last part of a path: a log does not decide which folders are read."""
    name = PurePosixPath(text(value)).name
    return "" if name == ".." else name


def number(value: Any, *keys: str) -> int:
    """A number that 63 bits hold below `keys`; 0 for anything else."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str) or not re.fullmatch("[0-9]{1,19}", value):
        return 0
    return int(value) if int(value) < 2**63 else 0


def _load(written: str) -> dict[str, Any]:
    """Mappings, lists and texts: nothing is expanded or converted, which hostile YAML would make endless."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        depth = 0
        for event in yaml.parse(written, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                return {}
        loaded = yaml.load(written, Loader=loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return loaded if isinstance(loaded, dict) else {}
