"""The seam of the formats: images with their boxes in, the files of a training set out, one image at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from perception_batch.errors import ConfigError, printable
from perception_batch.labels.label_types import SPLITS, LabelImage

Format = Literal["yolo", "coco", "kitti"]
FORMATS: tuple[Format, ...] = ("yolo", "coco", "kitti")

LEAST_SIDE_PX = 0.02
"""Sides below this would be written as zero (KITTI has two decimals), and no reader takes an empty box."""
OUTSIDE_PX = 0.01
"""How far an edge may stand outside of the image: rounding, no more."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_SUFFIXES = (".jpg", ".png")


class DatasetWriter(Protocol):
    """Writes one training set in one format; memory does not grow with the number of images."""

    def image_path(self, image: LabelImage) -> Path:
        """Where the file of `image` belongs; its folder exists. The caller puts the bytes there."""

    def add(self, image: LabelImage) -> None:
        """Write the labels of `image`; one without boxes is written as a negative.

        Raises:
            ValueError: a box that is empty, outside of its image, or of no class of the set.
            FileExistsError: labels of an image of that name are there already.
        """

    def close(self) -> tuple[Path, ...]:
        """Write the files that make the folder a training set; they appear whole. The paths of these files."""

    def discard(self) -> None:
        """Remove what is half written, after an error; labels of single images stay."""


def open_writer(
    format: Format,
    folder: Path,
    classes: Sequence[str],
    *,
    pre_labels: bool = False,
) -> DatasetWriter:
    """The writer of `format` into `folder`, which is made.

    Args:
        format: one of `FORMATS`.
        folder: the training set's; empty or not there yet.
        classes: names by class index.
        pre_labels: COCO only: each annotation carries its ``score``, ``quality`` and ``band``, and ignored regions
            stay ordinary boxes, for a person to decide.

    Raises:
        ConfigError: an unknown format, pre-labels in a format that has no room for scores, or class names that
            are empty, double or not usable in the format.
    """
    from perception_batch.labels.coco_format import CocoWriter
    from perception_batch.labels.kitti_format import KittiWriter
    from perception_batch.labels.yolo_format import YoloWriter

    if format not in FORMATS:
        raise ConfigError(f"no label format {printable(format)!r}; there are: {', '.join(FORMATS)}")
    if pre_labels and format != "coco":
        raise ConfigError(f"{format} labels have no room for scores; pre-labels are written as COCO")
    check_classes(classes)
    if format == "yolo":
        return YoloWriter(folder, classes)
    if format == "kitti":
        return KittiWriter(folder, classes)
    return CocoWriter(folder, classes, pre_labels=pre_labels)


def check_classes(classes: Sequence[str]) -> None:
    """Refuse a list of classes that no format can hold.

    Raises:
        ConfigError: none at all, or a name that is empty, not printable or there twice.
    """
    if not classes:
        raise ConfigError("a training set needs at least one class; got none")
    for index, name in enumerate(classes):
        if not name.strip() or not name.isprintable():
            raise ConfigError(
                f"class {index} is named {printable(name)!r}; a name needs printable characters"
            )
        if name in classes[:index]:
            raise ConfigError(f"two classes are named {printable(name)!r}; names must differ")


def check_image(image: LabelImage, class_count: int) -> None:
    """Refuse what would make a broken training set; nothing here can come from a log if selection did its work.

    Raises:
        ValueError: the name is not safe as a file's, the size is not positive, or a box is empty, not finite,
            outside of the image or of no class of the set.
    """
    if not _NAME.fullmatch(image.name) or image.suffix not in _SUFFIXES or image.split not in SPLITS:
        raise ValueError(
            f"image {printable(image.name)!r}, {printable(image.suffix)!r}, split {printable(image.split)!r}: a "
            f"name needs up to 200 of A-Z a-z 0-9 . _ -, a suffix of {_SUFFIXES} and a split of {SPLITS}"
        )
    width, height = image.width_px, image.height_px
    if width < 1 or height < 1:
        raise ValueError(f"image {image.name} has {width}x{height} pixels; both must be positive")
    for number, box in enumerate(image.boxes):
        x1, y1, x2, y2 = box.box_px
        if not all(map(math.isfinite, box.box_px)):
            problem = "is not finite"
        elif min(x2 - x1, y2 - y1) < LEAST_SIDE_PX:
            problem = f"has a side below {LEAST_SIDE_PX} px"
        elif min(x1, y1, width - x2, height - y2) < -OUTSIDE_PX:
            problem = f"stands outside of the image of {width}x{height} pixels"
        elif not 0 <= box.class_index < class_count:
            problem = f"is of class {box.class_index}; the set has {class_count}"
        else:
            continue
        raise ValueError(f"image {image.name}, box {number} ({x1}, {y1}, {x2}, {y2}) {problem}")


def clipped(
    box_px: tuple[float, float, float, float], image: LabelImage
) -> tuple[float, float, float, float]:
    """A checked box without the last hundredths of a pixel outside of its image; plain Python numbers."""
    x1, y1, x2, y2 = map(float, box_px)
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(image.width_px)), min(y2, float(image.height_px))
