"""Places with whole covariances: of single views, and of several views of one thing together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.position import Views


@dataclass(frozen=True, slots=True)
class Places:
    """G places in the base frame; NaN where unknown. ``total = jitter + lasting.T @ lasting``, symmetric to the bit."""

    position_m: FloatArray
    """(G, 3) centre of the 3-D box."""
    total_m2: FloatArray
    """(G, 3, 3) covariance of all errors."""
    jitter_m2: FloatArray
    """(G, 3, 3) the part of `total_m2` that is new in every image."""
    lasting_m: FloatArray
    """(G, 2, 3) the rest: one standard deviation of what stays with the object, and of what stays for a while."""

    @classmethod
    def nowhere(cls, count: int) -> Places:
        """Unknown ones."""
        square = np.full((count, 3, 3), np.nan)
        return cls(square[:, 0], square, square, square[:, :2])

    @classmethod
    def of(cls, position_m: FloatArray, jitter_m2: FloatArray, lasting_m: FloatArray) -> Places:
        """With their totals."""
        outer = lasting_m[..., :, None] * lasting_m[..., None, :]  # unlike a product of matrices: symmetric
        return cls(position_m, jitter_m2 + outer[:, 0] + outer[:, 1], jitter_m2, lasting_m)

    @classmethod
    def of_views(cls, views: Views) -> Places:
        """Of each view alone."""
        ray, n = views.ray, len(views.known)
        jitter = ray[:, None] * ray
        jitter *= views.jitter[0]
        across = np.empty((2, n))
        across[0], across[1] = -ray[1], ray[0]
        jitter[:2, :2] += across[:, None] * across * views.jitter[1]
        jitter[2, 2] += views.jitter[2]
        lasting = np.empty((2, 3, n))
        np.multiply(views.lasting[::2, None], ray, out=lasting)
        lasting[0, 2] += views.lasting[1]
        by_row = np.ascontiguousarray
        return cls.of(
            by_row(views.position_m.T), by_row(jitter.transpose(2, 0, 1)), by_row(lasting.transpose(2, 0, 1))
        )

    def take(self, rows: npt.NDArray[np.int64]) -> Places:
        """The given rows, in that order; any number below 0 is nowhere."""
        out = Places(*[getattr(self, name).take(rows, 0) for name in self.__slots__])
        nowhere = (rows < 0).nonzero()[0]
        if len(nowhere):
            for name in self.__slots__:
                getattr(out, name)[nowhere] = np.nan
        return out

    def followed_by(self, others: Places) -> Places:
        """These and after them others."""
        return Places(
            *[np.concatenate([getattr(self, name), getattr(others, name)]) for name in self.__slots__]
        )

    def put(self, rows: npt.NDArray[np.int64], others: Places) -> None:
        """Replace the given rows by others."""
        for name in self.__slots__:
            getattr(self, name)[rows] = getattr(others, name)


def combine(places: Places, first: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Places:
    """Objects of several views each.

    Each view is weighted by the inverse of its whole covariance; what lasts stays in full, however many cameras
    look (their pitches are taken for one: they err alike when the body nods). Views that disagree widen what is
    the object's own (Birge ratio).

    Args:
        places: of all views, those of one object after each other.
        first: (G,) row of each object's first view.
        counts: (G,) how many it has, two or more.
    """
    of = np.arange(len(counts)).repeat(counts)
    information = np.linalg.inv(places.total_m2)
    weights = np.linalg.inv(np.add.reduceat(information, first)).take(of, 0) @ information
    told = np.empty((len(of), 3, 3))  # the position, and what lasts
    told[:, :, 0], told[:, :, 1:] = places.position_m, places.lasting_m.swapaxes(1, 2)
    means = np.add.reduceat(weights @ told, first)
    alone = np.add.reduceat(weights @ places.jitter_m2 @ weights.swapaxes(1, 2), first)
    apart = told[:, :, 0] - means[:, :, 0].take(of, 0)
    spread = np.add.reduceat(np.add.reduce((information @ apart[:, :, None])[:, :, 0] * apart, 1), first)
    wider = np.maximum(spread / (3 * (counts - 1)), 1.0) - 1
    together = means[:, :, 1:].swapaxes(1, 2)
    outer = together[:, :, :, None] * together[:, :, None, :]
    alone += wider[:, None, None] * (alone + outer[:, 0] + outer[:, 1])
    alone = 0.5 * (alone + alone.swapaxes(1, 2))  # without the last bit's asymmetry
    return Places.of(means[:, :, 0].copy(), alone, together.copy())
