"""Boxes equal the model's own: ours against `ultralytics` on one image at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from perception_batch.config import DetectConfig
from perception_batch.detect import open_detector, prepare
from perception_batch.geometry import box_iou
from perception_batch.types import Detections

SOURCES = {"ddad_surround": 1, "nuscenes_sample.bag": 1, "nuscenes_n008": 1, "kitti_0926": 4}
SCORE = 0.25


def ultralytics_boxes(weights: Path, images: Sequence[np.ndarray], **options: Any) -> list[Detections]:
    """What Ultralytics' own `predict` says, one image a call."""
    import torch
    from ultralytics import RTDETR, YOLO

    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        model = (RTDETR if "rtdetr" in weights.name else YOLO)(str(weights))
        out = []
        for image in images:
            bgr = np.ascontiguousarray(image[:, :, ::-1])
            boxes = model.predict(bgr, device="cpu", verbose=False, save=False, **options)[0].boxes
            # RT-DETR's are not clipped to the image there.
            xyxy = np.clip(boxes.xyxy.numpy(), 0, np.tile(image.shape[1::-1], 2))
            out.append(
                Detections(
                    xyxy.astype(np.float32),
                    boxes.conf.numpy().astype(np.float32),
                    boxes.cls.numpy().astype(np.int16),
                )
            )
        return out
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv2_threads)


def our_boxes(detector: Any, images: Sequence[np.ndarray], keep_score: float) -> list[Detections]:
    """All images, in batches of one input shape each."""
    out: list[Detections | None] = [None] * len(images)
    views = [detector.view(image.shape[:2]) for image in images]
    buckets = defaultdict(list)
    for i, view in enumerate(views):
        buckets[view.input_hw].append(i)
    for indices in buckets.values():
        for start in range(0, len(indices), detector.info.batch_size):
            part = indices[start : start + detector.info.batch_size]
            batch = np.stack([prepare(images[i], views[i]) for i in part])
            found = detector.detect(batch, [views[i] for i in part], [keep_score] * len(part))
            for i, detections in zip(part, found, strict=True):
                out[i] = detections
    return [d for d in out if d is not None]


def partners(a: Detections, b: Detections, score: float) -> tuple[int, int]:
    """How many boxes of `a` at or above `score` have a partner in `b`, of how many."""
    total = matched = 0
    iou = box_iou(a.xyxy, b.xyxy)
    for i in range(len(a)):
        if a.score[i] >= score:
            total += 1
            same = (b.class_id == a.class_id[i]) & (np.abs(b.score - a.score[i]) <= 0.02)
            matched += bool((same & (iou[i] >= 0.95)).any())
    return matched, total


@pytest.fixture(scope="module")
def reference(
    recordings: Path, weights: Path, read_images: Any
) -> dict[str, tuple[tuple[np.ndarray, ...], list[Detections]]]:
    # Our import of Ultralytics first: offline, quiet, nothing installed.
    open_detector(DetectConfig(model=str(weights), backend="torch", device="cpu")).close()
    images = {name: read_images(recordings / name, every) for name, every in SOURCES.items()}
    return {k: (v, ultralytics_boxes(weights, v, imgsz=640, conf=0.2, iou=0.7)) for k, v in images.items()}


@pytest.mark.real
@pytest.mark.parametrize("batch_size", [1, 6, 16])
def test_real_images_give_the_boxes_of_ultralytics(
    reference: dict[str, Any], weights: Path, batch_size: int
) -> None:
    detector = open_detector(
        DetectConfig(
            model=str(weights), backend="torch", device="cpu", precision="fp32", batch_size=batch_size
        )
    )
    for name, (images, theirs) in reference.items():
        ours = our_boxes(detector, images, 0.2)
        assert len(ours) == len(theirs) == len(images)
        for a, b in ((ours, theirs), (theirs, ours)):
            counts = np.array([partners(x, y, SCORE) for x, y in zip(a, b, strict=True)]).sum(0)
            assert counts[1] > 10, f"{name}: only {counts[1]} boxes to compare"
            assert counts[0] >= 0.99 * counts[1], f"{name} at batch {batch_size}: {counts[0]} of {counts[1]}"
    detector.close()


@pytest.mark.parametrize(
    ("config", "form"),
    [
        ("yolov8n.yaml", "letterbox"),
        ("yolo11n.yaml", "letterbox"),
        ("yolo26n.yaml", "letterbox"),
        ("rtdetr-l.yaml", "stretch"),
    ],
)
def test_every_family_gives_the_boxes_of_ultralytics(make_weights: Any, config: str, form: str) -> None:
    path = make_weights(config)
    rng = np.random.default_rng(3)
    images = [
        cv2.GaussianBlur(rng.integers(0, 256, (h, w, 3), np.uint8), (0, 0), 4)
        for h, w in [(188, 621), (300, 400)]
    ]
    detector = open_detector(
        DetectConfig(model=str(path), backend="torch", device="cpu", batch_size=2, image_size=192)
    )
    assert detector.info.family == form
    assert detector.info.labels == {i: f"thing {i}" for i in range(4)}
    ours = our_boxes(detector, images, 0.05)
    # `predict` takes the other head of weights that are made for no NMS, unless it is told not to.
    final = {"nms": False} if "yolo26" in config else {}
    theirs = ultralytics_boxes(path, images, imgsz=192, conf=0.05, iou=0.7, max_det=300, **final)
    for a, b in ((ours, theirs), (theirs, ours)):
        counts = np.array([partners(x, y, 0.06) for x, y in zip(a, b, strict=True)]).sum(0)
        assert counts[1] > 20
        assert counts[0] >= 0.99 * counts[1], f"{counts[0]} of {counts[1]}"
