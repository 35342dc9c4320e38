"""Tracks that were lost and found again: a young track that goes on where an older one left off becomes that one.

What comes out from behind something shows a corner first, at the wrong range and in the wrong direction, and begins a
track of its own. Some tenths of a second later it is known well, and nobody has been told its id yet: that waits for
the lag.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from perception_batch.track.lives import Life
from perception_batch.track.motion import BELIEFS, PLACE, SPREAD, Beliefs
from perception_batch.track.rows import BORN, GHOST, GROUP, SEEN, Rows
from perception_batch.types import FloatArray

_KNOWN = 0.5
"""A young track is compared once it has been known for this share of the lag."""
_GATE2 = 13.3
"""99 % of the squared distances of a track from itself: place and velocity, four degrees of freedom (chi-square)."""
_RANGE_SHARE = 0.1
"""What a range may err more than its track claims after having been half hidden."""
_ROUNDING = 1.0 + 1e-6


def may_rejoin(life: Life, born_ns: int, gap_ns: int) -> bool:
    """Whether a track could go on in one that was born at `born_ns` or later."""
    open_end = life.verdict == "real" and life.later is None and not life.closed
    return open_end and born_ns - life.seen_ns[-1] <= gap_ns


def youngsters(stamp_ns: int, rows: Rows, lag_ns: int) -> list[int]:
    """Which tracks are known well enough by now, and not told yet."""
    old_enough = rows.born_ns <= stamp_ns - math.ceil(_KNOWN * lag_ns)
    may: list[int] = (old_enough & (rows.verdict != GHOST)).nonzero()[0].tolist()
    lives = rows.lives
    return [
        row
        for row in may
        if lives[row].track_id < 0 and lives[row].earlier is None and lives[row].sightings > 2
    ]


def rejoin(
    stamp_ns: int, rows: Rows, young: Sequence[int], ended: Rows, origin_m: FloatArray, gap_ns: int
) -> list[int]:
    """Tell young tracks which older ones they are.

    Args:
        stamp_ns: of the timestep, of which `rows` know all sightings.
        rows: living tracks.
        young: which of them are, see `youngsters`.
        ended: tracks that ended of late, where they would be by now.
        origin_m: (2, 1) the vehicle in the fixed frame.
        gap_ns: how long one may be unseen.

    Returns:
        Which of the young ones go on where an older one left off.
    """
    first_ns = int(rows.born_ns[young].min())
    lately = (rows.seen_ns < stamp_ns) & (rows.seen_ns >= first_ns - gap_ns)
    unseen: list[int] = lately.nonzero()[0].tolist()
    unseen = [row for row in unseen if may_rejoin(rows.lives[row], first_ns, gap_ns)]
    lost = [row for row, life in enumerate(ended.lives) if may_rejoin(life, first_ns, gap_ns)]
    if not unseen and not lost:
        return []
    before = np.concatenate([rows.facts.take(unseen, axis=1), ended.facts.take(lost, axis=1)], axis=1)
    after = rows.facts.take(young, axis=1)
    # A track is never its own: it was last seen after it was born.
    seen_ns, born_ns = before[SEEN][:, None], after[BORN]
    may = (seen_ns < born_ns) & (born_ns <= seen_ns + gap_ns)
    may &= before[GROUP][:, None] == after[GROUP]
    which = may.ravel().nonzero()[0]
    if not len(which):
        return []
    i = which // len(young)
    j = which - i * len(young)
    old = np.concatenate([rows.table.take(unseen, axis=1), ended.table.take(lost, axis=1)], axis=1)[:BELIEFS]
    new = rows.beliefs.table.take(young, axis=1)
    found = []
    for k in _likeliest_first(Beliefs(old.take(i, axis=1)), Beliefs(new.take(j, axis=1)), origin_m):
        n = int(i[k])
        earlier = rows.lives[unseen[n]] if n < len(unseen) else ended.lives[lost[n - len(unseen)]]
        later = rows.lives[young[j[k]]]
        if earlier.later is None and later.earlier is None:
            later.continue_from(earlier)
            found.append(young[j[k]])
    return found


def _likeliest_first(old: Beliefs, new: Beliefs, origin_m: FloatArray) -> list[int]:
    """Which of P pairs of an old and a new track are within the gate, the likeliest first.

    Their order is that of minus twice the logarithm of the likelihood that two are one, but for a constant.
    """
    apart = old.mean - new.mean
    ray = _RANGE_SHARE * (new.mean[PLACE] - origin_m)
    # What is beyond the gate in one number alone is beyond it in all.
    most = old.table.take(SPREAD, axis=0) + new.table.take(SPREAD, axis=0)
    most[PLACE] += ray * ray
    near = np.logical_and.reduce(apart * apart <= _GATE2 * _ROUNDING * most).nonzero()[0]
    if not len(near):
        return []
    cover = (old.covariance + new.covariance).take(near, axis=2)
    ray = ray.take(near, axis=1)
    cover[PLACE, PLACE] += ray[:, None] * ray
    apart, cover = apart.T[near], cover.transpose(2, 0, 1)
    distance2 = (apart[:, None, :] @ np.linalg.inv(cover) @ apart[:, :, None])[:, 0, 0]
    within = (distance2 <= _GATE2).nonzero()[0]
    if not len(within):
        return []
    cost = distance2[within] + np.linalg.slogdet(cover[within])[1]
    chosen: list[int] = near[within][cost.argsort(kind="stable")].tolist()
    return chosen
