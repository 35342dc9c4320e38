"""Whether a box lies where a track's box of a moment ago would lie now: what the image says, wherever its place seems.

What is half hidden by something looks farther away than it is, and what the image border cuts has no range at all; in
the image it is still in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from perception_batch.calibration import Camera
from perception_batch.track.lives import Boxes, Life
from perception_batch.types import FloatArray, FusedObject

_MEMORY_NS = 350_000_000
"""How long ago that box may be: three frames at 10 Hz."""
_HIDDEN_AREA = 0.25
"""A box that lies within the other one shows at least this share of it."""


def turns_px(cameras: Mapping[str, Camera]) -> dict[str, float]:
    """By camera: how far things move to the right in the image when they turn left about the vehicle, px/rad.

    True in the middle of the image, and about true elsewhere; of a camera mounted upside down the sign turns.
    """
    return {
        name: float(camera.intrinsics.fx_px * camera.base_SE3_camera.rotation[2, 1])
        for name, camera in cameras.items()
    }


def likeness(
    stamp_ns: int,
    lives: Sequence[Life],
    turned_rad: FloatArray,
    objects: Sequence[FusedObject],
    boxes: Mapping[str, Boxes],
    px_per_rad: Mapping[str, float],
) -> FloatArray:
    """(N, M) how alike the boxes of tracks and objects are, 0 to 1; NaN where no camera saw both of late.

    Tracks forget boxes that are too old.

    Args:
        stamp_ns: of the timestep.
        lives: N tracks.
        turned_rad: (N,) by how much their bearings should have turned since they were last seen.
        objects: M objects.
        boxes: by camera, (K, 4) px.
        px_per_rad: see `turns_px`.
    """
    out = np.full((len(lives), len(objects)), np.nan)
    before: dict[str, tuple[list[int], list[Boxes]]] = {}
    for row, life in enumerate(lives):
        stale = []
        for camera, (seen_ns, all_of_them, own) in life.boxes.items():
            if stamp_ns - seen_ns > _MEMORY_NS:
                stale.append(camera)
                continue
            rows, found = before.setdefault(camera, ([], []))
            rows.append(row)
            found.append(all_of_them[own])
        for camera in stale:
            del life.boxes[camera]
    now: dict[str, tuple[list[int], list[int]]] = {}
    for column, item in enumerate(objects):
        for observation in item.observations:
            columns, which = now.setdefault(observation.camera, ([], []))
            columns.append(column)
            which.append(observation.detection)
    for camera, (columns, which) in now.items():
        if camera in before:
            rows, found = before[camera]
            old = np.array(found, np.float64)
            old[:, 0::2] += (px_per_rad.get(camera, 0.0) * turned_rad[rows])[:, None]
            place = np.ix_(rows, columns)
            out[place] = np.fmax(out[place], _alike(old, boxes[camera][which].astype(np.float64)))
    return out


def _alike(a: FloatArray, b: FloatArray) -> FloatArray:
    """(N, M) intersection over union, or most of the share of the smaller one that lies in the larger one."""
    wide = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    high = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    both = np.clip(wide, 0, None) * np.clip(high, 0, None)
    area_a = np.maximum((a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]), 1e-9)[:, None]
    area_b = np.maximum((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]), 1e-9)[None, :]
    small, large = np.minimum(area_a, area_b), np.maximum(area_a, area_b)
    part = np.where(small >= _HIDDEN_AREA * large, 0.7 * both / small, 0.0)
    alike: FloatArray = np.maximum(both / (area_a + area_b - both), part)
    return alike
