"""Room `sync`: encoded frames to timesteps, on stamps alone."""

from perception_batch.sync.demands import check_trigger_topic
from perception_batch.sync.events import read_events
from perception_batch.sync.group import Synchronizer, spread_ns, synchronize
from perception_batch.sync.plan import SyncPlan, plan_sync
from perception_batch.sync.report import HISTOGRAM_EDGES_MS, FigureMaker, SyncFigures

__all__ = [
    "HISTOGRAM_EDGES_MS",
    "FigureMaker",
    "SyncFigures",
    "SyncPlan",
    "Synchronizer",
    "check_trigger_topic",
    "plan_sync",
    "read_events",
    "spread_ns",
    "synchronize",
]
