"""The tightest grouping: frames to groups with at most one of a camera in each, fewest groups first, then least spread.

Claim: with the frames in order of time, and two frames of one camera always farther apart than the spread limit, some
optimal grouping is contiguous in that order. (Take two groups that interleave. Cameras in both: all their earlier
frames lie in one of the two, or two of them would be nearer than the limit allows; so a cut between the earlier and the later ones
gives two contiguous groups, each within the limit, with a smaller sum of spreads. No camera in both, and one group's span inside
the other's: one group does.) So the best grouping of a prefix is the best grouping of a shorter one and a last group: dynamic
programming, with the least over a sliding window kept in a deque, in linear time.

A boundary is certain once every way to go on agrees on it. In a rig that fires in bursts that is at every pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

_LOOK = 64  # frames that may be open before certain boundaries are looked for
_MOST = 1024  # and before the best way so far is taken for certain

Entry = tuple[int, str]
"""Time (ns) and camera."""


def partition(entries: Sequence[Entry], limit_ns: int) -> tuple[list[int], list[int]]:
    """Best grouping of all prefixes of `entries`, which are sorted by time.

    Args:
        entries: frames in order.
        limit_ns: largest spread of a group.

    Returns:
        For each prefix length j from 0: where its last group begins, and the first start that a group ending there may have.
        Of equally good starts the earliest.
    """
    n = len(entries)
    back, first = [0] * (n + 1), [0] * (n + 1)
    groups, spread = [0] * (n + 1), [0] * (n + 1)
    window: deque[int] = deque()
    latest: dict[str, int] = {}
    low = 0
    for j in range(n):
        time_ns, camera = entries[j]
        # A start at j: the cost of what lies before, and of a last group that begins here.
        key = (groups[j], spread[j] - time_ns)
        while window and (groups[window[-1]], spread[window[-1]] - entries[window[-1]][0]) > key:
            window.pop()
        window.append(j)
        low = max(low, latest.get(camera, -1) + 1)
        while time_ns - entries[low][0] > limit_ns:
            low += 1
        while window[0] < low:
            window.popleft()
        latest[camera] = j
        i = window[0]
        back[j + 1], first[j + 1] = i, low
        groups[j + 1], spread[j + 1] = groups[i] + 1, spread[i] + time_ns - entries[i][0]
    return back, first


def boundaries(back: Sequence[int], end: int) -> list[int]:
    """Ends of the groups of the best grouping of the first `end` entries."""
    out = []
    while end > 0:
        out.append(end)
        end = back[end]
    return out[::-1]


@dataclass(slots=True)
class Tightest:
    """The tightest grouping of a stream in order of time; groups come out as soon as they are certain."""

    limit_ns: int
    """Largest spread of a group."""
    open: list[Entry] = field(default_factory=list)
    """Entries that are in no group yet."""
    _look_at: int = _LOOK

    def add(self, time_ns: int, camera: str) -> list[list[Entry]]:
        """Take the next entry; give the groups that it makes certain."""
        done: list[list[Entry]] = []
        if self.open and time_ns - self.open[-1][0] > self.limit_ns:
            done = self.close()
        self.open.append((time_ns, camera))
        if len(self.open) >= self._look_at:
            done += self._certain()
        return done

    def close_before(self, time_ns: int) -> list[list[Entry]]:
        """What becomes certain where no entry before `time_ns` can come any more."""
        return self.close() if self.open and time_ns - self.open[-1][0] > self.limit_ns else []

    def close(self) -> list[list[Entry]]:
        """Groups of all that is open: nothing more can join them."""
        entries, self.open, self._look_at = self.open, [], _LOOK
        names = {camera for _, camera in entries}
        if entries and len(names) == len(entries) and entries[-1][0] - entries[0][0] <= self.limit_ns:
            return [entries]  # one group is the fewest
        return _split(entries, boundaries(partition(entries, self.limit_ns)[0], len(entries)))

    def force(self) -> list[list[Entry]]:
        """All groups but the last of the best grouping so far, certain or not: no more room to wait."""
        return self._certain(forced=True)

    def _certain(self, *, forced: bool = False) -> list[list[Entry]]:
        """Groups that end at the last boundary which all continuations have in common."""
        entries, n = self.open, len(self.open)
        back, first = partition(entries, self.limit_ns)
        # The next entry's group begins somewhere from first[n] on (or it is alone): so much of the prefixes is alive.
        alive = set(range(first[n], n + 1))
        while len(alive) > 1:
            latest = max(alive)
            alive.remove(latest)
            alive.add(back[latest])
        end = alive.pop()
        if forced or (not end and n >= _MOST):
            end = max(end, back[n])
        self._look_at = max(_LOOK, 2 * (n - end))
        self.open = entries[end:]
        return _split(entries[:end], boundaries(back, end))


def _split(entries: list[Entry], ends: list[int]) -> list[list[Entry]]:
    starts = [0, *ends[:-1]]
    return [entries[a:b] for a, b in zip(starts, ends, strict=True)] if ends else []
