"""Frames that wait to be grouped, and timesteps in the making."""

from __future__ import annotations

from bisect import insort
from typing import TypeAlias

from perception_batch.sync.plan import SyncPlan
from perception_batch.types import EncodedFrame, UnusedFrame, UnusedReason

FOREVER_NS = 1 << 62

Arrival: TypeAlias = tuple[int, int, EncodedFrame, int]
"""Time on the reference's clock (ns), number of its arrival, the frame, its bytes. Ordered by the first two."""


class Anchor:
    """A timestep in the making."""

    __slots__ = ("is_real", "members", "stamp_ns", "time_ns")

    def __init__(self, time_ns: int, stamp_ns: int, is_real: bool, members: dict[str, Arrival]) -> None:
        self.time_ns = time_ns
        """Where frames are matched to, on the reference's clock."""
        self.stamp_ns = stamp_ns
        """The timestep's stamp."""
        self.is_real = is_real
        """A frame of the reference, or a trigger, stands behind it."""
        self.members = members


class Waiting:
    """The frames that wait, by camera in order of time; and those that were settled as unused."""

    def __init__(self, plan: SyncPlan) -> None:
        self.queues: dict[str, list[Arrival]] = {name: [] for name in plan.cameras}
        self.size_bytes = 0
        """Of all payloads that wait."""
        self._unused: list[UnusedFrame] = []

    def add(self, arrival: Arrival) -> None:
        """Let a frame wait."""
        queue = self.queues[arrival[2].camera]
        if queue and arrival < queue[-1]:
            insort(queue, arrival)
        else:
            queue.append(arrival)
        self.size_bytes += arrival[3]

    def take(self, name: str, limit_ns: int) -> list[Arrival]:
        """Take a camera's frames up to a time out of the queue."""
        queue = self.queues[name]
        count = 0
        for arrival in queue:
            if arrival[0] > limit_ns:
                break
            self.size_bytes -= arrival[3]
            count += 1
        taken = queue[:count]
        del queue[:count]
        return taken

    def middle_ns(self) -> int:
        """Median time of all that wait."""
        times = sorted(arrival[0] for queue in self.queues.values() for arrival in queue)
        return times[len(times) // 2]

    def drop(self, frame: EncodedFrame, reason: UnusedReason) -> None:
        """Settle a frame as unused."""
        self._unused.append(UnusedFrame.of(frame, reason))

    def give_back(self, unused: tuple[UnusedFrame, ...]) -> None:
        """Take records of unused frames that have not found their way out."""
        self._unused[:0] = unused

    def take_unused(self) -> tuple[UnusedFrame, ...]:
        """The records of unused frames since the last call."""
        unused, self._unused = tuple(self._unused), []
        return unused
