"""Lens models, cameras and the rig. NumPy only.

Intrinsics speak of pixel *centres* (OpenCV, ROS): the centre of the top-left pixel is (0, 0). Boxes speak
of pixel *corners*: half a pixel lies between them, see `Intrinsics.rays_of_corners`.
Camera frames are optical (REP-103): z forward, x right, y down; metres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from perception_batch.errors import CalibrationError, printable
from perception_batch.geometry import SE3

LensModel = Literal["pinhole", "plumb_bob", "rational_polynomial", "equidistant"]
FloatArray = npt.NDArray[np.float64]

_COEFFICIENTS = {
    "pinhole": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A camera's lens: K, a distortion model and the image size that they belong to."""

    model: LensModel
    """``pinhole`` (none), ``plumb_bob`` (k1 k2 p1 p2 k3), ``rational_polynomial`` (k1 k2 p1 p2 k3 k4 k5 k6),
    optionally s1..s4 and tau_x tau_y, which must be 0), ``equidistant`` (fisheye, k1..k4; Kannala and Brandt
    2006, as in ``cv2.fisheye``)."""
    width_px: int
    """Image width that K belongs to."""
    height_px: int
    """Image height that K belongs to."""
    fx_px: float
    """Focal length along x."""
    fy_px: float
    """Focal length along y."""
    cx_px: float
    """Principal point, pixel-centre convention."""
    cy_px: float
    """Principal point, pixel-centre convention."""
    distortion: tuple[float, ...] = ()
    """Coefficients in the order of ROS and OpenCV."""

    def __post_init__(self) -> None:
        if self.model not in get_args(LensModel):
            raise ValueError(f"lens model {self.model!r} is not one of {', '.join(get_args(LensModel))}")
        if len(self.distortion) not in _COEFFICIENTS[self.model]:
            raise ValueError(
                f"{self.model} takes {' or '.join(map(str, _COEFFICIENTS[self.model]))} coefficients, "
                f"got {len(self.distortion)}"
            )
        numbers = (self.fx_px, self.fy_px, self.cx_px, self.cy_px, *self.distortion)
        if not all(math.isfinite(v) for v in numbers) or self.fx_px <= 0 or self.fy_px <= 0:
            raise ValueError(f"focal lengths must be positive and all numbers finite, got {numbers}")
        if any(self.distortion[12:]):
            raise ValueError(
                f"a tilted sensor (tau_x {self.distortion[12]:g}, tau_y {self.distortion[13]:g}) is not supported; "
                "calibrate without CALIB_TILTED_MODEL"
            )
        if self.width_px <= 0 or self.height_px <= 0:
            raise ValueError(f"the image size must be positive, got {self.width_px}x{self.height_px}")

    def scaled_to(self, width_px: int, height_px: int) -> Intrinsics:
        """The same lens for a resized image.

        Raises:
            ValueError: the aspect differs by more than one per cent, so the image was cropped, not scaled; or
                the size is not positive.
        """
        if width_px <= 0 or height_px <= 0:
            raise ValueError(f"the image size must be positive, got {width_px}x{height_px}")
        sx, sy = width_px / self.width_px, height_px / self.height_px
        if abs(sx / sy - 1) > 0.01:
            raise ValueError(
                f"calibration is for {self.width_px}x{self.height_px}, images are {width_px}x{height_px}: "
                f"the aspect differs"
            )
        return replace(
            self,
            width_px=width_px,
            height_px=height_px,
            fx_px=self.fx_px * sx,
            fy_px=self.fy_px * sy,
            cx_px=(self.cx_px + 0.5) * sx - 0.5,  # corners scale, centres are half a pixel off
            cy_px=(self.cy_px + 0.5) * sy - 0.5,
        )

    def project(self, points_m: FloatArray) -> FloatArray:
        """(N, 3) points of the optical frame as (N, 2) px (pixel-centre convention).

        NaN where the lens cannot see the point: behind a pinhole, at the centre of the lens, or beyond the
        angle at which the distortion polynomial turns back on itself.
        """
        x, y, z = points_m[:, 0], points_m[:, 1], points_m[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.model == "equidistant":
                r = np.hypot(x, y)
                theta = np.arctan2(r, z)
                scale = np.where(r > 0, _fisheye(theta, self.distortion) / r, 0.0)
                xd, yd = x * scale, y * scale
                seen = (theta < _largest_angle(self.model, self.distortion)) & (np.hypot(r, z) > 1e-9)
            else:
                seen = z > 1e-9
                a, b = x / z, y / z
                xd, yd = _distort(a, b, self.distortion)
                seen = seen & (np.hypot(a, b) < math.tan(_largest_angle(self.model, self.distortion)))
        uv = np.stack([self.fx_px * xd + self.cx_px, self.fy_px * yd + self.cy_px], axis=1)
        uv[~seen] = np.nan
        return uv

    def unproject(self, uv_px: FloatArray) -> FloatArray:
        """(N, 2) px (pixel-centre convention) as (N, 3) unit rays of the optical frame; NaN outside the lens."""
        a = (uv_px[:, 0] - self.cx_px) / self.fx_px
        b = (uv_px[:, 1] - self.cy_px) / self.fy_px
        if self.model == "equidistant":
            rd = np.hypot(a, b)
            theta = _invert_fisheye(rd, self.distortion)
            s = np.where(rd > 1e-12, np.sin(theta) / np.maximum(rd, 1e-12), 1.0)
            rays = np.stack([a * s, b * s, np.cos(theta)], axis=1)
        else:
            xy = np.stack([a, b], axis=1)
            if self.distortion and any(self.distortion):
                xy = _undistort(xy, self.distortion, math.tan(_largest_angle(self.model, self.distortion)))
            rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
        unit: FloatArray = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        return unit

    def rays_of_corners(self, xy_px: FloatArray) -> FloatArray:
        """(N, 2) px in the box convention ((0, 0) is the image's outer corner) as (N, 3) unit rays."""
        return self.unproject(np.asarray(xy_px, np.float64) - 0.5)

    def to_dict(self) -> dict[str, Any]:
        """As in ``rig.json``."""
        return {
            "model": self.model,
            "width_px": self.width_px,
            "height_px": self.height_px,
            "fx_px": self.fx_px,
            "fy_px": self.fy_px,
            "cx_px": self.cx_px,
            "cy_px": self.cy_px,
            "distortion": list(self.distortion),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Intrinsics:
        """From the mapping that `to_dict` gives.

        Raises:
            ValueError: a field is missing, unknown, or not a number.
        """
        names = ("model", "width_px", "height_px", "fx_px", "fy_px", "cx_px", "cy_px", "distortion")
        if unknown := set(data) - set(names):
            raise ValueError(
                f"intrinsics: unknown {', '.join(sorted(map(printable, unknown)))}; allowed: {', '.join(names)}"
            )
        if missing := set(names[:-1]) - set(data):
            raise ValueError(f"intrinsics: {', '.join(sorted(missing))} missing")
        try:
            return cls(
                data["model"],
                int(data["width_px"]),
                int(data["height_px"]),
                float(data["fx_px"]),
                float(data["fy_px"]),
                float(data["cx_px"]),
                float(data["cy_px"]),
                tuple(float(v) for v in data.get("distortion", ())),
            )
        except (TypeError, OverflowError) as error:
            raise ValueError(f"intrinsics: {error}") from None


def _distort(a: FloatArray, b: FloatArray, d: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    """OpenCV's rational model; plumb_bob and the thin-prism-free part of longer vectors are cases of it."""
    if not d:
        return a, b
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, 0.0, 0.0, 0.0, 0.0)[:8]
    s1, s2, s3, s4 = d[8:12] if len(d) >= 12 else (0.0, 0.0, 0.0, 0.0)
    r2 = a * a + b * b
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    xd = a * radial + 2 * p1 * a * b + p2 * (r2 + 2 * a * a) + s1 * r2 + s2 * r2 * r2
    yd = b * radial + p1 * (r2 + 2 * b * b) + 2 * p2 * a * b + s3 * r2 + s4 * r2 * r2
    return xd, yd


_ARRIVED = 1e-13
"""Step of Newton's method, focal length 1, after which the next would be rounding: it shrinks with its square."""


def _undistort(xy_d: FloatArray, d: tuple[float, ...], radius_limit: float) -> FloatArray:
    """Invert `_distort` by Newton's method with a numeric Jacobian; NaN where it does not come back.

    A point that has arrived stays where it is, so that none depends on the others.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        xy: FloatArray = xy_d / np.maximum(
            1.0, np.linalg.norm(xy_d, axis=1, keepdims=True) / max(radius_limit * 0.9, 1e-6)
        )
        step = 1e-6
        arrived = np.zeros((len(xy), 1), bool)
        for _ in range(25):
            f = np.stack(_distort(xy[:, 0], xy[:, 1], d), axis=1) - xy_d
            fx = (np.stack(_distort(xy[:, 0] + step, xy[:, 1], d), axis=1) - xy_d - f) / step
            fy = (np.stack(_distort(xy[:, 0], xy[:, 1] + step, d), axis=1) - xy_d - f) / step
            det = fx[:, 0] * fy[:, 1] - fy[:, 0] * fx[:, 1]
            det = np.where(np.abs(det) < 1e-12, 1e-12, det)
            dx = (f[:, 0] * fy[:, 1] - fy[:, 0] * f[:, 1]) / det
            dy = (fx[:, 0] * f[:, 1] - f[:, 0] * fx[:, 1]) / det
            change = np.clip(np.stack([dx, dy], axis=1), -0.5, 0.5)
            xy = np.where(arrived, xy, xy - change)
            arrived |= ~(np.abs(change).max(axis=1, keepdims=True) > _ARRIVED)  # NaN goes nowhere
            if arrived.all():
                break
        residual = np.stack(_distort(xy[:, 0], xy[:, 1], d), axis=1) - xy_d
        lost = (np.abs(residual).max(axis=1) > 1e-6) | (np.linalg.norm(xy, axis=1) > radius_limit)
    xy[lost] = np.nan
    return xy


def _fisheye(theta: FloatArray, d: tuple[float, ...]) -> FloatArray:
    """Distorted radius at the angle `theta` from the optical axis, focal length 1."""
    k1, k2, k3, k4 = d
    t2 = theta * theta
    rd: FloatArray = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return rd


def _invert_fisheye(rd: FloatArray, d: tuple[float, ...]) -> FloatArray:
    """Angle of a distorted radius, by bisection on the rising part of the polynomial; NaN beyond it."""
    low, high = np.zeros_like(rd), np.full_like(rd, _largest_angle("equidistant", d))
    beyond = rd > _fisheye(high, d)
    for _ in range(60):
        middle = 0.5 * (low + high)
        short = _fisheye(middle, d) < rd
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    theta = 0.5 * (low + high)
    theta[beyond] = np.nan
    return theta


@lru_cache(maxsize=256)
def _largest_angle(model: LensModel, d: tuple[float, ...]) -> float:
    """Angle from the axis, rad, up to which the radial curve rises; beyond it a lens would fold the world."""
    if model == "equidistant":
        theta = np.linspace(0, math.pi, 2001)
        falling = np.flatnonzero(np.diff(_fisheye(theta, d)) <= 0)
        return float(theta[falling[0]]) if len(falling) else math.pi
    top = math.radians(89.9)
    if not any(d):
        return top
    r = np.tan(np.linspace(0, top, 4001))
    radial = (d[0], d[1], 0.0, 0.0, *d[4:8]) if len(d) > 4 else (d[0], d[1], 0.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        rd = _distort(r, np.zeros_like(r), radial)[0]
    falling = np.flatnonzero(~(np.diff(rd) > 0))
    return math.atan(float(r[falling[0]])) if len(falling) else top


@dataclass(frozen=True, slots=True)
class Camera:
    """A fully calibrated camera on the vehicle."""

    name: str
    """Name of the camera."""
    intrinsics: Intrinsics
    """For the images as they are in the log."""
    base_SE3_camera: SE3
    """Pose of the optical frame in the rig's base frame."""
    source: str
    """Where it comes from, such as ``camera_info+tf`` or a file name."""

    @property
    def pose_from_log(self) -> bool:
        """Whether `base_SE3_camera` is of the log's transforms, which may change while it goes on."""
        return self.source.split("+")[-1] == "tf"

    @property
    def lens_from_log(self) -> bool:
        """Whether `intrinsics` are of the log's CameraInfo, which may change while it goes on."""
        return self.source.split("+")[0] == "camera_info"

    def __post_init__(self) -> None:
        # What is written to rig.json must read back as the same numbers: results depend on their last bits.
        object.__setattr__(self, "base_SE3_camera", self.base_SE3_camera.storable())


@dataclass(frozen=True, slots=True)
class Rig:
    """All cameras of a vehicle, in one base frame."""

    base_frame: str
    """Name of the base frame, such as ``base_link``; empty where nothing is calibrated."""
    cameras: Mapping[str, Camera]
    """The fully calibrated cameras, by name."""
    uncalibrated: Mapping[str, str]
    """The other selected cameras, by name, each with the reason."""
    ground_z_m: float = math.nan
    """Height of the ground in the base frame where a transform states it (``base_footprint``), else NaN."""
    notes: tuple[str, ...] = field(default=())
    """Conflicts found on the way, one line each."""

    def to_dict(self) -> dict[str, Any]:
        """As in ``rig.json`` and in our YAML."""
        cameras: dict[str, Any] = {}
        for name, camera in self.cameras.items():
            cameras[name] = {
                "intrinsics": camera.intrinsics.to_dict(),
                "base_SE3_camera": {
                    "position_m": camera.base_SE3_camera.translation_m.tolist(),
                    "quaternion_xyzw": camera.base_SE3_camera.quaternion_xyzw().tolist(),
                },
                "source": camera.source,
            }
        out: dict[str, Any] = {"schema": 1, "base_frame": self.base_frame, "cameras": cameras}
        if math.isfinite(self.ground_z_m):
            out["ground_z_m"] = self.ground_z_m
        out["uncalibrated"] = dict(self.uncalibrated)
        out["notes"] = list(self.notes)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rig:
        """From the mapping that `to_dict` gives.

        Raises:
            CalibrationError: a field is missing, unknown or makes no sense; names the camera, ``*`` for all.
        """
        cameras: dict[str, Camera] = {}
        for key in ("cameras", "uncalibrated"):
            if not isinstance(data.get(key, {}), Mapping):
                raise CalibrationError(
                    "*", f"{key} in the rig is a {type(data[key]).__name__}, not a mapping"
                )
        try:
            ground_z_m = float(data.get("ground_z_m", math.nan))
        except (TypeError, ValueError, OverflowError) as error:
            raise CalibrationError("*", f"ground_z_m in the rig: {printable(error)}") from None
        for name, entry in data.get("cameras", {}).items():
            try:
                pose = entry["base_SE3_camera"]
                cameras[str(name)] = Camera(
                    str(name),
                    Intrinsics.from_dict(entry["intrinsics"]),
                    SE3.from_quaternion(pose["quaternion_xyzw"], pose["position_m"]),
                    str(entry.get("source", "file")),
                )
            except KeyError as error:
                raise CalibrationError(str(name), f"{error} is missing in the rig") from None
            except (TypeError, ValueError, OverflowError) as error:
                raise CalibrationError(str(name), printable(error)) from None
        return cls(
            str(data.get("base_frame", "base_link")),
            cameras,
            {str(k): str(v) for k, v in data.get("uncalibrated", {}).items()},
            ground_z_m,
            tuple(map(str, data.get("notes") or ())),
        )
