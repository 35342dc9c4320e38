"""A picture's sharpness and exposure: against loops, and as blur, darkness and light change it."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.decode import decode_frame, picture_quality
from perception_batch.decode.quality import MOST_BANDS, block_px
from perception_batch.picture_quality import PictureQuality
from perception_batch.types import EncodedFrame, Image, RawPayload, StillPayload


def by_loops(image: Image, block: int) -> PictureQuality:
    """What `picture_quality` says of a grey picture that was not reduced, pixel by pixel."""
    rows, columns = max(1, image.shape[0] // block), max(1, image.shape[1] // block)

    def level(y: int, x: int) -> int:
        pixels = image[y * block : (y + 1) * block, x * block : (x + 1) * block, 0]
        return math.floor(sum(int(v) for v in pixels.ravel()) / pixels.size + 0.5)

    small = [[level(y, x) for x in range(columns)] for y in range(rows)]
    tall = min(3, rows)
    count = min(MOST_BANDS, max(1, rows // 3))
    apart = rows // count
    centres = [k * apart + (apart - tall) // 2 + tall // 2 for k in range(count)]
    edges = [
        small[y - 1][x] + small[y + 1][x] + small[y][x - 1] + small[y][x + 1] - 4 * small[y][x]
        for y in centres
        for x in range(1, columns - 1)
        if tall == 3
    ] or [0]
    levels = [small[y][x] for y in centres for x in range(columns)]
    mean = sum(edges) / len(edges)
    return PictureQuality(
        sum((e - mean) ** 2 for e in edges) / len(edges),
        sum(v <= 25 for v in levels) / len(levels),
        sum(v >= 250 for v in levels) / len(levels),
    )


def scene(seed: int = 0, size: tuple[int, int] = (900, 1600)) -> Image:
    """A made-up picture with structure at all scales and the whole range of grey."""
    rng = np.random.default_rng(seed)
    total = np.zeros(size, np.float32)
    for step in (1, 2, 4, 8, 16, 32, 64):
        small = rng.normal(size=(-(-size[0] // step), -(-size[1] // step))).astype(np.float32)
        total += math.sqrt(step) * cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    grey = np.clip(128 + 40 * total / total.std(), 0, 255).astype(np.uint8)
    return np.asarray(cv2.merge([grey, grey, grey]), np.uint8)


def quality(image: Image) -> PictureQuality:
    return picture_quality(np.ascontiguousarray(image), (image.shape[0], image.shape[1]))


@given(st.integers(1, 140), st.integers(1, 20), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_small_pictures_against_loops(height: int, width: int, seed: int, upright: bool) -> None:
    size = (height, width) if upright else (width, height)
    grey = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    grey[grey < 60] = 0
    grey[grey > 200] = 255
    image = np.repeat(grey[:, :, None], 3, axis=2)
    found, expected = quality(image), by_loops(image, 1)
    assert found.sharpness == pytest.approx(expected.sharpness, rel=1e-6, abs=1e-6)
    assert (found.dark_share, found.bright_share) == pytest.approx(
        (expected.dark_share, expected.bright_share), rel=1e-6
    )


@pytest.mark.parametrize(
    ("size", "block"),
    [((5, 1280), 2), ((9, 2571), 4), ((1299, 3), 2), ((67, 1279), 1), ((1, 3000), 1), ((2, 5000), 2)],
)
def test_large_pictures_are_looked_at_in_blocks(size: tuple[int, int], block: int) -> None:
    grey = np.random.default_rng(5).integers(0, 256, size).astype(np.uint8)
    image = np.repeat(grey[:, :, None], 3, axis=2)
    assert block_px(size) == block
    found, expected = quality(image), by_loops(image, block)
    assert found.sharpness == pytest.approx(expected.sharpness, rel=0.01)  # halves are rounded up or to even
    assert found.dark_share == pytest.approx(expected.dark_share, abs=0.01)


def test_colours_count_by_their_luma() -> None:
    for color, luma in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((255, 255, 0), 226)):
        image = np.zeros((40, 40, 3), np.uint8)
        image[:, 20:] = color
        found = quality(image)
        grey = np.repeat(np.where(np.arange(40) < 20, 0, luma).astype(np.uint8)[None, :, None], 40, axis=0)
        assert found.sharpness == pytest.approx(by_loops(np.repeat(grey, 3, axis=2), 1).sharpness, rel=0.02)
        assert (found.dark_share, found.bright_share) == (0.5, 0.0)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 3), (900, 1600)])
@pytest.mark.parametrize(
    ("level", "dark", "bright"), [(0, 1, 0), (25, 1, 0), (26, 0, 0), (249, 0, 0), (250, 0, 1), (255, 0, 1)]
)
def test_pictures_of_one_level(size: tuple[int, int], level: int, dark: float, bright: float) -> None:
    assert quality(np.full((*size, 3), level, np.uint8)) == PictureQuality(0.0, dark, bright)


def test_more_blur_is_less_sharp() -> None:
    image = scene()
    sharp = quality(image).sharpness
    for kernels in (
        [
            cv2.getGaussianKernel(41, sigma) @ cv2.getGaussianKernel(41, sigma).T
            for sigma in (0.5, 1, 2, 3, 5, 8)
        ],
        [np.full((1, length), 1 / length) for length in (3, 5, 9, 17, 33)],  # the camera turns
    ):
        found = [
            sharp,
            *(quality(np.asarray(cv2.filter2D(image, -1, k), np.uint8)).sharpness for k in kernels),
        ]
        assert all(later < 0.95 * before for before, later in itertools.pairwise(found)), found
        assert found[-1] < found[0] / 4


def test_less_light_is_darker_and_more_light_brighter() -> None:
    image = scene(1)
    gains = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 4.0, 10.0)
    found = [quality(np.clip(image * gain, 0, 255).astype(np.uint8)) for gain in gains]
    dark, bright = [q.dark_share for q in found], [q.bright_share for q in found]
    assert dark == sorted(dark, reverse=True) and dark[0] == 1.0 and dark[5] < 0.02
    assert bright == sorted(bright) and bright[-1] > 0.9 and bright[5] < 0.02


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("size", [(900, 1600), (1215, 2561), (721, 1281)])
def test_a_jpeg_decoded_at_a_fraction_says_about_the_same(size: tuple[int, int], factor: int) -> None:
    data = cv2.imencode(".jpg", scene(2, size), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    frame = EncodedFrame("cam", 1, 1, StillPayload(data), "jpeg", 0, size[1], size[0], 1)
    whole = decode_frame(frame, 50.0)
    reduced = decode_frame(frame, 50.0, reduce_by=lambda _: factor)
    assert reduced.image.shape[0] == -(-size[0] // factor)
    one, other = (picture_quality(f.image, f.original_hw) for f in (whole, reduced))
    if factor <= block_px(size):
        assert other.sharpness == pytest.approx(one.sharpness, rel=0.1)
    assert other.dark_share == pytest.approx(one.dark_share, abs=0.01)
    assert other.bright_share == pytest.approx(one.bright_share, abs=0.01)


@pytest.mark.parametrize(
    ("encoding", "data_of"),
    [
        ("rgb8", lambda grey: np.repeat(grey[:, :, None], 3, axis=2)),
        ("bgra8", lambda grey: np.repeat(grey[:, :, None], 4, axis=2)),
        ("mono8", lambda grey: grey),
        ("mono16", lambda grey: grey.astype("<u2") * 257),
        ("bayer_rggb8", lambda grey: grey),
        ("bayer_gbrg16", lambda grey: grey.astype("<u2") * 257),
        ("uyvy", lambda grey: np.stack([np.full_like(grey, 128), grey], axis=2)),
        (
            "nv12",
            lambda grey: np.concatenate([grey, np.full((grey.shape[0] // 2, grey.shape[1]), 128, np.uint8)]),
        ),
    ],
)
def test_every_pixel_format_says_about_the_same(encoding: str, data_of: object) -> None:
    assert callable(data_of)
    grey = np.asarray(cv2.GaussianBlur(scene(3, (240, 320)), (0, 0), 1), np.uint8)[:, :, 0]
    data = np.ascontiguousarray(data_of(grey))
    payload = RawPayload(data.tobytes(), data.nbytes // len(data), False)
    frame = decode_frame(EncodedFrame("cam", 1, 1, payload, encoding, 0, 320, 240, 1), 50.0)
    found = picture_quality(frame.image, frame.original_hw)
    expected = quality(np.repeat(grey[:, :, None], 3, axis=2))
    # Full range is assumed or not by the format's own rule, which stretches the contrast by 255/219.
    assert 0.8 * expected.sharpness < found.sharpness < 1.6 * expected.sharpness
    assert found.dark_share == pytest.approx(expected.dark_share, abs=0.05)


def test_a_view_that_cannot_be_written_is_as_good() -> None:
    image = scene(4, (90, 160))
    expected = quality(image)
    image.flags.writeable = False
    before = image.copy()
    assert picture_quality(image, (90, 160)) == expected
    assert (image == before).all()


@pytest.mark.parametrize(
    "values", [(math.nan, 0, 0), (-1, 0, 0), (math.inf, 0, 0), (1, 1.5, 0), (1, 0, -0.1), (1, math.nan, 0)]
)
def test_numbers_that_are_no_quality_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected a sharpness"):
        PictureQuality(*values)
