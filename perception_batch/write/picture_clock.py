"""When the pictures of a video are shown: their stamps as ticks, which rise and which MP4 can hold."""

from __future__ import annotations

import logging

_LONGEST_S = (1 << 30) / 90_000
"""Longest time between two pictures, 3.3 hours: within MP4's 32-bit sample durations, with a margin for players."""
_LONE_PICTURE_S = 1

_log = logging.getLogger(__name__)


class PictureClock:
    """Presentation times of one video; every picture's stamp is asked for once, in order.

    The time of a picture is its stamp less the first one's, to the nearest tick; what MP4 cannot hold is moved, and
    said. So a time rests on all stamps before it: pictures that are there already are asked for too.
    """

    def __init__(self, name: str, ticks_per_s: int) -> None:
        """Begin with the first picture at 0.

        Args:
            name: of the video, for messages.
            ticks_per_s: of the encoder's clock.
        """
        self.ticks_per_s = ticks_per_s
        self.step = _LONE_PICTURE_S * ticks_per_s
        """From the picture before the last one to the last one, ticks; a second where there is none before it."""
        self.pictures = 0
        """How many stamps were asked for."""
        self.last = 0
        """Time of the last picture, ticks."""
        self._name = name
        self._first_ns = 0

    def at(self, stamp_ns: int) -> int:
        """The time of the next picture, ticks."""
        self.pictures += 1
        if self.pictures == 1:
            self._first_ns = stamp_ns
            return 0
        # In integers: a float of nanoseconds would round.
        ticks = ((stamp_ns - self._first_ns) * self.ticks_per_s * 2 + 1_000_000_000) // 2_000_000_000
        self.step = self._held(ticks - self.last)
        self.last += self.step
        return self.last

    def _held(self, ticks: int) -> int:
        """The time to the next picture: `ticks`, unless MP4 cannot hold it."""
        held = min(max(ticks, 1), int(_LONGEST_S * self.ticks_per_s))
        if held != ticks:
            _log.warning(
                "%s: picture %d comes %.6f s after the one before, which MP4 cannot hold; shown after %.6f s",
                self._name,
                self.pictures - 1,
                ticks / self.ticks_per_s,
                held / self.ticks_per_s,
            )
        if held < ticks:  # what follows keeps its distance to this picture
            self._first_ns += (ticks - held) * 1_000_000_000 // self.ticks_per_s
        return held
