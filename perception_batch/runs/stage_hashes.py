"""Settings by stage as short hashes: which of a run's files a change of settings makes old."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perception_batch.runs.existing import (
    camera_default,
    flatten,
    is_calibration,
    needs_calibration,
    stage_of,
)


@dataclass(frozen=True, slots=True)
class StageHashes:
    """SHA-256 of what decides the files of each stage; a later stage's says all of the earlier ones it rests on.

    Equal ones mean equal files. Where `detect` differs, `difference` may still find that less is to be done again.
    """

    detect: str
    """Of what is detected: reading, grouping, decoding and detection, cameras, start and stop. Not of log and weights."""
    fuse: str
    """Of the tables of fusion and tracks: `detect`, and fusion's own."""
    render: str
    """Of the video: `fuse`, and drawing's own."""
    write: str
    """Of the other files: `fuse`, and writing's own."""


def stage_hashes(config: Mapping[str, Any], selection: Mapping[str, Any]) -> StageHashes:
    """The hashes of a run's settings.

    Args:
        config: all settings, as plain JSON.
        selection: as in `Identity`; what is null counts as not there.
    """
    own: dict[str, list[tuple[list[str], Any]]] = {"detect": [], "fuse": [], "render": [], "write": []}
    flat = flatten(config)
    by_place = needs_calibration(flat)
    for path, value in flat.items():
        stage = "detect" if by_place and is_calibration(path) else stage_of(path)
        if stage in own and not (path[0] == "cameras" and value == camera_default(path)):
            own[stage].append((list(path), value))
    for key, value in selection.items():
        if value is not None:
            own["fuse" if key == "rig" and not by_place else "detect"].append((["", key], value))
    detect = _hash("detect", own["detect"])
    fuse = _hash("fuse", own["fuse"], detect)
    return StageHashes(detect, fuse, _hash("render", own["render"], fuse), _hash("write", own["write"], fuse))


def _hash(stage: str, settings: list[tuple[list[str], Any]], before: str = "") -> str:
    # The text keeps 1 and 1.0 apart where equality does not; settings come from one pydantic model, which decides.
    text = json.dumps([stage, before, sorted(settings, key=lambda item: item[0])], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
