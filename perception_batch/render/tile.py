"""What a camera gives to the picture: a small image, and how boxes of the original fall on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import DetectorView
from perception_batch.types import Image


@dataclass(frozen=True, slots=True)
class Tile:
    """A camera's thumbnail: the detector's input without its bars, so it costs no resizing."""

    image: Image
    """(h, w, 3) uint8 RGB: the original image after crop, turn and scale."""
    view: DetectorView
    """How the original image became the detector's input."""

    @classmethod
    def of_input(cls, detector_input: Image, view: DetectorView) -> Tile:
        """Crop the bars off the detector's input; nothing is copied.

        Args:
            detector_input: (H, W, 3) uint8 RGB, of ``view.input_hw``; not changed while the tile lives.
            view: how it was made.
        """
        if detector_input.shape != (*view.input_hw, 3):
            raise ValueError(f"expected an input of {(*view.input_hw, 3)}, got {detector_input.shape}")
        left, top = view.pad_left_top
        height, width = view.resized_hw
        return cls(detector_input[top : top + height, left : left + width], view)

    @property
    def size_bytes(self) -> int:
        """Bytes that the pixels hold in memory, with the bars."""
        return 3 * self.view.input_hw[0] * self.view.input_hw[1]

    @property
    def aspect(self) -> float:
        """Width over height of what the camera saw; RT-DETR's square input does not change it."""
        return view_aspect(self.view)

    def to_slot(self, xyxy_px: npt.NDArray[np.floating], slot_wh: tuple[int, int]) -> npt.NDArray[np.float64]:
        """(N, 4) boxes of the original image on the tile drawn at `slot_wh` px."""
        left, top = self.view.pad_left_top
        height, width = self.view.resized_hw
        boxes = self.view.to_input(xyxy_px) - (left, top, left, top)
        scaled: npt.NDArray[np.float64] = boxes * (
            slot_wh[0] / width,
            slot_wh[1] / height,
            slot_wh[0] / width,
            slot_wh[1] / height,
        )
        return scaled


def view_aspect(view: DetectorView) -> float:
    """Width over height of the cropped and turned original image."""
    x0, y0, x1, y1 = view.roi_px
    aspect = (x1 - x0) / (y1 - y0)
    return 1 / aspect if view.rotate_deg in (90, 270) else aspect
