"""The detector's input, against the slow obvious way and against Ultralytics' own letterbox."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.detect import prepare, reduction, tile_pixels
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


@settings(max_examples=60, deadline=None)
@given(
    hw=st.tuples(st.integers(172, 330), st.integers(172, 330)),  # at least 2 * 64 is left of it
    turn=st.sampled_from([0, 90, 180, 270]),
    trim=st.tuples(*[st.integers(0, 21)] * 4),
    side=st.sampled_from([32, 64]),
)
def test_a_reduced_image_lies_where_the_whole_one_would(
    hw: tuple[int, int], turn: int, trim: tuple[int, int, int, int], side: int
) -> None:
    """Of a slope of grey every pixel tells where it came from, in a whole image and in a reduced one."""
    h, w = hw
    view = DetectorView.fit(
        hw, long_side_px=side, roi_px=(trim[0], trim[1], w - trim[2], h - trim[3]), rotate_deg=turn
    )
    factor = reduction(view)
    assert factor > 1
    rows, columns = -(-h // factor), -(-w // factor)

    def slope(height: int, width: int, step: int) -> np.ndarray:
        """Red grows with x, green with y, in units of original pixels, at the middle of each pixel."""
        x, y = ((np.arange(n) + 0.5) * step * 0.7 for n in (width, height))
        channels = np.meshgrid(x, y)
        return np.stack([*channels, 0 * channels[0]], -1).round().astype(np.uint8)

    whole, reduced = (prepare(slope(*s), view).astype(int) for s in ((h, w, 1), (rows, columns, factor)))
    inner = tile_pixels(np.abs(whole - reduced), view)[1:-1, 1:-1]  # borders are extrapolated
    assert inner.max(initial=0) <= 2


def test_how_far_an_image_may_be_reduced() -> None:
    for hw, side, turn, factor in (
        ((900, 1600), 640, 0, 2),
        ((1216, 1936), 640, 0, 2),
        ((720, 1280), 640, 0, 2),
        ((1600, 900), 640, 90, 2),
        ((719, 1279), 640, 0, 1),  # 640 px are wanted, 639.5 would be there
        ((1440, 2560), 640, 0, 4),
        ((2160, 3840), 480, 0, 8),
        ((480, 640), 640, 0, 1),
        ((300, 300), 640, 0, 1),
    ):
        assert reduction(DetectorView.fit(hw, long_side_px=side, rotate_deg=turn)) == factor, hw
    # RT-DETR's square: its short side decides
    assert reduction(DetectorView.fit((900, 1600), long_side_px=640, stretch=True)) == 1
