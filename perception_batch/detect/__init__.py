"""Images to boxes, by one of several backends behind one protocol.

Importing this room is light; the backend's libraries load with `open_detector`.
"""

from __future__ import annotations

from perception_batch.config import DetectConfig
from perception_batch.detect.agreement import Agreement, compare_boxes
from perception_batch.detect.choose import available_forms, open_model
from perception_batch.detect.detector import Detector, DetectorInfo
from perception_batch.detect.preprocess import prepare, tile_pixels
from perception_batch.detect.weights import find_weights

__all__ = [
    "BACKENDS",
    "Agreement",
    "Detector",
    "DetectorInfo",
    "available_forms",
    "compare_boxes",
    "find_weights",
    "open_detector",
    "prepare",
    "tile_pixels",
]

BACKENDS = ("torch", "openvino", "onnx", "tensorrt")
"""What `detect.backend` may name, besides ``auto``."""


def open_detector(settings: DetectConfig) -> Detector:
    """Find the model, check it, load it on the device, ready to `detect`.

    Raises:
        ConfigError: settings that contradict each other, the model or the machine.
        ModelError: weights missing, other than pinned, or no detector; no such device; a package missing.
    """
    return open_model(settings, find_weights(settings.model))
