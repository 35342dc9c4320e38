"""What a detector is, whichever library runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import DetectorView
from perception_batch.types import Detections


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What was loaded, for the manifest and for those who prepare its input."""

    path: Path
    """The file that was loaded: weights, or an exported model."""
    sha256: str
    """Of the weights, lower-case hex; of an exported model's too, those that it was made from."""
    backend: str
    """Name in `BACKENDS`."""
    device: str
    """``cpu`` or ``cuda:N``."""
    precision: Literal["fp32", "bf16", "fp16", "int8"]
    """Of the network; boxes are decoded and suppressed in fp32 always."""
    labels: Mapping[int, str]
    """The model's own class names by class number."""
    stride: int
    """The input's height and width are multiples of this, px."""
    family: Literal["letterbox", "stretch"]
    """How an image becomes the input: scaled with bars, or stretched to a square (RT-DETR)."""
    task: str
    """Always ``detect``."""
    batch_size: int
    """Images in one call of `detect`, at most; shorter batches are padded to it."""
    threads: int
    """CPU threads of the network; 0 where it runs on another device."""
    copies: int = 1
    """How many copies (`Detector.copy`) the device is best used with, this one counted."""


class Detector(Protocol):
    """Images in, boxes out. One thread owns it: no method may be called from two threads at once."""

    @property
    def info(self) -> DetectorInfo:
        """What was loaded."""

    def view(
        self,
        image_hw: tuple[int, int],
        *,
        image_size: int | None = None,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
    ) -> DetectorView:
        """How images of one size become this detector's input (may be called from any thread).

        Args:
            image_hw: height and width of the original image, px.
            image_size: long side of the input, px; none: `detect.image_size`.
            roi_px: part of the original that is looked at: left, top, right, bottom.
            rotate_deg: clockwise turn that brings the camera upright.

        Raises:
            ConfigError: the part is not inside the image, or the turn is no quarter turn.
        """

    def detect(
        self,
        images: npt.NDArray[np.uint8],
        views: Sequence[DetectorView],
        keep_score: Sequence[float],
    ) -> list[Detections]:
        """Boxes of prepared images.

        Args:
            images: (N, H, W, 3) RGB, as `prepare` makes them; 1 <= N <= `info.batch_size`.
            views: N, one an image, all of input size (H, W).
            keep_score: N, the score down to which boxes are kept.

        Returns:
            N results in pixels of the original images, sorted by falling score (then class, then box), clipped to
            what was looked at, without boxes of no area.

        Raises:
            ModelError: the network gave something else than boxes, or its device has no memory left.
        """

    def use_batch_size(self, batch_size: int) -> None:
        """Take at most so many images at a time from now on (`info.batch_size`); copies made before do not.

        Raises:
            ValueError: fewer than 1, or more than the model was built for.
        """

    def copy(self) -> Detector:
        """Another detector with the same results, which another thread may use at the same time."""

    def close(self) -> None:
        """Free the device."""
