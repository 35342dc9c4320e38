"""The rig of a drive: CameraInfo and transforms of the log, under a rig file, under the config."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.config import CameraConfig
from perception_batch.errors import CalibrationError, ConfigError, printable
from perception_batch.geometry import SE3
from perception_batch.read.rigs.camchain import same_pose
from perception_batch.read.rigs.camera_info import intrinsics_of, is_rectified
from perception_batch.read.rigs.rig_file import RigFile
from perception_batch.read.rigs.transforms import TransformTree, frame_name

DEFAULT_BASE = "base_link"


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """What the log and the config state of one camera."""

    name: str
    """Name of the camera."""
    topic: str
    """Image topic."""
    frame_id: str
    """Optical frame; empty where unknown."""
    size_px: tuple[int, int]
    """Width, height of the images; (0, 0) where unknown."""
    info: Any | None
    """Its CameraInfo; None where the log has none."""
    settings: CameraConfig
    """The camera's part of the config."""


def build_rig(
    cameras: Sequence[CameraFacts], tree: TransformTree, file: RigFile | None, base_frame: str
) -> Rig:
    """Put together what is known; a camera that lacks a part is uncalibrated, with the reason.

    Args:
        cameras: the selected cameras.
        tree: the log's transforms.
        file: the rig file; it goes over the log.
        base_frame: a frame's name, or ``auto``: the topmost frame above the cameras, below ``odom`` or ``map``.

    Raises:
        CalibrationError: the config's or the file's numbers contradict the images, or fit no camera.
        ConfigError: `base_frame` is no frame of the log.
    """
    notes: list[str] = [] if file is None else list(file.notes)
    from_file = _assign(file, cameras, notes)
    base, reasons = _base(cameras, tree, file, base_frame)
    chained = {} if file is None else _chained(cameras, tree, base, file, from_file, reasons, notes)
    calibrated: dict[str, Camera] = {}
    uncalibrated: dict[str, str] = {}
    for camera in cameras:
        stated = from_file.get(camera.name)
        try:
            lens, lens_source = _intrinsics(camera, file, stated, notes)
            if camera.name in chained:
                pose, pose_source = chained[camera.name]
            else:
                pose, pose_source = _pose(camera, tree, base, file, stated, reasons, notes)
        except ValueError as error:
            uncalibrated[camera.name] = printable(error)
            continue
        source = lens_source if lens_source == pose_source else f"{lens_source}+{pose_source}"
        calibrated[camera.name] = Camera(camera.name, lens, pose, source)
    ground = _ground(tree, base, file)
    return Rig(base if calibrated else "", calibrated, uncalibrated, ground, tuple(notes))


def _assign(file: RigFile | None, cameras: Sequence[CameraFacts], notes: list[str]) -> dict[str, str]:
    """By camera: its name in the file."""
    if file is None:
        return {}
    by_topic = {_plain(camera.topic): camera.name for camera in cameras}
    names = {camera.name for camera in cameras}
    out: dict[str, str] = {}
    for name in file.intrinsics:
        alias = file.aliases.get(name, "")
        target = next(
            (n for n in (name, alias) if n in names), by_topic.get(_plain(file.topics.get(name, "")))
        )
        if target is None:
            also = f" ({printable(alias)})" if alias else ""
            notes.append(f"{file.source}: {printable(name)}{also} is no selected camera, not used")
        elif target in out:
            notes.append(
                f"{file.source}: {printable(name)} and {printable(out[target])} both are {printable(target)}; "
                f"{printable(out[target])} is used"
            )
        else:
            out[target] = name
    if not out:
        raise CalibrationError(
            ", ".join(map(printable, file.intrinsics)) or "none",
            f"{file.source} fits no selected camera; these are {', '.join(map(printable, sorted(names)))}",
        )
    return out


def _plain(topic: str) -> str:
    return topic.strip("/").removesuffix("/compressed")


def _intrinsics(
    camera: CameraFacts, file: RigFile | None, stated: str | None, notes: list[str]
) -> tuple[Intrinsics, str]:
    logged: Intrinsics | None = None
    missing = "the log has no CameraInfo for it"
    if camera.info is not None:
        try:
            logged = intrinsics_of(
                camera.info, rectified=is_rectified(camera.topic), image_size_px=camera.size_px
            )
        except (ValueError, AttributeError, TypeError, ArithmeticError) as error:
            missing = str(error)
    given: Intrinsics | None = None
    source = "camera_info"
    if camera.settings.intrinsics is not None:
        source = "config"
        try:
            given = Intrinsics.from_dict(camera.settings.intrinsics)
        except ValueError as error:
            raise CalibrationError(
                camera.name, f"cameras.{printable(camera.name)}.intrinsics: {error}"
            ) from None
    elif file is not None and stated is not None:
        source, given = file.source, file.intrinsics[stated]
    if given is None:
        if logged is None:
            raise ValueError(missing)
        return logged, source
    if camera.size_px not in ((0, 0), (given.width_px, given.height_px)):
        try:
            given = given.scaled_to(*camera.size_px)
        except ValueError as error:
            raise CalibrationError(camera.name, f"{source}: {error}") from None
    if logged is not None and _lenses_differ(given, logged):
        notes.append(
            f"{printable(camera.name)}: focal length {given.fx_px:.1f} px in {source}, {logged.fx_px:.1f} px "
            f"in the log's CameraInfo; {source} is used"
        )
    return given, source


def _lenses_differ(a: Intrinsics, b: Intrinsics) -> bool:
    mine, theirs = (
        np.array([a.fx_px, a.fy_px, a.cx_px, a.cy_px]),
        np.array([b.fx_px, b.fy_px, b.cx_px, b.cy_px]),
    )
    return bool(a.model != b.model or (np.abs(mine - theirs) > 0.005 * b.width_px).any())


def _pose(
    camera: CameraFacts,
    tree: TransformTree,
    base: str,
    file: RigFile | None,
    stated: str | None,
    reasons: Mapping[str, str],
    notes: list[str],
) -> tuple[SE3, str]:
    link = tree.between(base, frame_name(camera.frame_id)) if base and camera.frame_id else None
    given: SE3 | None = None
    source = "tf"
    setting = camera.settings.base_SE3_camera
    if setting is not None:
        source = "config"
        try:
            given = SE3.from_quaternion(setting.quaternion_xyzw, setting.position_m)
        except ValueError as error:
            raise CalibrationError(camera.name, f"base_SE3_camera: {error}") from None
    elif file is not None and stated is not None and stated in file.poses:
        if file.base_frame == base:
            source, given = file.source, file.poses[stated]
        else:
            bridge = tree.between(base, file.base_frame)
            if bridge is None:
                raise ValueError(
                    f"{file.source} has its pose in {file.base_frame!r}, which has no transform to {base!r}"
                )
            source, given = file.source, bridge[0] @ file.poses[stated]
    if given is None:
        if camera.name in reasons or link is None:
            raise ValueError(
                reasons.get(camera.name, f"no transform from {camera.frame_id!r} to {base!r} in the log")
            )
        return link[0], source
    if link is not None and _poses_differ(given, link[0]):
        apart = float(np.linalg.norm(given.translation_m - link[0].translation_m))
        notes.append(
            f"{printable(camera.name)}: its pose in {source} and in the log's tf are {apart:.3f} m and "
            f"{_degrees(given, link[0]):.1f} degrees apart; {source} is used"
        )
    return given, source


def _chained(
    cameras: Sequence[CameraFacts],
    tree: TransformTree,
    base: str,
    file: RigFile,
    from_file: Mapping[str, str],
    reasons: dict[str, str],
    notes: list[str],
) -> dict[str, tuple[SE3, str]]:
    """Poses from a file that states its cameras' poses to each other, for those that have none of their own.

    A camera with a pose (of the config, or the log) places its whole chain. Where several do and do not agree, the chain places
    nothing; a camera's own pose stays in any case. `reasons` learns why a camera of a chain has no pose.
    """
    known: dict[str, SE3] = {}
    for camera in cameras:
        if camera.name in from_file and from_file[camera.name] in file.chain:
            try:
                known[camera.name] = _pose(camera, tree, base, None, None, reasons, [])[0]
            except ValueError:
                continue
    out: dict[str, tuple[SE3, str]] = {}
    for frame in sorted({frame for frame, _ in file.chain.values()}):
        links = {
            own: file.chain[name][1]
            for own, name in sorted(from_file.items())
            if name in file.chain and file.chain[name][0] == frame
        }
        places = {c: known[c] @ links[c].inverse() for c in links if c in known}
        first = next(iter(places), None)
        if first is None:
            for own in links:
                reasons[own] = (
                    f"{file.source} tells the cameras' poses to each other, and none of them has one on the vehicle: "
                    "give one of them cameras.<name>.base_SE3_camera"
                )
            continue
        odd = [c for c in places if not same_pose(places[c], places[first])]
        if odd:
            notes.append(
                f"{file.source}: the chain of its cameras does not fit the poses of {printable(first)} and "
                f"{', '.join(map(printable, odd))} on the vehicle; theirs are kept"
            )
        for own in links.keys() - known.keys():
            if odd:
                reasons[own] = f"{file.source} would place it, but does not fit the other cameras' poses"
            else:
                out[own] = places[first] @ links[own], f"{file.source}+{first}"
    return out


def _poses_differ(a: SE3, b: SE3) -> bool:
    return float(np.linalg.norm(a.translation_m - b.translation_m)) > 0.01 or _degrees(a, b) > 0.2


def _degrees(a: SE3, b: SE3) -> float:
    cosine = (float(np.trace(a.rotation.T @ b.rotation)) - 1) / 2
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def _base(
    cameras: Sequence[CameraFacts], tree: TransformTree, file: RigFile | None, base_frame: str
) -> tuple[str, dict[str, str]]:
    """The base frame, and for cameras that the log does not connect to it the reason."""
    known = tree.frames
    named = "" if base_frame == "auto" else frame_name(base_frame)
    stated = file.base_frame if file is not None and file.poses else ""
    given = any(camera.settings.base_SE3_camera is not None for camera in cameras)
    if named and known and named not in known and named != stated and not given:
        raise ConfigError(
            f"fuse.base_frame: {printable(base_frame)} is no frame of this log; "
            f"it has {', '.join(map(printable, known[:30]))}"
        )
    reasons: dict[str, str] = {}
    tops: dict[str, str] = {}
    for camera in cameras:
        frame = frame_name(camera.frame_id)
        if not frame:
            reasons[camera.name] = "its images state no frame_id"
        elif frame not in known:
            reasons[camera.name] = f"the log has no transform for its frame {frame!r}"
        else:
            top = tree.top(frame)
            if top == frame and frame not in (named, stated):
                above = tree.up(frame)[1:2]
                where = f"hangs directly below {above[0]!r}" if above else "is the top of the tf tree"
                reasons[camera.name] = f"its frame {frame!r} {where}: there is no vehicle frame above it"
            else:
                tops[camera.name] = top
    sizes = Counter(tops.values())
    largest = min(sizes, key=lambda f: (-sizes[f], f != DEFAULT_BASE, f), default="")
    base = named or stated or largest or (DEFAULT_BASE if given else "")
    for name, top in tops.items():
        if tree.between(base, top) is None:
            reasons[name] = f"no transform between {top!r} (above its frame) and {base!r}"
    return base, reasons


def _ground(tree: TransformTree, base: str, file: RigFile | None) -> float:
    if file is not None and math.isfinite(file.ground_z_m):
        return file.ground_z_m
    for frame in tree.frames:
        if frame.rsplit("/", 1)[-1] == "base_footprint":
            link = tree.between(base, frame)
            if link is not None:
                return float(link[0].translation_m[2])
    return math.nan
