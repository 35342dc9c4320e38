"""What is known of one track besides its motion: who it is, when it was seen, and whether it is real."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from perception_batch.config import TrackConfig
from perception_batch.types import Observation, TrackSummary

Verdict = Literal["open", "real", "weak", "ghost"]
Boxes = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Life:
    """One track from its first sighting on."""

    number: int
    """Counts the tracks of the drive from 0, ghosts included."""
    group: str
    """Class group."""
    born_ns: int
    """Stamp of its first sighting."""
    chances: int = 1
    """Timesteps so far in which it could have been seen, until it was found real: a camera that saw it last had a frame."""
    missed: int = 0
    """Those of them since its last sighting."""
    looked_ns: int = 0
    """Stamp of the last of them; 0: its birth."""
    period_ns: int = 0
    """From the one before to the last of them; 0: there was none before."""
    verdict: Verdict = "open"
    """Whether it is a track, as far as hindsight knows."""
    seen_by: tuple[str, ...] = ()
    """Cameras of its last sighting, until it was found real."""
    ended: bool = False
    """No sighting will be added any more ..."""
    cut: bool = False
    """... and not because cameras looked and it was not there: the drive or the frames ended."""
    seen_ns: list[int] = field(default_factory=list)
    """Stamps of its sightings, the last one before the timesteps that still wait and all since."""
    sightings: int = 0
    """All of them."""
    votes: dict[str, float] = field(default_factory=dict)
    """Sum of scores by label."""
    label: str = ""
    """The class with the most votes so far; ties by name."""
    score_at_gap: float = 0.0
    """Of the last sighting given out."""
    earlier: Life | None = None
    """The track that goes on in this one, until this one is given out with its id."""
    later: Life | None = None
    """The track in which this one goes on."""
    closed: bool = False
    """It has been summed up, so that nothing may be added to what is told of it."""
    track_id: int = -1
    """Its id in results; -1 until it is first given out."""
    first_ns: int = 0
    """First timestep given out with it."""
    last_ns: int = 0
    """Last timestep given out with it."""
    observed: int = 0
    """Timesteps given out in which it was seen."""
    filled: int = 0
    """Timesteps given out into which it was filled."""
    score_sum: float = 0.0
    """Over `observed`."""
    cameras: set[str] = field(default_factory=set)
    """That saw it."""
    nearest_m: float = math.inf
    """Smallest horizontal distance given out."""

    @property
    def mean_score(self) -> float:
        """Of its sightings so far."""
        return sum(self.votes.values()) / max(1, self.sightings)

    def see(self, stamp_ns: int, label: str, score: float, observations: Sequence[Observation]) -> bool:
        """One more sighting; True where the label may be another one now."""
        votes = self.votes
        self.seen_ns.append(stamp_ns)
        self.sightings += 1
        if self.verdict != "real":
            self.missed = 0
            self.seen_by = tuple([observation.camera for observation in observations])
        if label == self.label:
            votes[label] += score
            return False
        votes[label] = votes.get(label, 0.0) + score
        self.label = min(votes, key=lambda label: (-votes[label], label))
        return True

    def look(self, stamp_ns: int, cameras: Container[str], lag_ns: int, settings: TrackConfig) -> None:
        """One more timestep in which it could be seen, if one of the `cameras` with a frame saw it last."""
        if self.verdict == "real":
            return
        if self.verdict == "open" and stamp_ns > self.born_ns + lag_ns:
            self._count_sightings(settings)
        if any(camera in cameras for camera in self.seen_by):
            self.chances += 1
            self.missed += 1
            self.period_ns = stamp_ns - (self.looked_ns or self.born_ns)
            self.looked_ns = stamp_ns

    def end(self, stamp_ns: int, lag_ns: int, settings: TrackConfig, *, cut: bool) -> None:
        """No sighting will be added any more; `cut`: the drive ended, whether or not it was there."""
        self.ended = True
        self.cut = cut or self.missed == 0
        self.judge(stamp_ns, lag_ns, settings)

    def judge(self, stamp_ns: int, lag_ns: int, settings: TrackConfig) -> None:
        """Decide once `stamp_ns` is the lag after the birth, or no sighting will be added.

        Few sightings of many chances make a ghost for good. Unsure ones (mean score) are `weak`: until they have
        lasted for longer than what fools a detector does. Nobody is a ghost for want of frames that could have shown it.
        """
        if self.verdict == "open" and (self.ended or stamp_ns >= self.born_ns + lag_ns):
            self._count_sightings(settings)
        if self.verdict == "weak":
            sure = self.mean_score >= settings.confirm_score or lag_ns == 0
            last_ns = self.seen_ns[-1]
            # It has lasted when the next chance to see it comes too late to tell.
            next_ns = last_ns + max(self.period_ns, 1)
            lasting = next_ns > self.born_ns + round(settings.confirm_weak_s * 1e9)
            # Its timesteps are given out the lag after: by then nobody has looked again, or nobody will.
            cut = self.cut or (self.missed == 0 and stamp_ns - last_ns >= lag_ns)
            if sure or lasting or (cut and 2 * self.sightings >= self.chances):
                self.verdict = "real"

    def _count_sightings(self, settings: TrackConfig) -> None:
        # Of few chances half is enough; where it could have been seen on, more than half.
        half = (self.chances + 1) // 2 if self.cut or self.chances <= 2 else 1 + self.chances // 2
        self.verdict = "weak" if self.sightings >= min(settings.confirm, half) else "ghost"

    def continue_from(self, old: Life) -> None:
        """This is what `old` was, seen again; nothing of it may have been given out."""
        self.earlier, old.later = old, self
        self.verdict = "real"
        self.sightings += old.sightings
        for label, score in old.votes.items():
            self.votes[label] = self.votes.get(label, 0.0) + score
        self.label = min(self.votes, key=lambda label: (-self.votes[label], label))

    def take_over(self) -> None:
        """Before this is given out for the first time: take the id, and what was counted under it."""
        old, self.earlier = self.earlier, None
        if old is None or old.track_id < 0:
            return
        self.track_id, old.track_id = old.track_id, -1
        self.first_ns, self.observed, self.filled = old.first_ns, old.observed, old.filled
        self.score_sum, self.score_at_gap = old.score_sum, old.score_at_gap
        self.cameras |= old.cameras
        self.nearest_m = old.nearest_m

    def tell(
        self, stamp_ns: int, distance_m: float, score: float, observations: Sequence[Observation]
    ) -> None:
        """Count a timestep that is given out in which it was seen."""
        if not self.observed:
            self.first_ns = stamp_ns
        self.last_ns = stamp_ns
        self.nearest_m = min(self.nearest_m, distance_m)  # an unknown place is no minimum
        self.observed += 1
        self.score_sum += score
        self.score_at_gap = score
        for observation in observations:
            self.cameras.add(observation.camera)

    def tell_filled(self, stamp_ns: int, distance_m: float) -> None:
        """Count a timestep that is given out into which it was filled."""
        self.last_ns = stamp_ns
        self.nearest_m = min(self.nearest_m, distance_m)
        self.filled += 1

    def gap_at(self, stamp_ns: int) -> tuple[int, int] | None:
        """Stamps of the sightings before and after a time between them; None outside of the life."""
        after = bisect_left(self.seen_ns, stamp_ns)
        if 0 < after < len(self.seen_ns):
            return self.seen_ns[after - 1], self.seen_ns[after]
        return None

    def forget_before(self, stamp_ns: int) -> None:
        """Drop stamps that no question at or after `stamp_ns` needs."""
        keep = bisect_left(self.seen_ns, stamp_ns) - 1
        if keep > 0:
            del self.seen_ns[:keep]

    def summary(self, class_id: int) -> TrackSummary:
        """As far as it was given out."""
        return TrackSummary(
            self.track_id,
            class_id,
            self.label,
            self.first_ns,
            self.last_ns,
            self.observed,
            self.filled,
            tuple(sorted(self.cameras)),
            self.score_sum / self.observed if self.observed else 0.0,
            self.nearest_m if math.isfinite(self.nearest_m) else math.nan,
        )
