"""Sightings as cameras make them: a direction, and a range whose error is a share of it.

A box that is drawn a tenth too high is a tenth too near, at any range. In the logarithm of the range such errors are
the same for the near and the far, so that a filter neither trusts what looks near too much nor takes a far thing's
uncertainty for a near one's. All polar values here are (logarithm of the range in metres, bearing in radians) about
the vehicle.

Arrays of the room have a column for each thing, and a row for each number of it: (2, N) places, (3, N) symmetric 2 x 2
covariances as their entries xx, xy, yy. So each step of a formula is one operation over all things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.columnar import FusedObjects
from perception_batch.geometry import SE3
from perception_batch.types import FloatArray

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_PERSISTENT = 0.5
"""Share of what is an image's own that stays for a while: a detector that draws a box too wide does so again."""
_CHANGING = 0.3
"""Share of what sightings share that changes between them: other cues, other parts of the road."""
_ANY_RANGE = 100.0
"""Variance of a logarithm of which nothing is known."""
_PART_RAD2 = 0.02**2
"""Half of a car's width at 50 m: the middle of what shows is not the middle of the thing."""
NEAREST_M = 0.5
"""Ranges below are taken for this: the logarithm ends at the vehicle's own origin."""
_LEAST = np.array([[1e-6], [0.0], [1e-6]])
"""A covariance that a fuser rounds to nothing must not stop the filter: a millimetre at a metre."""
_NUMBERS = 12
_FIRST, _SECOND = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])


@dataclass(frozen=True, slots=True)
class Sightings:
    """M objects at one timestep; NaN where one has no position."""

    table: FloatArray
    """(12, M) what follows, row by row."""

    @classmethod
    def none(cls, count: int) -> Sightings:
        """Of `count` objects without positions."""
        return cls(np.full((_NUMBERS, count), np.nan))

    @property
    def place_m(self) -> FloatArray:
        """(2, M) in the fixed frame."""
        return self.table[0:2]

    @property
    def height_m(self) -> FloatArray:
        """(M,) of the centres in the fixed frame."""
        return self.table[2, :]

    @property
    def polar(self) -> FloatArray:
        """(2, M) about the vehicle, with bearings in the fixed frame."""
        return self.table[3:5]

    @property
    def noise(self) -> FloatArray:
        """(3, M) covariance of `polar`, as far as it is new in every sighting."""
        return self.table[5:8]

    @property
    def lasting(self) -> FloatArray:
        """(3, M) covariance of `polar`, as far as it is the same again in the next sighting."""
        return self.table[8:11]

    @property
    def height_m2(self) -> FloatArray:
        """(M,) variances of `height_m`."""
        return self.table[11, :]

    def __len__(self) -> int:
        count: int = self.table.shape[1]
        return count

    def take(self, columns: IntArray) -> Sightings:
        """Those of `columns`, copied."""
        return Sightings(self.table.take(columns, axis=1))

    def and_then(self, others: Sightings) -> Sightings:
        """These and others after them."""
        return Sightings(np.concatenate([self.table, others.table], axis=1))

    def forget_ranges(self, which: BoolArray) -> None:
        """Say nothing of the range of those of `which`, and take their bearings for those of parts, in place."""
        xx, xy, yy = self.noise
        xx[which] = _ANY_RANGE
        xy[which] = 0.0
        yy[which] += _PART_RAD2


def sightings(objects: FusedObjects, placed: IntArray, odom_SE3_base: SE3) -> Sightings:
    """Objects in the fixed frame.

    Args:
        objects: M of one timestep.
        placed: numbers of those with a position; the others are NaN.
        odom_SE3_base: the vehicle's pose.
    """
    n = len(placed)
    if not n:
        return Sightings.none(len(objects))
    own, shared = objects.own_m2.take(placed, axis=0).reshape(n, 9), objects.shared_m.take(placed, axis=0)
    if not math.isfinite(np.add.reduce(own, axis=None) + np.add.reduce(shared, axis=None)):
        # A fuser that does not tell them apart: all of it may be new in every image.
        lacking = ~(np.isfinite(own).all(axis=1) & np.isfinite(shared).all(axis=(1, 2)))
        own[lacking] = objects.covariance_m2[placed[lacking]].reshape(-1, 9)
        shared[lacking] = 0.0
    turn, origin = odom_SE3_base.rotation, odom_SE3_base.translation_m
    out = Sightings(np.empty((_NUMBERS, n)))
    np.add(turn @ objects.position_m.take(placed, axis=0).T, origin[:, None], out=out.table[:3])
    views = Views.of(out.place_m, origin[:2, None])
    out.polar[:] = views.polar
    # The entries xx, xy, yy, zz of turn @ own @ turn.T.
    entries = turn.take(_FIRST, 0)[:, :, None] * turn.take(_SECOND, 0)[:, None]
    own = entries.reshape(4, 9) @ own.T
    errors = turn @ shared.transpose(1, 2, 0)  # (2, 3, n)
    off_x, off_y, off_z = errors[:, 0], errors[:, 1], errors[:, 2]
    np.maximum(own[3] + np.add.reduce(off_z * off_z), 1e-6, out=out.height_m2)
    fresh = turned(views.slope, own[:3])
    fresh += _LEAST
    x, y = views.slope
    ranges, bearings = x * off_x + y * off_y, x * off_y - y * off_x
    common = np.empty((3, n))
    np.add.reduce(ranges * ranges, out=common[0])
    np.add.reduce(ranges * bearings, out=common[1])
    np.add.reduce(bearings * bearings, out=common[2])
    np.add(fresh, _CHANGING * common, out=out.noise)
    np.add(common, _PERSISTENT * fresh, out=out.lasting)
    if n == len(objects):
        return out
    every = Sightings.none(len(objects))
    every.table[:, placed] = out.table
    return every


@dataclass(frozen=True, slots=True)
class Views:
    """N places as they are seen from somewhere."""

    table: FloatArray
    """(5, N) what follows, row by row."""

    @classmethod
    def of(cls, place_m: FloatArray, origin_m: FloatArray) -> Views:
        """Of (2, N) places, from origins (2, 1) or (2, N)."""
        table = np.empty((5, place_m.shape[1]))
        log_range, bearing, x, y, range_m = table
        np.subtract(place_m, origin_m, out=table[2:4])
        np.arctan2(y, x, out=bearing)
        reach = np.hypot(x, y)
        np.maximum(reach, NEAREST_M, out=range_m)
        np.log(range_m, out=log_range)
        _to_slopes(table[2:4], reach, range_m)
        return cls(table)

    @property
    def polar(self) -> FloatArray:
        """(2, N)."""
        return self.table[0:2]

    @property
    def slope(self) -> FloatArray:
        """(2, N) x and y, of which the derivative of `polar` by the place is ``[[x, y], [-y, x]]``."""
        return self.table[2:4]

    @property
    def range_m(self) -> FloatArray:
        """(N,)."""
        return self.table[4, :]

    def take(self, columns: IntArray) -> Views:
        """Those of `columns`, copied."""
        return Views(self.table.take(columns, axis=1))


def slopes(place_m: FloatArray, origin_m: FloatArray) -> FloatArray:
    """(2, N) see `Views.slope`; of (2, N) places, from origins (2, 1) or (2, N)."""
    off: FloatArray = place_m - origin_m
    reach = np.hypot(off[0], off[1])
    _to_slopes(off, reach, np.maximum(reach, NEAREST_M))
    return off


def _to_slopes(off_m: FloatArray, reach_m: FloatArray, range_m: FloatArray) -> None:
    """Make (2, N) offsets slopes, in place."""
    at_origin = NEAREST_M * (reach_m <= 1e-9)  # there any direction will do
    off_m[0] += at_origin
    off_m /= (reach_m + at_origin) * range_m


def turned(slope: FloatArray, cover: FloatArray) -> FloatArray:
    """(3, N) ``J C J.T`` of (3, N) covariances, with J as in `Views.slope`."""
    x, y = slope
    cxx, cxy, cyy = cover
    xx, yy, xy = x * x, y * y, x * y
    cross = 2 * xy * cxy
    out = np.empty((3, len(x)))
    out[0] = xx * cxx + cross + yy * cyy
    out[1] = xy * (cyy - cxx) + (xx - yy) * cxy
    out[2] = yy * cxx - cross + xx * cyy
    return out


def from_polar(slope: FloatArray) -> FloatArray:
    """(2, N) the slopes of the way back, for `turned`: of the inverses of those."""
    x, y = slope
    scale = 1 / (x * x + y * y)
    out = np.empty_like(slope)
    out[0], out[1] = scale * x, -scale * y
    return out


def turned_within_half(angles_rad: FloatArray) -> FloatArray:
    """Angles as their equals from -π to π."""
    return angles_rad - 2 * np.pi * np.rint(angles_rad * (0.5 / np.pi))
