"""Running a detector over pictures of any sizes, for tests that compare detectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from perception_batch.detect import Detector, prepare
from perception_batch.types import Detections


def boxes_of(
    detector: Detector, images: Sequence[np.ndarray], keep: float, batch_size: int | None = None
) -> list[Detections]:
    """All images, in batches of one input size each."""
    out: dict[int, Detections] = {}
    views = [detector.view(image.shape[:2]) for image in images]
    buckets = defaultdict(list)
    for i, view in enumerate(views):
        buckets[view.input_hw].append(i)
    size = batch_size or detector.info.batch_size
    for indices in buckets.values():
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            batch = np.stack([prepare(images[i], views[i]) for i in part])
            out |= dict(
                zip(part, detector.detect(batch, [views[i] for i in part], [keep] * len(part)), strict=True)
            )
    return [out[i] for i in range(len(images))]


def identical(a: Sequence[Detections], b: Sequence[Detections]) -> bool:
    """Equal to the byte."""
    return len(a) == len(b) and all(
        x.xyxy.tobytes() + x.score.tobytes() + x.class_id.tobytes()
        == y.xyxy.tobytes() + y.score.tobytes() + y.class_id.tobytes()
        for x, y in zip(a, b, strict=True)
    )
