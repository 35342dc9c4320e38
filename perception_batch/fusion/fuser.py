"""The seam: what a fuser is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from perception_batch.calibration import Intrinsics
from perception_batch.fusion.ground import Ground
from perception_batch.geometry import SE3
from perception_batch.types import Detections, Fusion, LidarRanges, Prediction


class Fuser(Protocol):
    """Makes objects of the detections of one timestep.

    A fuser is a function of the timesteps it has been given so far, in order: the same drive from its first
    timestep gives the same objects to the byte, whichever run, resumed or not.
    """

    @property
    def ground(self) -> Ground:
        """Where the ground is in the base frame, as far as known now, and how that is known."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the rig (a camera under the ground, one without calibration), one line each."""
        ...

    def fuse(
        self,
        detections: Mapping[str, Detections],
        image_hw: Mapping[str, tuple[int, int]],
        base_now_SE3_camera: Mapping[str, SE3],
        predictions: Sequence[Prediction] = (),
        *,
        stamp_ns: int | None = None,
        frame_stamps_ns: Mapping[str, int] | None = None,
        lidar: Mapping[str, LidarRanges] | None = None,
        lenses: Mapping[str, Intrinsics] | None = None,
    ) -> Fusion:
        """Objects of one timestep.

        Args:
            detections: every box kept, by camera, for the cameras whose image was decoded.
            image_hw: height and width of each image, px, for the cameras in `detections`.
            base_now_SE3_camera: pose of each camera at its own frame's stamp, in the base frame at the
                timestep's stamp (ego motion moves it; without it, the extrinsic). Cameras without
                calibration are absent.
            predictions: where tracked objects should be at the timestep's stamp. They bring what moves from its
                frame's stamp to the timestep's, tell headings, and help to tell which boxes are one thing.
            stamp_ns: of the timestep; None: a usual step (0.1 s) after the last.
            frame_stamps_ns: of each camera's frame; those that are not listed are taken at `stamp_ns`.
            lidar: by camera: what a lidar says of its detections (`measure_lidar`); None: there is none.
            lenses: by camera, where the lens at its frame's stamp is not the rig's.
        """
        ...
