"""Where a thing is of which two boxes say that it is a car and a lorry: between both, and as unsure as that.

A detector that draws two boxes of different classes on one thing tells how unsure it is what the thing is. Half of what
it calls a truck on some roads are pickups, as tall as a car, and a car's height or a lorry's is the difference between 18 m and
29 m. The position is then that of a mixture of the classes, weighted by their scores, and how far these are apart
lasts like every error of the size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perception_batch.calibration import FloatArray
from perception_batch.fusion.placed import Places
from perception_batch.fusion.position import Views

Mixture = tuple[Sequence[int], Sequence[float]]
"""Rows of one box, taken for each class that it may be; and what speaks for each, above 0 in sum."""


def mixed(views: Views, mixtures: Sequence[Mixture]) -> Places:
    """The places of M mixtures of views whose positions are known."""
    count, widest = len(mixtures), max(len(rows) for rows, _ in mixtures)
    # What is of fewer classes than others has its first one again, which then counts for nothing.
    rows = np.array([[*of, *[of[0]] * (widest - len(of))] for of, _ in mixtures], np.int64)
    share = np.array([[*of, *[0.0] * (widest - len(of))] for _, of in mixtures])
    share /= np.add.reduce(share, 1)[:, None]
    parts = Places.of_views(views.take(rows.ravel()))

    vectors = np.empty((count, 3, widest, 3))  # the position and both lasting errors
    vectors[:, 0] = parts.position_m.reshape(count, widest, 3)
    vectors[:, 1:] = parts.lasting_m.reshape(count, widest, 2, 3).swapaxes(1, 2)
    means = share[:, None, None] @ vectors
    jitter = share[:, None] @ parts.jitter_m2.reshape(count, widest, 9)
    position, size, rest = means[:, 0, 0], means[:, 1, 0], means[:, 2, 0]
    vectors[:, 0] -= position[:, None]
    # What is left of ground and pitch beside their mean goes with the size: all of them lie along the ray.
    apart = vectors.reshape(count, 3 * widest, 3)
    weighted = (vectors * share[:, None, :, None]).reshape(count, 3 * widest, 3)
    spread = weighted.swapaxes(1, 2) @ apart - _outer(rest)
    main = _largest(spread, size)
    own = jitter.reshape(count, 3, 3) + spread - _outer(main)
    own = 0.5 * (own + own.swapaxes(1, 2))  # sums over views are not symmetric, to the last bit
    means[:, 1, 0] = main
    return Places.of(position, own, means[:, 1:, 0])


def _outer(vectors: FloatArray) -> FloatArray:
    """(M, 3, 3) products of (M, 3) vectors with themselves."""
    return vectors[:, :, None] * vectors[:, None, :]


def _largest(matrices: FloatArray, toward: FloatArray) -> FloatArray:
    """(M, 3) the longest axis of (M, 3, 3) covariances, one standard deviation long, on the side of `toward`."""
    values, vectors = np.linalg.eigh(matrices)
    axis: FloatArray = vectors[:, :, 2] * np.sqrt(np.maximum(values[:, 2:], 0.0))
    side = np.add.reduce(axis * toward, 1) < 0
    axis[side] *= -1
    return axis
