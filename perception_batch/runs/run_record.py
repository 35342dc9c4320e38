"""What ``run.json`` says of one finished or broken-off drive, as far as planning and the ledger need it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from perception_batch.runs.stage_hashes import StageHashes, stage_hashes

NAME = "run.json"
FOLDER = ".perception_batch"
"""What a collection keeps for itself, in its OUT."""
MAX_BYTES = 64 << 20
SCHEMA = 1
"""Highest `schema` that is understood: `write.SCHEMA_VERSION`, which a test compares."""

RecordStatus = Literal["complete", "partial", "failed", "unfinished", "damaged", "newer"]
FINISHED: tuple[RecordStatus, ...] = ("complete", "partial")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One drive's ``run.json``."""

    drive: str
    """Name of its folder."""
    status: RecordStatus
    """As in the file; ``damaged`` where it is no manifest, ``newer`` where a later version wrote it."""
    digest: str
    """SHA-256 of the file: another one tells that it has changed."""
    content: str = ""
    """`Content.fingerprint` of the log's files; empty where it was not noted."""
    log: str = ""
    """The log's own fingerprint."""
    weights_sha256: str = ""
    hashes: StageHashes | None = None
    """Of its settings; None where they cannot be read."""
    size_bytes: int = 0
    """Of the log's files; 0 where it was not noted."""
    frames: int = 0
    """Camera frames in the log."""
    losses: int = 0
    """Entries of `losses`."""
    wall_s: float = 0.0
    """Seconds that the run took."""
    exit_status: int | None = None
    """Null while unfinished."""
    finished_utc: str = ""
    """ISO 8601; empty while unfinished."""

    @property
    def is_finished(self) -> bool:
        """True where its tables are whole."""
        return self.status in FINISHED


def read_record(directory: Path, known: RunRecord | None = None) -> RunRecord | None:
    """The record of ``OUT/<drive>``; None where there is no run.

    Args:
        directory: the drive's folder.
        known: what was read earlier; given back where the file has not changed since.

    Raises:
        OSError: the file is there and cannot be read.
    """
    path = directory / NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    if known is not None and known.digest == hashlib.sha256(data).hexdigest():
        return known
    return parse_record(directory.name, data)


def parse_record(drive: str, data: bytes) -> RunRecord:
    """The record that the bytes of a ``run.json`` are; never an error."""
    digest = hashlib.sha256(data).hexdigest()
    damaged = RunRecord(drive, "damaged", digest)
    if len(data) > MAX_BYTES:
        return damaged
    found = json_object(data)
    if type(found.get("schema")) is not int:
        return damaged
    if found["schema"] > SCHEMA:
        return RunRecord(drive, "newer", digest)
    if found.get("status") not in ("complete", "partial", "failed", "unfinished"):
        return damaged
    log, model, config = _section(found, "log"), _section(found, "model"), _section(found, "config")
    timing, counts = _section(found, "timing"), _section(found, "counts")
    losses, exit_status = found.get("losses"), found.get("exit_status")
    return RunRecord(
        drive,
        found["status"],
        digest,
        _text(log, "content"),
        _text(log, "fingerprint"),
        _text(model, "sha256"),
        stage_hashes(config, _section(found, "selection")) if config else None,
        int(_number(log, "size_bytes")),
        int(_number(counts, "frames_in_log")),
        len(losses) if isinstance(losses, list) else 0,
        _number(timing, "wall_s"),
        exit_status if type(exit_status) is int else None,
        _text(found, "finished_utc"),
    )


def json_object(data: bytes) -> dict[str, Any]:
    """The JSON object that some bytes are; an empty one where they are none (half-written, say)."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def drive_folders(out: Path) -> Iterator[Path]:
    """The folders in a collection's OUT that may be drives, sorted.

    Raises:
        OSError: OUT cannot be listed.
    """
    try:
        entries = sorted(path for path in out.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (path for path in entries if path.is_dir())


def _section(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _number(data: Mapping[str, Any], name: str) -> float:
    """A number that a table of the ledger can hold; 0 for anything else."""
    value: Any = data.get(name)
    return float(value) if type(value) in (int, float) and 0 <= value < 1e18 else 0.0
