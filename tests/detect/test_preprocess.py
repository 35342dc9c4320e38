"""The detector's input, against the slow obvious way and against Ultralytics' own letterbox."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.detect import prepare, tile_pixels
from perception_batch.geometry import DetectorView


def slow(image: np.ndarray, view: DetectorView) -> np.ndarray:
    x0, y0, x1, y1 = view.roi_px
    seen = np.rot90(image[y0:y1, x0:x1], -view.rotate_deg // 90)
    height, width = view.resized_hw
    scaled = cv2.resize(np.ascontiguousarray(seen), (width, height), interpolation=cv2.INTER_LINEAR)
    out = np.full((*view.input_hw, 3), 114, np.uint8)
    left, top = view.pad_left_top
    out[top : top + height, left : left + width] = scaled
    return out


@settings(max_examples=60, deadline=None)
@given(
    hw=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    side=st.sampled_from([32, 64, 96]),
    turn=st.sampled_from([0, 90, 180, 270]),
    stretch=st.booleans(),
    crop=st.tuples(*[st.floats(0, 0.4)] * 4),
)
def test_prepare_is_crop_turn_scale_pad(
    hw: tuple[int, int], side: int, turn: int, stretch: bool, crop: tuple[float, float, float, float]
) -> None:
    h, w = hw
    roi = (int(crop[0] * w), int(crop[1] * h), w - int(crop[2] * w), h - int(crop[3] * h))
    view = DetectorView.fit(hw, long_side_px=side, roi_px=roi, rotate_deg=turn, stretch=stretch)
    image = np.random.default_rng(h * 100 + w).integers(0, 256, (h, w, 3), np.uint8)
    expected = slow(image, view)
    assert (prepare(image, view) == expected).all()
    batch = np.full((3, *view.input_hw, 3), 7, np.uint8)
    row = batch[1]
    assert prepare(image, view, row) is row
    assert (batch[1] == expected).all()
    assert (batch[[0, 2]] == 7).all()
    tile = tile_pixels(row, view)
    assert tile.shape[:2] == view.resized_hw
    assert np.shares_memory(tile, row)


def test_read_only_images_are_fine() -> None:
    view = DetectorView.fit((40, 60), long_side_px=64)
    image = np.frombuffer(bytes(range(240)) * 30, np.uint8).reshape(40, 60, 3)
    assert prepare(image, view).shape == (64, 64, 3)


def test_an_upside_down_camera_gives_what_an_upright_one_would() -> None:
    image = np.random.default_rng(1).integers(0, 256, (77, 123, 3), np.uint8)
    upright = DetectorView.fit((77, 123), long_side_px=64)
    turned = DetectorView.fit((77, 123), long_side_px=64, rotate_deg=180)
    hung = np.ascontiguousarray(image[::-1, ::-1])
    assert (prepare(hung, turned) == prepare(image, upright)).all()


@pytest.mark.parametrize("hw", [(1216, 1936), (900, 1600), (375, 1242), (800, 848), (481, 640), (33, 640)])
def test_it_is_the_letterbox_of_ultralytics(hw: tuple[int, int]) -> None:
    from perception_batch.detect import ultralytics_import

    with ultralytics_import._imported():
        from ultralytics.data.augment import LetterBox
    image = np.random.default_rng(2).integers(0, 256, (*hw, 3), np.uint8)
    theirs = LetterBox((640, 640), auto=True, stride=32)(image=image)
    assert (prepare(image, DetectorView.fit(hw, long_side_px=640)) == theirs).all()


def test_wrong_sizes_are_refused() -> None:
    view = DetectorView.fit((40, 60), long_side_px=64)
    with pytest.raises(ValueError, match="view is for images"):
        prepare(np.zeros((60, 40, 3), np.uint8), view)
    with pytest.raises(ValueError, match="to write into"):
        prepare(np.zeros((40, 60, 3), np.uint8), view, np.zeros((64, 32, 3), np.uint8))
