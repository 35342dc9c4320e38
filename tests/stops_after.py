"""A progress that ends a run where a test wants it."""

from __future__ import annotations

from perception_batch.job import Progress


class StopsAfter(Progress):
    """Ends the run as Ctrl-C would, after so many timesteps."""

    def __init__(self, timesteps: int) -> None:
        self.left = timesteps

    def advance(self, images: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
