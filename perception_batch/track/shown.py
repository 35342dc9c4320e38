"""The boxes of a timestep that are parts of its objects, over all cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.track.lives import Boxes
from perception_batch.track.sighting import IntArray
from perception_batch.types import FloatArray

_APART_PX = 1e6
"""Farther than any image is wide; a hundred cameras later an edge is still known to a hundred-millionth of a pixel."""


@dataclass(frozen=True, slots=True)
class Shown:
    """B boxes, an object's own ones in no order."""

    cameras: IntArray
    """Numbers of the cameras that have an image here, with or without boxes."""
    image: IntArray
    """(B,) number of the image, never falling."""
    camera: IntArray
    """(B,) number of the camera."""
    of: IntArray
    """(B,) number of the object."""
    edges_px: FloatArray
    """(4, B) left, top, right, bottom."""
    apart_px: FloatArray
    """(4, B) the same with the cameras' images so far beside each other that what touches is in one image."""

    def __len__(self) -> int:
        return len(self.of)

    def widths_rad(self, count: int, focal_px: FloatArray) -> FloatArray:
        """How wide `count` objects look, about, to the camera that shows most of them.

        Args:
            count: of objects.
            focal_px: by number of a camera; infinite where it is unknown.
        """
        widest = np.zeros(count)
        left, _, right, _ = self.edges_px
        np.maximum.at(widest, self.of, (right - left) / focal_px[self.camera])
        return widest


def shown(
    boxes: Mapping[str, Boxes], object_of: Mapping[str, npt.NDArray[np.int32]], numbers: dict[str, int]
) -> Shown:
    """What a timestep's images show of its objects.

    Args:
        boxes: by camera, (K, 4) px.
        object_of: by camera, (K,) see `Fusion`.
        numbers: of the cameras so far; those that are new get the next ones.
    """
    cameras = np.array([numbers.setdefault(camera, len(numbers)) for camera in boxes], np.int64)
    if not boxes:
        none = np.zeros(0, np.int64)
        return Shown(none, none, none, none, np.zeros((4, 0)), np.zeros((4, 0)))
    of = np.concatenate([object_of[camera] for camera in boxes])
    which = (of >= 0).nonzero()[0]
    every = np.concatenate(list(boxes.values()))
    counts = [len(found) for found in boxes.values()]
    image = np.arange(len(counts)).repeat(counts)[which]
    camera = cameras[image]
    edges_px = every[which].T.astype(np.float64, order="C")
    return Shown(cameras, image, camera, of[which].astype(np.int64), edges_px, beside(edges_px, camera))


def beside(edges_px: FloatArray, camera: IntArray) -> FloatArray:
    """(4, B) the edges of boxes where the images of cameras stand beside each other, see `Shown.apart_px`."""
    out = edges_px.copy()
    out[0::2] += _APART_PX * camera
    return out
