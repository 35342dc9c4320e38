"""What a training set is made by: the options of `perception-batch labels`, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from perception_batch.errors import ConfigError, printable

Format = Literal["yolo", "coco", "kitti"]
GroupBy = Literal["drive", "vehicle", "day", "place"]
First = Literal["rare", "doubt", "time"]
ImageMode = Literal["copy", "hardlink", "symlink"]
Encode = Literal["jpg", "png"]


@dataclass(frozen=True, slots=True)
class PerClass:
    """A number for every class, and others for some."""

    usual: float
    """For classes that are not named."""
    by_label: Mapping[str, float] = field(default_factory=dict)
    """By class of the set."""

    def of(self, label: str) -> float:
        """The number for one class."""
        return self.by_label.get(label, self.usual)


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """How runs become a training set."""

    format: Format = "yolo"
    """Layout of the files."""
    every_s: float = 0.0
    """Least time between two timesteps that are kept, s; 0: all."""
    min_distance_m: float = 0.0
    """Least way between two timesteps that are kept, m; 0: all."""
    duplicate_bits: int = 10
    """Images of a camera whose hashes (256 bits) differ in at most so many bits are one image; -1: not looked for."""
    quota: PerClass | None = None
    """Once so many accepted boxes of a class are kept, no image is kept for that class's sake; None: no limit."""
    max_images: int | None = None
    """Most images that are kept; None: no limit."""
    first: First = "rare"
    """Who comes first where a limit binds: rare classes, doubtful images, or early ones."""
    negatives: float = 0.1
    """Most images without any box, as a share of the set."""
    max_ignored: int | None = None
    """Images with more regions to ignore are left out; None: no limit."""
    accept: PerClass = PerClass(0.9)
    """Boxes of at least this quality are labels."""
    ignore: PerClass = PerClass(0.3)
    """Boxes of at least this quality are regions to ignore; the others are dropped."""
    sure_score: float = 0.5
    """Boxes of at least this detector score are never dropped as if nothing were there."""
    max_gap_s: float = 1.0
    """Longest gap of a track within a camera that is filled, s."""
    recover: bool = True
    """Whether gaps are filled."""
    group_by: GroupBy = "drive"
    """What is never split."""
    vehicle_regex: str | None = None
    """Its first group (or whole match) in a log's path names the vehicle; None: the log's folder does."""
    place_m: float = 100.0
    """Side of a place's square, m."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, val and test."""
    guard_s: float = 30.0
    """Time between blocks of one drive that fall into different splits, s; images within are left out."""
    seed: int = 0
    """Of every choice that nothing else decides."""
    images: ImageMode = "copy"
    """How an image file of the set relates to that of the log."""
    encode: Encode = "jpg"
    """How images are written that the log does not hold as JPEG or PNG files."""
    review: int = 100
    """Most images on the review list."""
    licence: str = "not stated"
    """Line for the card: under which terms the images and labels may be used."""

    def __post_init__(self) -> None:
        for name, numbers in (("--accept", self.accept), ("--ignore", self.ignore)):
            for value in (numbers.usual, *numbers.by_label.values()):
                if not 0 <= value <= 1:
                    raise ConfigError(f"{name} {value:g}: a quality is within 0..1")
        for label in {"", *self.accept.by_label, *self.ignore.by_label}:
            if self.ignore.of(label) > self.accept.of(label):
                where = f" of {printable(label)}" if label else ""
                raise ConfigError(
                    f"--ignore {self.ignore.of(label):g}{where} is above --accept {self.accept.of(label):g}: "
                    "boxes from --accept on are labels, from --ignore on regions to ignore"
                )
        if (
            len(self.split) != 3
            or any(not 0 <= s <= 1 for s in self.split)
            or abs(sum(self.split) - 1) > 1e-6
        ):
            raise ConfigError(
                f"--split {','.join(f'{s:g}' for s in self.split)}: wanted are three shares that add up to 1, "
                "such as 0.8,0.1,0.1 (train, val, test)"
            )
        if not self.split[0]:
            raise ConfigError("--split gives nothing to train")
        numbers_ = (self.every_s, self.min_distance_m, self.max_gap_s, self.guard_s, self.sure_score)
        if any(not 0 <= value < math.inf for value in numbers_) or not 1 <= self.place_m < math.inf:
            raise ConfigError(
                "times, distances and scores are finite numbers >= 0, and --place-m is at least 1"
            )
        if not 0 <= self.negatives <= 1:
            raise ConfigError(f"--negatives {self.negatives:g} is not within 0..1")
        if not -1 <= self.duplicate_bits <= 256:
            raise ConfigError(
                f"--duplicate-bits {self.duplicate_bits}: allowed is 0..256 (the hash has 256 bits)"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)
