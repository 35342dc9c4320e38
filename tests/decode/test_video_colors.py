"""A video's pictures to RGB, against the standards' formulas in floating point."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import av
import numpy as np
import pytest
from video_maker import encode, frames

from perception_batch.decode import decode_frame, pictures
from perception_batch.decode.picture import picture_to_rgb

BT601, BT709, BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)
LIMITED, FULL = 1, 2
# Layout of the planes: colour samples across and down for each luma sample, bits.
FORMATS = {
    "yuv420p": (2, 2, 8),
    "yuv422p": (2, 1, 8),
    "yuv444p": (1, 1, 8),
    "nv12": (2, 2, 8),
    "yuv420p10le": (2, 2, 10),
    "yuv422p10le": (2, 1, 10),
    "yuv444p12le": (1, 1, 12),
    "yuv411p": (4, 1, 8),
}


def oracle(luma: Any, u: Any, v: Any, weights: tuple[float, float], full: bool, bits: int) -> Any:
    """ITU-T H.273, 8.3, and nearest colour samples."""
    height, width = luma.shape
    across, down = -(-width // u.shape[1]), -(-height // u.shape[0])
    u, v = (np.repeat(np.repeat(p, down, 0), across, 1)[:height, :width].astype(float) for p in (u, v))
    unit = 2 ** (bits - 8)
    if full:
        y, cb, cr = (
            luma / (256 * unit - 1),
            (u - 128 * unit) / (256 * unit - 1),
            (v - 128 * unit) / (256 * unit - 1),
        )
    else:
        y = (luma / unit - 16) / 219
        cb, cr = (u / unit - 128) / 224, (v / unit - 128) / 224
    kr, kb = weights
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], -1) * 255, 0, 255)


def random_planes(name: str, width: int, height: int) -> tuple[Any, Any, Any]:
    across, down, bits = FORMATS[name]
    rng = np.random.default_rng(3)
    kind, unit = (np.uint8, 1) if bits == 8 else (np.uint16, 2 ** (bits - 8))
    low, high = 16 * unit, 235 * unit
    small = (-(-height // down), -(-width // across))
    return (
        rng.integers(low, high, (height, width)).astype(kind),
        rng.integers(low, high, small).astype(kind),
        rng.integers(low, high, small).astype(kind),
    )


def picture(name: str, planes: tuple[Any, ...], colorspace: int = 2, color_range: int = 0) -> av.VideoFrame:
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], name)
    if name == "nv12":
        planes = (planes[0], np.stack(planes[1:], -1).reshape(planes[1].shape[0], -1))
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        data = values.view(np.uint8)
        rows[: data.shape[0], : data.shape[1]] = data
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = colorspace, color_range
    frame.color_trc = frame.color_primaries = 2
    return frame


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize(("tag", "weights"), [(1, BT709), (5, BT601), (6, BT601), (9, BT2020)])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_tagged_pictures(name: str, tag: int, weights: tuple[float, float], color_range: int) -> None:
    planes = random_planes(name, 70, 52)
    rgb = picture_to_rgb(picture(name, planes, tag, color_range))
    expected = oracle(*planes, weights, color_range == FULL, FORMATS[name][2])
    assert rgb.shape == (52, 70, 3)
    assert rgb.flags.c_contiguous
    assert np.abs(rgb - expected).max() <= 1.6


@pytest.mark.parametrize(("height", "weights"), [(718, BT601), (720, BT709), (1080, BT709), (135, BT601)])
def test_untagged_pictures_go_by_their_lines(height: int, weights: tuple[float, float]) -> None:
    planes = random_planes("yuv420p", 33, height)
    rgb = picture_to_rgb(picture("yuv420p", planes))
    assert np.abs(rgb - oracle(*planes, weights, False, 8)).max() <= 1.6


def test_the_full_range_format_needs_no_tag() -> None:
    planes = random_planes("yuv420p", 64, 48)
    frame = picture("yuvj420p", planes)
    assert np.abs(picture_to_rgb(frame) - oracle(*planes, BT601, True, 8)).max() <= 1.6


@pytest.mark.parametrize(
    ("color_range", "black", "white"), [(LIMITED, 16, 235), (FULL, 0, 255), (0, 16, 235)]
)
def test_grey(color_range: int, black: int, white: int) -> None:
    luma = np.array([[black, white], [128, black]], np.uint8).repeat(8, 0).repeat(8, 1)
    rgb = picture_to_rgb(picture("gray", (luma,), 2, color_range))
    assert rgb.shape == (16, 16, 3)
    assert rgb[0, 0].tolist() == [0, 0, 0]
    assert rgb[0, 15].tolist() == [255, 255, 255]
    assert np.ptp(rgb, axis=2).max() == 0


@pytest.mark.parametrize("name", ["rgb24", "gbrp", "bgra", "gbrp10le"])
def test_pictures_that_are_rgb_already(name: str) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=name)
    assert np.abs(picture_to_rgb(frame).astype(int) - rgb).max() <= 1


def test_deep_grey() -> None:
    luma = np.full((16, 16), 16 << 2, np.uint16)
    luma[:, 8:] = 235 << 2
    frame = picture("gray10le", (luma,), 2, LIMITED)
    rgb = picture_to_rgb(frame)
    assert rgb[0, 0].max() == 0
    assert rgb[0, 15].min() == 255


def test_packed_colours() -> None:
    planes = random_planes("yuv422p", 64, 48)
    frame = picture("yuv422p", planes, 1, LIMITED).reformat(format="yuyv422")
    assert np.abs(picture_to_rgb(frame) - oracle(*planes, BT709, False, 8)).max() <= 1.6


def test_goldens() -> None:
    """Pure colours as the standards encode them (limited range), BT.601 and BT.709."""
    table = {
        (5, (81, 90, 240)): (255, 0, 0),
        (5, (145, 54, 34)): (0, 255, 0),
        (5, (41, 240, 110)): (0, 0, 255),
        (1, (63, 102, 240)): (255, 0, 0),
        (1, (173, 42, 26)): (0, 255, 0),
        (1, (32, 240, 118)): (0, 0, 255),
        (1, (235, 128, 128)): (255, 255, 255),
        (5, (16, 128, 128)): (0, 0, 0),
    }
    for (tag, (y, u, v)), expected in table.items():
        planes = tuple(
            np.full(shape, value, np.uint8) for shape, value in (((8, 8), y), ((4, 4), u), ((4, 4), v))
        )
        rgb = picture_to_rgb(picture("yuv420p", planes, tag, LIMITED))
        assert np.abs(rgb.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("colors", "weights", "full"), [((1, 2), BT709, True), ((5, 1), BT601, False), (None, BT601, False)]
)
def test_the_tags_of_a_stream_arrive(colors: Any, weights: tuple[float, float], full: bool) -> None:
    out = list(pictures(iter(frames(encode(count=2, colors=colors))), max_image_mpx=1))
    frame: Any = out[0]
    values = frame.payload.picture.to_ndarray()
    luma, u, v = values[:96], values[96:120].reshape(48, 64), values[120:].reshape(48, 64)
    rgb = decode_frame(frame, 1).image
    assert np.abs(rgb - oracle(luma, u, v, weights, full, 8)).max() <= 1.6


def test_one_picture_in_several_threads() -> None:
    frame = picture("yuv444p", random_planes("yuv444p", 64, 48), 1, LIMITED).reformat(format="yuyv422")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: picture_to_rgb(frame), range(40)))
    assert all(np.array_equal(results[0], result) for result in results)
