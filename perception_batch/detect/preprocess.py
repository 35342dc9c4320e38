"""Original image to detector input, on the CPU with NumPy and OpenCV alone: for the decoding threads."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.geometry import DetectorView
from perception_batch.types import Image

# Ultralytics pads with this grey, in training and in prediction.
BAR_VALUE = 114
REDUCTIONS = (8, 4, 2)
"""By how much JPEGs can be scaled down while they are decoded, most first."""
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def prepare(image: Image, view: DetectorView, out: npt.NDArray[np.uint8] | None = None) -> Image:
    """Crop, turn, scale (bilinear) and pad one image.

    Args:
        image: (H, W, 3) RGB of `view.image_hw`, or decoded at 1/2, 1/4 or 1/8 of it (sizes rounded up).
        view: from the detector.
        out: C-contiguous (input H, input W, 3) to write into, such as a row of a batch; none: a new array.

    Returns:
        `out`, or the new array.

    Raises:
        ValueError: the image or `out` is not of the view's size.
    """
    factor = _reduced_by(image, view)
    shape = (*view.input_hw, 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(
            f"expected a contiguous uint8 array of {shape} to write into, got {out.shape} {out.dtype}"
        )
    seen = _seen(image, view, factor)
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


def reduction(view: DetectorView) -> int:
    """By how much an image may be scaled down before `prepare` without being scaled up there: 1, 2, 4 or 8."""
    x0, y0, x1, y1 = view.roi_px
    height, width = (x1 - x0, y1 - y0) if view.rotate_deg in (90, 270) else (y1 - y0, x1 - x0)
    # Half a pixel, because the target's short side is rounded.
    fits = (
        f for f in REDUCTIONS if height / f >= view.resized_hw[0] - 0.5 and width / f >= view.resized_hw[1]
    )
    return next(fits, 1)


def _reduced_by(image: Image, view: DetectorView) -> int:
    """1, or by how much the image was scaled down when it was decoded."""
    height, width = view.image_hw
    for factor in (1, *REDUCTIONS):
        if image.shape[:2] == (-(-height // factor), -(-width // factor)):
            return factor
    raise ValueError(
        f"the view is for images of (H, W) {view.image_hw}, whole or at 1/2, 1/4, 1/8, got {image.shape[:2]}"
    )


def _seen(image: Image, view: DetectorView, factor: int) -> Image:
    """The part that is looked at, before it is turned; of a reduced image at least as many pixels as wanted."""
    x0, y0, x1, y1 = view.roi_px
    if not any(edge % factor for edge in view.roi_px):
        return image[y0 // factor : y1 // factor, x0 // factor : x1 // factor]
    # Its border lies inside a pixel (the last one of an odd size stands for what is not there): sampled where
    # `cv2.resize` would have sampled, at the size that is wanted, so that boxes map back exactly.
    height, width = view.resized_hw
    if view.rotate_deg in (90, 270):
        height, width = width, height
    across, down = (x1 - x0) / factor / width, (y1 - y0) / factor / height
    matrix = np.array(
        [[across, 0, x0 / factor + across / 2 - 0.5], [0, down, y0 / factor + down / 2 - 0.5]], np.float64
    )
    sampled = cv2.warpAffine(
        image,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(sampled, np.uint8)


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
