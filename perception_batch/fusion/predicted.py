"""What tracked objects lend to a timestep: their velocity, their heading, and a word on which boxes belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.assignment import assignment
from perception_batch.fusion.position import Sketch
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
    boxes: Sketch,
    gate_sigma: float,
) -> Followed:
    """Give each box at most one track, each track at most one box a camera, by an optimal assignment.

    Args:
        predictions: at the timestep's stamp.
        ontology: tells the group of a prediction's class.
        groups: class group of each of N boxes.
        camera: (N,) number of the box's camera, never falling.
        offset_s: (N,) when its frame was taken, after the timestep's stamp.
        boxes: about where each is at its own frame's stamp.
        gate_sigma: Mahalanobis distance up to which they may be one.
    """
    n = len(groups)
    out = Followed.nothing(n)
    if not predictions or not n:
        return out
    t = len(predictions)
    position = np.concatenate([p.position_m for p in predictions]).reshape(t, 3)[:, :2]
    cov = np.concatenate([p.covariance_m2 for p in predictions]).reshape(t, 3, 3)[:, :2, :2]
    velocity = np.concatenate([p.velocity_mps for p in predictions]).reshape(t, 3)
    velocity[~np.isfinite(velocity).all(axis=1)] = 0.0
    numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
    of_label = {
        label: -1 if (entry := ontology.find(label)) is None else numbers.get(entry.group, -1)
        for label in {p.label for p in predictions}
    }
    of_track = np.array([of_label[p.label] for p in predictions])
    of_box = np.array([numbers[group] for group in groups])

    # Nothing within the gate is farther away than the gate times the root of both traces.
    x = boxes.place_m[:, 0:1] - position[:, 0] - velocity[:, 0] * offset_s[:, None]
    y = boxes.place_m[:, 1:2] - position[:, 1] - velocity[:, 1] * offset_s[:, None]
    of_boxes = boxes.cover_m2[:, 0] + boxes.cover_m2[:, 1] + 2 * _MOTION_M**2
    room = of_boxes[:, None] + (cov[:, 0, 0] + cov[:, 1, 1])
    with np.errstate(invalid="ignore"):  # a track or a box may be nowhere
        near = (x * x + y * y <= gate_sigma**2 * room) & (of_box[:, None] == of_track)
    box, track = np.nonzero(near)
    dx, dy = x[box, track], y[box, track]
    own, theirs = boxes.cover_m2[box], cov[track]
    xx = own[:, 0] + theirs[:, 0, 0] + _MOTION_M**2
    yy = own[:, 1] + theirs[:, 1, 1] + _MOTION_M**2
    xy = own[:, 2] + theirs[:, 0, 1]
    determinant = np.maximum(xx * yy - xy**2, 1e-3)
    d2 = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / determinant
    # Of two tracks equally far in sigmas, the one that claims less room is the better guess.
    value = np.maximum(2 * gate_sigma**2 - d2 - 0.5 * np.log(determinant), 1e-3)
    good = np.flatnonzero(d2 <= gate_sigma**2)
    box, track, value = box[good], track[good], value[good]
    start = 0
    for stop in np.cumsum(np.bincount(camera[box])).tolist():  # boxes are sorted by camera
        if stop > start:
            chosen = assignment(box[start:stop], track[start:stop], value[start:stop])
            out.track[box[start:stop][chosen]] = track[start:stop][chosen]
        start = stop
    followed = out.track >= 0
    out.velocity_mps[followed] = velocity[out.track[followed]]
    speed = np.hypot(out.velocity_mps[:, 0], out.velocity_mps[:, 1])
    moving = speed >= _HEADED_MPS
    out.yaw_rad[moving] = np.arctan2(out.velocity_mps[moving, 1], out.velocity_mps[moving, 0])
    return out
