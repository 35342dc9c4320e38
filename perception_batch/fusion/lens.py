"""Rays through box edges, fast: tables for lenses whose inverse has no closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray, Intrinsics
from perception_batch.fusion.pairs import pairs_within
from perception_batch.geometry import SE3

# Linear interpolation over s px errs by s² / 8f² rad at most: 0.03 px at s = 16, f = 1000 px.
_STEP_PX = 16.0
_UPRIGHT = 0.3  # an optical axis with less of it in the plane has no heading worth naming
_OUTWARD = np.array(
    [1.0, 1.0, -1.0, -1.0]
)  # left and top edges are cut at small coordinates, the others at large
# By the edge that is low: it, the one across from it, and both sides.
_EDGES = np.array([[low, (low + 2) % 4, (low + 1) % 4, (low + 3) % 4] for low in range(4)])


class RayTables:
    """Rays of the optical frames of several lenses, for points of their images; box convention ((0, 0) is the corner).

    Undistorting takes 25 to 60 steps of iteration; a table made once costs two orders less per timestep.
    Lenses without distortion are inverted exactly. What is asked of several lenses at once costs little more
    than what is asked of one.
    """

    def __init__(self) -> None:
        self._nodes: FloatArray = np.zeros((3, 0))
        # By lens: where its table begins, columns and rows (0 without a table); px between nodes or focal length,
        # and where the first node or the optical axis is.
        self._layout: npt.NDArray[np.int64] = np.zeros((0, 3), np.int64)
        self._scale: FloatArray = np.zeros((0, 2))
        self._zero: FloatArray = np.zeros((0, 2))

    def add(self, intrinsics: Intrinsics) -> int:
        """One more lens; its number."""
        nx = ny = 0
        scale, zero = (intrinsics.fx_px, intrinsics.fy_px), (intrinsics.cx_px + 0.5, intrinsics.cy_px + 0.5)
        start = self._nodes.shape[1]
        if intrinsics.model == "equidistant" or any(intrinsics.distortion):
            nx = int(np.ceil(intrinsics.width_px / _STEP_PX)) + 1
            ny = int(np.ceil(intrinsics.height_px / _STEP_PX)) + 1
            scale, zero = (_STEP_PX, _STEP_PX), (0.0, 0.0)
            gx, gy = np.meshgrid(np.arange(nx) * _STEP_PX, np.arange(ny) * _STEP_PX)
            points = np.stack([gx.ravel(), gy.ravel()], axis=1)
            self._nodes = np.concatenate([self._nodes, intrinsics.rays_of_corners(points).T], axis=1)
        self._layout = np.concatenate([self._layout, [[start, nx, ny]]])
        self._scale, self._zero = np.concatenate([self._scale, [scale]]), np.concatenate([self._zero, [zero]])
        return len(self._layout) - 1

    def rays(self, lens: npt.NDArray[np.int64], x_px: FloatArray, y_px: FloatArray) -> FloatArray:
        """(3, K, N) rays of any length through K points of each of N boxes; NaN where the lens does not reach.

        Args:
            lens: (N,) number of each box's lens.
            x_px: (K, N) the points' places.
            y_px: (K, N).
        """
        zero, scale = self._zero[lens], self._scale[lens]
        out = np.empty((3, *x_px.shape))
        np.subtract(x_px, zero[:, 0], out=out[0])
        np.subtract(y_px, zero[:, 1], out=out[1])
        out[0] /= scale[:, 0]
        out[1] /= scale[:, 1]
        out[2] = 1.0
        layout = self._layout[lens]
        bent = layout[:, 1].nonzero()[0]
        if len(bent) == len(lens):
            return self._interpolated(layout, out[0], out[1])
        if len(bent):
            out[:, :, bent] = self._interpolated(layout[bent], out[0][:, bent], out[1][:, bent])
        return out

    def _interpolated(self, layout: npt.NDArray[np.int64], at_x: FloatArray, at_y: FloatArray) -> FloatArray:
        start, columns, lines = layout.T
        x = np.minimum(np.maximum(at_x, 0), columns - 1)
        y = np.minimum(np.maximum(at_y, 0), lines - 1)
        ix = np.minimum(x.astype(np.int64), columns - 2)
        iy = np.minimum(y.astype(np.int64), lines - 2)
        fx, fy = x - ix, y - iy
        gx = 1 - fx
        first = start + iy * columns + ix
        below = first + columns
        nodes = self._nodes
        ray: FloatArray = gx * nodes.take(first, 1)
        ray += fx * nodes.take(first + 1, 1)
        ray *= 1 - fy
        lower: FloatArray = gx * nodes.take(below, 1)
        lower += fx * nodes.take(below + 1, 1)
        lower *= fy
        ray += lower
        return ray


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
    gx, gy, _ = (-base_SE3_camera.rotation[2]).tolist()  # base's down, in the optical frame
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
    lens: int
    """The camera's lens, see `RayTables`."""
    base_SE3_camera: SE3
    """Its pose."""
    frame_px: tuple[float, float, float, float]
    """Left, top, right, bottom of the part of the image that was looked at."""
    hidden_low: npt.NDArray[np.bool_] | None
    """(N,) True where the own vehicle hides the low edge; None: nowhere."""
    fisheye: bool
    """The lens is equidistant."""


def box_rays(images: Sequence[BoxImage], tables: RayTables) -> BoxRays:
    """Rays of the edges of the boxes of one or more cameras, in their order."""
    counts = [len(image.xyxy) for image in images]
    of = np.arange(len(images)).repeat(counts)
    xyxy = np.concatenate([image.xyxy for image in images])
    n, every = len(xyxy), np.arange(len(xyxy))[:, None]
    poses = [image.base_SE3_camera for image in images]
    lows = np.array([low_edge(pose) for pose in poses])
    turns = np.array([pose.rotation for pose in poses])
    edges = _EDGES[lows][of]
    at = xyxy[every, edges].T  # low, high and both sides

    # The centre, both sides, low and high: an edge has a place along one axis, and is looked at in its middle.
    middle_x, middle_y = 0.5 * (xyxy[:, 0] + xyxy[:, 2]), 0.5 * (xyxy[:, 1] + xyxy[:, 3])
    upright = (lows % 2 == 1)[of]
    x, y = np.empty((5, n)), np.empty((5, n))
    x[0], y[0] = middle_x, middle_y
    x[1:3], y[1:3] = np.where(upright, at[2:], middle_x), np.where(upright, middle_y, at[2:])
    x[3:], y[3:] = np.where(upright, middle_x, at[:2]), np.where(upright, at[:2], middle_y)
    right, down, ahead = tables.rays(np.array([image.lens for image in images])[of], x, y)
    turn = turns.reshape(-1, 9).T[:, of]
    x = right * turn[0] + down * turn[1] + ahead * turn[2]
    y = right * turn[3] + down * turn[4] + ahead * turn[5]
    rise = right[3:] * turn[6] + down[3:] * turn[7] + ahead[3:] * turn[8]
    slope = rise / np.maximum(np.sqrt(x[3:] ** 2 + y[3:] ** 2), 1e-9)
    azimuth = np.arctan2(y[:3], x[:3])

    axes = turns[:, :, 2]
    fisheye = np.array([image.fisheye for image in images])
    flat = fisheye | (np.hypot(axes[:, 0], axes[:, 1]) < _UPRIGHT)
    toward = np.arctan2(axes[:, 1], axes[:, 0])
    turned = np.empty((3, n))
    np.subtract(azimuth[0], toward[of], out=turned[0])
    np.subtract(azimuth[1:], azimuth[0], out=turned[1:])
    turned -= 2 * np.pi * np.rint(turned / (2 * np.pi))  # the short way round

    limits = np.array([_border(image.frame_px) for image in images])
    cut = (xyxy * _OUTWARD <= limits[of])[every, edges].T
    if any(image.hidden_low is not None for image in images):
        cut[0] |= np.concatenate(
            [
                np.zeros(k, bool) if i.hidden_low is None else i.hidden_low
                for i, k in zip(images, counts, strict=True)
            ]
        )
    # As in an upright image, where rows grow downwards.
    sign = np.where(lows < 2, -1.0, 1.0)[of]
    start, stop = np.minimum(at[2], at[3]), np.maximum(at[2], at[3])
    return BoxRays(
        origin_m=np.array([pose.translation_m for pose in poses])[of],
        azimuth_rad=azimuth[0],
        off_axis_rad=np.where(flat[of], 0.0, turned[0]),
        tan_low=slope[0],
        tan_high=slope[1],
        side_rad=turned[1:].T,
        height_px=np.abs(at[0] - at[1]),
        width_px=stop - start,
        cut_low=cut[0],
        cut_high=cut[1],
        cut_side=cut[2:].T,
        low_covered=_covered(sign * at[0], sign * at[1], start, stop, of),
        fisheye=fisheye[of],
    )


def _border(frame_px: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Coordinates, times `_OUTWARD`, up to which an edge lies on the border."""
    left, top, right, bottom = frame_px
    # The detector works on a scaled image and seldom draws an edge on the very last pixel.
    mx, my = max(2.0, 0.004 * (right - left)), max(2.0, 0.004 * (bottom - top))
    return left + mx, top + my, mx - right, my - bottom


def _covered(
    lowest: FloatArray,
    highest: FloatArray,
    start: FloatArray,
    stop: FloatArray,
    camera: npt.NDArray[np.int64],
) -> FloatArray:
    """(N,) the largest share of each box's low edge that a single box of its camera covers which reaches lower."""
    i, j = pairs_within(camera)
    deeper = lowest[i] > lowest[j]
    i, j = np.where(deeper, j, i), np.where(deeper, i, j)  # of each pair, j is the one that reaches lower
    # A box that ends a hair lower may as well stand beside it.
    hair = 0.02 * (lowest - highest)
    nearer = ((lowest[j] > (lowest + hair)[i]) & (highest[j] < lowest[i])).nonzero()[0]
    i, j = i[nearer], j[nearer]
    both = np.minimum(stop[i], stop[j]) - np.maximum(start[i], start[j])
    covered = np.zeros(len(lowest))
    np.maximum.at(covered, i, both)
    share: FloatArray = covered / np.maximum(stop - start, 1e-3)
    return np.minimum(share, 1.0)
