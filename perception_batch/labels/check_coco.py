"""Checks of a training set as COCO JSON, read record by record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perception_batch.labels.check_images import ImageTable, image_files, inside
from perception_batch.labels.check_report import FindingList, shown
from perception_batch.labels.checked_image import check_box, is_regular
from perception_batch.labels.json_stream import BrokenJson, top_level_records

PREFIX = "instances_"


def coco_files(folder: Path) -> list[str]:
    """Places of the annotation files, in order."""
    files = sorted((folder / "annotations").glob(f"{PREFIX}*.json"))
    return [path.relative_to(folder).as_posix() for path in files]


def check_coco(folder: Path, file: str, images: ImageTable, found: FindingList) -> int:
    """Check one annotation file and the images that it lists.

    Returns:
        The number of boxes that are no crowds.
    """
    if not is_regular(folder / file):
        found.add("file-broken", file, "no file that can be read")
        return 0
    split = Path(file).stem.removeprefix(PREFIX)
    index = _Index(folder, file, split, images, found)
    # Annotations may stand before the images, so they wait for a second reading.
    for key, record in _records(folder, file, found):
        if key == "images":
            index.add_image(record)
        elif key == "categories":
            index.add_category(record)
    return index.finish() if index.whole else 0


def _records(folder: Path, file: str, found: FindingList) -> Iterator[tuple[str, Any]]:
    try:
        yield from top_level_records(folder / file)
    except BrokenJson as error:
        found.add("file-broken", file, str(error))
    except OSError as error:
        found.add("file-broken", file, error.strerror or "cannot be read")


class _Index:
    def __init__(self, folder: Path, file: str, split: str, images: ImageTable, found: FindingList) -> None:
        self._folder = folder
        self._file = file
        self._split = split
        self._images = images
        self._found = found
        self._sizes: dict[int | str, tuple[float, float]] = {}
        self._listed: set[str] = set()
        self._categories: set[int | str] = set()
        self.whole = True

    def add_category(self, record: Any) -> None:
        key = _id_of(record, "id")
        if key is None or key in self._categories:
            self._found.add(
                "file-broken", self._file, f"a category without an id of its own: {shown(record)}"
            )
        else:
            self._categories.add(key)

    def add_image(self, record: Any) -> None:
        key = _id_of(record, "id")
        name = inside(record.get("file_name")) if isinstance(record, dict) else None
        if key is None or key in self._sizes or name is None:
            self._found.add(
                "file-broken", self._file, f"an image without id or file_name of its own: {shown(record)}"
            )
            return
        width, height = _number(record.get("width")), _number(record.get("height"))
        self._sizes[key] = width, height
        place = self._place_of(name)
        if place is None:
            self._found.add("pair-missing", f"{self._file}, image {key}", f"no file {name}")
            return
        if place in self._listed:
            self._found.add("file-broken", f"{self._file}, image {key}", f"{name} is listed twice")
        self._listed.add(place)
        facts = self._images.facts(place, self._split)
        if facts.width_px and (width, height) != (facts.width_px, facts.height_px):
            self._found.add(
                "size-differs",
                place,
                f"{facts.width_px}x{facts.height_px}; {self._file} says {width:g}x{height:g}",
            )

    def _place_of(self, name: str) -> str | None:
        for place in (f"images/{self._split}/{name}", f"images/{name}", f"{self._split}/{name}", name):
            if is_regular(self._folder / place):
                return place
        return None

    def finish(self) -> int:
        """Read the annotations; the number of boxes that are no crowds."""
        boxes = 0
        ids: set[int | str] = set()
        seen: set[int] = set()
        silent = FindingList()  # what is broken in the file itself is known from the first reading
        for key, record in _records(self._folder, self._file, silent):
            if key != "annotations":
                continue
            number = _id_of(record, "id")
            box = _box_of(record)
            if number is None or number in ids or box is None:
                what = f"an annotation without an id of its own or a bbox of four numbers: {shown(record)}"
                self._found.add("file-broken", self._file, what)
                continue
            ids.add(number)
            boxes += record.get("iscrowd") != 1
            self._check(record, f"{self._file}, annotation {number}", box, seen)
        for place in image_files(self._folder, f"images/{self._split}"):
            if place not in self._listed:
                self._found.add("pair-missing", place, f"not listed in {self._file}")
        if not self._sizes:
            self._found.add("split-empty", self._file, "lists no image")
        return boxes

    def _check(
        self, record: dict[str, Any], place: str, box: tuple[float, float, float, float], seen: set[int]
    ) -> None:
        image, category = _id_of(record, "image_id"), _id_of(record, "category_id")
        if image is None or image not in self._sizes:
            self._found.add("pair-missing", place, f"image_id {shown(record.get('image_id'))} is not listed")
            return
        if category is None or category not in self._categories:
            self._found.add(
                "class-unknown", place, f"category_id {shown(record.get('category_id'))} is not listed"
            )
        x, y, w, h = box
        check_box(place, (x, y, x + w, y + h), *self._sizes[image], self._found)
        key = hash((image, category, box))  # a number for each box, not the box: there may be millions
        if key in seen:
            self._found.add("box-duplicate", place, f"bbox {list(box)} of category {category} again")
        seen.add(key)


def _id_of(record: Any, key: str) -> int | str | None:
    value = record.get(key) if isinstance(record, dict) else None
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else 0.0
    except OverflowError:
        return 0.0


def _box_of(record: Any) -> tuple[float, float, float, float] | None:
    box = record.get("bbox") if isinstance(record, dict) else None
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, (int, float)) for v in box):
        return None
    try:
        x, y, w, h = map(float, box)
    except OverflowError:
        return None
    return x, y, w, h
