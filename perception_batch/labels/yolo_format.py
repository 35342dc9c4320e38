"""Ultralytics YOLO: ``images/{split}``, ``labels/{split}`` with one text file an image, and ``data.yaml``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from perception_batch.labels.formats import check_image, clipped
from perception_batch.labels.label_types import LabelBox, LabelImage, Split
from perception_batch.labels.part_file import PartFile, write_new, write_text

DATA_FILE = "data.yaml"
IGNORED_FILE = "ignored.json"

_ABOUT_IGNORED = (
    "Boxes in pixels (x1, y1, x2, y2) that are too doubtful to teach; YOLO text has no ignore regions, so training "
    "takes these places for background unless you paint them over or leave the images out."
)


class YoloWriter:
    """A `DatasetWriter`. An image without boxes gets an empty text file, which Ultralytics takes as a negative."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._folder = folder
        self._classes = tuple(classes)
        self._splits: set[Split] = set()
        # Ultralytics refuses a data.yaml that lacks `train` or `val` or names a folder that is not there.
        self._made: set[Path] = set()
        for split in ("train", "val"):
            self._folder_of("images", split)
            self._folder_of("labels", split)
        self._ignored = PartFile(folder / IGNORED_FILE)
        self._ignored.write(f'{{"about": {json.dumps(_ABOUT_IGNORED)},\n"images": {{')
        self._separator = "\n"

    def _folder_of(self, kind: str, split: str) -> Path:
        folder = self._folder / kind / split
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        return folder

    def image_path(self, image: LabelImage) -> Path:
        """As in `DatasetWriter`."""
        check_image(image, len(self._classes))
        return self._folder_of("images", image.split) / (image.name + image.suffix)

    def add(self, image: LabelImage) -> None:
        """As in `DatasetWriter`."""
        check_image(image, len(self._classes))
        accepted = [box for box in image.boxes if box.band == "accepted"]
        path = self._folder_of("labels", image.split) / f"{image.name}.txt"
        write_new(path, "".join(_row(box, image) for box in accepted))
        self._splits.add(image.split)
        self._add_ignored(image)

    def _add_ignored(self, image: LabelImage) -> None:
        boxes = [
            {
                "label": box.label,
                "box_px": [round(v, 3) for v in clipped(box.box_px, image)],
                **({} if box.score is None else {"score": round(float(box.score), 4)}),
            }
            for box in image.boxes
            if box.band == "ignored"
        ]
        if boxes:
            key = json.dumps(f"images/{image.split}/{image.name}{image.suffix}")
            self._ignored.write(f"{self._separator}{key}: {json.dumps(boxes)}")
            self._separator = ",\n"

    def close(self) -> tuple[Path, ...]:
        """As in `DatasetWriter`: ``data.yaml`` comes last."""
        self._ignored.write("\n}}\n")
        ignored = self._ignored.commit()
        return write_text(self._folder / DATA_FILE, self._data_yaml()), ignored

    def _data_yaml(self) -> str:
        import yaml

        # No `path`: Ultralytics then takes the file's own folder, so the set can be moved; a relative `path` would
        # be looked up from the working directory or its own datasets folder.
        # A trainer refuses an empty val. With too few drives for one, it gets train again, and the file says so.
        no_val = self._splits == {"train"}
        data = {
            "train": "images/train",
            "val": "images/train" if no_val else "images/val",
            **({"test": "images/test"} if "test" in self._splits else {}),
            "names": dict(enumerate(self._classes)),
        }
        head = "# Ultralytics YOLO, task detect. Folders are relative to this file; boxes to ignore: ignored.json.\n"
        if no_val:
            head += "# There was too little for a split val: train stands in for it, and its scores say nothing.\n"
        return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

    def discard(self) -> None:
        """As in `DatasetWriter`."""
        self._ignored.discard()


def _row(box: LabelBox, image: LabelImage) -> str:
    """``class cx cy w h``, relative to the image: eight decimals are a thousandth of a pixel at 65,535 px."""
    x1, y1, x2, y2 = clipped(box.box_px, image)
    width, height = image.width_px, image.height_px
    return (
        f"{box.class_index} {(x1 + x2) / 2 / width:.8f} {(y1 + y2) / 2 / height:.8f} "
        f"{(x2 - x1) / width:.8f} {(y2 - y1) / height:.8f}\n"
    )
