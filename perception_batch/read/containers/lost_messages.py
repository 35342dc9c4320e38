"""What a file turns out to have lost, each message counted once however often it is asked for."""

from __future__ import annotations

from collections.abc import Hashable

from perception_batch.types import Loss


class LostMessages:
    """Losses of one file, joined by topic and reason."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], dict[Hashable, tuple[int, int, int]]] = {}

    def add(
        self, topic: str, reason: str, *, key: Hashable, start_ns: int = 0, stop_ns: int = 0, count: int = 1
    ) -> None:
        """Note a loss.

        Args:
            topic: ``*`` where unknown.
            reason: one line, without the name of the file.
            key: what is lost; the same thing lost again replaces what was noted before.
            start_ns: log time from which it is missing; 0 where unknown.
            stop_ns: where the gap ends; 0 where unknown.
            count: of messages; 0 where it cannot be known.
        """
        self._parts.setdefault((topic, reason), {})[key] = (start_ns, stop_ns, count)

    def as_losses(self) -> tuple[Loss, ...]:
        """One entry for each topic and reason, in a fixed order."""
        joined = []
        for (topic, reason), parts in self._parts.items():
            starts = [start for start, _, _ in parts.values() if start]
            stops = [stop for _, stop, _ in parts.values()]
            joined.append(
                Loss(
                    topic,
                    min(starts, default=0),
                    0 if 0 in stops else max(stops, default=0),
                    sum(count for _, _, count in parts.values()),
                    reason,
                )
            )
        return tuple(sorted(joined, key=lambda loss: (loss.topic, loss.start_ns, loss.reason)))
