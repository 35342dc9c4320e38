"""Room `runs`: many drives, and what exists of them already."""

from perception_batch.runs.drives import Drive, find_drives
from perception_batch.runs.existing import Difference, Identity, difference, stage_of_keys

__all__ = ["Difference", "Drive", "Identity", "difference", "find_drives", "stage_of_keys"]
