"""What detection leaves of one segment of a drive, and the key that says what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from perception_batch.runs.segments import SegmentPlan
from perception_batch.types import Detections, EgoPose, FrameRow, FrameStatus, Loss, PictureQuality

SCHEMA = 2
"""Version of a segment's file; 2: with the pictures' quality. One of another version is made again."""


@dataclass(frozen=True, slots=True)
class DetectedTimestep:
    """One timestep as detection left it; equal to what went in, to the bit."""

    stamp_ns: int
    """ns."""
    status: Mapping[str, FrameStatus]
    """For every selected camera, in the order of the cameras."""
    frame_stamps_ns: Mapping[str, int]
    """By camera, for those with a frame."""
    detections: Mapping[str, Detections]
    """By camera, for those whose image was decoded: every box kept."""
    image_hw: Mapping[str, tuple[int, int]]
    """By camera, for those whose image was decoded: height and width of the original image, px."""
    undecodable: Mapping[str, str]
    """By camera: why its image could not be decoded."""
    quality: Mapping[str, PictureQuality] = field(default_factory=dict)
    """By camera, for those whose image was decoded."""


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """All that one segment leaves."""

    timesteps: tuple[DetectedTimestep, ...]
    """In order."""
    rows: tuple[FrameRow, ...] = ()
    """Frames settled with them, in that order; `FrameRow.timestep` counts from the segment's first timestep."""
    poses: tuple[EgoPose, ...] = ()
    """Poses read with them, by stamp."""
    losses: tuple[Loss, ...] = ()
    """What the log was known to lack when the segment ended."""


@dataclass(frozen=True, slots=True)
class SegmentKey:
    """What a segment's file was made of; one with another key is foreign, and made again."""

    plan: str
    """`SegmentPlan.hash`: log, grouping, cut and the settings of detection."""
    segment: int
    """Its number."""
    weights_sha256: str
    """Of the weights."""
    backend: str
    """What runs the model."""
    precision: str
    """As in `DetectorInfo`."""
    schema: int = SCHEMA
    """Version of the file."""

    def to_dict(self) -> dict[str, Any]:
        """As in the file."""
        return asdict(self)

    @classmethod
    def of(cls, data: object) -> SegmentKey:
        """From `to_dict`.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(data, dict):
            raise ValueError("no object")  # noqa: TRY004 - what stands in a file
        for item in fields(cls):
            if type(data.get(item.name)) is not {"int": int, "str": str}[str(item.type)]:
                raise ValueError(f"{item.name} is {data.get(item.name)!r}")
        return cls(**{item.name: data[item.name] for item in fields(cls)})


def segment_key(
    plan: SegmentPlan, segment: int, *, weights_sha256: str, backend: str, precision: str
) -> SegmentKey:
    """The key of one segment of a plan."""
    return SegmentKey(plan.hash, segment, weights_sha256, backend, precision)
