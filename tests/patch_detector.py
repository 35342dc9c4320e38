"""A detector that finds coloured patches: real work on real pixels, no weights. For tests of the chain.

The chain with a real network is tested in `test_pipeline_real.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from log_writer import CameraSpec, Image

from perception_batch.config import DetectConfig
from perception_batch.detect import DetectorInfo
from perception_batch.errors import ConfigError
from perception_batch.geometry import DetectorView
from perception_batch.types import Detections

LABELS = {0: "person", 2: "car", 7: "truck"}
_COLORS = {0: (250, 30, 30), 2: (30, 250, 30), 7: (30, 30, 250)}


def patches(camera: CameraSpec, index: int) -> Image:
    """A grey picture with a car that moves to the right and a person that stands; for `CameraSpec.draw`."""
    w, h = camera.size
    image = np.full((h, w, 3), 90, np.uint8)
    left = w // 8 + (index * 3) % (w // 2)
    image[h // 2 : h // 2 + h // 5, left : left + w // 6] = _COLORS[2]
    image[h // 3 : h // 3 + h // 3, w - w // 6 : w - w // 10] = _COLORS[0]
    return image


class PatchDetector:
    """Boxes of connected patches of a class's colour; the score falls with the index of the patch."""

    def __init__(self, settings: DetectConfig, fail_at: int | None = None) -> None:
        batch = 4 if settings.batch_size == "auto" else settings.batch_size
        self.info = DetectorInfo(
            Path("patches"), "0" * 64, "patches", "cpu", "fp32", LABELS, 32, "letterbox", "detect", batch, 1
        )
        self._image_size = settings.image_size
        self._fail_at = fail_at
        self.batches: list[int] = []
        self.closed = False

    def view(
        self,
        image_hw: tuple[int, int],
        *,
        image_size: int | None = None,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
    ) -> DetectorView:
        side = image_size or self._image_size
        try:
            return DetectorView.fit(image_hw, long_side_px=side, roi_px=roi_px, rotate_deg=rotate_deg)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def detect(
        self, images: npt.NDArray[np.uint8], views: Sequence[DetectorView], keep_score: Sequence[float]
    ) -> list[Detections]:
        assert len(images) == len(views) == len(keep_score) <= self.info.batch_size
        if self._fail_at is not None and sum(self.batches) + len(images) > self._fail_at:
            raise OSError("the device fell off the bus")
        self.batches.append(len(images))
        return [self._one(image, view) for image, view in zip(images, views, strict=True)]

    def _one(self, image: npt.NDArray[np.uint8], view: DetectorView) -> Detections:
        boxes, scores, classes = [], [], []
        for class_id, color in _COLORS.items():
            near = np.abs(image.astype(np.int16) - color).max(axis=2) < 60
            n, _, stats, _ = cv2.connectedComponentsWithStats(near.astype(np.uint8))
            for k in range(1, n):
                x, y, w, h, area = stats[k]
                if area >= 12:
                    boxes.append([x, y, x + w, y + h])
                    scores.append(0.9 - 0.1 * (class_id == 0))
                    classes.append(class_id)
        if not boxes:
            return Detections.empty()
        order = np.argsort(-np.array(scores), kind="stable")
        xyxy = view.to_original(np.array(boxes, np.float32)[order])
        return Detections(xyxy, np.array(scores, np.float32)[order], np.array(classes, np.int16)[order])

    def use_batch_size(self, batch_size: int) -> None:
        self.info = replace(self.info, batch_size=batch_size)

    def copy(self) -> PatchDetector:
        raise AssertionError("nobody asked for copies")

    def close(self) -> None:
        self.closed = True
