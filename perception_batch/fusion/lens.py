"""Rays through box edges, fast: a table for lenses whose inverse has no closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray, Intrinsics
from perception_batch.geometry import SE3

# Linear interpolation over s px errs by s² / 8f² rad at most: 0.03 px at s = 16, f = 1000 px.
_STEP_PX = 16.0


class RayTable:
    """Unit rays of the optical frame for points of the image, box convention ((0, 0) is the corner).

    Undistorting takes 25 to 60 steps of iteration; a table made once costs two orders less per timestep.
    Lenses without distortion are inverted exactly.
    """

    def __init__(self, intrinsics: Intrinsics) -> None:
        self._intrinsics = intrinsics
        self._table: FloatArray | None = None
        if intrinsics.model == "equidistant" or any(intrinsics.distortion):
            self._nx = int(np.ceil(intrinsics.width_px / _STEP_PX)) + 1
            self._ny = int(np.ceil(intrinsics.height_px / _STEP_PX)) + 1
            gx, gy = np.meshgrid(np.arange(self._nx) * _STEP_PX, np.arange(self._ny) * _STEP_PX)
            points = np.stack([gx.ravel(), gy.ravel()], axis=1)
            self._table = intrinsics.rays_of_corners(points).reshape(self._ny, self._nx, 3)

    def rays(self, xy_px: FloatArray) -> FloatArray:
        """(N, 3) unit rays for (N, 2) px; NaN where the lens does not reach."""
        if self._table is None:
            return self._intrinsics.rays_of_corners(xy_px)
        x = np.clip(xy_px[:, 0] / _STEP_PX, 0, self._nx - 1)
        y = np.clip(xy_px[:, 1] / _STEP_PX, 0, self._ny - 1)
        ix = np.minimum(x.astype(np.int64), self._nx - 2)
        iy = np.minimum(y.astype(np.int64), self._ny - 2)
        fx, fy = (x - ix)[:, None], (y - iy)[:, None]
        t = self._table
        ray = (1 - fy) * ((1 - fx) * t[iy, ix] + fx * t[iy, ix + 1]) + fy * (
            (1 - fx) * t[iy + 1, ix] + fx * t[iy + 1, ix + 1]
        )
        unit: FloatArray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
        return unit


@dataclass(frozen=True, slots=True)
class BoxRays:
    """What the edges of N boxes look at, in the base frame. "Low" is towards the ground, not row numbers:
    in a camera mounted upside down it is the image's upper edge."""

    origin_m: FloatArray
    """(N, 3) the camera's position."""
    azimuth_rad: FloatArray
    """(N,) heading of the ray through the box's centre, from x towards y; NaN outside the lens."""
    off_axis_rad: FloatArray
    """(N,) `azimuth_rad` less that of the optical axis; 0 for fisheyes, whose image is no plane's."""
    tan_low: FloatArray
    """(N,) slope (rise over horizontal run) of the ray through the middle of the low edge."""
    tan_high: FloatArray
    """(N,) slope of the ray through the middle of the high edge."""
    side_rad: FloatArray
    """(N, 2) azimuth of both sides less `azimuth_rad`."""
    height_px: FloatArray
    """(N,) extent from low to high."""
    width_px: FloatArray
    """(N,) extent from side to side."""
    cut_low: npt.NDArray[np.bool_]
    """(N,) the low edge is the image border's or hidden by the own vehicle."""
    cut_high: npt.NDArray[np.bool_]
    """(N,) the high edge is the image border's."""
    cut_side: npt.NDArray[np.bool_]
    """(N, 2) which side is the image border's; columns as in `side_rad`."""

    def take(self, rows: npt.NDArray[np.int64]) -> BoxRays:
        """The given rows, in that order."""
        return BoxRays(*(getattr(self, name)[rows] for name in self.__slots__))

    @classmethod
    def join(cls, parts: list[BoxRays]) -> BoxRays:
        """All rows of `parts`, in order."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__slots__))


def low_edge(base_SE3_camera: SE3) -> int:
    """Which edge of boxes (0 left, 1 top, 2 right, 3 bottom) is nearest to the ground in this camera."""
    gx, gy, _ = -base_SE3_camera.rotation[2]  # base's down, in the optical frame
    if max(abs(gx), abs(gy)) < 0.2:  # looks straight down or up: by convention the image's bottom
        return 3
    if abs(gy) >= abs(gx):
        return 3 if gy > 0 else 1
    return 2 if gx > 0 else 0


def box_rays(
    xyxy: FloatArray,
    table: RayTable,
    base_SE3_camera: SE3,
    *,
    frame_px: tuple[float, float, float, float],
    hidden_low: npt.NDArray[np.bool_],
    fisheye: bool,
) -> BoxRays:
    """Rays of the edges of (N, 4) boxes of one camera.

    Args:
        xyxy: boxes, px of the original image.
        table: the camera's lens.
        base_SE3_camera: its pose.
        frame_px: left, top, right, bottom of the part of the image that was looked at.
        hidden_low: (N,) True where the own vehicle hides the low edge.
        fisheye: the lens is equidistant.
    """
    n = len(xyxy)
    low = low_edge(base_SE3_camera)
    high, sides = (low + 2) % 4, ((low + 1) % 4, (low + 3) % 4)
    center = np.stack([0.5 * (xyxy[:, 0] + xyxy[:, 2]), 0.5 * (xyxy[:, 1] + xyxy[:, 3])], axis=1)
    points = np.repeat(center[None], 5, axis=0)
    for k, edge in enumerate((low, high, *sides), start=1):
        points[k, :, edge % 2] = xyxy[:, edge]
    rays = table.rays(points.reshape(-1, 2)) @ base_SE3_camera.rotation.T
    rays = rays.reshape(5, n, 3)
    run = np.maximum(np.hypot(rays[..., 0], rays[..., 1]), 1e-9)
    azimuth = np.arctan2(rays[..., 1], rays[..., 0])
    slope = rays[..., 2] / run
    axis = base_SE3_camera.rotation[:, 2]
    flat = fisheye or bool(np.hypot(axis[0], axis[1]) < 0.3)
    off_axis = np.zeros(n) if flat else _wrap(azimuth[0] - np.arctan2(axis[1], axis[0]))
    left, top, right, bottom = frame_px
    # The detector works on a scaled image and seldom draws an edge on the very last pixel.
    mx, my = max(2.0, 0.004 * (right - left)), max(2.0, 0.004 * (bottom - top))
    cut = np.stack(
        [xyxy[:, 0] <= left + mx, xyxy[:, 1] <= top + my, xyxy[:, 2] >= right - mx, xyxy[:, 3] >= bottom - my]
    )
    extent = (xyxy[:, 2] - xyxy[:, 0], xyxy[:, 3] - xyxy[:, 1])
    return BoxRays(
        origin_m=np.repeat(base_SE3_camera.translation_m[None], n, axis=0),
        azimuth_rad=azimuth[0],
        off_axis_rad=off_axis,
        tan_low=slope[1],
        tan_high=slope[2],
        side_rad=_wrap(azimuth[3:5] - azimuth[0]).T,
        height_px=extent[low % 2],
        width_px=extent[1 - low % 2],
        cut_low=cut[low] | hidden_low,
        cut_high=cut[high],
        cut_side=cut[list(sides)].T,
    )


def _wrap(angle_rad: FloatArray) -> FloatArray:
    """Angles in [-pi, pi)."""
    with np.errstate(invalid="ignore"):  # NaN outside the lens stays NaN
        wrapped: FloatArray = (angle_rad + np.pi) % (2 * np.pi) - np.pi
    return wrapped
