"""Which clock the stamps of a topic come from: stated rules, one decision a topic.

`auto` takes the first of these that is *usable*: the message's own header, the time at which its sender published it
(MCAP), the time at which it was recorded (log time), which always is. Usable are stamps most of which are plausible,
and which go on: where half of them or more repeat, nobody set them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

Clock = Literal["header", "publish", "log"]

DAY_NS = 86_400 * 1_000_000_000
"""A stamp further than this from the log time is no time of this recording."""


class Times(NamedTuple):
    """The times of one message, ns."""

    header_ns: int
    """Stamp in the message."""
    publish_ns: int
    """When it was published; 0 where unknown."""
    log_ns: int
    """When it was recorded."""

    def of(self, clock: Clock) -> int:
        """The time by one of the clocks."""
        return {"header": self.header_ns, "publish": self.publish_ns, "log": self.log_ns}[clock]


def plausible(stamp_ns: int, log_ns: int) -> bool:
    """True for a stamp that can be the time of this recording; zero is what nobody set, except where clocks begin."""
    return abs(stamp_ns - log_ns) <= DAY_NS and (stamp_ns != 0 or abs(log_ns) <= DAY_NS)


def choose_clock(setting: str, times: Sequence[Times]) -> Clock:
    """The clock of a topic.

    Args:
        setting: ``auto``, or the clock itself.
        times: of the first messages.
    """
    if setting == "header":
        return "header"
    if setting == "publish":
        return "publish"
    if setting == "auto":
        if _is_usable([(t.header_ns, t.log_ns) for t in times]):
            return "header"
        # Recorders that do not know when a message was published put the log time there.
        if any(t.publish_ns != t.log_ns for t in times) and _is_usable(
            [(t.publish_ns, t.log_ns) for t in times]
        ):
            return "publish"
    return "log"


def _is_usable(pairs_ns: Sequence[tuple[int, int]]) -> bool:
    good = sum(plausible(stamp, log) for stamp, log in pairs_ns)
    if not pairs_ns or 2 * good <= len(pairs_ns):
        return False
    recorded = {log for _, log in pairs_ns}
    return len(recorded) < 3 or 2 * len({stamp for stamp, _ in pairs_ns}) > len(recorded)


def median_skew_ns(pairs_ns: Sequence[tuple[int, int]]) -> int:
    """Median of log time less stamp, ns; 0 for no pairs."""
    return statistics.median_low([log - stamp for stamp, log in pairs_ns]) if pairs_ns else 0
