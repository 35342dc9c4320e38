"""The truth's objects of one instant, all at once: a town has a hundred around the own vehicle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.simulate.scene import FloatArray, Thing


def object_columns(odom_SE3_base: SE3, things: Sequence[Thing]) -> list[list[Any]]:
    """The columns of the table of objects from `object_id` on, one row for each of at least one thing."""
    base_SE3_odom = odom_SE3_base.inverse()
    rotation = np.array([thing.odom_SE3_object.rotation for thing in things])
    place = np.array([thing.odom_SE3_object.translation_m for thing in things])
    velocity = np.array([thing.velocity_mps for thing in things])
    turn = base_SE3_odom.rotation
    forward = (turn @ rotation)[:, :, 0]
    centre = (turn @ place[:, :, None])[:, :, 0] + base_SE3_odom.translation_m
    numbers = np.column_stack(
        [
            centre,
            list(map(math.atan2, forward[:, 1].tolist(), forward[:, 0].tolist())),
            place,
            quaternions_xyzw([thing.odom_SE3_object for thing in things]),
            np.array([thing.size_lwh_m for thing in things], np.float64),
            (turn @ velocity[:, :, None])[:, :, 0],
            velocity,
            lengths(centre),
        ]
    )
    ids, labels = [thing.object_id for thing in things], [thing.label for thing in things]
    return [ids, labels, *numbers.T.tolist()]


def lengths(vectors: FloatArray) -> FloatArray:
    """(N,) of (N, K), each to the bit as `numpy.linalg.norm` of it alone."""
    length: FloatArray = np.sqrt((vectors[:, None, :] @ vectors[:, :, None])[:, 0, 0])
    return length


def quaternions_xyzw(transforms: Sequence[SE3]) -> FloatArray:
    """(N, 4) unit quaternions, each as `SE3.quaternion_xyzw` gives it."""
    r = np.array([transform.rotation for transform in transforms])
    diagonal = [r[:, n, n] for n in range(3)]
    trace = diagonal[0] + diagonal[1] + diagonal[2]
    largest = np.argmax(np.stack([*diagonal, trace], axis=1), axis=1)
    q = np.empty((len(r), 4))
    rows = np.flatnonzero(largest == 3)
    q[rows, 0] = r[rows, 2, 1] - r[rows, 1, 2]
    q[rows, 1] = r[rows, 0, 2] - r[rows, 2, 0]
    q[rows, 2] = r[rows, 1, 0] - r[rows, 0, 1]
    q[rows, 3] = 1 + trace[rows]
    for i in range(3):
        rows = np.flatnonzero(largest == i)
        j, k = (i + 1) % 3, (i + 2) % 3
        q[rows, i] = 1 - trace[rows] + 2 * r[rows, i, i]
        q[rows, j] = r[rows, j, i] + r[rows, i, j]
        q[rows, k] = r[rows, k, i] + r[rows, i, k]
        q[rows, 3] = r[rows, k, j] - r[rows, j, k]
    q /= lengths(q)[:, None]
    q = np.where(q[:, 3:] >= 0, q, -q)
    for row, transform in enumerate(transforms):
        if transform.quaternion is not None:
            q[row] = transform.quaternion
    return q
