"""What goes into a detector's noise: truth boxes, and how much goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perception_batch.calibration import Camera
from perception_batch.geometry import SE3

LABELS: Mapping[int, str] = {
    0: "person", 1: "bicycle", 2: "car", 3: "motorcycle", 5: "bus", 6: "train", 7: "truck",
    9: "traffic light", 11: "stop sign", 16: "dog", 17: "horse", 19: "cow",
}  # fmt: skip
"""Class numbers of COCO's 80 (as YOLO weights have them) of the default ontology's classes."""


@dataclass(frozen=True, slots=True)
class TruthBox:
    """One object as one camera truly shows it."""

    object_id: int
    """The same for the same thing at all times and in all cameras."""
    label: str
    """A class of the default ontology, or one of its aliases."""
    box_px: tuple[float, float, float, float]
    """Left, top, right, bottom in the original image, clipped to it."""
    visible_fraction: float = 1.0
    """Visible pixels over those that it would have if nothing stood before it."""


@dataclass(frozen=True, slots=True)
class TruthImage:
    """What one camera truly shows at one instant."""

    timestep: int
    """The set of frames that it belongs to."""
    stamp_ns: int
    """The stamp in the log; the camera's clock may be wrong."""
    true_ns: int
    """True time of the exposure: what lasts in the noise lasts in true time."""
    camera: Camera | str
    """The camera, or its name where nothing is known of its lens."""
    image_hw: tuple[int, int]
    """Height and width of the image, px."""
    boxes: tuple[TruthBox, ...]
    """All objects with a visible pixel."""
    odom_SE3_base: SE3 | None = None
    """The vehicle at `true_ns`; without it, places of the world stay where they are beside the vehicle."""


@dataclass(frozen=True, slots=True)
class NoiseSettings:
    """How much goes wrong, and for how long. Shares and rates are 0..1."""

    jitter: float = 0.03
    """Standard deviation of a box's centre and size from image to image, as a share of its side."""
    bias: float = 0.03
    """The same for the part that stays over a track; half of its variance is common to all cameras."""
    miss_rate: float = 0.10
    """Share of truth boxes that are missed, over the drive so far."""
    miss_memory_s: float = 1.0
    """Time after which a track has forgotten that it was missed (1/e)."""
    miss_by_size: float = 0.7
    """Misses go with the box's height to the power of minus this."""
    miss_by_occlusion: float = 1.5
    """Misses go with exp(this times the hidden share)."""
    false_rate: float = 0.05
    """False boxes for each truth box, over the drive so far."""
    false_life_frames: tuple[int, int] = (1, 20)
    """Shortest and longest life of a false box, frames of its camera, both included."""
    false_on_vehicle: float = 0.3
    """Share of false boxes that sit on the own vehicle; the others keep to a place of the world."""
    confusion_rate: float = 0.05
    """Share of tracks that a camera calls by another class of the same group."""
    double_rate: float = 0.03
    """Share of vehicles that come as car and as truck at once."""
    double_memory_s: float = 0.5
    """As `miss_memory_s`, for doubles."""
    draw_scores: bool = True
    """Scores from 0.26 to 0.99, lower where a miss is near; else 1 for every box."""

    def __post_init__(self) -> None:
        for name in ("jitter", "bias", "miss_rate", "false_rate", "false_on_vehicle", "confusion_rate", "double_rate"):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, allowed is 0..1")
        first, last = self.false_life_frames
        if not 1 <= first <= last:
            raise ValueError(
                f"false_life_frames is {self.false_life_frames}; allowed is 1 <= shortest <= longest"
            )
        if self.miss_memory_s <= 0 or self.double_memory_s <= 0:
            raise ValueError("miss_memory_s and double_memory_s must be positive")

    @classmethod
    def clean(cls) -> NoiseSettings:
        """No mistakes: the truth boxes, exactly, with score 1."""
        return cls(
            jitter=0,
            bias=0,
            miss_rate=0,
            false_rate=0,
            confusion_rate=0,
            double_rate=0,
            draw_scores=False,
        )
