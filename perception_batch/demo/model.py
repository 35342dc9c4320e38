"""The detector in the package: trained on drawn drives only, of no use on real pictures (``MODEL_CARD.md``)."""

from __future__ import annotations

from pathlib import Path

from perception_batch.errors import ModelError, printable

MODEL_NAME = "demo_model.pt"
LABELS = ("person", "bicycle", "car", "traffic light")
"""What the demo looks for. The model also knows motorcycles, buses and trucks, but finds them less well: few labels of them came from
the drives that it was trained on (``MODEL_CARD.md``)."""
MIN_SCORE = 0.5
"""Boxes below it become no objects: best for identities on three drives that are neither the demo's nor any of the training's."""
IMAGE_SIZE_PX = 640
"""Long side of the pictures that it was trained on."""


def packaged_model() -> Path:
    """The weights that were installed with the package.

    Raises:
        ModelError: they are not there.
    """
    path = Path(__file__).with_name(MODEL_NAME)
    if not path.is_file():
        raise ModelError(
            f"the demo's detector is not there: {printable(path)}; install the package again, or make one with "
            "scripts/train_demo_model.py and name it with --model"
        )
    return path
