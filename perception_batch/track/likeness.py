"""Whether a box lies where a track's box of a moment ago would lie now: what the image says, wherever its place seems.

What is half hidden by something looks farther away than it is, and what the image border cuts has no range at all; in
the image it is still in the same place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_batch.calibration import Camera
from perception_batch.track.shown import Shown, beside
from perception_batch.track.sighting import BoolArray, IntArray
from perception_batch.types import FloatArray

_MEMORY_NS = 350_000_000
"""How long ago that box may be: three frames at 10 Hz."""
_HIDDEN_AREA = 0.25
"""A box that lies within the other one shows at least this share of it."""
_NEVER_NS = -(2**62)


def turn_px(camera: Camera) -> float:
    """How far things move to the right in the image when they turn left about the vehicle, px/rad.

    True in the middle of the image, and about true elsewhere; of a camera mounted upside down the sign turns.
    """
    return float(camera.intrinsics.fx_px * camera.base_SE3_camera.rotation[2, 1])


@dataclass(slots=True)
class Glimpses:
    """The last box of each of N tracks in each of C cameras."""

    seen_ns: IntArray
    """(N, C) when that was."""
    edges_px: FloatArray
    """(N, C, 4) left, top, right, bottom."""

    @classmethod
    def none(cls, tracks: int, cameras: int) -> Glimpses:
        """Of tracks that no camera has seen."""
        return cls(np.full((tracks, cameras), _NEVER_NS, np.int64), np.zeros((tracks, cameras, 4)))

    def take(self, rows: IntArray) -> Glimpses:
        """Those of `rows`, copied."""
        return Glimpses(self.seen_ns[rows], self.edges_px[rows])

    def append(self, count: int, cameras: int) -> Glimpses:
        """The same of `count` more tracks, and of as many cameras as given."""
        n, old = self.seen_ns.shape
        out = Glimpses.none(n + count, cameras)
        out.seen_ns[:n, :old], out.edges_px[:n, :old] = self.seen_ns, self.edges_px
        return out

    def see(self, stamp_ns: int, shown: Shown, row_of: IntArray) -> None:
        """Remember the boxes of a timestep, in place.

        Args:
            stamp_ns: of the timestep.
            shown: its boxes.
            row_of: by object, the track; -1 for none.
        """
        rows = row_of[shown.of]
        which = (rows >= 0).nonzero()[0]
        at = rows[which], shown.camera[which]
        self.seen_ns[at] = stamp_ns
        self.edges_px[at] = shown.edges_px.T[which]


def likeness(
    stamp_ns: int,
    glimpses: Glimpses,
    turned_rad: FloatArray,
    shown: Shown,
    count: int,
    px_per_rad: FloatArray,
) -> tuple[FloatArray, BoolArray]:
    """How alike the boxes of tracks and objects are.

    Args:
        stamp_ns: of the timestep.
        glimpses: of N tracks.
        turned_rad: (N,) by how much their bearings should have turned since they were last seen.
        shown: the boxes of the timestep.
        count: of its objects.
        px_per_rad: by number of a camera, see `turn_px`.

    Returns:
        (N, count) from 0 to 1, and (N, count) whether a camera saw both of late; where none did the image says nothing.
    """
    tracks, cameras = glimpses.seen_ns.shape
    alike = np.zeros((tracks, count))
    lately = np.zeros((tracks, cameras))
    lately[:, shown.cameras] = glimpses.seen_ns[:, shown.cameras] >= stamp_ns - _MEMORY_NS
    sees = np.zeros((cameras, count))
    sees[shown.camera, shown.of] = 1.0
    by_both: BoolArray = lately @ sees > 0
    told: IntArray = lately.ravel().nonzero()[0]  # faster than in two dimensions
    rows = told // cameras
    camera = told - rows * cameras
    old = glimpses.edges_px.reshape(-1, 4).take(told, axis=0).T.copy()
    old[0::2] += px_per_rad[camera] * turned_rad[rows]
    there, new = beside(old, camera), shown.apart_px
    touching = there[0][:, None] < new[2]
    touching &= there[2][:, None] > new[0]
    touching &= there[1][:, None] < new[3]
    touching &= there[3][:, None] > new[1]
    at: IntArray = touching.ravel().nonzero()[0]
    if len(at):
        a = at // len(shown)
        b = at - a * len(shown)
        found = _alike(old.take(a, axis=1), shown.edges_px.take(b, axis=1))
        np.maximum.at(alike, (rows[a], shown.of[b]), found)
    return alike, by_both


def _alike(a: FloatArray, b: FloatArray) -> FloatArray:
    """(P,) intersection over union, or most of the share of the smaller one that lies in the larger one, of P pairs."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    both = sides[0] * sides[1]
    of_a, of_b = a[2:] - a[:2], b[2:] - b[:2]
    area_a, area_b = np.maximum(of_a[0] * of_a[1], 1e-9), np.maximum(of_b[0] * of_b[1], 1e-9)
    small, large = np.minimum(area_a, area_b), np.maximum(area_a, area_b)
    part = (small >= _HIDDEN_AREA * large) * (0.7 * both / small)
    alike: FloatArray = np.maximum(both / (area_a + area_b - both), part)
    return alike
