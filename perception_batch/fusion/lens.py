"""Rays through box edges, fast: a table for lenses whose inverse has no closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray, Intrinsics
from perception_batch.geometry import SE3

# Linear interpolation over s px errs by s² / 8f² rad at most: 0.03 px at s = 16, f = 1000 px.
_STEP_PX = 16.0
_UPRIGHT = 0.3  # an optical axis with less of it in the plane has no heading worth naming
_OUTWARD = np.array(
    [1.0, 1.0, -1.0, -1.0]
)  # left and top edges are cut at small coordinates, the others at large


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
    low_covered: FloatArray
    """(N,) share of the low edge that lies inside one box which stands lower, hence nearer."""
    fisheye: npt.NDArray[np.bool_]
    """(N,) the lens is equidistant."""

    def take(self, rows: npt.NDArray[np.int64]) -> BoxRays:
        """The given rows, in that order."""
        return BoxRays(*(getattr(self, name)[rows] for name in self.__slots__))


def low_edge(base_SE3_camera: SE3) -> int:
    """Which edge of boxes (0 left, 1 top, 2 right, 3 bottom) is nearest to the ground in this camera."""
    gx, gy, _ = -base_SE3_camera.rotation[2]  # base's down, in the optical frame
    if max(abs(gx), abs(gy)) < 0.2:  # looks straight down or up: by convention the image's bottom
        return 3
    if abs(gy) >= abs(gx):
        return 3 if gy > 0 else 1
    return 2 if gx > 0 else 0


@dataclass(frozen=True, slots=True)
class BoxImage:
    """N boxes of one camera before they become rays of the base frame."""

    xyxy: FloatArray
    """(N, 4) boxes, px of the original image."""
    table: RayTable
    """The camera's lens."""
    base_SE3_camera: SE3
    """Its pose."""
    frame_px: tuple[float, float, float, float]
    """Left, top, right, bottom of the part of the image that was looked at."""
    hidden_low: npt.NDArray[np.bool_]
    """(N,) True where the own vehicle hides the low edge."""
    fisheye: bool
    """The lens is equidistant."""


def box_rays(images: Sequence[BoxImage]) -> BoxRays:
    """Rays of the edges of the boxes of one or more cameras, in their order."""
    parts, numbers = [], []
    for number, image in enumerate(images):
        parts.append(_camera_part(image))
        numbers += [number] * len(image.xyxy)
    rays = np.concatenate([part[0] for part in parts], axis=1)
    cuts = np.concatenate([part[1] for part in parts], axis=1)
    extents = np.concatenate([part[2] for part in parts], axis=1)
    of = np.array(numbers, np.int64)
    axes = np.array([image.base_SE3_camera.rotation[:, 2] for image in images])
    fisheye = np.array([image.fisheye for image in images])
    flat = fisheye | (np.hypot(axes[:, 0], axes[:, 1]) < _UPRIGHT)
    run = np.maximum(np.hypot(rays[..., 0], rays[..., 1]), 1e-9)
    azimuth = np.arctan2(rays[..., 1], rays[..., 0])
    slope = rays[1:3, :, 2] / run[1:3]
    toward = np.arctan2(axes[:, 1], axes[:, 0])
    turned = _wrap(np.stack([azimuth[0] - toward[of], azimuth[3] - azimuth[0], azimuth[4] - azimuth[0]]))
    return BoxRays(
        origin_m=np.array([image.base_SE3_camera.translation_m for image in images])[of],
        azimuth_rad=azimuth[0],
        off_axis_rad=np.where(flat[of], 0.0, turned[0]),
        tan_low=slope[0],
        tan_high=slope[1],
        side_rad=turned[1:].T,
        height_px=extents[0],
        width_px=extents[1],
        cut_low=cuts[0],
        cut_high=cuts[1],
        cut_side=cuts[2:].T,
        low_covered=_covered(np.concatenate([part[3] for part in parts], axis=1), of),
        fisheye=fisheye[of],
    )


def _camera_part(image: BoxImage) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray, FloatArray]:
    """Of one camera: (5, N, 3) rays of centre, low, high and both sides; (4, N) which edges are cut; (2, N) extents
    from low to high and from side to side, px; (4, N) lowest, highest
    and the two ends across, px, growing downwards."""
    xyxy, n = image.xyxy, len(image.xyxy)
    low = low_edge(image.base_SE3_camera)
    edges = (low, (low + 2) % 4, (low + 1) % 4, (low + 3) % 4)
    points = np.empty((5, n, 2))
    points[:] = 0.5 * (xyxy[:, :2] + xyxy[:, 2:])
    for k, edge in enumerate(edges, start=1):
        points[k, :, edge % 2] = xyxy[:, edge]
    rays = (image.table.rays(points.reshape(-1, 2)) @ image.base_SE3_camera.rotation.T).reshape(5, n, 3)
    left, top, right, bottom = image.frame_px
    # The detector works on a scaled image and seldom draws an edge on the very last pixel.
    mx, my = max(2.0, 0.004 * (right - left)), max(2.0, 0.004 * (bottom - top))
    limits = np.array([left + mx, top + my, mx - right, my - bottom])
    cut = (xyxy * _OUTWARD <= limits).T[list(edges)]
    cut[0] |= image.hidden_low
    extent = (xyxy[:, 2:] - xyxy[:, :2]).T
    return rays, cut, extent[[1, 0]] if low % 2 else extent, _upright(xyxy, low)


def _upright(xyxy: FloatArray, low: int) -> FloatArray:
    """(4, N) of each box lowest, highest, start and stop across, as in an upright image."""
    sign = -1.0 if low < 2 else 1.0
    across = 1 - low % 2
    return np.stack(
        [sign * xyxy[:, low], sign * xyxy[:, (low + 2) % 4], xyxy[:, across], xyxy[:, across + 2]]
    )


def _covered(upright: FloatArray, camera: npt.NDArray[np.int64]) -> FloatArray:
    """(N,) the largest share of each box's low edge that a single box of its camera covers which reaches lower."""
    lowest, highest, start, stop = upright
    # A box that ends a hair lower may as well stand beside it.
    nearer = lowest[None] > (lowest + 0.02 * (lowest - highest))[:, None]
    nearer &= highest[None] < lowest[:, None]
    nearer &= camera[None] == camera[:, None]
    i, j = np.nonzero(nearer)
    both = np.minimum(stop[i], stop[j]) - np.maximum(start[i], start[j])
    covered = np.zeros(len(lowest))
    np.maximum.at(covered, i, both)
    share: FloatArray = covered / np.maximum(stop - start, 1e-3)
    return np.minimum(share, 1.0)


def _wrap(angle_rad: FloatArray) -> FloatArray:
    """Angles in [-pi, pi)."""
    with np.errstate(invalid="ignore"):  # NaN outside the lens stays NaN
        wrapped: FloatArray = (angle_rad + np.pi) % (2 * np.pi) - np.pi
    return wrapped
