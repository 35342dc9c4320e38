"""Room `track`: objects of single timesteps become things with an identity, a velocity and a past.

Several cameras feed one track. Hindsight decides what is real, fills gaps, and smooths; see `Tracker`.
"""

from __future__ import annotations

from perception_batch.calibration import Rig
from perception_batch.config import TrackConfig
from perception_batch.ontology import Ontology
from perception_batch.track.ground_tracks import GroundTracker
from perception_batch.track.tracker import Tracker

__all__ = ["TRACKERS", "Tracker", "open_tracker"]

TRACKERS: dict[str, type[GroundTracker]] = {"ground": GroundTracker}


def open_tracker(rig: Rig, ontology: Ontology, settings: TrackConfig) -> Tracker:
    """The tracker for one drive; it must be given the drive's timesteps in order, from the first.

    Args:
        rig: tells which cameras are calibrated; objects of the others are tracked in their images.
        ontology: classes and their groups.
        settings: section `track` of the config.
    """
    return TRACKERS["ground"](rig.cameras, ontology, settings)
