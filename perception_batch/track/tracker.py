"""The seam: what a tracker is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perception_batch.types import EgoPose, Prediction, TimestepResult, TrackSummary


class Tracker(Protocol):
    """Gives the objects of a drive's timesteps identities, velocities and hindsight.

    Timesteps go in one by one and come out later, in the same order, each exactly once: a few at a time, every one of
    them in the light of at least the lag that follows it. A tracker is a function of the timesteps given so
    far, in order: the same drive gives the same tracks to the byte, streamed or read again.
    """

    def push(self, result: TimestepResult) -> list[TimestepResult]:
        """Take the next timestep; give those that have waited out the lag, often none.

        Args:
            result: fused, with objects in the base frame at its stamp and without tracks.

        Returns:
            Timesteps with tracked objects: those that were there, without ghosts, in their order; then those that
            hindsight put into gaps (`filled`), by track. `Fusion.object_of` and `suppressed` agree with them.
        """
        ...

    def flush(self) -> list[TimestepResult]:
        """The timesteps that still wait, at the end of the drive; nothing may be pushed afterwards."""
        ...

    def predictions(self, stamp_ns: int, ego: EgoPose | None) -> Sequence[Prediction]:
        """Where the tracks known so far should be, for the fusion of the timestep to be pushed next.

        Args:
            stamp_ns: of that timestep.
            ego: of that timestep; None where unknown.

        Returns:
            One a living track that was seen twice at least. `Prediction.track_id` tells tracks apart and stays the same
            over time, but it is not yet the id that the track has in results: that is given in hindsight.
        """
        ...

    def take_finished(self) -> list[TrackSummary]:
        """Tracks that have ended, and whose last timestep has been given out, since the last call."""
        ...
