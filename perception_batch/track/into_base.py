"""What is known of tracks in the fixed frame, as it is told: in the base frame, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.types import FloatArray

_FIRST, _SECOND = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])
_ENTRY = np.array([0, 1, 2, 1, 3, 4, 2, 4, 5])
"""Of the entries xx, xy, xz, yy, yz, zz, the one at each place of a (3, 3) covariance: symmetric to the last bit."""


def into_base(
    place_m: FloatArray,
    cover_m2: FloatArray,
    speed_mps: FloatArray,
    poses: Sequence[SE3],
    counts: Sequence[int],
    *,
    spare: int = 0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Places, their covariances and velocities in the base frame.

    Args:
        place_m: (3, N) in the fixed frame.
        cover_m2: (4, N) its covariance: xx, xy, yy, zz.
        speed_mps: (2, N) in the fixed frame.
        poses: of the vehicle (``odom_SE3_base``), at one time after the other.
        counts: by pose, how many of the N are of its time.
        spare: rows without content after the N.

    Returns:
        (N, 3), (N, 3, 3) and (N, 3), and the spare rows.
    """
    n = place_m.shape[1] + spare
    turns = np.array([pose.rotation for pose in poses])
    # turn.T @ C @ turn is the sum over C's entries xx, xy, yy, zz of products of rows of the rotation.
    a, b = turns.take(_FIRST, axis=2), turns.take(_SECOND, axis=2)
    parts = np.empty((len(poses), 4, 6))
    parts[:, 0] = a[:, 0] * b[:, 0]
    parts[:, 1] = a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0]
    np.multiply(a[:, 1:], b[:, 1:], out=parts[:, 2:])
    places, entries, speeds = np.zeros((n, 3)), np.zeros((n, 6)), np.zeros((n, 3))
    start = 0
    for pose, part, count in zip(poses, parts, counts, strict=True):
        own = slice(start, start + count)
        start += count
        turn = pose.rotation
        np.matmul((place_m[:, own] - pose.translation_m[:, None]).T, turn, out=places[own])
        np.matmul(cover_m2[:, own].T, part, out=entries[own])
        np.matmul(speed_mps[:, own].T, turn[:2], out=speeds[own])
    return places, entries.take(_ENTRY, axis=1).reshape(n, 3, 3), speeds
