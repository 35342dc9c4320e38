"""The best one-to-one choice among a few possible pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray

IntArray = npt.NDArray[np.int64]


def assignment(first: IntArray, second: IntArray, value: FloatArray) -> npt.NDArray[np.bool_]:
    """(M,) which pairs to choose so that nothing is in two of them and they are worth most together.

    What is asked about several choices at once (pairs of cameras, say) costs little more than one: give each of them
    numbers of its own.

    Args:
        first: (M,) number of one part of each possible pair, from 0.
        second: (M,) number of the other, from 0.
        value: (M,) what the pair is worth, above 0.
    """
    chosen: npt.NDArray[np.bool_] = np.bincount(first).take(first) == 1
    chosen &= np.bincount(second).take(second) == 1  # nobody has a choice
    contested = (~chosen).nonzero()[0]
    if not len(contested):
        return chosen
    from scipy.optimize import linear_sum_assignment

    rows, columns = _counted(first[contested]), _counted(second[contested])
    worth = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1))
    worth[rows, columns] = value[contested]
    # A choice of pairs that are worth nothing fills up what is without one.
    row, column = linear_sum_assignment(worth, maximize=True)
    taken = np.full(len(worth), -1)
    taken[row] = column
    chosen[contested] = taken[rows] == columns
    return chosen


def _counted(numbers: IntArray) -> IntArray:
    """The same numbers without gaps between them, in the same order."""
    place: IntArray = np.bincount(numbers).astype(bool).cumsum() - 1
    return place.take(numbers)
