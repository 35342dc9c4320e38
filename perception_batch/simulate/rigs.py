"""The cameras of the presets: where they sit, which lens they have.

`base_link` lies on the ground below the rear axle of a car of 4.6 x 1.85 x 1.5 m with a wheelbase of 2.7 m. Poses
of `surround6` follow the usual six-camera ring (as in nuScenes), those of `fisheye4` a parking system's. Lens models
differ within `surround6` so that every one is exercised:

===============================  ===================  =========
camera                           lens                 across
===============================  ===================  =========
cam_front                        pinhole              70°
cam_front_left, cam_front_right  plumb_bob            75°
cam_back_left, cam_back_right    rational_polynomial  75°
cam_back                         rational_polynomial  110°
fisheye4, all                    equidistant          190°
===============================  ===================  =========

The angle is across the longer side of the picture.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from perception_batch.calibration import Camera, Intrinsics, LensModel, Rig
from perception_batch.errors import ConfigError, printable
from perception_batch.geometry import SE3
from perception_batch.simulate.settings import CAMERAS, Preset, SimulateSettings

BASE_FRAME = "base_link"

# Coefficients of mild real lenses; every one rises over the whole picture of every allowed aspect (a test).
_PLUMB_BOB = (-0.25, 0.06, 2e-4, -3e-4, 0.0)
_RATIONAL = (0.32, 0.03, 1e-4, 2e-4, 0.0005, 0.55, 0.10, 0.002)
_FISHEYE = (-0.015, 0.004, -0.0012, 0.0001)


class _Mount(NamedTuple):
    position_m: tuple[float, float, float]
    yaw_deg: float
    """0 forward, 90 left."""
    pitch_deg: float
    """Positive looks down."""
    model: LensModel
    across_deg: float


_MOUNTS: dict[Preset, dict[str, _Mount]] = {
    "surround6": {
        "cam_front": _Mount((1.72, 0.0, 1.42), 0, 0, "pinhole", 70),
        "cam_front_left": _Mount((1.55, 0.50, 1.45), 55, 0, "plumb_bob", 75),
        "cam_front_right": _Mount((1.55, -0.50, 1.45), -55, 0, "plumb_bob", 75),
        "cam_back": _Mount((-0.55, 0.0, 1.45), 180, 2, "rational_polynomial", 110),
        "cam_back_left": _Mount((1.05, 0.55, 1.48), 110, 0, "rational_polynomial", 75),
        "cam_back_right": _Mount((1.05, -0.55, 1.48), -110, 0, "rational_polynomial", 75),
    },
    "front": {"cam_front": _Mount((1.72, 0.0, 1.42), 0, 0, "plumb_bob", 75)},
    "fisheye4": {
        "cam_front": _Mount((3.62, 0.0, 0.68), 0, 15, "equidistant", 190),
        "cam_left": _Mount((1.95, 1.02, 1.00), 90, 30, "equidistant", 190),
        "cam_right": _Mount((1.95, -1.02, 1.00), -90, 30, "equidistant", 190),
        "cam_back": _Mount((-0.98, 0.0, 0.90), 180, 20, "equidistant", 190),
    },
}

_COEFFICIENTS: dict[LensModel, tuple[float, ...]] = {
    "pinhole": (),
    "plumb_bob": _PLUMB_BOB,
    "rational_polynomial": _RATIONAL,
    "equidistant": _FISHEYE,
}


def rig_of(settings: SimulateSettings) -> Rig:
    """The rig of a drive: the preset's at the size asked for, or the one that the settings bring.

    Raises:
        ConfigError: a lens cannot be inverted over its picture.
    """
    rig = settings.rig if settings.rig is not None else _preset(settings.preset, settings.size_px)
    for camera in rig.cameras.values():
        check_invertible(camera)
    return rig


def _preset(preset: Preset, size_px: tuple[int, int]) -> Rig:
    cameras = {}
    for name in CAMERAS[preset]:
        mount = _MOUNTS[preset][name]
        lens = lens_across(mount.model, size_px, mount.across_deg)
        pose = SE3(_looking(mount.yaw_deg, mount.pitch_deg), np.array(mount.position_m))
        cameras[name] = Camera(name, lens, pose, "simulated")
    return Rig(BASE_FRAME, cameras, {}, 0.0)


def lens_across(model: LensModel, size_px: tuple[int, int], across_deg: float) -> Intrinsics:
    """The presets' lens of one model that sees `across_deg` across the longer side of the picture."""
    width, height = size_px
    unit = Intrinsics(model, 1, 1, 1.0, 1.0, 0.0, 0.0, _COEFFICIENTS[model])
    half = math.radians(across_deg / 2)
    edge = unit.project(np.array([[math.sin(half), 0.0, math.cos(half)]]))[0, 0]
    focal = max(width, height) / 2 / float(edge)
    return Intrinsics(
        model, width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5, _COEFFICIENTS[model]
    )


def _looking(yaw_deg: float, pitch_deg: float) -> np.ndarray:
    """(3, 3) rotation of ``base_SE3_camera``: optical axes (z forward, x right, y down, REP-103) in base axes."""
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    c, s = math.cos(yaw), math.sin(yaw)
    cp, sp = math.cos(pitch), math.sin(pitch)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    nod = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    optical = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    rotation: np.ndarray = turn @ nod @ optical
    return rotation


def check_invertible(camera: Camera) -> None:
    """Refuse a lens that folds the world onto itself within the picture, or has no ray for a part of it.

    Raises:
        ConfigError: names the camera and what is allowed.
    """
    lens = camera.intrinsics
    x = np.linspace(-0.5, lens.width_px - 0.5, 41)
    y = np.linspace(-0.5, lens.height_px - 0.5, 41)
    uv = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    rays = lens.unproject(uv)
    found = np.isfinite(rays).all(axis=1)
    with np.errstate(invalid="ignore"):
        back = np.abs(lens.project(rays) - uv).max(axis=1) < 0.01  # a hundredth of a pixel
    good = found & back
    if good.all():
        return
    centre = np.array([[lens.cx_px, lens.cy_px]])
    reach = np.linalg.norm(uv - centre, axis=1)
    allowed = float(reach[~good].min())
    raise ConfigError(
        f"camera {printable(camera.name)}: its {lens.model} lens cannot be inverted over the image of "
        f"{lens.width_px}x{lens.height_px}: beyond {allowed:.0f} px from the principal point no ray belongs to a "
        "pixel; allowed are a smaller image, a longer focal length, or coefficients whose radial curve keeps rising"
    )
