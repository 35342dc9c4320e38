"""Boxes whose lower edge a nearer box covers: what is hidden there makes things look farther away than they are.

A person behind a parked car shows head and shoulders: a box of a quarter of the height, four times as far away. On
simulated drives things so covered look 40 % too far in the middle, and up to six times; things that nothing covers are
within 10 %.
"""

from __future__ import annotations

import numpy as np

from perception_batch.pairs import pairs_within
from perception_batch.track.shown import Shown
from perception_batch.track.sighting import BoolArray, Sightings

_ALL_OF_IT = 0.95
"""Share of the low edge that one nearer box covers from which on it is that box's edge."""
_HIDDEN_SIGMA = 0.5
"""Of the logarithm of the range, by what is hidden below such an edge."""
_LOWER = 0.02
"""A box that reaches lower by less than this share of the other one's height may as well stand beside it."""


def hidden_below(shown: Shown, count: int) -> BoolArray:
    """(count,) whether in every camera that sees an object a nearer object's box covers all of its lower edge.

    Args:
        shown: the boxes of a timestep.
        count: of its objects.
    """
    if not len(shown):
        return np.zeros(count, bool)
    i, j = pairs_within(shown.image)
    left, high, right, low = shown.edges_px
    # Of each pair, j is the one that reaches lower.
    i, j = np.where(low[i] > low[j], (j, i), (i, j))
    wide = np.minimum(right[i], right[j]) - np.maximum(left[i], left[j])
    nearer = (wide >= (_ALL_OF_IT * (right - left))[i]) & (low[i] > high[j])
    nearer &= (low + _LOWER * (low - high))[i] < low[j]
    under = np.zeros(len(shown), bool)
    under[i[nearer]] = True
    out = np.ones(count, bool)
    out[shown.of[~under]] = False
    return out


def doubt_ranges(seen: Sightings, hidden: BoolArray) -> None:
    """Say little of the range of those that are `hidden` below, in place."""
    seen.noise[0][hidden] += _HIDDEN_SIGMA**2
