"""Which of the timesteps are used: those in ranges, those complete enough, every n-th, so many a second."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from perception_batch.config import RequireConfig, SyncConfig
from perception_batch.sync.plan import SyncPlan
from perception_batch.types import FrameStatus, UnusedReason


class Selection:
    """Decides on the timesteps of a drive, in order.

    Args:
        plan: made by `plan_sync`.
        settings: the `sync` section.
        ranges: half-open ranges of stamps, sorted and disjoint; None: everything.
        counted: timesteps before the first, for `every`.
    """

    def __init__(
        self,
        plan: SyncPlan,
        settings: SyncConfig,
        ranges: Sequence[tuple[int, int]] | None = None,
        counted: int = 0,
    ) -> None:
        self._ranges = None if ranges is None else list(ranges)
        self._starts = [start for start, _ in self._ranges or ()]
        self._every, self._counted = settings.every, counted
        policy = settings.policy
        self._complete = policy == "drop"
        need = policy.require if isinstance(policy, RequireConfig) else ()
        self._least = need if isinstance(need, int) else 0
        self._names = () if isinstance(need, int) else need
        self._step = 0 if settings.rate_hz is None else max(1, round(1e9 / settings.rate_hz))
        # Within a quarter of the timesteps' own rate, that is the rate meant.
        if self._step and plan.step_ns and self._step <= 1.25 * plan.step_ns:
            self._step = 0
        # Slots begin midway between timesteps, so that jitter moves none to its neighbour.
        self._origin_ns = plan.epoch_ns - min(plan.step_ns, self._step) // 2
        self._slot: int | None = None

    def why_not(self, stamp_ns: int, status: Mapping[str, FrameStatus]) -> UnusedReason | None:
        """Why the next timestep is not used; None if it is."""
        if self._ranges is not None:
            i = bisect_right(self._starts, stamp_ns) - 1
            if i < 0 or stamp_ns >= self._ranges[i][1]:
                return "resampled"
        if self._complete and "missing" in status.values():
            return "policy"
        if self._least and sum(state == "ok" for state in status.values()) < self._least:
            return "policy"
        if self._names and any(status[name] == "missing" for name in self._names):
            return "policy"
        self._counted += 1
        if (self._counted - 1) % self._every:
            return "resampled"
        if self._step:
            slot = (stamp_ns - self._origin_ns) // self._step
            if slot == self._slot:
                return "resampled"
            self._slot = slot
        return None
