"""Boxes of the original image fall on the thumbnail where the thing is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from perception_batch.geometry import DetectorView
from perception_batch.render import Tile, view_aspect


@pytest.mark.parametrize("rotate_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("roi_px", [None, (100, 50, 700, 450)])
def test_boxes_fall_on_the_thing(
    rotate_deg: int, stretch: bool, roi_px: tuple[int, int, int, int] | None
) -> None:
    original = np.zeros((500, 800, 3), np.uint8)
    original[120:260, 200:420] = 255
    view = DetectorView.fit(
        (500, 800), long_side_px=640, roi_px=roi_px, rotate_deg=rotate_deg, stretch=stretch
    )
    x0, y0, x1, y1 = view.roi_px
    turned = np.rot90(original[y0:y1, x0:x1], -rotate_deg // 90)
    detector_input = np.full((*view.input_hw, 3), 114, np.uint8)
    left, top = view.pad_left_top
    height, width = view.resized_hw
    detector_input[top : top + height, left : left + width] = cv2.resize(
        np.ascontiguousarray(turned), (width, height), interpolation=cv2.INTER_AREA
    )
    tile = Tile.of_input(detector_input, view)
    assert tile.image.shape == (height, width, 3)
    assert np.shares_memory(
        tile.image, detector_input
    )  # six copies a timestep would be a fortieth of the video's cost
    assert tile.size_bytes == detector_input.nbytes
    assert (tile.image != 114).all()  # no bars
    slot = (480, round(480 / tile.aspect))
    shown = cv2.resize(tile.image, slot, interpolation=cv2.INTER_LINEAR)
    rows, columns = np.nonzero(shown[..., 0] > 127)
    ((bx0, by0, bx1, by1),) = tile.to_slot(np.array([[200.0, 120, 420, 260]]), slot)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose([bx0, by0, bx1, by1], expected, atol=1.6)


def test_aspect_is_that_of_what_the_camera_saw() -> None:
    view = DetectorView.fit((500, 800), long_side_px=640, rotate_deg=90, stretch=True)
    assert view_aspect(view) == pytest.approx(500 / 800)


def test_a_wrong_input_is_named() -> None:
    view = DetectorView.fit((500, 800), long_side_px=640)
    with pytest.raises(ValueError, match="expected an input"):
        Tile.of_input(np.zeros((640, 640, 3), np.uint8), view)
