"""The review list: what people's tools are given says what the program thinks, and why it doubts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlparse
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from label_sets import CLASSES, drawn_images, few_images, label_image

from perception_batch.errors import ConfigError
from perception_batch.labels.label_studio import labelling_config, task
from perception_batch.labels.label_types import LabelImage
from perception_batch.labels.pre_labels import write_review


def _doubtful() -> list[LabelImage]:
    reasons = ("cameras disagree", "near threshold")
    return [replace(image, review_reasons=reasons, doubt=0.75) for image in few_images()]


def _paths(images: list[LabelImage]) -> dict[str, str]:
    return {image.name: f"images/{image.split}/{image.name}{image.suffix}" for image in images}


def test_the_coco_file_has_scores_and_reasons(tmp_path: Path) -> None:
    images = _doubtful()
    coco_file, tasks_file, config = write_review(tmp_path / "review", images, _paths(images), CLASSES)
    coco = json.loads(coco_file.read_text())
    assert [entry["file_name"] for entry in coco["images"]] == list(_paths(images).values())
    assert all(
        e["reasons"] == ["cameras disagree", "near threshold"] and e["doubt"] == 0.75 for e in coco["images"]
    )
    boxes = [box for image in images for box in image.boxes]
    assert len(coco["annotations"]) == len(boxes)
    for entry, box in zip(coco["annotations"], boxes, strict=True):
        assert (entry.get("score"), entry["quality"], entry["band"]) == (box.score, box.quality, box.band)
        assert entry["iscrowd"] == 0
    assert len(json.loads(tasks_file.read_text())) == len(images)
    assert config.is_file()
    assert sorted(path.name for path in (tmp_path / "review").iterdir()) == sorted(
        path.name for path in (coco_file, tasks_file, config)
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(images=drawn_images())
def test_percent_boxes_are_the_boxes(images: list[LabelImage]) -> None:
    for image in images:
        made = json.loads(json.dumps(task(image, "images/x.png")))
        (prediction,) = made["predictions"]
        assert len(prediction["result"]) == len(image.boxes)
        for region, box in zip(prediction["result"], image.boxes, strict=True):
            value, w, h = region["value"], region["original_width"] / 100, region["original_height"] / 100
            x1, y1 = value["x"] * w, value["y"] * h
            xyxy = (x1, y1, x1 + value["width"] * w, y1 + value["height"] * h)
            assert max(abs(a - b) for a, b in zip(xyxy, box.box_px, strict=True)) < 0.05
            assert value["rectanglelabels"] == [box.label]


def test_the_config_names_what_the_tasks_use() -> None:
    classes = ('a "b" <c>', "d&e")
    root = ET.fromstring(labelling_config(classes))  # noqa: S314 - it is our own
    assert [label.get("value") for label in root.iter("Label")] == list(classes)
    names = {element.get("name"): element.tag for element in root.iter() if element.get("name")}
    assert names == {"image": "Image", "label": "RectangleLabels"}
    made = task(_doubtful()[0], "x.png")
    for region in made["predictions"][0]["result"]:
        assert names[region["to_name"]] == "Image"
        assert names[region["from_name"]].lower() == region["type"]
    variables = [v[1:] for e in root.iter() for v in e.attrib.values() if v.startswith("$")]
    assert set(variables) <= set(made["data"])


def test_places_and_stamps() -> None:
    image = label_image("a")
    made = task(image, "images/a b&c.png")["data"]
    assert parse_qs(urlparse(made["image"]).query) == {"d": ["images/a b&c.png"]}
    assert made["frame_stamp_ns"] == "1700000000123456789"
    for place in ("https://host/a.png", "s3://bucket/a.png", "/data/upload/a.png"):
        assert task(image, place)["data"]["image"] == place


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    images = _doubtful()

    def failing() -> Iterator[LabelImage]:
        yield images[0]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_review(tmp_path, failing(), _paths(images), CLASSES)
    with pytest.raises(ValueError, match="has no path"):
        write_review(tmp_path, images, {}, CLASSES)
    with pytest.raises(ConfigError):
        write_review(tmp_path, images, _paths(images), [])
    assert not list(tmp_path.iterdir())


def test_no_images_are_an_empty_list(tmp_path: Path) -> None:
    coco, tasks, _ = write_review(tmp_path, [], {}, CLASSES)
    assert json.loads(coco.read_text())["images"] == json.loads(tasks.read_text()) == []
