"""What tracked objects lend to a timestep: their velocity, their heading, and a word on which boxes belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.assignment import assignment
from perception_batch.calibration import FloatArray
from perception_batch.columnar import Predictions
from perception_batch.fusion.position import Sketch

_HEADED_MPS = 2.0  # slower things turn on the spot, or only seem to move
_MOTION_M = 0.3  # a prediction's own error beyond its covariance: half a g for a third of a second
_PLANE = np.array([0, 4, 1])  # entries xx, yy and xy of a (3, 3) covariance
_ROUNDING_M2 = 1e-3  # more than rounding takes from squared distances of some hundred metres


@dataclass(frozen=True, slots=True)
class Followed:
    """Which track each of N boxes follows."""

    track: npt.NDArray[np.int64]
    """(N,) row of the predictions, -1 for none."""
    velocity_mps: FloatArray
    """(3, N) of that track, 0 where there is none or its velocity is unknown."""
    yaw_rad: FloatArray
    """(N,) its heading, NaN where unknown."""

    @classmethod
    def nothing(cls, n: int) -> Followed:
        """No box follows anything."""
        return cls(np.full(n, -1, np.int64), np.zeros((3, n)), np.full(n, np.nan))


def follow(
    predictions: Predictions,
    of_track: npt.NDArray[np.int64],
    of_box: npt.NDArray[np.int64],
    camera: npt.NDArray[np.int64],
    offset_s: FloatArray,
    boxes: Sketch,
    gate_sigma: float,
) -> Followed:
    """Give each box at most one track, each track at most one box a camera, by an optimal assignment.

    Args:
        predictions: at the timestep's stamp.
        of_track: (T,) number of the class group of each prediction.
        of_box: (N,) number of the class group of each box.
        camera: (N,) number of the box's camera, never falling.
        offset_s: (N,) when its frame was taken, after the timestep's stamp.
        boxes: about where each is at its own frame's stamp.
        gate_sigma: Mahalanobis distance up to which they may be one.
    """
    n, t = len(of_box), len(predictions)
    out = Followed.nothing(n)
    if not t or not n:
        return out
    position, velocity = predictions.position_m[:, :2].T, predictions.velocity_mps.T
    cov = predictions.covariance_m2.reshape(t, 9).T.take(_PLANE, 0)
    still = (~np.isfinite(velocity[0] + velocity[1] + velocity[2])).nonzero()[0]
    if len(still):
        velocity = velocity.copy()
        velocity[:, still] = 0.0

    box, track = _near(boxes, position, velocity[:2], cov, offset_s, gate_sigma, of_box[:, None] == of_track)
    moved = velocity[:2].take(track, 1) * offset_s.take(box)
    dx, dy = boxes.place_m.take(box, 1) - position.take(track, 1) - moved
    xx, yy, xy = boxes.cover_m2.take(box, 1) + cov.take(track, 1)
    xx += _MOTION_M**2
    yy += _MOTION_M**2
    determinant = np.maximum(xx * yy - xy**2, 1e-3)
    d2 = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / determinant
    good = (d2 <= gate_sigma**2).nonzero()[0]
    box, track, d2, determinant = box[good], track[good], d2[good], determinant[good]
    # Of two tracks equally far in sigmas, the one that claims less room is the better guess.
    value = np.maximum(2 * gate_sigma**2 - d2 - 0.5 * np.log(determinant), 1e-3)
    # A track has one box in each camera: as if it were another track for each.
    chosen = assignment(box, camera[box] * t + track, value).nonzero()[0]
    box, track = box[chosen], track[chosen]
    out.track[box] = track
    speed = velocity.take(track, 1)
    out.velocity_mps[:, box] = speed
    moving = (np.hypot(speed[0], speed[1]) >= _HEADED_MPS).nonzero()[0]
    out.yaw_rad[box[moving]] = np.arctan2(speed[1, moving], speed[0, moving])
    return out


def _near(
    boxes: Sketch,
    position_m: FloatArray,
    velocity_mps: FloatArray,
    cov_m2: FloatArray,
    offset_s: FloatArray,
    gate_sigma: float,
    may: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Boxes and tracks that may lie within the gate: of hardly more pairs than do.

    Nothing within the gate is farther away than the gate times the root of both traces. The squared distance of a box b
    from a track at p + v t is ``b² + p² + v² t² - 2 b p - 2 t b v + 2 t p v``: products of what is the box's and
    what is the track's, so one product of matrices tells it for all pairs.
    """
    place, count = boxes.place_m, len(offset_s)
    mine = np.empty((8, count))
    mine[0], mine[1], mine[2] = 1.0, offset_s, offset_s**2
    mine[3:5] = place
    np.multiply(place, offset_s, out=mine[5:7])
    cover = boxes.cover_m2[0] + boxes.cover_m2[1] + 2 * _MOTION_M**2
    mine[7] = place[0] ** 2 + place[1] ** 2 - gate_sigma**2 * cover
    theirs = np.empty((8, position_m.shape[1]))
    theirs[0] = position_m[0] ** 2 + position_m[1] ** 2 - gate_sigma**2 * (cov_m2[0] + cov_m2[1])
    theirs[1] = 2 * (position_m[0] * velocity_mps[0] + position_m[1] * velocity_mps[1])
    theirs[2] = velocity_mps[0] ** 2 + velocity_mps[1] ** 2
    np.multiply(position_m, -2.0, out=theirs[3:5])
    np.multiply(velocity_mps, -2.0, out=theirs[5:7])
    theirs[7] = 1.0
    near = mine.T @ theirs <= _ROUNDING_M2  # a track or a box may be nowhere: NaN
    near &= may
    pairs = near.ravel().nonzero()[0]  # faster than in two dimensions
    box = pairs // theirs.shape[1]
    return box, pairs - box * theirs.shape[1]
