"""Where a thing is of which two boxes say that it is a car and a lorry: between both, and as unsure as that.

A detector that draws two boxes of different classes on one thing tells how unsure it is what the thing is. Half of what
it calls a truck on some roads are pickups, as tall as a car, and a car's height or a lorry's is the difference between 18 m and
29 m. The position is then that of a mixture of the classes, weighted by their scores, and how far these are apart
lasts like every error of the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perception_batch.calibration import FloatArray
from perception_batch.fusion.position import Views, symmetric

Mixture = tuple[Sequence[int], Sequence[float]]
"""Rows of one box, taken for each class that it may be, the decided one first; and what speaks for each."""


def mixed(views: Views, mixtures: Sequence[Mixture]) -> Views:
    """`views` and after them a row for each mixture: its first row, but for the position and its errors.

    Rows whose position is not known have no part; a mixture whose first row is such stays as that is.
    """
    if not mixtures:
        return views
    widest = max(len(rows) for rows, _ in mixtures)
    rows = np.array([[*of, *[of[0]] * (widest - len(of))] for of, _ in mixtures], np.int64)
    share = np.array([[*of, *[0.0] * (widest - len(of))] for _, of in mixtures])
    usable = views.known[rows] & views.known[rows[:, :1]]
    usable[:, 0] = True
    share = np.where(usable, share, 0.0)
    share /= share.sum(axis=1, keepdims=True)
    rows = np.where(usable, rows, rows[:, :1])  # what is unknown is NaN, and no number times NaN is nothing

    place = views.position_m[rows]
    position = _mean(share, place)
    off = place - position[:, None]
    lasting = views.lasting_m[rows]
    size, rest = lasting[:, :, 0], _mean(share, lasting[:, :, 1])
    # What is left of ground and pitch beside their mean goes with the size: all of them lie along the ray.
    spread = _mean(share, _outer(off) + _outer(size) + _outer(lasting[:, :, 1])) - _outer(rest)
    jitter = _mean(share, views.jitter_m2[rows])
    main = _largest(spread, _mean(share, size))
    jitter = symmetric(jitter + spread - _outer(main))  # sums over views are not, to the last bit
    doubtful = np.stack([main, rest], axis=1)
    total = jitter + _outer(main) + _outer(rest)  # a product of matrices is not symmetric to the last bit
    first = rows[:, 0]
    parts = {name: getattr(views, name) for name in Views.__slots__}
    own = {name: part[first] for name, part in parts.items()}
    own |= {"position_m": position, "total_m2": total, "jitter_m2": jitter, "lasting_m": doubtful}
    plain = share[:, 0] == 1.0
    for name in ("position_m", "total_m2", "jitter_m2", "lasting_m"):
        own[name][plain] = parts[name][first[plain]]
    return replace(views, **{name: np.concatenate([parts[name], own[name]]) for name in parts})


def _mean(share: FloatArray, values: FloatArray) -> FloatArray:
    """(M, ...) means of (M, K, ...) values."""
    out: FloatArray = np.einsum("mk,mk...->m...", share, values)
    return out


def _outer(vectors: FloatArray) -> FloatArray:
    """(..., 3, 3) products of (..., 3) vectors with themselves."""
    return vectors[..., :, None] * vectors[..., None, :]


def _largest(matrices: FloatArray, toward: FloatArray) -> FloatArray:
    """(M, 3) the longest axis of (M, 3, 3) covariances, one standard deviation long, on the side of `toward`."""
    values, vectors = np.linalg.eigh(np.nan_to_num(matrices))
    axis: FloatArray = vectors[:, :, 2] * np.sqrt(np.maximum(values[:, 2:], 0.0))
    side = (axis * toward).sum(axis=1) < 0
    axis[side] *= -1
    return axis
