"""Checks of a training set in Ultralytics' YOLO layout."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from perception_batch.labels.check_images import (
    ImageTable,
    files_with,
    image_files,
    inside,
    numbers_of,
    read_lines,
)
from perception_batch.labels.check_report import FindingList, shown
from perception_batch.labels.checked_image import ReadBox, check_boxes

DATA_FILES = ("data.yaml", "dataset.yaml")

_LARGEST_DATA_BYTES = 1 << 18
"""YAML is read at some 100 kB/s; a thousand class names have 20 kB."""


def check_yolo(folder: Path, data_file: str, images: ImageTable, found: FindingList) -> int:
    """Check the set that ``folder/data_file`` describes.

    Returns:
        The number of boxes.
    """
    data = _read_data(folder, data_file, found)
    if data is None:
        return 0
    names = data.get("names")
    known = (
        set(names) if isinstance(names, dict) else set(range(len(names))) if isinstance(names, list) else None
    )
    if not known or not all(isinstance(key, int) for key in known):
        found.add("file-broken", data_file, "names must map 0, 1, ... to class names, or list them")
        known = None
    if isinstance(data.get("path", "."), str) and data.get("path", ".") not in {"", "."}:
        found.add("file-broken", data_file, "path leads elsewhere; without it the file's own folder is meant")
        return 0
    boxes = 0
    for split in ("train", "val", "test"):
        value = data.get(split)
        if value is None:
            if split != "test":
                found.add("split-empty", data_file, f"no {split}; Ultralytics asks for train and val")
            continue
        if split == "val" and value == data.get("train"):
            continue  # without a split val of its own; the card says so
        for entry in value if isinstance(value, list) else [value]:
            place = inside(entry)
            if place is None or not (folder / place).is_dir():
                found.add(
                    "file-broken",
                    data_file,
                    f"{split} must be a folder below this file's, got {shown(entry)}",
                )
                continue
            boxes += _check_split(folder, split, place, known, images, found)
    return boxes


def _read_data(folder: Path, data_file: str, found: FindingList) -> dict[Any, Any] | None:
    import yaml

    lines = read_lines(folder, data_file, found, _LARGEST_DATA_BYTES)
    if lines is None:
        return None
    try:
        data = yaml.safe_load("\n".join(lines))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        data = None
    if not isinstance(data, dict):
        found.add("file-broken", data_file, "no YAML mapping")
        return None
    return data


def _check_split(
    folder: Path, split: str, place: str, known: set[Any] | None, images: ImageTable, found: FindingList
) -> int:
    boxes = count = 0
    with_image: set[str] = set()
    for image in image_files(folder, place):
        count += 1
        label = _label_of(image)
        with_image.add(label)
        facts = images.facts(image, split)
        if not (folder / label).exists():
            found.add("pair-missing", image, f"no labels at {label}; a negative has an empty file")
        elif (lines := read_lines(folder, label, found)) is not None:
            read = _read_rows(label, lines, known, facts.width_px, facts.height_px, found)
            check_boxes(label, read, facts.width_px, facts.height_px, found)
            boxes += len(read)
    labels = str(PurePosixPath(_label_of(f"{place}/x")).parent)
    if labels != place:
        for label in files_with(folder, labels, (".txt",)):
            if label not in with_image:
                found.add("pair-missing", label, "no image to these labels")
    if count == 0:
        found.add("split-empty", place, f"no image in split {split}")
    return boxes


def _label_of(image: str) -> str:
    """Where Ultralytics looks for the labels: the last folder ``images`` becomes ``labels``."""
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return "/".join(parts)


def _read_rows(
    label: str, lines: list[str], known: set[Any] | None, width: int, height: int, found: FindingList
) -> list[ReadBox]:
    boxes = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        place = f"line {number}"
        values = numbers_of(words)
        if values is None or len(values) != 5 or not values[0].is_integer():
            found.add("file-broken", f"{label}, {place}", f"not class cx cy w h: {shown(line)}")
            continue
        index, cx, cy, w, h = values
        if known is not None and int(index) not in known:
            found.add("class-unknown", f"{label}, {place}", f"class {words[0]:.20}; the set has {len(known)}")
        # A picture of unknown size is taken for one of 1000x1000: a box beyond 1.0 is wrong in any.
        scale_x, scale_y = width or 1000, height or 1000
        box = ((cx - w / 2) * scale_x, (cy - h / 2) * scale_y, (cx + w / 2) * scale_x, (cy + h / 2) * scale_y)
        boxes.append(ReadBox(words[0], box, place))
    return boxes
