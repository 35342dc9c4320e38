"""Traffic signals: which street has green when. Closed form of the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Aspect = Literal["green", "yellow", "red"]

GREEN_S = 17.0
YELLOW_S = 3.0
ALL_RED_S = 2.0
ROUND_S = 2 * (GREEN_S + YELLOW_S + ALL_RED_S)


@dataclass(frozen=True, slots=True)
class Signal:
    """The lights of one junction: one street has green while the other has red, in turn."""

    offset_s: float
    """When the street along x gets green (and every `ROUND_S` before and after)."""

    @classmethod
    def green_at(cls, time_s: float, heading: int) -> Signal:
        """Such that those who go in a heading get green at a time."""
        return cls(time_s if heading % 2 == 0 else time_s - ROUND_S / 2)

    def _phase_s(self, time_s: float, heading: int) -> float:
        start = self.offset_s if heading % 2 == 0 else self.offset_s + ROUND_S / 2
        return (time_s - start) % ROUND_S

    def aspect(self, time_s: float, heading: int) -> Aspect:
        """What those who go in a heading see."""
        phase = self._phase_s(time_s, heading)
        if phase < GREEN_S:
            return "green"
        return "yellow" if phase < GREEN_S + YELLOW_S else "red"

    def greens(self, start_s: float, stop_s: float, heading: int) -> list[float]:
        """When green begins for a heading, within a time."""
        first = start_s + (-self._phase_s(start_s, heading)) % ROUND_S
        return [
            first + n * ROUND_S
            for n in range(int(max(0.0, (stop_s - first)) // ROUND_S) + 1)
            if first < stop_s
        ]
