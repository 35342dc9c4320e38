"""The seam: what a fuser is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from perception_batch.calibration import Intrinsics
from perception_batch.fusion.ground import Ground
from perception_batch.geometry import SE3
from perception_batch.types import Detections, Fusion, LidarRanges, Prediction


@dataclass(frozen=True, slots=True)
class Seen:
    """What the cameras saw at one timestep."""

    detections: Mapping[str, Detections]
    """Every box kept, by camera, for the cameras whose image was decoded."""
    image_hw: Mapping[str, tuple[int, int]]
    """Height and width of each image, px, for the cameras in `detections`."""
    base_now_SE3_camera: Mapping[str, SE3]
    """Pose of each camera at its own frame's stamp, in the base frame at the timestep's stamp (ego motion moves it;
    without it, the extrinsic). Cameras without calibration are absent."""
    stamp_ns: int | None = None
    """Of the timestep; None: a usual step (0.1 s) after the last."""
    frame_stamps_ns: Mapping[str, int] | None = None
    """Of each camera's frame; those that are not listed are taken at `stamp_ns`. None: it is not known when."""
    lidar: Mapping[str, LidarRanges] = field(default_factory=dict)
    """By camera: what a lidar says of its detections (`measure_lidar`)."""
    lenses: Mapping[str, Intrinsics] = field(default_factory=dict)
    """By camera, where the lens at its frame's stamp is not the rig's."""


Join: TypeAlias = Callable[[Sequence[Prediction]], Fusion]
"""Makes the objects of one timestep, once it is known where tracked objects should be at its stamp. These bring what
moves from its frame's stamp to the timestep's, tell headings, and help to tell which boxes are one thing."""


class Fuser(Protocol):
    """Makes objects of the detections of timesteps.

    A fuser is a function of the timesteps it has been given so far, in order: the same drive from its first
    timestep gives the same objects to the byte, whichever run, resumed or not, and however many timesteps it
    looks at together.
    """

    @property
    def ground(self) -> Ground:
        """Where the ground is in the base frame, as far as known now, and how that is known."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the rig (a camera under the ground, one without calibration), one line each."""
        ...

    def look(self, steps: Sequence[Seen]) -> Sequence[Join]:
        """All that the next timesteps tell before their tracks are known: several cost little more than one.

        Returns:
            For each of them in order what makes its objects; called at most once, and in this order.
        """
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
        """Objects of the next timestep: `look` and `Join` in one; arguments as the fields of `Seen`."""
        ...
