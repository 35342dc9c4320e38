"""``run.json``: what a run was and how it ended. Written last; a directory with it is whole or says it is not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from perception_batch.errors import LogError
from perception_batch.write.atomic import write_whole
from perception_batch.write.schemas import SCHEMA_VERSION

FILE_NAME = "run.json"
RunStatus = Literal["complete", "partial", "failed", "unfinished"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of ``run.json``; each section is plain JSON, as `docs/formats.md` lists it."""

    drive: str
    """Name of the drive."""
    status: RunStatus
    """``complete``; ``partial`` where the exit status is 3; ``failed``; ``unfinished`` while running or stopped."""
    log: Mapping[str, Any] = field(default_factory=dict)
    """``paths, fingerprint, start_ns, stop_ns``."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """All settings, resolved."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """``cameras, start, stop, rig`` as asked on the command line; null where not asked."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """``path, sha256, backend, precision, input_hw, labels``."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Of this package and of those that results depend on."""
    device: str = ""
    """What ran the model."""
    host: str = ""
    """Name of the machine."""
    argv: Sequence[str] = ()
    """The command."""
    created_utc: str = ""
    """ISO 8601."""
    finished_utc: str | None = None
    """ISO 8601; null while unfinished."""
    exit_status: int | None = None
    """Null while unfinished."""
    batch_size: int | None = None
    """Images in a batch."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """``frames_in_log = frames_used + frames_unused + frames_undecodable``, ``timesteps``, ..."""
    sync: Mapping[str, Any] = field(default_factory=dict)
    """``anchor, reference, spread_ns, cameras``."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """``source``, ..."""
    ego: Mapping[str, Any] = field(default_factory=dict)
    """``source``."""
    timing: Mapping[str, Any] = field(default_factory=dict)
    """``wall_s, images_per_s, stages, waits``."""
    losses: Sequence[Mapping[str, Any]] = ()
    """``topic, start_ns, stop_ns, count, reason`` of each loss."""

    def to_dict(self) -> dict[str, Any]:
        """As in the file."""
        out: dict[str, Any] = {"schema": SCHEMA_VERSION}
        for item in fields(self):
            out[item.name] = plain(getattr(self, item.name))
        return out


def plain(value: Any) -> Any:
    """`value` as JSON knows it: paths and unknown things as text, tuples as lists, no NaN (null instead)."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return plain(value.tolist())
    return str(value)


def write_manifest(directory: Path, manifest: Manifest) -> Path:
    """Write ``run.json`` in one piece: flushed to the disk beside its place, then renamed.

    Raises:
        WriteError: the disk is full or refuses.
    """
    path = directory / FILE_NAME
    write_whole(path, (json.dumps(manifest.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    return path


def read_manifest(directory: Path) -> Manifest:
    """Read ``run.json``.

    Raises:
        FileNotFoundError: `directory` holds no run.
        LogError: the file is no manifest, or one of a newer version.
    """
    path = directory / FILE_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LogError(path, f"not a run's manifest: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise LogError(path, "not a run's manifest: it has no `schema`")
    if data["schema"] > SCHEMA_VERSION:
        raise LogError(
            path,
            f"schema {data['schema']} is of a newer version; this one reads up to {SCHEMA_VERSION}: update "
            "perception_batch",
        )
    if data.get("status") not in get_args(RunStatus) or not isinstance(data.get("drive"), str):
        raise LogError(
            path, f"not a run's manifest: status is {data.get('status')!r}, drive is {data.get('drive')!r}"
        )
    sections = {item.name: data[item.name] for item in fields(Manifest) if item.name in data}
    for item in fields(Manifest):
        kind = {"Mapping": dict, "Sequence": list}.get(str(item.type).partition("[")[0])
        if kind is not None and not isinstance(sections.get(item.name, kind()), kind):
            raise LogError(
                path, f"not a run's manifest: {item.name} is a {type(sections[item.name]).__name__}"
            )
    return Manifest(**sections)


def write_rig(directory: Path, rig: Mapping[str, Any]) -> Path:
    """Write ``rig.json`` from `Rig.to_dict`, with what the pipeline adds to it (masks).

    Raises:
        WriteError: the disk is full or refuses.
    """
    path = directory / "rig.json"
    write_whole(path, (json.dumps(plain(rig), indent=1, allow_nan=False) + "\n").encode())
    return path
