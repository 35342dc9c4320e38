"""The best one-to-one choice among a few possible pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray


def assignment(
    first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], value: FloatArray
) -> npt.NDArray[np.bool_]:
    """(M,) which pairs to choose so that nothing is in two of them and they are worth most together.

    Args:
        first: (M,) number of one part of each possible pair.
        second: (M,) number of the other.
        value: (M,) what the pair is worth, above 0.
    """
    mine, theirs = first.tolist(), second.tolist()
    of_first, of_second = sorted(set(mine)), sorted(set(theirs))
    if len(of_first) == len(mine) and len(of_second) == len(theirs):
        return np.ones(len(value), bool)  # nobody has a choice
    from scipy.optimize import linear_sum_assignment

    row = {number: i for i, number in enumerate(of_first)}
    column = {number: i for i, number in enumerate(of_second)}
    rows, columns = [row[number] for number in mine], [column[number] for number in theirs]
    worth = np.zeros((len(row), len(column)))
    worth[rows, columns] = value
    taken = np.zeros(worth.shape, bool)
    taken[linear_sum_assignment(worth, maximize=True)] = True
    chosen: npt.NDArray[np.bool_] = taken[rows, columns]
    return chosen
