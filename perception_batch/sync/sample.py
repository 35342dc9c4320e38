"""A sample of one topic's stamps, as the estimates want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from perception_batch.sync.phase import IntArray, period_ns

Pairs: TypeAlias = Sequence[tuple[int, int]] | IntArray
"""(stamp_ns, log_ns) of messages, in any order; as an array (N, 2) int64."""

_BAD_STAMP_NS = 5_000_000_000  # a delay that far from the usual is a wrong stamp


@dataclass(frozen=True, slots=True)
class Sample:
    """The stamps of one topic, in order."""

    stamps_ns: IntArray
    """(N,) strictly growing."""
    logs_ns: IntArray
    """(N,) log time of each; of equal stamps the first's."""
    period_ns: int
    """Median distance of the stamps; 0 with fewer than two."""

    @classmethod
    def of(cls, pairs: Pairs) -> Sample:
        """Sorted, each stamp once."""
        table = np.asarray(pairs, np.int64).reshape(-1, 2)
        stamps, first = np.unique(table[:, 0], return_index=True)
        return cls(stamps, table[first, 1], period_ns(stamps))

    def head(self, n: int) -> Sample:
        """The first `n`."""
        return Sample(self.stamps_ns[:n], self.logs_ns[:n], self.period_ns)

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def delays_ns(self) -> IntArray:
        """(N,) log time less stamp."""
        return self.logs_ns - self.stamps_ns

    @property
    def span_ns(self) -> int:
        """From the first to the last stamp."""
        return int(self.stamps_ns[-1] - self.stamps_ns[0]) if len(self) else 0

    @staticmethod
    def usual_largest(delays: Sequence[IntArray]) -> int:
        """Largest delay, leaving out those that are more than 5 s from the median; 0 without any."""
        flat = np.concatenate(delays) if delays else np.zeros(0, np.int64)
        if not len(flat):
            return 0
        middle = int(np.sort(flat)[len(flat) // 2])
        return int(flat[np.abs(flat - middle) <= _BAD_STAMP_NS].max())
