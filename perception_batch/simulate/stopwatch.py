"""CPU time by stage, for whoever wants to know where a drive's time goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the process's CPU time by stage; while an inner stage runs, the outer one's time stands still."""

    def __init__(self) -> None:
        self.spent_ns: Counter[str] = Counter()
        """By stage."""
        self._stages: list[str] = []
        self._since_ns = time.process_time_ns()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is done within counts for this stage."""
        self._count()
        self._stages.append(name)
        try:
            yield
        finally:
            self._count()
            self._stages.pop()

    def _count(self) -> None:
        now_ns = time.process_time_ns()
        if self._stages:
            self.spent_ns[self._stages[-1]] += now_ns - self._since_ns
        self._since_ns = now_ns
