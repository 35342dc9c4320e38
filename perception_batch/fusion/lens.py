"""Rays through box edges, fast: tables for lenses whose inverse has no closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray, Intrinsics
from perception_batch.fusion.columns import Columns
from perception_batch.geometry import SE3
from perception_batch.pairs import pairs_within

# Linear interpolation over s px errs by s² / 8f² rad at most: 0.03 px at s = 16, f = 1000 px.
_STEP_PX = 16.0
_UPRIGHT = 0.3  # an optical axis with less of it in the plane has no heading worth naming
# Left and top edges are cut at small coordinates, the others at large.
_OUTWARD = np.array([[1.0], [1.0], [-1.0], [-1.0]])
# By the edge that is low (0 left, 1 top, 2 right, 3 bottom): it, the one across from it, and both sides.
_EDGES = np.array([[low, (low + 2) % 4, (low + 1) % 4, (low + 3) % 4] for low in range(4)])
# An edge has a place along one axis (x for left and right) and is looked at in its middle (4 along x, 5 along y).
_PLACE_X, _PLACE_Y = np.array([0, 4, 2, 4, 4]), np.array([5, 1, 5, 3, 5])
_CENTRE_SIDES_LOW_HIGH = np.concatenate([np.full((4, 1), 4), _EDGES[:, [2, 3, 0, 1]]], axis=1)
# (14, 4) x of the centre, both sides, low and high; their y; the edges themselves.
_POINTS = np.concatenate(
    [_PLACE_X[_CENTRE_SIDES_LOW_HIGH], _PLACE_Y[_CENTRE_SIDES_LOW_HIGH], _EDGES], axis=1
).T


class RayTables:
    """Rays of the optical frames of several lenses, for points of their images; box convention ((0, 0) is the corner).

    Undistorting takes 25 to 60 steps of iteration; a table made once costs two orders less per timestep.
    Lenses without distortion are inverted exactly. What is asked of several lenses at once costs little more
    than what is asked of one.
    """

    def __init__(self) -> None:
        self._nodes: FloatArray = np.zeros((3, 0))
        # A column a lens: where its table begins, columns and rows (0 without a table); where the first node or the
        # optical axis is, and px between nodes or focal length, along x and y.
        self._layout: npt.NDArray[np.int64] = np.zeros((3, 0), np.int64)
        self._scale: FloatArray = np.zeros((4, 0))

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
        self._layout = np.concatenate([self._layout, [[start], [nx], [ny]]], axis=1)
        self._scale = np.concatenate([self._scale, np.array([[*zero, *scale]]).T], axis=1)
        return len(self._layout[0]) - 1

    def rays(self, lens: npt.NDArray[np.int64], x_px: FloatArray, y_px: FloatArray) -> FloatArray:
        """(3, K, N) rays of any length through K points of each of N boxes; NaN where the lens does not reach.

        Args:
            lens: (N,) number of each box's lens.
            x_px: (K, N) the points' places.
            y_px: (K, N).
        """
        zero_x, zero_y, scale_x, scale_y = self._scale.take(lens, 1)
        out = np.empty((3, *x_px.shape))
        np.divide(x_px - zero_x, scale_x, out=out[0])
        np.divide(y_px - zero_y, scale_y, out=out[1])
        out[2] = 1.0
        layout = self._layout.take(lens, 1)
        bent = layout[1].nonzero()[0]
        if len(bent) == len(lens):
            return self._interpolated(layout, out[0], out[1])
        if len(bent):
            at_x, at_y = out[0].take(bent, 1), out[1].take(bent, 1)
            out[:, :, bent] = self._interpolated(layout.take(bent, 1), at_x, at_y)
        return out

    def _interpolated(self, layout: npt.NDArray[np.int64], at_x: FloatArray, at_y: FloatArray) -> FloatArray:
        start, columns, lines = layout
        x = np.minimum(np.maximum(at_x, 0), columns - 1)
        y = np.minimum(np.maximum(at_y, 0), lines - 1)
        ix = np.minimum(x.astype(np.int64), columns - 2)
        iy = np.minimum(y.astype(np.int64), lines - 2)
        x -= ix
        y -= iy
        node = np.empty((2, *x.shape), np.int64)  # above and below
        np.add(start + iy * columns, ix, out=node[0])
        np.add(node[0], columns, out=node[1])
        rays = self._nodes.take(node, 1)
        rays += x * (self._nodes.take(node + 1, 1) - rays)
        ray: FloatArray = rays[:, 0] + y * (rays[:, 1] - rays[:, 0])
        return ray


@dataclass(frozen=True, slots=True)
class BoxRays(Columns):
    """What the edges of N boxes look at, in the base frame. "Low" is towards the ground, not row numbers:
    in a camera mounted upside down it is the image's upper edge."""

    origin_m: FloatArray
    """(3, N) the camera's position."""
    azimuth_rad: FloatArray
    """(N,) heading of the ray through the box's centre, from x towards y; NaN outside the lens."""
    toward: FloatArray
    """(2, N) cosine and sine of `azimuth_rad`."""
    off_axis_rad: FloatArray
    """(N,) `azimuth_rad` less that of the optical axis; 0 for fisheyes, whose image is no plane's."""
    tan_low: FloatArray
    """(N,) slope (rise over horizontal run) of the ray through the middle of the low edge."""
    tan_high: FloatArray
    """(N,) slope of the ray through the middle of the high edge."""
    side_rad: FloatArray
    """(2, N) azimuth of both sides less `azimuth_rad`."""
    height_px: FloatArray
    """(N,) extent from low to high."""
    width_px: FloatArray
    """(N,) extent from side to side."""
    cut_low: npt.NDArray[np.bool_]
    """(N,) the low edge is the image border's or hidden by the own vehicle."""
    cut_high: npt.NDArray[np.bool_]
    """(N,) the high edge is the image border's."""
    cut_side: npt.NDArray[np.bool_]
    """(2, N) which side is the image border's; rows as in `side_rad`."""
    cut: npt.NDArray[np.bool_]
    """(N,) whether any side is."""
    low_covered: FloatArray
    """(N,) share of the low edge that lies inside one box which stands lower, hence nearer."""
    fisheye: npt.NDArray[np.bool_]
    """(N,) the lens is equidistant."""


def low_edge(base_SE3_camera: SE3) -> int:
    """Which edge of boxes (0 left, 1 top, 2 right, 3 bottom) is nearest to the ground in this camera."""
    gx, gy, _ = (-base_SE3_camera.rotation[2]).tolist()  # base's down, in the optical frame
    if max(abs(gx), abs(gy)) < 0.2:  # looks straight down or up: by convention the image's bottom
        return 3
    if abs(gy) >= abs(gx):
        return 3 if gy > 0 else 1
    return 2 if gx > 0 else 0


@dataclass(frozen=True, slots=True)
class ImageFrame:
    """One camera at one time: what all boxes of its image have alike."""

    lens: int
    """The camera's lens, see `RayTables`."""
    low: int
    """Which edge of boxes is low, see `low_edge`."""
    fisheye: bool
    """The lens is equidistant."""
    numbers: tuple[float, ...]
    """The pose's rotation (9, row after row) and position (3); heading of the optical axis, NaN where it has none
    worth naming; the four coordinates, times `_OUTWARD`, up to which an edge lies on the border."""

    @classmethod
    def of(
        cls, base_SE3_camera: SE3, lens: int, fisheye: bool, frame_px: tuple[float, float, float, float]
    ) -> ImageFrame:
        """The frame of one image.

        Args:
            base_SE3_camera: the camera's pose.
            lens: see `RayTables`.
            fisheye: the lens is equidistant.
            frame_px: left, top, right, bottom of the part of the image that was looked at.
        """
        turn = base_SE3_camera.rotation.ravel().tolist()
        flat = fisheye or math.hypot(turn[2], turn[5]) < _UPRIGHT
        axis = math.nan if flat else math.atan2(turn[5], turn[2])
        where = base_SE3_camera.translation_m.tolist()
        numbers = (*turn, *where, axis, *_border(frame_px))
        return cls(lens, low_edge(base_SE3_camera), fisheye, numbers)


def box_rays(
    xyxy: FloatArray,
    frames: Sequence[ImageFrame],
    counts: Sequence[int],
    tables: RayTables,
    hidden_low: npt.NDArray[np.bool_] | None = None,
) -> BoxRays:
    """Rays of the edges of the boxes of one or more images, in their order.

    Args:
        xyxy: (N, 4) boxes of the first image, then those of the second and so on; px of the original images.
        frames: of the images.
        counts: how many boxes each has.
        tables: their lenses.
        hidden_low: (N,) True where the own vehicle hides the low edge; None: nowhere.
    """
    n = len(xyxy)
    of = np.arange(len(frames)).repeat(counts)
    mine = np.array([frame.numbers for frame in frames]).T.take(of, 1)
    turn, origin, axis, limits = mine[:9], mine[9:12], mine[12], mine[13:]
    lens, low, fisheye = np.array([(frame.lens, frame.low, frame.fisheye) for frame in frames]).T.take(of, 1)

    places = np.empty((6, n))
    places[:4] = xyxy.T
    np.multiply(places[:2] + places[2:4], 0.5, out=places[4:])
    which = _POINTS.take(low, 1) * n + np.arange(n)
    points = places.take(which)
    cut = (places[:4] * _OUTWARD <= limits).take(which[10:])
    if hidden_low is not None:
        cut[0] |= hidden_low
    rays = tables.rays(lens, points[:5], points[5:10])
    # Sums term by term: one product of matrices may end in other last bits with more boxes beside it.
    ahead, left, up = rays
    x = turn[0] * ahead + turn[1] * left + turn[2] * up
    y = turn[3] * ahead + turn[4] * left + turn[5] * up
    rise = turn[6] * ahead[3:] + turn[7] * left[3:] + turn[8] * up[3:]
    slope = rise / np.maximum(np.sqrt(x[3:] ** 2 + y[3:] ** 2), 1e-9)
    turned = np.arctan2(y[:3], x[:3])
    azimuth = turned[0].copy()
    toward = np.empty((2, n))
    np.cos(azimuth, out=toward[0])
    np.sin(azimuth, out=toward[1])
    turned[1:] -= azimuth
    turned[0] -= axis
    turned -= 2 * np.pi * np.rint(turned / (2 * np.pi))  # the short way round

    at_low, at_high, one, other = points[10:]
    start, stop = np.minimum(one, other), np.maximum(one, other)
    sign = np.where(low < 2, -1.0, 1.0)  # as in an upright image, where rows grow downwards
    return BoxRays(
        origin,
        azimuth,
        toward,
        np.where(np.isnan(axis), 0.0, turned[0]),
        slope[0],
        slope[1],
        turned[1:],
        np.abs(at_low - at_high),
        stop - start,
        cut[0],
        cut[1],
        cut[2:],
        cut[2] | cut[3],
        _covered(sign * at_low, sign * at_high, start, stop, of),
        fisheye.astype(bool),
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
