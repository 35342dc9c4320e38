"""What every detector checks and computes before its network sees an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from perception_batch.errors import ConfigError
from perception_batch.geometry import DetectorView


def fit_view(
    image_hw: tuple[int, int],
    *,
    image_size: int,
    stride: int,
    family: Literal["letterbox", "stretch"],
    roi_px: tuple[int, int, int, int] | None,
    rotate_deg: int,
    only_hw: Sequence[tuple[int, int]] = (),
) -> DetectorView:
    """How images of one size become a network's input.

    Args:
        image_hw: height and width of the original image, px.
        image_size: long side of the input, px.
        stride: height and width of the input are multiples of this, px.
        family: scaled with bars, or stretched to a square.
        roi_px: part of the original that is looked at: left, top, right, bottom.
        rotate_deg: clockwise turn that brings the camera upright.
        only_hw: the input sizes that the network takes, px; empty: all. Where the one wanted is not among them,
            the smallest that holds it is taken, with wider bars.

    Raises:
        ConfigError: the part is not inside the image, the turn is no quarter turn, or no size is large enough.
    """
    try:
        view = DetectorView.fit(
            image_hw,
            long_side_px=image_size,
            stride_px=stride,
            roi_px=roi_px,
            rotate_deg=rotate_deg,
            stretch=family == "stretch",
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not only_hw or view.input_hw in only_hw:
        return view
    height, width = view.resized_hw
    fitting = [hw for hw in only_hw if hw[0] >= height and hw[1] >= width] if family == "letterbox" else []
    if not fitting:
        have = ", ".join(f"{h}x{w}" for h, w in sorted(only_hw))
        raise ConfigError(
            f"images of {image_hw[1]}x{image_hw[0]} px at detect.image_size {image_size} become an input of "
            f"{view.input_hw[0]}x{view.input_hw[1]} (height x width), and this exported model takes {have} only: "
            "choose another detect.image_size, or export the model again for it (perception-batch export)"
        )
    hw = min(fitting, key=lambda hw: (hw[0] * hw[1], hw))
    # Ultralytics rounds the odd pixel of a bar this way (LetterBox, `- 0.1`).
    left, top = round((hw[1] - width) / 2 - 0.1), round((hw[0] - height) / 2 - 0.1)
    return replace(view, pad_left_top=(left, top), input_hw=hw)


def check_batch(
    images: npt.NDArray[np.uint8],
    views: Sequence[DetectorView],
    keep_score: Sequence[float],
    batch_size: int,
) -> tuple[int, int]:
    """Height and width of a batch's images.

    Raises:
        ValueError: the batch is not as `Detector.detect` wants it: a mistake of the caller.
    """
    n = len(images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"expected (N, H, W, 3) uint8 images, got {images.shape} {images.dtype}")
    if not len(views) == len(keep_score) == n <= batch_size:
        raise ValueError(
            f"{n} images, {len(views)} views, {len(keep_score)} scores; equal numbers were expected, "
            f"at most {batch_size}"
        )
    input_hw = (images.shape[1], images.shape[2])
    if any(view.input_hw != input_hw for view in views):
        raise ValueError(f"all views of a batch have its size {input_hw}")
    return input_hw
