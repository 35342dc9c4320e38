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
    number = {camera: k for k, camera in enumerate(boxes)}
    found: list[Boxes] = []
    owners: list[tuple[int, int]] = []  # number of the camera, row
    for row, life in enumerate(lives):
        stale = []
        for camera, (seen_ns, all_of_them, own) in life.boxes.items():
            if stamp_ns - seen_ns > _MEMORY_NS:
                stale.append(camera)
            elif camera in number:
                found.append(all_of_them[own])
                owners.append((number[camera], row))
        for camera in stale:
            del life.boxes[camera]
    first = dict(zip(boxes, np.cumsum([0, *map(len, boxes.values())])[:-1].tolist(), strict=True))
    seen = [
        (number[o.camera], column, first[o.camera] + o.detection)
        for column, item in enumerate(objects)
        for o in item.observations
    ]
    if not found or not seen:
        return out
    camera, rows = np.array(owners).T
    here, columns, which = np.array(seen).T
    turn = np.array([px_per_rad.get(name, 0.0) for name in boxes])[camera] * turned_rad[rows]
    old = np.concatenate(found).reshape(-1, 4).astype(np.float64)
    old[:, 0::2] += turn[:, None]
    new = np.concatenate(list(boxes.values()))[which].astype(np.float64)
    same = camera[:, None] == here
    a, b = np.nonzero(same)
    out[rows[a], columns[b]] = 0.0
    touching = same & (old[:, 0:1] < new[:, 2]) & (new[:, 0] < old[:, 2:3])
    a, b = np.nonzero(touching)
    np.maximum.at(out, (rows[a], columns[b]), _alike(old[a], new[b]))
    return out


def _alike(a: FloatArray, b: FloatArray) -> FloatArray:
    """(P,) intersection over union, or most of the share of the smaller one that lies in the larger one, of P pairs."""
    wide = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    high = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    both = np.maximum(wide, 0) * np.maximum(high, 0)
    area_a = np.maximum((a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]), 1e-9)
    area_b = np.maximum((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]), 1e-9)
    small, large = np.minimum(area_a, area_b), np.maximum(area_a, area_b)
    part = np.where(small >= _HIDDEN_AREA * large, 0.7 * both / small, 0.0)
    alike: FloatArray = np.maximum(both / (area_a + area_b - both), part)
    return alike
