"""Original image to detector input, on the CPU with NumPy and OpenCV alone: for the decoding threads."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.geometry import DetectorView
from perception_batch.types import Image

# Ultralytics pads with this grey, in training and in prediction.
BAR_VALUE = 114
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def prepare(image: Image, view: DetectorView, out: npt.NDArray[np.uint8] | None = None) -> Image:
    """Crop, turn, scale (bilinear) and pad one image.

    Args:
        image: (H, W, 3) RGB of `view.image_hw`.
        view: from the detector.
        out: C-contiguous (input H, input W, 3) to write into, such as a row of a batch; none: a new array.

    Returns:
        `out`, or the new array.

    Raises:
        ValueError: the image or `out` is not of the view's size.
    """
    if image.shape[:2] != view.image_hw:
        raise ValueError(f"the view is for images of (H, W) {view.image_hw}, got {image.shape[:2]}")
    shape = (*view.input_hw, 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(
            f"expected a contiguous uint8 array of {shape} to write into, got {out.shape} {out.dtype}"
        )
    x0, y0, x1, y1 = view.roi_px
    seen = image[y0:y1, x0:x1]
    if view.rotate_deg:
        # Before scaling, so that an upside-down camera gives exactly what an upright one would have given.
        seen = np.asarray(cv2.rotate(seen, _TURNS[view.rotate_deg]), np.uint8)
    tile = tile_pixels(out, view)
    height, width = view.resized_hw
    left, top = view.pad_left_top
    out[:top] = BAR_VALUE
    out[top + height :] = BAR_VALUE
    out[:, :left] = BAR_VALUE
    out[:, left + width :] = BAR_VALUE
    if seen.shape == tile.shape:
        tile[:] = seen
    else:
        written = cv2.resize(seen, (width, height), dst=tile, interpolation=cv2.INTER_LINEAR)
        if not np.shares_memory(written, tile):
            tile[:] = written
    return out


def tile_pixels(input_image: Image, view: DetectorView) -> Image:
    """The detector's input with its bars cropped: the camera's thumbnail, without a copy.

    Args:
        input_image: (input H, input W, 3), as `prepare` makes it.
        view: the one that it was made with.

    Returns:
        (resized H, resized W, 3), a view of `input_image`. A box of the original image lies in it at
        `view.to_input(box)` less the bars. RT-DETR's are stretched to a square.
    """
    height, width = view.resized_hw
    left, top = view.pad_left_top
    return input_image[top : top + height, left : left + width]
