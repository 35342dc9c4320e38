"""Images to boxes, by one of several backends behind one protocol.

Importing this room is light; the backend's libraries load with `open_detector`.
"""

from __future__ import annotations

from perception_batch.config import DetectConfig
from perception_batch.detect.agreement import Agreement, compare_boxes
from perception_batch.detect.batch_size import (
    batch_size_key,
    known_batch_size,
    measure_batch_size,
    remember_batch_size,
    smallest_near_best,
)
from perception_batch.detect.choose import available_forms, open_model
from perception_batch.detect.crops import Crop, horizon_points, lay_out_crops
from perception_batch.detect.detector import Detector, DetectorInfo
from perception_batch.detect.facts import is_exported, open_exported
from perception_batch.detect.merge import merge_views
from perception_batch.detect.preprocess import prepare, reduction, tile_pixels
from perception_batch.detect.weights import find_weights, look_for_weights, sha256_of
from perception_batch.errors import ModelError

__all__ = [
    "BACKENDS",
    "Agreement",
    "Crop",
    "Detector",
    "DetectorInfo",
    "available_forms",
    "batch_size_key",
    "compare_boxes",
    "find_weights",
    "horizon_points",
    "known_batch_size",
    "known_sha256",
    "lay_out_crops",
    "measure_batch_size",
    "merge_views",
    "open_detector",
    "prepare",
    "reduction",
    "remember_batch_size",
    "smallest_near_best",
    "tile_pixels",
]

BACKENDS = ("torch", "openvino", "onnx", "tensorrt")
"""What `detect.backend` may name, besides ``auto``."""


def open_detector(settings: DetectConfig) -> Detector:
    """Find the model, check it, load it on the device (of several the first), ready to `detect`.

    Raises:
        ConfigError: settings that contradict each other, the model or the machine.
        ModelError: weights missing, other than pinned, or no detector; no such device; a package missing.
    """
    first = settings.model_copy(update={"device": settings.device.partition(",")[0]})
    return open_model(first, find_weights(settings.model))


def known_sha256(settings: DetectConfig) -> str | None:
    """`DetectorInfo.sha256` of the model that would be opened, without opening it; None where that cannot be told.

    Nothing is downloaded.
    """
    path, _ = look_for_weights(settings.model)
    if path is None:
        return None
    try:
        return open_exported(path).facts.sha256 if is_exported(path) else sha256_of(path)
    except ModelError:  # said when it is opened
        return None
