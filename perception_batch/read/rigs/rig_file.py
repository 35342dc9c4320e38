"""Calibration from files: ours, ROS camera_info, Kalibr camchain, OpenCV FileStorage; or a folder of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from perception_batch.calibration import Intrinsics, Rig
from perception_batch.errors import CalibrationError, printable
from perception_batch.geometry import SE3
from perception_batch.read.rigs.calibration_text import SUFFIXES, load_calibration
from perception_batch.read.rigs.camchain import is_camchain, read_camchain
from perception_batch.read.rigs.camera_info import lens_model

MAX_FILES = 200
"""Calibration files in one folder."""
_KNOWN = "our rig file (`cameras:`), ROS camera_info, Kalibr camchain or OpenCV FileStorage"
_MATRICES = ("camera_matrix", "Camera_Matrix", "cameraMatrix", "K")
_DISTORTIONS = (
    "distortion_coefficients",
    "Distortion_Coefficients",
    "dist_coeffs",
    "distCoeffs",
    "distortion",
    "D",
)
_SIZES = ("resolution", "image_size", "imageSize", "size")


@dataclass(frozen=True, slots=True)
class RigFile:
    """What a calibration file states, or a folder of them."""

    source: str
    """Name of the file or folder."""
    intrinsics: Mapping[str, Intrinsics]
    """By the name that the file gives, or the file's stem."""
    topics: Mapping[str, str] = field(default_factory=dict)
    """By the same name: the image topic, where the file states it (Kalibr)."""
    poses: Mapping[str, SE3] = field(default_factory=dict)
    """``base_SE3_camera`` by the same name; only our own format has them."""
    base_frame: str = ""
    """Base frame of `poses`."""
    ground_z_m: float = math.nan
    """Height of the ground in the base frame; NaN where not stated."""
    chain: Mapping[str, tuple[str, SE3]] = field(default_factory=dict)
    """By the same name: a frame of the file, and ``frame_SE3_camera``: poses of its cameras to each other (Kalibr)."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """By the same name: what else the camera is called, in a folder of files."""
    notes: tuple[str, ...] = ()
    """What was assumed or does not fit together."""


def read_rig_file(path: Path) -> RigFile:
    """Read a calibration file of any known form, or a folder of files of one or more cameras each.

    In a folder a camera of a file without a name of its own, or with one that is no camera of the log, goes by the file's stem.

    Raises:
        CalibrationError: not there, of no known form, or with numbers that make no sense.
    """
    return _read_folder(path) if path.is_dir() else _read_one(path)


def rig_file_sha256(path: Path) -> str:
    """SHA-256 of a calibration file, or of all those of a folder with their names.

    Raises:
        CalibrationError: not there.
    """
    if not path.is_dir():
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            raise CalibrationError(path.stem, f"{printable(path)}: no such calibration file") from None
    digest = hashlib.sha256()
    for file in _files_of(path):
        content = file.read_bytes()
        digest.update(f"{len(file.name)} {file.name} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def write_rig(rig: Rig, path: Path) -> None:
    """Write `rig` as our YAML, which `read_rig_file` reads."""
    text = yaml.safe_dump(rig.to_dict(), sort_keys=False, default_flow_style=None, width=110)
    path.write_text(
        "# Camera rig. base_SE3_camera: pose of the optical frame (z forward, x right, y down) in base_frame.\n"
        + text,
        encoding="utf-8",
    )


def _files_of(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
    if not files:
        raise CalibrationError(
            folder.name, f"{printable(folder)}: a folder without calibration files ({', '.join(SUFFIXES)})"
        )
    if len(files) > MAX_FILES:
        raise CalibrationError(
            folder.name, f"{printable(folder)}: {len(files)} files, at most {MAX_FILES} are read"
        )
    return files


def _read_folder(folder: Path) -> RigFile:
    name = printable(folder.name or folder.resolve().name)
    intrinsics: dict[str, Intrinsics] = {}
    topics: dict[str, str] = {}
    poses: dict[str, SE3] = {}
    chain: dict[str, tuple[str, SE3]] = {}
    aliases: dict[str, str] = {}
    notes: list[str] = []
    bases: dict[str, float] = {}
    origin: dict[str, str] = {}
    for file in _files_of(folder):
        try:
            one = _read_one(file)
        except _UnknownForm as error:
            notes.append(f"{name}: not used: {error}")
            continue
        alone = next(iter(one.intrinsics)) if len(one.intrinsics) == 1 and not one.poses else None
        for camera, lens in one.intrinsics.items():
            key = file.stem if camera == alone else camera
            if key in intrinsics:
                raise CalibrationError(
                    key, f"{printable(folder)}: it stands in {origin[key]} and in {printable(file.name)}"
                )
            intrinsics[key], origin[key] = lens, printable(file.name)
            if key != camera:
                aliases[key] = camera
            if camera in one.topics:
                topics[key] = one.topics[camera]
            if camera in one.poses:
                poses[key] = one.poses[camera]
            if camera in one.chain:
                chain[key] = (f"{file.name}/{one.chain[camera][0]}", one.chain[camera][1])
        if one.poses:
            bases[one.base_frame] = one.ground_z_m
        notes += one.notes
    if not intrinsics:
        raise CalibrationError(
            folder.name, f"{printable(folder)}: no calibration of a known form in it ({_KNOWN})"
        )
    if len(bases) > 1:
        both = " and ".join(map(printable, sorted(bases)))
        raise CalibrationError("*", f"{printable(folder)}: its files have poses in different frames, {both}")
    base, ground_z_m = next(iter(bases.items()), ("", math.nan))
    return RigFile(name, intrinsics, topics, poses, base, ground_z_m, chain, aliases, tuple(notes))


class _UnknownForm(CalibrationError):
    """A readable file that holds something else."""


def _read_one(path: Path) -> RigFile:
    data = load_calibration(path)
    name = printable(path.name)
    try:
        if isinstance(data.get("cameras"), dict):
            rig = Rig.from_dict(data)
            return RigFile(
                name,
                {n: c.intrinsics for n, c in rig.cameras.items()},
                {},
                {n: c.base_SE3_camera for n, c in rig.cameras.items()},
                rig.base_frame,
                rig.ground_z_m,
            )
        if "image_width" in data and "camera_matrix" in data and "distortion_model" in data:
            return RigFile(name, {_camera_name(data, path): _ros(data)})
        if is_camchain(data):
            camchain = read_camchain(data)
            notes = tuple(f"{name}: {note}" for note in camchain.notes)
            return RigFile(name, camchain.intrinsics, camchain.topics, chain=camchain.chain, notes=notes)
        if any(key in data for key in _MATRICES):
            lens, note = _opencv(data)
            return RigFile(
                name,
                {_camera_name(data, path): lens},
                notes=(f"{name}: {note}",) if note else (),
            )
    except CalibrationError as error:
        if name in str(error):
            raise
        raise CalibrationError(error.camera, f"{printable(path)}: {str(error).split(': ', 1)[-1]}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, StopIteration) as error:
        text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CalibrationError(path.stem, f"{printable(path)}: {printable(text)[:300]}") from None
    raise _UnknownForm(path.stem, f"{printable(path)}: no calibration of a known form ({_KNOWN})")


def _camera_name(data: Mapping[str, Any], path: Path) -> str:
    stated = data.get("camera_name")
    return stated if isinstance(stated, str) and stated else path.stem


def _lens(
    model: str, size: Sequence[Any], k: tuple[float, float, float, float], d: Sequence[float]
) -> Intrinsics:
    ours, coefficients = lens_model(model, d)
    return Intrinsics(ours, int(size[0]), int(size[1]), *k, coefficients)


def _ros(data: Mapping[str, Any]) -> Intrinsics:
    k = _values(data["camera_matrix"], 9)
    d = _values(data.get("distortion_coefficients", []), None)
    size = (data["image_width"], data["image_height"])
    return _lens(str(data["distortion_model"]).lower(), size, (k[0], k[4], k[2], k[5]), d)


def _opencv(data: Mapping[str, Any]) -> tuple[Intrinsics, str]:
    """The lens of an OpenCV file, and what was assumed."""
    k = _values(next(data[key] for key in _MATRICES if key in data), 9)
    d = _values(next((data[key] for key in _DISTORTIONS if key in data), []), None)
    stated = next((data[key] for key in ("distortion_model", "model", "camera_model") if key in data), None)
    note = ""
    if stated:
        model = str(stated).lower()
    elif "fisheye_model" in data:  # OpenCV's own calibration program
        model = "fisheye" if int(data["fisheye_model"]) else "plumb_bob"
    else:
        # OpenCV's files name no model. Its own calibration program writes five coefficients or more for
        # `cv2.calibrateCamera`, and `cv2.fisheye.calibrate` has always four.
        model = "fisheye" if len(d) == 4 else "plumb_bob"
        if len(d) == 4:
            note = "four coefficients and no lens model: taken as cv2.fisheye (equidistant)"
    if "image_width" in data or "image_Width" in data:
        size: Sequence[Any] = [
            data[f"image_{side}" if f"image_{side}" in data else f"image_{side.title()}"]
            for side in ("width", "height")
        ]
    else:
        named = next((data[key] for key in _SIZES if key in data), None)
        if named is None:
            raise ValueError(
                f"the image size is missing ({', '.join(_SIZES)}, or image_width and image_height)"
            )
        size = _values(named, 2)
    return _lens(model, size, (k[0], k[4], k[2], k[5]), d), note


def _values(matrix: Any, count: int | None) -> list[float]:
    """Numbers of an OpenCV or ROS matrix, or of a plain (nested) list."""
    flat = matrix.get("data") if isinstance(matrix, dict) else matrix
    if not isinstance(flat, list):
        raise ValueError(f"expected a matrix, got {printable(flat)[:40]!r}")  # noqa: TRY004
    if flat and isinstance(flat[0], list):
        flat = [v for row in flat for v in row]
    out = [float(v) for v in flat]
    if count is not None and len(out) != count:
        raise ValueError(f"a matrix has {len(out)} numbers, expected {count}")
    return out
