"""What to do where an output exists already: nothing, only its cheap stages, or refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from perception_batch.config import CameraConfig

_CAMERA_DEFAULTS = CameraConfig().model_dump(mode="json")
Stage = Literal["detect", "fuse", "render", "write", "none"]

# Keys of a camera that act in fusion (docs/formats.md); its others decide what the detector sees.
_CAMERA_FUSION_KEYS = frozenset({"mask", "score", "classes", "max_range_m", "intrinsics", "base_SE3_camera"})
_CALIBRATION_KEYS = frozenset({"intrinsics", "base_SE3_camera"})
_LIDAR, _LIDAR_KEYS = ("fuse", "lidar"), frozenset({"lidar", "lidar_tolerance_ms"})
# Keys that change neither results nor pictures.
_EXECUTION_KEYS = frozenset(
    {
        "decode.workers",
        "detect.copies",
        "decode.queue_mb",
        "runs.loss_limit_percent",
        "runs.keep_segments",
        "runs.retries",
        "runs.retry_wait_s",
        "runs.quiet_s",
        "runs.unclosed_s",
        "runs.hook_timeout_s",
        "detect.sha256",
        "detect.model",
    }
)


def stage_of(path: Sequence[str]) -> Stage:
    """The first stage that a change of the setting at `path` redoes; a camera's name may contain dots."""
    key = ".".join(path)
    if key in _EXECUTION_KEYS:  # the model counts by its hash, not by its path
        return "none"
    section = path[0]
    if section == "cameras":
        return "fuse" if path[2:] and path[2] in _CAMERA_FUSION_KEYS else "detect"
    if key == "fuse.base_frame":  # the stored path of the vehicle is that of the base frame
        return "detect"
    if section == "fuse" and path[1] in _LIDAR_KEYS:  # points are read where detections are made
        return "detect"
    if section in ("fuse", "track", "ontology") or key in ("detect.score", "detect.classes"):
        return "fuse"
    if section in ("render", "write"):
        return section  # type: ignore[return-value]
    return "detect"


def flatten(config: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Nested settings by path; `detect.score` by label stays one value."""
    out: dict[tuple[str, ...], Any] = {}
    for key, value in config.items():
        path = (*prefix, key)
        if isinstance(value, Mapping) and path != ("detect", "score"):
            out.update(flatten(value, path))
        else:
            out[path] = value
    return out


def needs_calibration(flat: Mapping[tuple[str, ...], Any]) -> bool:
    """Whether calibration decides what detection stores: a lidar's ranges, or crops along the horizon."""
    return flat.get(_LIDAR) is not None or flat.get(("detect", "tiles")) == "horizon"


def is_calibration(path: Sequence[str]) -> bool:
    """Whether a setting is part of a camera's calibration."""
    return path[0] == "cameras" and bool(path[2:]) and path[2] in _CALIBRATION_KEYS


def camera_default(path: Sequence[str]) -> Any:
    """What a camera that the settings do not name has at this path; None where the path is no camera's key."""
    return _CAMERA_DEFAULTS.get(path[2]) if path[0] == "cameras" and len(path) == 3 else None


@dataclass(frozen=True, slots=True)
class Identity:
    """What an output was made of; two equal ones give the same detections."""

    fingerprint: str
    """Of the log."""
    model_sha256: str
    """Of the weights."""
    config: Mapping[str, Any]
    """All settings, as plain JSON."""
    selection: Mapping[str, Any]
    """Cameras, start, stop and rig file, as plain JSON."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How a wanted run differs from what exists."""

    detect: tuple[str, ...] = ()
    """Names of what would change the detections."""
    fuse: tuple[str, ...] = ()
    """Keys that redo fusion."""
    render: tuple[str, ...] = ()
    """Keys that redo the video."""
    write: tuple[str, ...] = ()
    """Keys that redo other files."""
    rig_hash: str | None = None
    """SHA-256 of the rig file that is wanted; None without one."""

    @property
    def is_empty(self) -> bool:
        """True where the output is what is wanted."""
        return not (self.detect or self.fuse or self.render or self.write)


def stage_of_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Stage]:
    """The dotted keys in which two settings differ, each with the first stage that it redoes."""
    before, after = flatten(old), flatten(new)

    def value(flat: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> Any:
        """A camera that the config does not name has the defaults."""
        return flat.get(path, camera_default(path))

    changed = sorted(
        path for path in before.keys() | after.keys() if value(before, path) != value(after, path)
    )
    stages = {path: stage_of(path) for path in changed}
    if after.get(_LIDAR) is None:  # what is stored of it is left out
        stages.update((path, "fuse") for path in changed if path[:1] == ("fuse",) and path[1] in _LIDAR_KEYS)
    else:  # the lidar's ranges were measured with this calibration
        stages.update((path, "detect") for path in changed if path[2:3] and path[2] in _CALIBRATION_KEYS)
    return {".".join(path): stage for path, stage in stages.items()}


def difference(old: Identity, new: Identity) -> Difference:
    """What changed between two identities, by stage."""
    by_stage: dict[str, list[str]] = {"detect": [], "fuse": [], "render": [], "write": [], "none": []}
    by_horizon = flatten(new.config).get(("detect", "tiles")) == "horizon"  # crops lie where calibration says
    for key, stage in stage_of_keys(old.config, new.config).items():
        calibrates = key.startswith("cameras.") and any(f".{name}" in key for name in _CALIBRATION_KEYS)
        by_stage["detect" if by_horizon and calibrates else stage].append(key)
    if old.fingerprint != new.fingerprint:
        by_stage["detect"].append("the log")
    if old.model_sha256 != new.model_sha256:
        by_stage["detect"].append("detect.model (other weights)")
    for key in sorted(old.selection.keys() | new.selection.keys()):
        if old.selection.get(key) != new.selection.get(key):
            name = "the file of read.trajectory" if key == "trajectory" else f"--{key}"
            without_pixels = key == "rig" and flatten(new.config).get(_LIDAR) is None and not by_horizon
            by_stage["fuse" if without_pixels else "detect"].append(name)
    return Difference(
        tuple(by_stage["detect"]),
        tuple(by_stage["fuse"]),
        tuple(by_stage["render"]),
        tuple(by_stage["write"]),
        new.selection.get("rig"),
    )
