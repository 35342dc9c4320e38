"""The nouns that travel between the rooms. Frozen, complete, numpy only.

Stamps are `int` nanoseconds. Boxes are pixels of the original image with (0, 0) the outer corner of the
top-left pixel, x right, y down. Positions are metres in the frame that the field names.
"""

# ruff: noqa: PLC0414 - what an image is on its way belongs to these nouns, in a file of its own

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import Intrinsics
from perception_batch.geometry import SE3
from perception_batch.lenses import CameraLens as CameraLens
from perception_batch.lidar import LidarRanges as LidarRanges
from perception_batch.lidar import LidarSweep as LidarSweep
from perception_batch.lidar import MovedSweep as MovedSweep
from perception_batch.mounts import CameraMount as CameraMount
from perception_batch.payloads import BrokenPayload as BrokenPayload
from perception_batch.payloads import Payload as Payload
from perception_batch.payloads import PicturePayload as PicturePayload
from perception_batch.payloads import RawPayload as RawPayload
from perception_batch.payloads import SkippedPayload as SkippedPayload
from perception_batch.payloads import StillPayload as StillPayload
from perception_batch.payloads import VideoPayload as VideoPayload
from perception_batch.picture_quality import PictureQuality as PictureQuality

FloatArray: TypeAlias = npt.NDArray[np.float64]
Image: TypeAlias = npt.NDArray[np.uint8]

FrameStatus = Literal["ok", "missing", "not_due", "held", "undecodable"]
RowStatus = Literal["used", "unused", "undecodable"]
UnusedReason = Literal[
    "out_of_tolerance", "duplicate", "resampled", "no_anchor", "lead_in", "not_due", "policy", "bad_stamp"
]
SuppressedReason = Literal["", "low_score", "ego_mask", "duplicate", "ghost", "class"]


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One camera image as the log holds it, not decoded."""

    camera: str
    """Name of the camera (from its topic, or renamed by the config)."""
    stamp_ns: int
    """Exposure time, ns: the header's stamp where plausible, plus the camera's configured offset."""
    log_ns: int
    """When the recorder received it, ns."""
    payload: Payload
    """The bytes."""
    encoding: str
    """``jpeg``, ``png``, ``h264``, or the raw pixel format such as ``rgb8``; lower case; ``unknown`` if none."""
    sequence: int
    """Position among the frames of its camera that were read, from 0; every one counts, used or not.

    Where a range was sought by log time, 0 is the first frame read, not the first of the log.
    """
    width_px: int
    """Width that the image claims; 0 where its header cannot be read."""
    height_px: int
    """Height that the image claims; 0 where its header cannot be read."""
    original_stamp_ns: int
    """The stamp before ``stamp_offset_ms`` was added, ns."""
    unused: Literal["", "bad_stamp", "lead_in"] = ""
    """Why no timestep can use it, where that is known from the start: an implausible stamp (zero, or more than
    a day from `log_ns`), or a packet of a video before its first key frame. Empty for every other frame."""

    @property
    def size_bytes(self) -> int:
        """Bytes that the payload holds in memory."""
        return self.payload.size_bytes

    @property
    def stamp_ok(self) -> bool:
        """False where the stamp is implausible."""
        return self.unused != "bad_stamp"

    def without_payload(self) -> EncodedFrame:
        """The same frame where only its stamps matter."""
        return replace(self, payload=StillPayload(b""))

    def __repr__(self) -> str:
        return (
            f"EncodedFrame({self.camera!r}, stamp_ns={self.stamp_ns}, {self.encoding}, "
            f"{self.width_px}x{self.height_px}, {self.size_bytes} bytes)"
        )


@dataclass(frozen=True, slots=True)
class Trigger:
    """A message of the topic whose stamps make the timesteps: a camera trigger's, or a lidar's."""

    stamp_ns: int
    """The header's stamp, ns."""
    log_ns: int
    """When the recorder received it, ns."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded camera image."""

    camera: str
    """Name of the camera."""
    stamp_ns: int
    """Exposure time, ns."""
    image: Image
    """(H, W, 3) uint8 RGB, C-contiguous."""
    original_hw: tuple[int, int] = (0, 0)
    """Height and width in the log, px: those of `image`, unless it was decoded at reduced scale."""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"expected an (H, W, 3) uint8 image, got {self.image.shape} {self.image.dtype}")
        if self.original_hw == (0, 0):
            object.__setattr__(self, "original_hw", (self.image.shape[0], self.image.shape[1]))

    def __repr__(self) -> str:
        return f"Frame({self.camera!r}, stamp_ns={self.stamp_ns}, image={self.image.shape})"


@dataclass(frozen=True, slots=True)
class UnusedFrame:
    """A frame that no timestep uses, and why. It holds no pixels."""

    camera: str
    """Name of the camera."""
    stamp_ns: int
    """Exposure time, ns."""
    log_ns: int
    """When the recorder received it, ns."""
    reason: UnusedReason
    """Why it is not used."""
    encoding: str
    """As in `EncodedFrame`."""
    width_px: int
    """As in `EncodedFrame`."""
    height_px: int
    """As in `EncodedFrame`."""

    @classmethod
    def of(cls, frame: EncodedFrame, reason: UnusedReason) -> UnusedFrame:
        """The record of `frame`, without its payload."""
        size_px = (frame.width_px, frame.height_px)
        return cls(frame.camera, frame.stamp_ns, frame.log_ns, reason, frame.encoding, *size_px)


@dataclass(frozen=True, slots=True)
class FrameRow:
    """What became of one camera frame of the log: a row of ``frames.parquet``."""

    camera: str
    """Name of the camera."""
    stamp_ns: int
    """Exposure time, ns."""
    log_ns: int
    """When the recorder received it, ns."""
    timestep: int
    """The timestep that it belongs to; -1 when unused."""
    status: RowStatus
    """What became of it."""
    reason: str
    """Why it is unused or undecodable, one short stable word; empty where used."""
    width_px: int
    """As in `EncodedFrame`; 0 where unknown."""
    height_px: int
    """As in `EncodedFrame`; 0 where unknown."""
    encoding: str
    """As in `EncodedFrame`."""
    quality: PictureQuality | None = None
    """How good its picture is; None where none was decoded."""

    @classmethod
    def of_unused(cls, frame: UnusedFrame) -> FrameRow:
        """The row of a frame that no timestep uses."""
        return cls(
            frame.camera,
            frame.stamp_ns,
            frame.log_ns,
            -1,
            "unused",
            frame.reason,
            frame.width_px,
            frame.height_px,
            frame.encoding,
        )

    @classmethod
    def of_used(
        cls, frame: EncodedFrame, timestep: int, undecodable: str = "", quality: PictureQuality | None = None
    ) -> FrameRow:
        """The row of a frame of a timestep; `undecodable` is the reason where its image is broken."""
        return cls(
            frame.camera,
            frame.stamp_ns,
            frame.log_ns,
            timestep,
            "undecodable" if undecodable else "used",
            undecodable,
            frame.width_px,
            frame.height_px,
            frame.encoding,
            quality,
        )


@dataclass(frozen=True, slots=True)
class FrameSet:
    """The frames of one timestep."""

    index: int
    """Counts the timesteps of the run from 0."""
    stamp_ns: int
    """Time of the timestep, ns: the reference camera's stamp, or where it would have been; the trigger's; the grid's."""
    frames: Mapping[str, EncodedFrame]
    """By camera; a camera without a frame is an absent key. One that is ``held`` was in an earlier timestep too."""
    status: Mapping[str, FrameStatus]
    """For every selected camera."""
    unused: tuple[UnusedFrame, ...] = ()
    """Frames that were settled as unused since the timestep before this one."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all payloads."""
        return sum(frame.size_bytes for frame in self.frames.values())


@dataclass(frozen=True, slots=True)
class Detections:
    """The boxes of one image, in order of falling score. Row ``i`` is detection number ``i``."""

    xyxy: npt.NDArray[np.float32]
    """(N, 4) px in the original image: left, top, right, bottom; clipped to the image."""
    score: npt.NDArray[np.float32]
    """(N,) 0..1."""
    class_id: npt.NDArray[np.int16]
    """(N,) the model's own class numbers."""

    def __post_init__(self) -> None:
        n = len(self.score)
        if self.xyxy.shape != (n, 4) or self.score.shape != (n,) or self.class_id.shape != (n,):
            raise ValueError(
                f"expected xyxy (N, 4), score (N,), class_id (N,); "
                f"got {self.xyxy.shape}, {self.score.shape}, {self.class_id.shape}"
            )

    def __len__(self) -> int:
        return len(self.score)

    def __repr__(self) -> str:
        return f"Detections(n={len(self)})"

    @classmethod
    def empty(cls) -> Detections:
        """No boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int16))


@dataclass(frozen=True, slots=True)
class Observation:
    """One detection as part of an object."""

    camera: str
    """Name of the camera."""
    detection: int
    """Row in that camera's `Detections` of the timestep."""


@dataclass(frozen=True, slots=True)
class FusedObject:
    """One thing in the world at one timestep, whichever cameras saw it."""

    class_id: int
    """The model's number for the decided class; -1 where the model has none of that name."""
    label: str
    """The ontology's name of the decided class; the model's own where the ontology has none."""
    score: float
    """``1 - prod(1 - s)`` over the best detection of each camera (noisy or), 0..1."""
    position_m: FloatArray
    """(3,) centre of the 3-D box in the base frame at the timestep's stamp; NaN where unknown."""
    covariance_m2: FloatArray
    """(3, 3) of `position_m`; NaN where unknown."""
    size_lwh_m: FloatArray
    """(3,) length, width, height; NaN where unknown."""
    size_source: Literal["prior", "unknown"]
    """Where `size_lwh_m` comes from."""
    yaw_rad: float
    """Heading about base z, from x towards y; NaN where unknown."""
    observations: tuple[Observation, ...]
    """At most one a camera, ordered by camera name."""
    track_id: int = -1
    """Identity over time; -1 until a tracker gives one."""
    velocity_mps: FloatArray = field(default_factory=lambda: np.full(3, np.nan))
    """(3,) over ground in the base frame's axes; NaN where unknown."""
    filled: bool = False
    """True where hindsight put the object into a gap without observations."""

    own_m2: FloatArray = field(default_factory=lambda: np.full((3, 3), np.nan))
    """(3, 3) the part of `covariance_m2` that is new in every image (pixels); NaN where unknown."""
    shared_m: FloatArray = field(default_factory=lambda: np.full((2, 3), np.nan))
    """(2, 3) one standard deviation of what stays wrong in the same way: the object's size (for all its life), and
    the ground (for a while, and for its neighbours too). ``covariance_m2 = own_m2 + shared_m.T @ shared_m``."""

    @property
    def has_position(self) -> bool:
        """True where `position_m` is known."""
        return bool(np.isfinite(self.position_m).all())


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where a tracked object should be at a timestep, before its boxes are looked at."""

    track_id: int
    """Identity over time."""
    label: str
    """The ontology's name of its class so far."""
    position_m: FloatArray
    """(3,) centre in the base frame at the timestep's stamp."""
    covariance_m2: FloatArray
    """(3, 3) of `position_m`."""
    velocity_mps: FloatArray
    """(3,) over ground in the base frame's axes; NaN where unknown."""


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """One track over the whole drive: a row of ``tracks.parquet``."""

    track_id: int
    """Unique in the drive, from 0, in the order of first appearance."""
    class_id: int
    """As in `FusedObject`, of the decided class."""
    label: str
    """Decided over the whole track."""
    first_stamp_ns: int
    """First timestep with it, ns."""
    last_stamp_ns: int
    """Last timestep with it, ns."""
    observed: int
    """Timesteps with at least one box."""
    filled: int
    """Timesteps within its gaps that hindsight filled."""
    cameras: tuple[str, ...]
    """Cameras that saw it, sorted."""
    mean_score: float
    """Over its observed timesteps."""
    min_distance_m: float
    """Smallest horizontal distance to the base frame's origin; NaN without positions."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """What fusion made of one timestep."""

    objects: Sequence[FusedObject]
    """Object ``i`` of the timestep is row ``i``; sorted by falling score, then by observation. See `FusedObjects`."""
    object_of: Mapping[str, npt.NDArray[np.int32]]
    """By camera: (N,) the object that each detection became, -1 for none."""
    suppressed: Mapping[str, tuple[SuppressedReason, ...]]
    """By camera: N reasons why a detection is not part of an object; empty text where it is."""


@dataclass(frozen=True, slots=True)
class EgoPose:
    """The vehicle's pose and velocity at one instant."""

    stamp_ns: int
    """ns."""
    frame_id: str
    """The fixed frame, such as ``odom``."""
    odom_SE3_base: SE3
    """Base frame in the fixed frame."""
    velocity_mps: FloatArray
    """(3,) over ground, in the base frame's axes; NaN where unknown."""
    source: str
    """``tf``, a topic, or the name of a trajectory file."""

    def __post_init__(self) -> None:
        # As for `Camera`: what ego.parquet holds must read back as the same numbers.
        object.__setattr__(self, "odom_SE3_base", self.odom_SE3_base.storable())


LogItem: TypeAlias = EncodedFrame | EgoPose | Trigger | LidarSweep | CameraMount | CameraLens
"""What a log gives as it is read, in log order."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Messages of a log that are known to exist, or to have existed, and could not be read."""

    topic: str
    """The topic; ``*`` where a whole file is unreadable and its topics are unknown."""
    start_ns: int
    """Log time from which they are missing, ns; 0 where unknown."""
    stop_ns: int
    """Log time at which the gap ends (exclusive), ns; 0 where unknown."""
    count: int
    """How many; 0 where the number cannot be known."""
    reason: str
    """One line for people."""


@dataclass(frozen=True, slots=True)
class TimestepResult:
    """All that is known of one timestep."""

    index: int
    """Counts the timesteps of the run from 0."""
    stamp_ns: int
    """ns."""
    status: Mapping[str, FrameStatus]
    """For every selected camera, in the order of the cameras."""
    frame_stamps_ns: Mapping[str, int]
    """By camera, for those with a frame (``ok``, ``held``, ``undecodable``)."""
    detections: Mapping[str, Detections]
    """By camera, for those whose image was decoded: every box kept."""
    fusion: Fusion
    """What fusion made of the detections."""
    ego: EgoPose | None
    """The vehicle at `stamp_ns`; None where the log has no ego motion there."""
    image_hw: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By camera, for those whose image was decoded: height and width of the original image, px."""
    lidar: Mapping[str, LidarRanges] = field(default_factory=dict)
    """By camera, where a lidar is used: its ranges of the detections."""
    mounts: Mapping[str, SE3] = field(default_factory=dict)
    """By camera, for those that were not where the rig has them: ``base_SE3_camera`` at the frame's stamp."""
    lenses: Mapping[str, Intrinsics] = field(default_factory=dict)
    """By camera, for those whose lens was not as in the rig: the lens at the frame's stamp."""
