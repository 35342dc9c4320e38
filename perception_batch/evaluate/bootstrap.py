"""How far a figure may be off by the choice of objects: the bootstrap over objects.

Rows of one object (its timesteps, its pairs) err together, so whole objects are drawn, not rows: Field and Welsh
2007, "Bootstrapping clustered data" (J. R. Stat. Soc. B 69). Percentile intervals, 95 %.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from perception_batch.evaluate.truth import FloatArray, IntArray

Interval = tuple[float, float]


def interval(
    objects: IntArray, figure: Callable[[FloatArray], float], *, resamples: int, seed: int
) -> Interval | None:
    """The interval of a figure of weighted rows.

    Args:
        objects: (N,) the object that each row belongs to.
        figure: from (N,) weights of the rows to the figure; NaN where it has none.
        resamples: how many draws.
        seed: of the draws.

    Returns:
        The bounds; None for fewer than two objects, where nothing can be drawn.
    """
    ids, rows = np.unique(objects, return_inverse=True)
    if len(ids) < 2:
        return None
    rng = np.random.Generator(np.random.PCG64(seed))
    values = np.empty(resamples)
    for i in range(resamples):
        drawn = np.bincount(rng.integers(0, len(ids), len(ids)), minlength=len(ids))
        values[i] = figure(drawn[rows].astype(np.float64))
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return low, high


def weighted_median(values: FloatArray) -> Callable[[FloatArray], float]:
    """A figure for `interval`: the median of rows that count as often as their weight says."""
    order = np.argsort(values, kind="stable")
    in_order = values[order]

    def median(weights: FloatArray) -> float:
        total: FloatArray = np.cumsum(weights[order])
        if not len(total) or total[-1] <= 0:
            return float("nan")
        half = total[-1] / 2
        low = in_order[np.searchsorted(total, half, side="left")]
        high = in_order[min(int(np.searchsorted(total, half, side="right")), len(in_order) - 1)]
        return float(low + high) / 2

    return median


def weighted_share(hits: npt.NDArray[np.bool_]) -> Callable[[FloatArray], float]:
    """A figure for `interval`: the share of rows that are hits."""

    def share(weights: FloatArray) -> float:
        total = weights.sum()
        return float(weights[hits].sum() / total) if total > 0 else float("nan")

    return share
