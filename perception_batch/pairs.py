"""Every two things of one run, in a list where runs follow each other: the boxes of one camera among those of all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pairs_within(run: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(M,), (M,) the earlier and the later row of every pair that shares a run, sorted by both.

    Args:
        run: (N,) number of each row's run, never falling.
    """
    rows = np.arange(len(run))
    after = run.searchsorted(run, "right") - rows - 1  # how many of its run are still to come
    first = rows.repeat(after)
    # A row's first pair is with the next one, and so on.
    second = np.arange(len(first)) + (rows + 1 - after.cumsum() + after).repeat(after)
    return first, second
