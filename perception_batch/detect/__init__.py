"""Images to boxes, by one of several backends behind one protocol.

Importing this room is light; the backend's libraries load with `open_detector`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from perception_batch.config import DetectConfig
from perception_batch.detect.detector import Detector, DetectorInfo
from perception_batch.detect.preprocess import prepare, tile_pixels
from perception_batch.detect.weights import find_weights

__all__ = ["BACKENDS", "Detector", "DetectorInfo", "find_weights", "open_detector", "prepare", "tile_pixels"]


def _torch(settings: DetectConfig, path: Path) -> Detector:
    from perception_batch.detect.torch_backend import TorchDetector

    return TorchDetector.open(settings, path)


BACKENDS: Mapping[str, Callable[[DetectConfig, Path], Detector]] = {"torch": _torch}
"""By name, what opens it."""


def open_detector(settings: DetectConfig) -> Detector:
    """Find the weights, check them, load them on the device, ready to `detect`.

    Raises:
        ConfigError: settings that contradict each other or the machine.
        ModelError: weights missing, other than pinned, or no detector; no such device.
    """
    backend = "torch" if settings.backend == "auto" else settings.backend
    return BACKENDS[backend](settings, find_weights(settings.model))
