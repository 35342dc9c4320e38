"""Room `sync`: encoded frames to timesteps, on stamps alone."""

from perception_batch.sync.group import Synchronizer, synchronize
from perception_batch.sync.plan import SyncPlan, plan_sync

__all__ = ["SyncPlan", "Synchronizer", "plan_sync", "synchronize"]
