"""``sensor_msgs/CameraInfo`` (or Foxglove's calibration in its shape) as `Intrinsics`, and which CameraInfo topic belongs to which camera."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from perception_batch.calibration import Intrinsics, LensModel
from perception_batch.errors import printable
from perception_batch.read.images.topics import stem

_MODELS: dict[str, LensModel] = {
    "plumb_bob": "plumb_bob",
    "radtan": "plumb_bob",  # Kalibr's word
    "rational_polynomial": "rational_polynomial",
    "equidistant": "equidistant",
    "fisheye": "equidistant",
    "kannala_brandt": "equidistant",
    "kannala_brandt4": "equidistant",
}


_INFO_NAMES = ("camera_info", "calibration", "camera_calibration")
_PINHOLES = frozenset(
    ["", "none", "pinhole", "perspective", "brown_conrady", "inverse_brown_conrady", "modified_brown_conrady"]
)
"""Models that, besides those in `_MODELS`, are a pinhole where all their coefficients are zero."""


def info_topics_beside(image_topic: str, info_topics: Iterable[str]) -> tuple[str, ...]:
    """Calibration topics that are siblings of an image topic, nearest first.

    ``/cam/image_raw/compressed`` may have ``/cam/image_raw/camera_info`` or ``/cam/camera_info``; in place of the
    last part also ``calibration`` or ``camera_calibration``, as Foxglove's users call it.
    """
    parts = tuple(p for p in image_topic.split("/") if p)
    names = {tuple(p for p in topic.split("/") if p): topic for topic in sorted(info_topics)}
    found = []
    for depth in range(len(parts), len(stem(image_topic)) - 1, -1):
        beside = (names.get((*parts[:depth], last)) for last in _INFO_NAMES)
        found += [topic for topic in beside if topic is not None]
    return tuple(found)


def is_rectified(image_topic: str) -> bool:
    """True for ``image_rect*`` topics, whose images belong to P and have no distortion."""
    return any(part.startswith("image_rect") for part in image_topic.lower().split("/"))


def lens_model(name: str, distortion: Sequence[float]) -> tuple[LensModel, tuple[float, ...]]:
    """Our model and coefficients for a model name and coefficients as ROS, OpenCV or Kalibr write them.

    Raises:
        ValueError: the model is unknown, or the number of coefficients does not fit.
    """
    d = tuple(float(v) for v in distortion)
    model = _MODELS.get(name)
    if not any(d) and (name in _PINHOLES or model in ("plumb_bob", "rational_polynomial")):
        return "pinhole", ()
    if model is None:
        raise ValueError(
            f"unknown distortion model {printable(name)!r}; known are {', '.join(sorted(_MODELS))}"
        )
    if model == "equidistant":
        return model, d or (0.0,) * 4
    if model == "plumb_bob" and len(d) in (8, 12, 14):
        return "rational_polynomial", d
    if model == "rational_polynomial" and len(d) in (4, 5):
        return "plumb_bob", d
    return model, d


def intrinsics_of(info: Any, *, rectified: bool, image_size_px: tuple[int, int]) -> Intrinsics:
    """The lens of a camera for the images as they are in the log.

    Args:
        info: a CameraInfo of ROS 1 or 2, as rosbags gives it.
        rectified: take P and no distortion.
        image_size_px: width and height of the images; (0, 0) where unknown.

    Raises:
        ValueError: uncalibrated (K[0] is 0), an unknown lens model, or images of another aspect.
    """
    k = _numbers(info, "k", 9)
    p = _numbers(info, "p", 12)
    if k[0] == 0 and not (rectified and p[0] != 0):
        raise ValueError("CameraInfo says uncalibrated (K[0] is 0)")
    if rectified and p[0] != 0:
        model: LensModel = "pinhole"
        distortion: tuple[float, ...] = ()
        fx, fy, cx, cy = p[0], p[5], p[2], p[6]
    else:
        model, distortion = (
            ("pinhole", ())
            if rectified
            else lens_model(str(info.distortion_model).strip().lower(), _numbers(info, "d", None))
        )
        fx, fy, cx, cy = k[0], k[4], k[2], k[5]
    width, height = int(info.width), int(info.height)
    if width == 0 or height == 0:
        # Old drivers leave the size out; then K can only be meant for the images as they are.
        width, height = image_size_px
    full = Intrinsics(model, width, height, fx, fy, cx, cy, distortion)
    if image_size_px in ((0, 0), (width, height)):
        # The whole sensor: a region or binning that is stated was not applied to these images.
        return full if image_size_px != (0, 0) else _cut(full, info)
    return _cut(full, info).scaled_to(*image_size_px)


def _cut(full: Intrinsics, info: Any) -> Intrinsics:
    """K refers to the full sensor: first the region of interest, then binning (sensor_msgs/CameraInfo)."""
    roi = info.roi
    lens = full
    if roi.width and roi.height:
        lens = replace(
            lens,
            width_px=int(roi.width),
            height_px=int(roi.height),
            cx_px=lens.cx_px - int(roi.x_offset),
            cy_px=lens.cy_px - int(roi.y_offset),
        )
    bin_x, bin_y = max(1, int(info.binning_x)), max(1, int(info.binning_y))
    if (bin_x, bin_y) == (1, 1):
        return lens
    return replace(
        lens,
        width_px=max(1, lens.width_px // bin_x),
        height_px=max(1, lens.height_px // bin_y),
        fx_px=lens.fx_px / bin_x,
        fy_px=lens.fy_px / bin_y,
        cx_px=(lens.cx_px + 0.5) / bin_x - 0.5,
        cy_px=(lens.cy_px + 0.5) / bin_y - 0.5,
    )


def _numbers(info: Any, name: str, count: int | None) -> tuple[float, ...]:
    """Field `name` (ROS 1 writes K, D, R, P in capitals) as finite floats."""
    values = getattr(info, name if hasattr(info, name) else name.upper())
    out = tuple(float(v) for v in values)
    if count is not None and len(out) != count:
        raise ValueError(f"{name.upper()} has {len(out)} numbers, expected {count}")
    if not all(map(math.isfinite, out)):
        raise ValueError(f"{name.upper()} is not finite")
    return out
