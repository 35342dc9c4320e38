"""``run.json`` of a run in any state: finished, broken off, damaged. Nothing in it is trusted to be there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception_batch.errors import LogError, printable

FILE_NAME = "run.json"
_SCHEMA = 1
_MAX_BYTES = 64 << 20
_STATES = ("complete", "partial", "failed", "unfinished")


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """What ``run.json`` says, section by section; a section that is missing or no section is empty."""

    directory: Path
    """``OUT/<drive>``."""
    drive: str
    """Name of the drive; of the folder where the file does not tell."""
    status: str
    """As in the file, or ``damaged``."""
    data: Mapping[str, Any]
    """The whole file; empty where it is damaged."""
    problem: str = ""
    """Why it is damaged; else empty."""

    def section(self, *names: str) -> Mapping[str, Any]:
        """A section, such as ``sync``, ``spread_ns``."""
        value: Any = self.data
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def number(self, *names: str) -> float | None:
        """A number; None where there is none."""
        value = self.section(*names[:-1]).get(names[-1]) if len(names) > 1 else self.data.get(names[0])
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e19:
            return None
        return float(value) if math.isfinite(value) else None

    def count(self, name: str) -> int:
        """One of `counts`; 0 where it is not told."""
        return max(0, int(self.number("counts", name) or 0))

    def stamp(self, name: str) -> int:
        """A stamp of `log`, ns; 0 where it is not told."""
        value = self.section("log").get(name)
        return value if type(value) is int and 0 < value < 1 << 63 else 0

    def words(self, *names: str) -> str:
        """Text; empty where there is none."""
        value = self.section(*names[:-1]).get(names[-1]) if len(names) > 1 else self.data.get(names[0])
        return value if isinstance(value, str) else ""

    def losses(self) -> list[Mapping[str, Any]]:
        """Entries of `losses`."""
        found = self.data.get("losses")
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return self.status in ("complete", "partial")


def is_run(directory: Path) -> bool:
    """Whether `directory` looks like one run."""
    return (directory / FILE_NAME).is_file()


def read_manifest(directory: Path) -> ManifestFacts:
    """What ``run.json`` in `directory` says.

    Raises:
        LogError: no run there.
        OSError: it is there and cannot be read.
    """
    path = directory / FILE_NAME
    try:
        with path.open("rb") as stream:
            found = stream.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise LogError(
            directory, "no run here: run.json is missing; give the folder OUT/<drive>, or OUT for all in it"
        ) from None
    try:
        data = json.loads(found) if len(found) <= _MAX_BYTES else "too large"
    except (ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())[:200]
        return ManifestFacts(directory, directory.resolve().name, "damaged", {}, problem)
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        return ManifestFacts(directory, directory.resolve().name, "damaged", {}, "it is no manifest of a run")
    if data["schema"] > _SCHEMA:
        raise LogError(
            path,
            f"schema {data['schema']} is of a newer version; this one reads up to {_SCHEMA}: update "
            "perception_batch",
        )
    drive = data.get("drive")
    status = data.get("status")
    if status not in _STATES:
        problem = f"its status is {printable(status)[:60]}"
        return ManifestFacts(directory, str(drive or directory.resolve().name), "damaged", data, problem)
    return ManifestFacts(
        directory, drive if isinstance(drive, str) and drive else directory.resolve().name, status, data
    )
