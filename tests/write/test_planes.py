"""A picture's planes against BT.709 written out, and against FFmpeg's own."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given
from hypothesis import strategies as st

from perception_batch.types import Image
from perception_batch.write.planes import Planes


def smooth(size_wh: tuple[int, int], seed: int) -> Image:
    """Random colours that change slowly, so that half the columns tell the colour of all."""
    width, height = size_wh
    rng = np.random.default_rng(seed)
    across, down = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    corners = rng.uniform(0, 255, (2, 2, 3))
    rows = corners[0, 0] * (1 - across)[:, None] + corners[0, 1] * across[:, None]
    other = corners[1, 0] * (1 - across)[:, None] + corners[1, 1] * across[:, None]
    image: Image = np.round(rows * (1 - down)[..., None] + other * down[..., None]).astype(np.uint8)
    return image


def by_the_book(picture: Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ITU-R BT.709-6: Y' = 0.2126 R + 0.7152 G + 0.0722 B, colour differences over 1.8556 and 1.5748, means of four."""
    red, green, blue = (picture[..., i] / 255 for i in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    height, width = luma.shape
    cb, cr = (
        difference.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        for difference in ((blue - luma) / 1.8556, (red - luma) / 1.5748)
    )
    return 16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr


def planes_of(frame: av.VideoFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flat = frame.to_ndarray().reshape(-1)
    width, height = frame.width, frame.height
    luma, rest = flat[: width * height], flat[width * height :].reshape(2, height // 2, width // 2)
    return luma.reshape(height, width), rest[0], rest[1]


@given(st.integers(8, 60), st.integers(8, 150), st.integers(0, 1 << 32))
def test_they_are_those_of_the_standard(half_width: int, half_height: int, seed: int) -> None:
    size_wh = (2 * half_width, 2 * half_height)
    noise = np.random.default_rng(seed).integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    for picture in (noise, smooth(size_wh, seed)):
        frame = Planes(size_wh)(picture)
        assert (frame.width, frame.height, frame.format.name) == (*size_wh, "yuv420p")
        for found, expected in zip(planes_of(frame), by_the_book(picture), strict=True):
            np.testing.assert_allclose(found, expected, atol=1.2)  # rounded twice where four pixels are one


def test_they_are_ffmpegs() -> None:
    picture = smooth((320, 192), 5)
    theirs = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    for ours, other in zip(planes_of(Planes((320, 192))(picture)), planes_of(theirs), strict=True):
        assert np.abs(ours.astype(int) - other).max() <= 2


def test_greys_have_no_colour() -> None:
    picture = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(1, 1024, 1) * np.ones((2, 1, 3), np.uint8)
    luma, blue, red = planes_of(Planes((1024, 2))(picture))
    assert (luma[0, 0], luma[0, -1]) == (16, 235)
    assert (np.diff(luma[0].astype(int)) >= 0).all()
    assert (blue == 128).all()
    assert (red == 128).all()


@pytest.mark.parametrize("size_wh", [(2, 2), (640, 64), (640, 66), (16, 130)])
def test_a_part_of_a_picture_is_taken_as_it_is(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    whole = np.random.default_rng(3).integers(0, 256, (height + 9, width + 7, 3), dtype=np.uint8)
    part = whole[5 : 5 + height, 3 : 3 + width]
    make = Planes(size_wh)
    before = planes_of(make(part.copy()))
    kept = make(part)
    make(np.zeros_like(part))  # what is made later leaves it alone
    assert all((a == b).all() for a, b in zip(before, planes_of(kept), strict=True))
