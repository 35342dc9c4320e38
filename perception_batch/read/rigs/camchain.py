"""Kalibr's camchain: lenses, topics, and where its cameras are relative to each other.

``T_cn_cnm1`` takes points of the camera before to this one, ``T_cam_imu`` points of the Imu to this camera (Kalibr's
wiki, "YAML formats"). Neither says where the chain sits on the vehicle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from perception_batch.calibration import Intrinsics
from perception_batch.errors import CalibrationError, printable
from perception_batch.geometry import SE3
from perception_batch.read.rigs.camera_info import lens_model
from perception_batch.types import FloatArray

SAME_M = 0.05
SAME_DEG = 1.0
"""Two ways to one pose that differ by less are the same calibration."""


@dataclass(frozen=True, slots=True)
class Camchain:
    """What a camchain states."""

    intrinsics: Mapping[str, Intrinsics]
    """By the file's names: ``cam0``, ``cam1``, ..."""
    topics: Mapping[str, str]
    """Image topics, where stated."""
    chain: Mapping[str, tuple[str, SE3]]
    """By camera: the name of the frame that it is connected to, and ``frame_SE3_camera``; cameras with the same frame are connected."""
    notes: tuple[str, ...] = ()
    """What does not fit together."""


def is_camchain(data: Mapping[str, Any]) -> bool:
    """True for a mapping that has Kalibr's cameras."""
    return any(
        str(k).startswith("cam") and isinstance(v, dict) and "intrinsics" in v for k, v in data.items()
    )


def read_camchain(data: Mapping[str, Any]) -> Camchain:
    """Lenses and chain of a camchain.

    Raises:
        CalibrationError: a lens model that is not supported.
        KeyError, TypeError, ValueError: something is missing or no number.
    """
    intrinsics: dict[str, Intrinsics] = {}
    topics: dict[str, str] = {}
    to_before: dict[str, tuple[str, SE3]] = {}
    to_imu: dict[str, SE3] = {}
    before = ""
    for key, entry in data.items():
        if not (isinstance(entry, dict) and "intrinsics" in entry):
            continue
        name = str(key)
        intrinsics[name] = _lens(name, entry)
        if entry.get("rostopic"):
            topics[name] = str(entry["rostopic"])
        if entry.get("T_cn_cnm1") is not None:
            if not before:
                raise ValueError(
                    f"{printable(name)}: T_cn_cnm1 of the first camera, which has none before it"
                )
            to_before[name] = (before, transform_of(entry["T_cn_cnm1"], f"{name}.T_cn_cnm1").inverse())
        if entry.get("T_cam_imu") is not None:
            to_imu[name] = transform_of(entry["T_cam_imu"], f"{name}.T_cam_imu").inverse()
        before = name
    return Camchain(intrinsics, topics, *_connect(intrinsics, to_before, to_imu))


def _connect(
    names: Mapping[str, Intrinsics],
    to_before: Mapping[str, tuple[str, SE3]],
    to_imu: Mapping[str, SE3],
) -> tuple[dict[str, tuple[str, SE3]], tuple[str, ...]]:
    """Each camera in the frame of the Imu where it is known, else of the first camera of its chain."""
    notes: list[str] = []
    chain: dict[str, tuple[str, SE3]] = {}
    for name in names:  # a camera comes after the one before it
        if name in to_before:
            before, before_SE3_camera = to_before[name]
            frame, frame_SE3_before = chain[before]
            chain[name] = (frame, frame_SE3_before @ before_SE3_camera)
        else:
            chain[name] = (name, SE3.identity())
    # Chains that the Imu joins are put into its frame, each by its first camera that states it.
    for start in {frame for frame, _ in chain.values()}:
        members = [name for name, (frame, _) in chain.items() if frame == start]
        anchor = next((name for name in members if name in to_imu), None)
        if anchor is None:
            continue
        imu_SE3_start = to_imu[anchor] @ chain[anchor][1].inverse()
        for name in members:
            pose = imu_SE3_start @ chain[name][1]
            if name in to_imu and not same_pose(pose, to_imu[name]):
                notes.append(
                    f"{printable(name)}: T_cam_imu and the chain of T_cn_cnm1 disagree; the chain is used"
                )
            chain[name] = ("imu", pose)
    sizes = {frame: sum(f == frame for f, _ in chain.values()) for frame, _ in chain.values()}
    return {name: link for name, link in chain.items() if sizes[link[0]] > 1}, tuple(sorted(notes))


def transform_of(matrix: Any, what: str) -> SE3:
    """A 4x4 matrix as a rigid transform; a rotation that was rounded is made one again.

    Raises:
        ValueError: it is none.
    """
    try:
        m: FloatArray = np.array(matrix, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{printable(what)} is no matrix of numbers") from None
    if m.shape != (4, 4) or not np.isfinite(m).all() or np.abs(m).max() > 1e6:
        raise ValueError(f"{printable(what)} is no 4x4 matrix of finite numbers")
    r = m[:3, :3]
    if not np.allclose(m[3], [0, 0, 0, 1], atol=1e-6) or not np.allclose(r @ r.T, np.eye(3), atol=1e-2):
        raise ValueError(f"{printable(what)} is no rigid transform")
    if np.linalg.det(r) < 0:
        raise ValueError(f"{printable(what)} mirrors")
    u, _, vt = np.linalg.svd(r)
    return SE3(u @ vt, m[:3, 3].copy()).storable()


def same_pose(a: SE3, b: SE3) -> bool:
    """True within `SAME_M` and `SAME_DEG`."""
    cosine = (float(np.trace(a.rotation.T @ b.rotation)) - 1) / 2
    turn_deg = math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
    return math.dist(a.translation_m, b.translation_m) <= SAME_M and turn_deg <= SAME_DEG


def _lens(name: str, entry: Mapping[str, Any]) -> Intrinsics:
    model = str(entry.get("camera_model", "pinhole"))
    if model != "pinhole":
        raise CalibrationError(name, f"Kalibr camera model {printable(model)!r}; only pinhole is supported")
    fx, fy, cx, cy = (float(v) for v in entry["intrinsics"])
    width, height = (int(v) for v in entry["resolution"])
    distortion = [float(v) for v in entry.get("distortion_coeffs", [])]
    ours, d = lens_model(str(entry.get("distortion_model", "radtan")), distortion)
    return Intrinsics(ours, width, height, fx, fy, cx, cy, d)
