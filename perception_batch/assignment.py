"""The best one-to-one choice among a few possible pairs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

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
    rows, columns = _counted(first[contested]), _counted(second[contested])
    worth = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1))
    worth[rows, columns] = value[contested]
    # A choice of pairs that are worth nothing fills up what is without one.
    row, column = best_pairs(worth)
    taken = np.full(len(worth), -1)
    taken[row] = column
    chosen[contested] = taken[rows] == columns
    return chosen


def best_pairs(value: npt.NDArray[np.floating[Any]]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """As many pairs as the shorter side of a table has, worth most together.

    Args:
        value: (N, M) what a pair is worth.

    Returns:
        Rows of the table, rising, and the column of each.
    """
    rows, columns = _solver()(value, maximize=True)
    return rows, columns


@functools.cache
def _solver() -> Callable[..., tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """`scipy.optimize.linear_sum_assignment`, loaded without the package around it: 2 ms instead of 330.

    The name of the file that holds it is SciPy's own affair: where it is not as expected, the package is imported.
    """
    package = find_spec("scipy")  # of a package above none this imports nothing
    folders = [
        str(Path(root) / "optimize") for root in (package and package.submodule_search_locations) or ()
    ]
    spec = PathFinder.find_spec("_lsap", folders)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        found = getattr(module, "linear_sum_assignment", None)
        if found is not None:
            alone: Callable[..., Any] = found
            return alone
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment


def _counted(numbers: IntArray) -> IntArray:
    """The same numbers without gaps between them, in the same order."""
    place: IntArray = np.bincount(numbers).astype(bool).cumsum() - 1
    return place.take(numbers)
