"""KITTI object detection: ``training/image_2``, ``training/label_2`` and ``ImageSets/{split}.txt``.

Columns of a label (devkit of the KITTI object benchmark, Geiger et al. 2012): type, truncated, occluded, alpha,
x1 y1 x2 y2, height width length, x y z, rotation_y. What is unknown here holds the devkit's own fillers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perception_batch.errors import ConfigError, printable
from perception_batch.labels.formats import check_image, clipped
from perception_batch.labels.label_types import SPLITS, LabelBox, LabelImage, Split
from perception_batch.labels.part_file import PartFile, discard_all, write_new, write_text

DONT_CARE = "DontCare"
CLASSES_FILE = "classes.txt"

_BEFORE_BOX = "-1 -1 -10"
_AFTER_BOX = "-1 -1 -1 -1000 -1000 -1000 -10"


def kitti_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes as KITTI's first column: blanks separate columns, so they become ``_``.

    Raises:
        ConfigError: two classes become one word, or one becomes the word for ignored regions.
    """
    names: list[str] = []
    for label in classes:
        name = "_".join(label.split())
        if name == DONT_CARE or name in names:
            raise ConfigError(
                f"class {printable(label)!r} would be {printable(name)!r} in KITTI labels, which is taken; rename it "
                "with --class-map"
            )
        names.append(name)
    return tuple(names)


class KittiWriter:
    """A `DatasetWriter`. All splits share the folder ``training``; which image belongs where is in ``ImageSets``."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._names = kitti_names(classes)
        self._folder = folder
        self._images = folder / "training" / "image_2"
        self._labels = folder / "training" / "label_2"
        for place in (self._images, self._labels):
            place.mkdir(parents=True, exist_ok=True)
        self._sets: dict[Split, PartFile] = {}

    def image_path(self, image: LabelImage) -> Path:
        """As in `DatasetWriter`."""
        check_image(image, len(self._names))
        return self._images / (_stem(image) + image.suffix)

    def add(self, image: LabelImage) -> None:
        """As in `DatasetWriter`."""
        check_image(image, len(self._names))
        rows = "".join(self._row(box, image) for box in image.boxes)
        write_new(self._labels / f"{_stem(image)}.txt", rows)
        if image.split not in self._sets:
            self._sets[image.split] = PartFile(self._folder / "ImageSets" / f"{image.split}.txt")
        self._sets[image.split].write(f"{_stem(image)}\n")

    def _row(self, box: LabelBox, image: LabelImage) -> str:
        name = self._names[box.class_index] if box.band == "accepted" else DONT_CARE
        x1, y1, x2, y2 = clipped(box.box_px, image)
        return f"{name} {_BEFORE_BOX} {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f} {_AFTER_BOX}\n"

    def close(self) -> tuple[Path, ...]:
        """As in `DatasetWriter`."""
        sets = [self._sets[split].commit() for split in SPLITS if split in self._sets]
        classes = write_text(self._folder / CLASSES_FILE, "".join(f"{name}\n" for name in self._names))
        return *sets, classes

    def discard(self) -> None:
        """As in `DatasetWriter`."""
        discard_all(list(self._sets.values()))


def _stem(image: LabelImage) -> str:
    """Dots become ``_``: torchvision finds an image's label by what stands before the first dot of its name."""
    return image.name.replace(".", "_")
