"""Checks of a training set in KITTI's object layout."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from perception_batch.labels.check_images import (
    ImageTable,
    files_with,
    image_files,
    numbers_of,
    read_lines,
)
from perception_batch.labels.check_report import FindingList, shown
from perception_batch.labels.checked_image import ReadBox, check_boxes
from perception_batch.labels.kitti_format import CLASSES_FILE, DONT_CARE

IMAGES = "training/image_2"
LABELS = "training/label_2"
SETS = "ImageSets"


def check_kitti(folder: Path, images: ImageTable, found: FindingList) -> int:
    """Check labels, images and the lists of splits; without a ``classes.txt`` every class is known.

    Returns:
        The number of boxes that are no ``DontCare``.
    """
    known = None
    if (folder / CLASSES_FILE).exists():
        known = {DONT_CARE, *(line.strip() for line in read_lines(folder, CLASSES_FILE, found) or ())}
    splits = _read_sets(folder, found)
    with_image: set[str] = set()
    boxes = 0
    for image in image_files(folder, IMAGES):
        stem = PurePosixPath(image).stem
        label = f"{LABELS}/{stem}.txt"
        with_image.add(label)
        if splits is not None and stem not in splits:
            found.add("pair-missing", image, f"in no list of {SETS}")
        facts = images.facts(image, (splits or {}).get(stem, ""))
        if not (folder / label).exists():
            found.add("pair-missing", image, f"no labels at {label}; a negative has an empty file")
        elif (lines := read_lines(folder, label, found)) is not None:
            read = _read_rows(label, lines, known, found)
            check_boxes(label, read, facts.width_px, facts.height_px, found)
            boxes += sum(box.name != DONT_CARE for box in read)
    for label in files_with(folder, LABELS, (".txt",)):
        if label not in with_image:
            found.add("pair-missing", label, "no image to these labels")
    for stem, split in (splits or {}).items():
        if f"{LABELS}/{stem}.txt" not in with_image:
            found.add("pair-missing", f"{SETS}/{split}.txt", f"lists {stem}, which has no image")
    if not with_image:
        found.add("split-empty", IMAGES, "no image")
    return boxes


def _read_sets(folder: Path, found: FindingList) -> dict[str, str] | None:
    """Split by image; None where there are no lists."""
    splits: dict[str, str] = {}
    files = [f"{SETS}/{split}.txt" for split in ("train", "val", "test")]
    files = [file for file in files if (folder / file).exists()]
    for file in files:
        split = PurePosixPath(file).stem
        for stem in map(str.strip, read_lines(folder, file, found) or ()):
            if stem and splits.setdefault(stem, split) != split:
                found.add("split-overlap", file, f"{stem} is listed in {SETS}/{splits[stem]}.txt too")
    return splits if files else None


def _read_rows(label: str, lines: list[str], known: set[str] | None, found: FindingList) -> list[ReadBox]:
    boxes = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        place = f"line {number}"
        values = numbers_of(words[1:])
        if values is None or len(values) not in {14, 15}:  # with a score, which results have, 15
            found.add("file-broken", f"{label}, {place}", f"not the 15 columns of KITTI: {shown(line)}")
            continue
        if known is not None and words[0] not in known:
            found.add("class-unknown", f"{label}, {place}", f"{words[0]!r:.60} is not in {CLASSES_FILE}")
        x1, y1, x2, y2 = values[3:7]
        boxes.append(ReadBox(words[0], (x1, y1, x2, y2), place))
    return boxes
