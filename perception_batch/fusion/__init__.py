"""Room `fusion`: the detections of one timestep become objects.

A box alone says where to look; with the camera's calibration, the ground and the usual size of such things
it says how far. Boxes of several cameras that are one thing become one object. See
``docs/decisions/0002-fusion-first-version.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

from perception_batch.calibration import Rig
from perception_batch.config import CameraConfig, FuseConfig
from perception_batch.fusion.found_masks import FoundMask, MaskFinder
from perception_batch.fusion.fuser import Fuser, Join, Seen
from perception_batch.fusion.geometric import GeometricFuser
from perception_batch.fusion.ground import Ground
from perception_batch.fusion.lidar_cue import measure as measure_lidar
from perception_batch.ontology import ROAD_USERS, Ontology

__all__ = [
    "FUSERS",
    "FoundMask",
    "Fuser",
    "GeometricFuser",
    "Ground",
    "Join",
    "MaskFinder",
    "Seen",
    "measure_lidar",
    "open_fuser",
]

FUSERS: dict[str, type[GeometricFuser]] = {"geometric": GeometricFuser}


def open_fuser(
    rig: Rig,
    ontology: Ontology,
    labels: Mapping[int, str],
    settings: FuseConfig,
    *,
    detect_score: float | Mapping[str, float] = 0.25,
    detect_classes: tuple[str, ...] = ROAD_USERS,
    cameras: Mapping[str, CameraConfig] | None = None,
) -> Fuser:
    """The fuser for one drive; it must see the drive's timesteps in order, from the first.

    Args:
        rig: cameras and their lenses; those it lists as uncalibrated give objects without position.
        ontology: classes with sizes and groups.
        labels: the model's class numbers and names.
        settings: section `fuse` of the config.
        detect_score: ``detect.score``: one threshold, or one per label (the ontology's or the model's name).
        detect_classes: ``detect.classes``, ontology names or the model's labels.
        cameras: section ``cameras`` of the config: ``score``, ``classes``, ``mask``, ``roi_px``,
            ``max_range_m`` per camera name.
    """
    return FUSERS["geometric"](
        rig,
        ontology,
        labels,
        settings,
        detect_score=detect_score,
        detect_classes=detect_classes,
        cameras=cameras or {},
    )
