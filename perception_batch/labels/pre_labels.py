"""The review list for people: doubtful images with the boxes found so far, as COCO and as Label Studio tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from perception_batch.labels.coco_format import CocoFile, annotation_record, doubts_of, image_record
from perception_batch.labels.formats import check_classes, check_image
from perception_batch.labels.label_studio import labelling_config, task
from perception_batch.labels.label_types import LabelImage
from perception_batch.labels.part_file import PartFile, write_text

COCO_FILE = "review_coco.json"
TASKS_FILE = "label_studio_tasks.json"
CONFIG_FILE = "label_studio_config.xml"


def write_review(
    folder: Path, images: Iterable[LabelImage], image_paths: Mapping[str, str], classes: Sequence[str]
) -> tuple[Path, ...]:
    """Write the review list of `images`, in their order.

    Args:
        folder: where the three files go; made where it is missing.
        images: most doubtful first. Ignored boxes are ordinary boxes here, marked by ``band``: a person decides.
        image_paths: by the image's name, where its file is: relative to the training set's folder, or a URL.
        classes: names by class index.

    Returns:
        The COCO file, the Label Studio tasks and the labelling configuration. Each COCO annotation carries
        ``score``, ``quality`` and ``band``, each image ``reasons`` and ``doubt``.

    Raises:
        ConfigError: classes that are empty or double.
        ValueError: an image without a path, or a box that no format can hold.
    """
    check_classes(classes)
    coco = CocoFile(folder / COCO_FILE, classes, "perception_batch, pre-labels for review")
    tasks = PartFile(folder / TASKS_FILE)
    try:
        tasks.write("[")
        annotation_id = 0
        for image_id, image in enumerate(images, start=1):
            check_image(image, len(classes))
            place = _place_of(image, image_paths)
            reasons = {"reasons": list(image.review_reasons), "doubt": round(float(image.doubt), 4)}
            coco.add_image(image_record(image, image_id, place) | reasons)
            for box in image.boxes:
                annotation_id += 1
                record = annotation_record(box, image, annotation_id, image_id)
                coco.add_annotation(record | {"iscrowd": 0} | doubts_of(box))
            tasks.write(
                ("" if image_id == 1 else ",") + "\n" + json.dumps(task(image, place), allow_nan=False)
            )
        tasks.write("\n]\n")
        config = write_text(folder / CONFIG_FILE, labelling_config(classes))
        return coco.commit(), tasks.commit(), config
    except BaseException:
        coco.discard()
        tasks.discard()
        raise


def _place_of(image: LabelImage, image_paths: Mapping[str, str]) -> str:
    if image.name not in image_paths:
        raise ValueError(f"image {image.name} of the review list has no path")
    return image_paths[image.name]
