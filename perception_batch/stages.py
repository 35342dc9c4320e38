"""How the stages of a run are joined, and where their times and waits are recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from perception_batch import flow

A = TypeVar("A")
B = TypeVar("B")


@dataclass(slots=True)
class Profile:
    """Time of the stages and waits at the seams."""

    stages: dict[str, flow.StageTime] = field(default_factory=dict)
    queues: dict[str, flow.QueueStats] = field(default_factory=dict)

    def stage(self, name: str) -> flow.StageTime:
        """The stage's clock, made on first use."""
        return self.stages.setdefault(name, flow.StageTime(name))

    def queue(self, name: str) -> flow.QueueStats:
        """The seam's record, made on first use."""
        return self.queues.setdefault(name, flow.QueueStats(name))


@dataclass(frozen=True, slots=True)
class Threads:
    """How the stages are joined: by queues, or (not `enabled`) by nothing."""

    enabled: bool
    """False: everything runs in the caller's thread."""
    workers: int
    """Threads that decode."""
    profile: Profile
    """Where times and waits are recorded."""

    def ahead(
        self, source: Iterator[A], name: str, *, depth: int, limit_bytes: int, size_of: Callable[[A], int]
    ) -> Iterator[A]:
        """Let `source` run ahead in a thread of its own."""
        if not self.enabled:
            return source
        stats = self.profile.queue(name)
        return flow.prefetch(
            source, depth=depth, name=name, stats=stats, limit_bytes=limit_bytes, size_of=size_of
        )

    def map(self, function: Callable[[A], B], source: Iterator[A], name: str) -> Iterator[B]:
        """`function` over `source`, in order, by the workers."""
        if not self.enabled:
            return map(function, source)
        return flow.ordered_map(function, source, workers=self.workers, name=name)
