"""Calibration from a file: ours, ROS camera_info, Kalibr camchain, or OpenCV FileStorage YAML."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from perception_batch.calibration import Intrinsics, Rig
from perception_batch.errors import CalibrationError, printable
from perception_batch.geometry import SE3
from perception_batch.read.rigs.camera_info import lens_model

MAX_RIG_BYTES = 4 << 20
_KNOWN = "our rig file (`cameras:`), ROS camera_info, Kalibr camchain or OpenCV FileStorage"


@dataclass(frozen=True, slots=True)
class RigFile:
    """What a calibration file states."""

    source: str
    """The file's name."""
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


class _Loader(yaml.SafeLoader):
    """YAML with OpenCV's matrices; a tag of its own makes nothing but plain mappings."""


def _matrix(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    return loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix)


def read_rig_file(path: Path) -> RigFile:
    """Read a calibration file of any known form.

    Raises:
        CalibrationError: not there, of no known form, or with numbers that make no sense.
    """
    data = _load(path)
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
            return RigFile(name, {str(data.get("camera_name") or path.stem): _ros(data)})
        if any(
            str(k).startswith("cam") and isinstance(v, dict) and "intrinsics" in v for k, v in data.items()
        ):
            return _kalibr(data, name)
        if any(key in data for key in ("camera_matrix", "K", "cameraMatrix")):
            return RigFile(name, {str(data.get("camera_name") or path.stem): _opencv(data)})
    except CalibrationError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CalibrationError(path.stem, f"{printable(path)}: {printable(text)}") from None
    raise CalibrationError(path.stem, f"{printable(path)}: no calibration of a known form ({_KNOWN})")


def write_rig(rig: Rig, path: Path) -> None:
    """Write `rig` as our YAML, which `read_rig_file` reads."""
    text = yaml.safe_dump(rig.to_dict(), sort_keys=False, default_flow_style=None, width=110)
    path.write_text(
        "# Camera rig. base_SE3_camera: pose of the optical frame (z forward, x right, y down) in base_frame.\n"
        + text,
        encoding="utf-8",
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_RIG_BYTES:
            raise CalibrationError(
                path.stem, f"{printable(path)}: larger than {MAX_RIG_BYTES >> 20} MiB, no calibration file"
            )
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            loaded = json.loads(text)
        else:
            # OpenCV writes `%YAML:1.0`, which is no YAML directive.
            lines = text.splitlines()
            body = "\n".join(lines[1:] if lines and lines[0].startswith("%YAML:") else lines)
            loaded = yaml.load(body, Loader=_Loader)  # noqa: S506
    except FileNotFoundError:
        raise CalibrationError(path.stem, f"{printable(path)}: no such calibration file") from None
    except (yaml.YAMLError, ValueError, IsADirectoryError, RecursionError) as error:
        text = printable(" ".join(str(error).split()))
        raise CalibrationError(path.stem, f"{printable(path)}: not YAML or JSON: {text}") from None
    if not isinstance(loaded, dict):
        raise CalibrationError(path.stem, f"{printable(path)}: no calibration of a known form ({_KNOWN})")
    return loaded


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


def _kalibr(data: Mapping[str, Any], source: str) -> RigFile:
    intrinsics, topics = {}, {}
    for name, entry in _cameras(data):
        model = str(entry.get("camera_model", "pinhole"))
        if model != "pinhole":
            raise CalibrationError(
                name, f"Kalibr camera model {printable(model)!r}; only pinhole is supported"
            )
        fx, fy, cx, cy = (float(v) for v in entry["intrinsics"])
        distortion = [float(v) for v in entry.get("distortion_coeffs", [])]
        intrinsics[name] = _lens(
            str(entry.get("distortion_model", "radtan")), entry["resolution"], (fx, fy, cx, cy), distortion
        )
        if entry.get("rostopic"):
            topics[name] = str(entry["rostopic"])
    return RigFile(source, intrinsics, topics)


def _cameras(data: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, entry in data.items():
        if isinstance(entry, dict) and "intrinsics" in entry:
            yield str(name), entry


def _opencv(data: Mapping[str, Any]) -> Intrinsics:
    k = _values(next(data[key] for key in ("camera_matrix", "K", "cameraMatrix") if key in data), 9)
    names = ("distortion_coefficients", "dist_coeffs", "distCoeffs", "distortion", "D")
    d = _values(next((data[key] for key in names if key in data), []), None)
    stated = next((data[key] for key in ("distortion_model", "model", "camera_model") if key in data), None)
    # OpenCV's files name no model. Its own calibration program writes five coefficients or more for
    # `cv2.calibrateCamera`, and `cv2.fisheye.calibrate` has always four.
    model = str(stated).lower() if stated else "fisheye" if len(d) == 4 else "plumb_bob"
    if "image_width" in data:
        size: Sequence[Any] = (data["image_width"], data["image_height"])
    else:
        size = _values(next(data[key] for key in ("resolution", "image_size", "imageSize") if key in data), 2)
    return _lens(model, size, (k[0], k[4], k[2], k[5]), d)


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
