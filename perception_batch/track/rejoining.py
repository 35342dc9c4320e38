"""Tracks that were lost and found again: a young track that goes on where an older one left off becomes that one.

What comes out from behind something shows a corner first, at the wrong range and in the wrong direction, and begins a
track of its own. Some tenths of a second later it is known well, and nobody has been told its id yet: that waits for
the lag.
"""

from __future__ import annotations

import numpy as np

from perception_batch.track.lives import Life
from perception_batch.track.motion import PLACE
from perception_batch.track.rows import IntArray, Rows
from perception_batch.types import FloatArray

_KNOWN = 0.5
"""A young track is compared once it has been known for this share of the lag."""
_GATE2 = 13.3
"""99 % of the squared distances of a track from itself: place and velocity, four degrees of freedom (chi-square)."""
_RANGE_SHARE = 0.1
"""What a range may err more than its track claims after having been half hidden."""


def may_rejoin(life: Life, born_ns: int, gap_ns: int) -> bool:
    """Whether a track could go on in one that was born at `born_ns` or later."""
    open_end = life.later is None and not life.closed
    return open_end and life.verdict == "real" and born_ns - life.seen_ns[-1] <= gap_ns


def rejoin(stamp_ns: int, rows: Rows, ended: Rows, origin_m: FloatArray, lag_ns: int, gap_ns: int) -> None:
    """Tell young tracks which older ones they are.

    Args:
        stamp_ns: of the timestep, of which `rows` know all sightings.
        rows: living tracks.
        ended: tracks that ended of late, where they would be by now.
        origin_m: (2,) the vehicle in the fixed frame.
        lag_ns: after which a track is given out.
        gap_ns: how long one may be unseen.
    """
    young = [
        row
        for row, life in enumerate(rows.lives)
        if life.track_id < 0
        and life.earlier is None
        and stamp_ns - life.born_ns >= _KNOWN * lag_ns
        and life.verdict != "ghost"
        and life.sightings > 2
    ]
    if not young:
        return
    first_ns = min(rows.lives[row].born_ns for row in young)
    unseen = _rows(
        [
            row
            for row, life in enumerate(rows.lives)
            if life.seen_ns[-1] < stamp_ns and may_rejoin(life, first_ns, gap_ns)
        ]
    )
    lost = _rows([row for row, life in enumerate(ended.lives) if may_rejoin(life, first_ns, gap_ns)])
    if not len(unseen) and not len(lost):
        return
    seen_ns = np.array(
        [rows.lives[i].seen_ns[-1] for i in unseen] + [ended.lives[i].seen_ns[-1] for i in lost], np.int64
    )
    born_ns = np.array([rows.lives[i].born_ns for i in young], np.int64)
    group = np.concatenate([rows.group[unseen], ended.group[lost]])
    # A track is never its own: it was last seen after it was born.
    may = (seen_ns[:, None] < born_ns) & (born_ns <= seen_ns[:, None] + gap_ns)
    may &= group[:, None] == rows.group[young]
    if not may.any():
        return
    which = np.flatnonzero(may.any(axis=1))
    unseen_too, lost_too = which[which < len(unseen)], which[which >= len(unseen)] - len(unseen)
    old = rows.take(unseen[unseen_too])
    if len(lost_too):
        old = old.append(ended.take(lost[lost_too]))
    new = rows.take(np.array(young, np.int64))
    cost = np.where(may[which], _costs(old, new, origin_m), np.inf)
    while cost.size and np.isfinite(cost).any():
        i, j = divmod(int(np.argmin(cost)), cost.shape[1])
        new.lives[j].continue_from(old.lives[i])
        cost[i], cost[:, j] = np.inf, np.inf


def _rows(numbers: list[int]) -> IntArray:
    return np.array(numbers, np.int64)


def _costs(old: Rows, new: Rows, origin_m: FloatArray) -> FloatArray:
    """(N, M) minus twice the logarithm of the likelihood that two are one, but for a constant; infinite beyond the gate."""
    apart = old.beliefs.mean[:, None] - new.beliefs.mean[None]
    cover = old.beliefs.covariance[:, None] + new.beliefs.covariance[None]
    ray = _RANGE_SHARE * (new.beliefs.mean[:, PLACE] - origin_m)
    cover[:, :, PLACE, PLACE] += ray[:, :, None] * ray[:, None, :]
    distance2 = (apart[..., None, :] @ np.linalg.inv(cover) @ apart[..., :, None])[..., 0, 0]
    room = np.linalg.slogdet(cover)[1]
    out: FloatArray = np.where(distance2 <= _GATE2, distance2 + room, np.inf)
    return out
