"""Whether a training set is one: files pair up, boxes are inside, splits share nothing, bytes are the recorded ones."""

from __future__ import annotations

import os
from pathlib import Path

from perception_batch.errors import ConfigError, printable
from perception_batch.labels.check_coco import check_coco, coco_files
from perception_batch.labels.check_images import ImageTable
from perception_batch.labels.check_kitti import LABELS, check_kitti
from perception_batch.labels.check_report import CheckReport, FindingList
from perception_batch.labels.check_table import TABLE, check_table
from perception_batch.labels.check_yolo import DATA_FILES, check_yolo


def check_dataset(folder: Path) -> CheckReport:
    """Check every format that `folder` holds, and its ``images.parquet`` where there is one.

    Every image is read once, for its size and hash. Whatever is broken is a finding; nothing outside of `folder`
    is read, links to files excepted.

    Raises:
        ConfigError: `folder` is no folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: no folder; --check wants that of a training set")
    found = FindingList()
    images = ImageTable(folder, found)
    formats: list[str] = []
    boxes = 0
    data_file = next((name for name in DATA_FILES if os.path.lexists(folder / name)), None)
    if data_file is not None:
        formats.append("yolo")
        boxes += check_yolo(folder, data_file, images, found)
    annotations = coco_files(folder)
    if annotations:
        formats.append("coco")
        boxes += sum(check_coco(folder, file, images, found) for file in annotations)
    if (folder / LABELS).is_dir():
        formats.append("kitti")
        boxes += check_kitti(folder, images, found)
    if not formats:
        found.add("format-unknown", ".", "no data.yaml, annotations/instances_*.json or training/label_2")
    if os.path.lexists(folder / TABLE):
        check_table(folder, images, found)
    return found.report(folder, tuple(formats), len(images), boxes)
