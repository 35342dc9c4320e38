"""COCO detection: ``images/{split}`` and ``annotations/instances_{split}.json``, one record a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perception_batch.labels.formats import check_image, clipped
from perception_batch.labels.label_types import LabelBox, LabelImage, Split
from perception_batch.labels.part_file import PartFile, discard_all


class CocoFile:
    """One COCO JSON that grows in two parts, images and annotations, and is joined at the end.

    Category ids are class index + 1 (0 is the background in much software). Image and annotation ids are
    given by the caller.
    """

    def __init__(self, path: Path, classes: Sequence[str], description: str) -> None:
        self._path = path
        categories = [{"id": i + 1, "name": name, "supercategory": ""} for i, name in enumerate(classes)]
        self._images = PartFile(path)
        self._annotations = PartFile(path.with_suffix(".annotations"))
        self._images.write(
            f'{{"info": {_json({"description": description, "version": "1"})},\n"licenses": [],\n'
            f'"categories": {_json(categories)},\n"images": ['
        )
        self._image_separator = self._annotation_separator = "\n"

    def add_image(self, record: dict[str, Any]) -> None:
        """Append to ``images``."""
        self._images.write(self._image_separator + _json(record))
        self._image_separator = ",\n"

    def add_annotation(self, record: dict[str, Any]) -> None:
        """Append to ``annotations``."""
        self._annotations.write(self._annotation_separator + _json(record))
        self._annotation_separator = ",\n"

    def commit(self) -> Path:
        """Join the parts; the file appears whole."""
        self._images.write('\n],\n"annotations": [')
        self._images.append_and_discard(self._annotations)
        self._images.write("\n]}\n")
        return self._images.commit()

    def discard(self) -> None:
        """Remove the parts."""
        discard_all((self._images, self._annotations))


class CocoWriter:
    """A `DatasetWriter`. Ids count images and boxes of the whole set from 1 in the order they are added."""

    def __init__(self, folder: Path, classes: Sequence[str], *, pre_labels: bool = False) -> None:
        self._folder = folder
        self._classes = tuple(classes)
        self._pre_labels = pre_labels
        self._files: dict[Split, CocoFile] = {}
        self._image_folders: dict[Split, Path] = {}
        self._image_id = self._annotation_id = 0
        folder.mkdir(parents=True, exist_ok=True)

    def image_path(self, image: LabelImage) -> Path:
        """As in `DatasetWriter`."""
        check_image(image, len(self._classes))
        folder = self._image_folders.get(image.split)
        if folder is None:
            folder = self._image_folders[image.split] = self._folder / "images" / image.split
            folder.mkdir(parents=True, exist_ok=True)
        return folder / (image.name + image.suffix)

    def add(self, image: LabelImage) -> None:
        """As in `DatasetWriter`."""
        check_image(image, len(self._classes))
        file = self._file_of(image.split)
        self._image_id += 1
        file.add_image(image_record(image, self._image_id, image.name + image.suffix))
        for box in image.boxes:
            self._annotation_id += 1
            record = annotation_record(box, image, self._annotation_id, self._image_id)
            if self._pre_labels:
                record.update(iscrowd=0, **doubts_of(box))
            file.add_annotation(record)

    def _file_of(self, split: Split) -> CocoFile:
        file = self._files.get(split)
        if file is None:
            path = self._folder / "annotations" / f"instances_{split}.json"
            if path.exists():
                raise FileExistsError(f"{path} is there already; a training set needs an empty folder")
            file = self._files[split] = CocoFile(path, self._classes, f"perception_batch, split {split}")
        return file

    def close(self) -> tuple[Path, ...]:
        """As in `DatasetWriter`."""
        return tuple(self._files[split].commit() for split in sorted(self._files))

    def discard(self) -> None:
        """As in `DatasetWriter`."""
        for file in self._files.values():
            file.discard()


def image_record(image: LabelImage, image_id: int, file_name: str) -> dict[str, Any]:
    """An element of ``images``."""
    return {
        "id": image_id,
        "file_name": file_name,
        "width": int(image.width_px),
        "height": int(image.height_px),
    }


def annotation_record(box: LabelBox, image: LabelImage, annotation_id: int, image_id: int) -> dict[str, Any]:
    """An element of ``annotations``; ``iscrowd`` 1 marks an ignored region, as COCO's own crowds do.

    ``bbox`` is x, y, width, height in px to a thousandth; ``segmentation`` is empty, for there is no mask
    (Datumaro warns where it is absent).
    """
    x1, y1, x2, y2 = clipped(box.box_px, image)
    width, height = round(x2 - x1, 3), round(y2 - y1, 3)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": int(box.class_index) + 1,
        "bbox": [round(x1, 3), round(y1, 3), width, height],
        "segmentation": [],
        "area": round(width * height, 3),
        "iscrowd": int(box.band == "ignored"),
    }


def doubts_of(box: LabelBox) -> dict[str, Any]:
    """What a pre-label says beyond its place; a recovered box has no ``score``, for no detection stands behind it."""
    score = {} if box.score is None else {"score": round(float(box.score), 4)}
    return {**score, "quality": round(float(box.quality), 4), "band": box.band}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
