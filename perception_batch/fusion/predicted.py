"""What tracked objects lend to a timestep: their velocity, their heading, and a word on which boxes belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.position import Views
from perception_batch.ontology import Ontology
from perception_batch.types import Prediction

_HEADED_MPS = 2.0  # slower things turn on the spot, or only seem to move
_MOTION_M = 0.3  # a prediction's own error beyond its covariance: half a g for a third of a second


@dataclass(frozen=True, slots=True)
class Followed:
    """Which track each of N boxes follows."""

    track: npt.NDArray[np.int64]
    """(N,) row of the predictions, -1 for none."""
    velocity_mps: FloatArray
    """(N, 3) of that track, 0 where there is none or its velocity is unknown."""
    yaw_rad: FloatArray
    """(N,) its heading, NaN where unknown."""

    @classmethod
    def nothing(cls, n: int) -> Followed:
        """No box follows anything."""
        return cls(np.full(n, -1, np.int64), np.zeros((n, 3)), np.full(n, np.nan))


def follow(
    predictions: Sequence[Prediction],
    ontology: Ontology,
    groups: Sequence[str],
    camera: npt.NDArray[np.int64],
    offset_s: FloatArray,
    views: Views,
    gate_sigma: float,
) -> Followed:
    """Give each box at most one track, each track at most one box a camera, by an optimal assignment.

    Args:
        predictions: at the timestep's stamp.
        ontology: tells the group of a prediction's class.
        groups: class group of each of N boxes.
        camera: (N,) number of the box's camera.
        offset_s: (N,) when its frame was taken, after the timestep's stamp.
        views: where each box is at its own frame's stamp.
        gate_sigma: Mahalanobis distance up to which they may be one.
    """
    from scipy.optimize import linear_sum_assignment

    n = len(groups)
    out = Followed.nothing(n)
    if not predictions or not n:
        return out
    position = np.array([p.position_m for p in predictions])[:, :2]
    cov = np.array([p.covariance_m2 for p in predictions])[:, :2, :2]
    velocity = np.array([p.velocity_mps for p in predictions])
    velocity[~np.isfinite(velocity).all(axis=1)] = 0.0
    numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
    of_label = {
        label: -1 if (entry := ontology.find(label)) is None else numbers.get(entry.group, -1)
        for label in {p.label for p in predictions}
    }
    of_track = np.array([of_label[p.label] for p in predictions])
    of_box = np.array([numbers[group] for group in groups])

    # Nothing within the gate is farther away than the gate times the root of both traces.
    x = views.position_m[:, 0:1] - position[:, 0] - velocity[:, 0] * offset_s[:, None]
    y = views.position_m[:, 1:2] - position[:, 1] - velocity[:, 1] * offset_s[:, None]
    of_views = views.total_m2[:, 0, 0] + views.total_m2[:, 1, 1] + 2 * _MOTION_M**2
    room = of_views[:, None] + (cov[:, 0, 0] + cov[:, 1, 1])
    with np.errstate(invalid="ignore"):  # a track or a box may be nowhere
        near = (x * x + y * y <= gate_sigma**2 * room) & (of_box[:, None] == of_track)
    box, track = np.nonzero(near)
    dx, dy = x[box, track], y[box, track]
    spread = views.total_m2[box, :2, :2] + cov[track]
    xx, yy, xy = spread[:, 0, 0] + _MOTION_M**2, spread[:, 1, 1] + _MOTION_M**2, spread[:, 0, 1]
    determinant = np.maximum(xx * yy - xy**2, 1e-3)
    d2 = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / determinant
    # Of two tracks equally far in sigmas, the one that claims less room is the better guess.
    value = np.maximum(2 * gate_sigma**2 - d2 - 0.5 * np.log(determinant), 1e-3)
    worth = np.zeros(near.shape)
    worth[box, track] = np.where(d2 <= gate_sigma**2, value, 0.0)
    for number in sorted(set(camera[box].tolist())):
        members = np.flatnonzero(camera == number)
        asked = np.flatnonzero(worth[members].any(axis=0))
        table = worth[members][:, asked]
        chosen, tracks = linear_sum_assignment(table, maximize=True)
        good = table[chosen, tracks] > 0
        out.track[members[chosen[good]]] = asked[tracks[good]]
    followed = out.track >= 0
    out.velocity_mps[followed] = velocity[out.track[followed]]
    speed = np.hypot(out.velocity_mps[:, 0], out.velocity_mps[:, 1])
    moving = speed >= _HEADED_MPS
    out.yaw_rad[moving] = np.arctan2(out.velocity_mps[moving, 1], out.velocity_mps[moving, 0])
    return out
