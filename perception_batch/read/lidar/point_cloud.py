"""``sensor_msgs/PointCloud2`` straight from its bytes: the points' x, y, z, whatever lies between them.

Nothing in a message is trusted: fields may have any offset and number type, rows may be padded, and what does not
fit into the bytes that are there is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from perception_batch.errors import printable
from perception_batch.lidar import MAX_POINTS
from perception_batch.read.images.image_message import Fields, MalformedMessage

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"

MAX_CLOUD_POINTS = 8_000_000
"""Points of one message; the densest lidars give 600,000 a turn."""
MAX_FIELDS = 64
MAX_POINT_BYTES = 4096
"""Bytes of one point."""
MAX_RANGE_M = 300.0
MIN_RANGE_M = 0.3
"""Nearer ones are the housing's echoes, and the zeros with which drivers say "none"."""

# sensor_msgs/PointField: number types by their code.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


@dataclass(frozen=True, slots=True)
class Cloud:
    """What a point cloud message says."""

    stamp_ns: int
    """The header's stamp, ns."""
    frame_id: str
    """The frame of the points."""
    points_m: npt.NDArray[np.float32]
    """(N, 3) finite points between `MIN_RANGE_M` and `MAX_RANGE_M` of the sensor, m; at most `MAX_POINTS`."""


def parse_cloud(data: bytes, serialization: Literal["ros1", "cdr"]) -> Cloud:
    """A PointCloud2 message.

    Raises:
        MalformedMessage: the bytes do not hold one, or one beyond all bounds.
    """
    fields = Fields(data, serialization == "cdr")
    stamp_ns, frame_id = _header(fields)
    height, width = fields.number(4), fields.number(4)
    count = fields.number(4)
    if count > MAX_FIELDS:
        raise MalformedMessage(f"{count} fields, allowed are {MAX_FIELDS}")
    places: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        name, offset, kind = fields.text(), fields.number(4), fields.number(1)
        fields.number(4)  # how many numbers: the first is meant
        places.setdefault(name, (offset, kind))
    order = ">" if fields.number(1) else "<"
    point_step, row_step = fields.number(4), fields.number(4)
    points = fields.blob()
    fields.number(1)  # is_dense: drivers say so and send NaN all the same
    dtype = _dtype(places, order, point_step)
    if height * width > MAX_CLOUD_POINTS:
        raise MalformedMessage(f"{width}x{height} points, allowed are {MAX_CLOUD_POINTS}")
    if height * width == 0:
        return Cloud(stamp_ns, frame_id, np.zeros((0, 3), np.float32))
    row_bytes = width * point_step
    if height > 1 and row_step < row_bytes:
        raise MalformedMessage(f"rows of {row_step} bytes for {width} points of {point_step}")
    if (height - 1) * row_step + row_bytes > len(points):
        raise MalformedMessage(f"{len(points)} bytes of points for {width}x{height} of {point_step}")
    rows = np.ndarray(
        (height, width), dtype, points, strides=(row_step if height > 1 else row_bytes, point_step)
    )
    return Cloud(stamp_ns, frame_id, _usable(rows))


def head_of_cloud(data: bytes, serialization: Literal["ros1", "cdr"]) -> tuple[int, str]:
    """Stamp (ns) and frame of a PointCloud2 message; its points are not looked at.

    Raises:
        MalformedMessage: the bytes do not begin like one.
    """
    return _header(Fields(data, serialization == "cdr"))


def _header(fields: Fields) -> tuple[int, str]:
    fields.sequence_number()
    return fields.time(), fields.text()


def _dtype(places: dict[str, tuple[int, int]], order: str, point_step: int) -> np.dtype[Any]:
    if not 0 < point_step <= MAX_POINT_BYTES:
        raise MalformedMessage(f"points of {point_step} bytes, allowed are 1 to {MAX_POINT_BYTES}")
    formats, offsets = [], []
    for name in "xyz":
        if name not in places:
            raise MalformedMessage(
                f"no field {name}; it has {', '.join(map(printable, sorted(places))) or 'none'}"
            )
        offset, kind = places[name]
        if kind not in _TYPES:
            raise MalformedMessage(f"field {name} is of the unknown number type {kind}")
        if offset + int(_TYPES[kind][1]) > point_step:
            raise MalformedMessage(
                f"field {name} at byte {offset} lies outside a point of {point_step} bytes"
            )
        formats.append(order + _TYPES[kind])
        offsets.append(offset)
    return np.dtype({"names": list("xyz"), "formats": formats, "offsets": offsets, "itemsize": point_step})


def _usable(rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(N, 3) of the points that are some; thinned out evenly over the whole sweep."""
    with np.errstate(invalid="ignore", over="ignore"):
        xyz = np.stack([rows[name].ravel().astype(np.float32) for name in "xyz"], axis=1)
        range2 = np.einsum("ij,ij->i", xyz, xyz)
        good = (range2 >= MIN_RANGE_M**2) & (range2 <= MAX_RANGE_M**2)  # false for what is not finite
    xyz = xyz[good]
    stride = -(-len(xyz) // MAX_POINTS)
    return np.ascontiguousarray(xyz[:: max(1, stride)])
