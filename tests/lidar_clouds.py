"""Point clouds for tests: rays cast at boxes and the ground, and PointCloud2 messages of any layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


def beams(rows: int = 40, columns: int = 1500, low_deg: float = -22.0, high_deg: float = 4.0) -> Array:
    """(N, 3) unit rays of a spinning lidar."""
    up, round_ = np.meshgrid(
        np.radians(np.linspace(low_deg, high_deg, rows)), np.arange(columns) * 2 * math.pi / columns
    )
    flat = np.cos(up)
    return np.stack([flat * np.cos(round_), flat * np.sin(round_), np.sin(up)], axis=-1).reshape(-1, 3)


def cast(
    boxes: Sequence[tuple[Array, Array, float]],
    origin_m: Array,
    rays: Array,
    *,
    ground_z_m: float | None = 0.0,
    far_m: float = 150.0,
) -> Array:
    """(N, 3) first hits of rays with boxes (centre, length/width/height, yaw) and the ground; box by box, by slabs."""
    nearest = np.full(len(rays), np.inf)
    if ground_z_m is not None:
        with np.errstate(divide="ignore"):
            reach = (ground_z_m - origin_m[2]) / rays[:, 2]
        nearest = np.where(reach > 0, reach, np.inf)
    for center, size, yaw in boxes:
        c, s = math.cos(yaw), math.sin(yaw)
        into = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        start, direction = into @ (origin_m - center), rays @ into.T
        with np.errstate(divide="ignore", invalid="ignore"):
            one = (-size / 2 - start) / direction
            two = (size / 2 - start) / direction
        enter = np.minimum(one, two).max(axis=1)
        leave = np.maximum(one, two).min(axis=1)
        nearest = np.where((enter <= leave) & (enter > 0), np.minimum(nearest, enter), nearest)
    hit = nearest < far_m
    return origin_m + nearest[hit, None] * rays[hit]


def cloud(
    types: Any,
    header: Any,
    points_m: Array,
    *,
    fields: Sequence[tuple[str, int, int]] = (("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 12, 7)),
    point_step: int = 16,
    height: int = 1,
    row_padding: int = 0,
    bigendian: bool = False,
    **changes: Any,
) -> Any:
    """A PointCloud2; `fields` are name, offset and the type's code, `changes` are fields of the message that lie."""
    order = ">" if bigendian else "<"
    n = len(points_m) // height * height
    names = [name for name, _, _ in fields]
    dtype = np.dtype(
        {
            "names": names,
            "formats": [order + TYPES[kind] for _, _, kind in fields],
            "offsets": [offset for _, offset, _ in fields],
            "itemsize": point_step,
        }
    )
    rows = np.zeros(n, dtype)
    for axis, name in enumerate("xyz"):
        if name in names:
            rows[name] = points_m[:n, axis]
    width = n // height
    padded = np.zeros((height, width * point_step + row_padding), np.uint8)
    padded[:, : width * point_step] = rows.view(np.uint8).reshape(height, -1)
    values = {
        "header": header,
        "height": height,
        "width": width,
        "fields": [
            types["sensor_msgs/msg/PointField"](name, offset, kind, 1) for name, offset, kind in fields
        ],
        "is_bigendian": bigendian,
        "point_step": point_step,
        "row_step": padded.shape[1],
        "data": padded.ravel(),
        "is_dense": True,
        **changes,
    }
    return types["sensor_msgs/msg/PointCloud2"](**values)
