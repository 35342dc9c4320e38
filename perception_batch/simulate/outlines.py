"""Polygons on the screen: filled with soft edges for colour and hard ones for ids, counted and boxed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.simulate.lens import Polygons, cut_to_image
from perception_batch.simulate.scene import IdImage
from perception_batch.types import Image

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Box = tuple[float, float, float, float]

_SHIFT = 4
"""Corners are given to OpenCV in sixteenths of a pixel."""
_LEAST_FACE_PX = 1.4
"""Faces smaller than this in both directions are left out of the colours: their neighbours' soft edges fill in."""
_LEAST_PX2 = 0.4
"""So are those of a smaller area: OpenCV fills every pixel that a polygon touches, several times as much. Faces that
are small in both senses are left out of the ids too: their neighbours touch the same pixels."""
_FAR_PX = 20000.0
"""Corners are held within this many pixels; clipping keeps them far nearer."""


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """Polygons on the screen, ready for OpenCV."""

    points: npt.NDArray[np.int32]
    """(M, 2) corners, 1 / 2**_SHIFT px."""
    start: IntArray
    """(N + 1,) first corner of each, and the end."""
    convex: npt.NDArray[np.bool_]
    """(N,) whether every row of the image meets it at most twice, as OpenCV's fast filling wants it."""
    face: IntArray
    """(N,) face that it shows."""
    box_px: FloatArray
    """(N, 4) left, top, right, bottom of it, px (pixel centres)."""
    large: npt.NDArray[np.bool_]
    """(N,) whether it is worth filling; the others count for boxes alone."""
    thick: npt.NDArray[np.bool_]
    """(N,) whether its colour is worth seeing."""


def outlines_of(shown: Polygons, convex: npt.NDArray[np.bool_], width: int, height: int) -> Outlines:
    """Polygons in px ready to be filled; those that miss the image are left out."""
    count, face, points = shown.count, shown.face, shown.points
    if not len(count):
        none = np.zeros(0, np.bool_)
        start = np.zeros(1, np.int64)
        return Outlines(np.zeros((0, 2), np.int32), start, none, face, np.zeros((0, 4)), none, none)
    low = np.minimum.reduceat(points, shown.start)
    high = np.maximum.reduceat(points, shown.start)
    keep = (high[:, 0] > -0.5) & (high[:, 1] > -0.5) & (low[:, 0] < width - 0.5) & (low[:, 1] < height - 0.5)
    if not keep.all():
        points = points[np.repeat(keep, count)]
        count, face, convex, low, high = count[keep], face[keep], convex[keep], low[keep], high[keep]
    sixteenths = np.round(np.clip(points, -_FAR_PX, _FAR_PX) * (1 << _SHIFT)).astype(np.int32)
    start = np.concatenate([[0], np.cumsum(count)])
    size = high - low
    wide, thick = (size > _LEAST_FACE_PX).any(axis=1), _areas(points, start) > _LEAST_PX2
    return Outlines(
        sixteenths, start, convex, face, np.concatenate([low, high], axis=1), wide | thick, wide & thick
    )


def _areas(points: FloatArray, start: IntArray) -> FloatArray:
    """(N,) areas of polygons, px^2."""
    x, y = points[:, 0], points[:, 1]
    twice = np.empty(len(points))
    twice[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    first, last = start[:-1], start[1:] - 1
    twice[last] = x[last] * y[first] - x[first] * y[last]
    area: FloatArray = np.abs(np.add.reduceat(twice, first)) / 2
    return area


def fill_colors(image: Image, outlines: Outlines, which: IntArray, colors: list[tuple[int, ...]]) -> None:
    """Paint polygons `which`, in that order, in the colours of their faces."""
    points, fill, fill_any, soft = outlines.points, cv2.fillConvexPoly, cv2.fillPoly, cv2.LINE_AA
    which = which[outlines.thick[which]]
    for begin, end, convex, face in zip(
        outlines.start[which].tolist(),
        outlines.start[which + 1].tolist(),
        outlines.convex[which].tolist(),
        outlines.face[which].tolist(),
        strict=True,
    ):
        if convex:
            fill(image, points[begin:end], colors[face], soft, _SHIFT)
        else:
            fill_any(image, [points[begin:end]], colors[face], soft, _SHIFT)


def fill_ids(ids: IdImage, outlines: Outlines, which: IntArray, values: list[int]) -> None:
    """Write `values` into the ids where polygons `which` lie, in that order."""
    points, fill, fill_any, hard = outlines.points, cv2.fillConvexPoly, cv2.fillPoly, cv2.LINE_8
    for begin, end, convex, value in zip(
        outlines.start[which].tolist(),
        outlines.start[which + 1].tolist(),
        outlines.convex[which].tolist(),
        values,
        strict=True,
    ):
        if convex:
            fill(ids, points[begin:end], value, hard, _SHIFT)
        else:
            fill_any(ids, [points[begin:end]], value, hard, _SHIFT)


def rows_by(label: IntArray) -> dict[int, IntArray]:
    """Rows of each label."""
    rows = np.argsort(label, kind="stable")
    ends = np.flatnonzero(np.diff(label[rows], append=np.iinfo(np.int64).max)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    return {int(label[rows[s]]): rows[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)}


def box_inside(outlines: Outlines, which: IntArray, width: int, height: int) -> Box:
    """Box around what of the polygons lies inside the image, corners; empty where nothing does."""
    rows = [outlines.points[outlines.start[row] : outlines.start[row + 1]] for row in which.tolist()]
    count = outlines.start[which + 1] - outlines.start[which]
    whole = Polygons(np.concatenate(rows) / float(1 << _SHIFT), count, outlines.face[which])
    inside = cut_to_image(whole, width, height).points + 0.5
    if not len(inside):
        return (0.0, 0.0, 0.0, 0.0)
    (left, top), (right, bottom) = inside.min(axis=0).tolist(), inside.max(axis=0).tolist()
    return (left, top, right, bottom)


def silhouette(
    outlines: Outlines, which: IntArray, roi: tuple[int, int, int, int], scratch: npt.NDArray[np.uint8]
) -> int:
    """Pixels that the polygons fill by themselves within `roi`; `scratch` is an empty image and is left empty."""
    x0, y0, x1, y1 = roi
    points, which = outlines.points, which[outlines.large[which]]
    for begin, end, convex in zip(
        outlines.start[which].tolist(),
        outlines.start[which + 1].tolist(),
        outlines.convex[which].tolist(),
        strict=True,
    ):
        if convex:
            cv2.fillConvexPoly(scratch, points[begin:end], 1, cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(scratch, [points[begin:end]], 1, cv2.LINE_8, _SHIFT)
    part = scratch[y0:y1, x0:x1]
    filled = cv2.countNonZero(part)
    part[:] = 0
    return filled
