"""Raw YUV against a decoder that goes pixel by pixel and computes by the standards' formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.decode import decode_frame
from perception_batch.decode.color_matrix import (
    ColorRule,
    choose_colors,
    rgb_from_planes,
    rgb_from_two_planes,
    yuv_to_rgb_matrix,
)
from perception_batch.errors import DecodeError
from perception_batch.simulate.encode import open_encoder
from perception_batch.types import EncodedFrame, Image, RawPayload

FORMS = ("uyvy", "yuv422", "yuyv", "yuv422_yuy2", "nv12", "nv21", "nv24", "i420", "yuv420p")


def raw(data: bytes, encoding: str, width: int, height: int, step: int) -> EncodedFrame:
    return EncodedFrame("cam", 0, 0, RawPayload(data, step, False), encoding, 0, width, height, 0)


def rgb_by_hand(y: int, u: int, v: int, matrix: str, full_range: bool = False) -> list[float]:
    """BT.601-7 2.5 and BT.709-6 3: undo E'Y = kr R + kg G + kb B, E'CB = (B - Y) / (2 - 2 kb), E'CR likewise."""
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}[matrix]
    if full_range:
        luma, cb, cr = y / 255, (u - 128) / 255, (v - 128) / 255
    else:
        luma, cb, cr = (max(y, 16) - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red = luma + (2 - 2 * kr) * cr
    blue = luma + (2 - 2 * kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return [min(max(255 * c, 0.0), 255.0) for c in (red, green, blue)]


def decode_by_hand(form: str, data: bytes, width: int, height: int, step: int) -> np.ndarray:
    """(H, W, 3) float: each pixel's three bytes are looked up where the format's description puts them."""
    out = np.zeros((height, width, 3))
    rows, color = -(-height // 2), height * step
    for y in range(height):
        for x in range(width):
            if form in ("uyvy", "yuv422"):
                at = y * step + x // 2 * 4
                yuv = (data[at + 1 + x % 2 * 2], data[at], data[at + 2])
            elif form in ("yuyv", "yuv422_yuy2"):
                at = y * step + x // 2 * 4
                yuv = (data[at + x % 2 * 2], data[at + 1], data[at + 3])
            elif form in ("nv12", "nv21"):
                at = color + y // 2 * (step + step % 2) + x // 2 * 2
                yuv = (data[y * step + x], data[at], data[at + 1])
                if form == "nv21":
                    yuv = (yuv[0], yuv[2], yuv[1])
            elif form == "nv24":
                at = color + y * 2 * step + 2 * x
                yuv = (data[y * step + x], data[at], data[at + 1])
            else:
                half = -(-step // 2)
                at = color + y // 2 * half + x // 2
                yuv = (data[y * step + x], data[at], data[at + rows * half])
            out[y, x] = rgb_by_hand(*yuv, "bt709" if height >= 720 else "bt601")
    return out


def size_bytes(form: str, width: int, height: int, step: int) -> int:
    """Without the padding after the last row."""
    rows, columns = -(-height // 2), -(-width // 2)
    if form in ("uyvy", "yuv422", "yuyv", "yuv422_yuy2"):
        return step * (height - 1) + 4 * columns
    if form == "nv24":
        return step * height + 2 * step * (height - 1) + 2 * width
    if form in ("nv12", "nv21"):
        return step * height + (step + step % 2) * (rows - 1) + 2 * columns
    return step * height + -(-step // 2) * (2 * rows - 1) + columns


def check(form: str, width: int, height: int, padding: int, seed: int) -> None:
    packed = form.startswith(("uyvy", "yuyv", "yuv422"))
    step = (4 * -(-width // 2) if packed else width) + padding
    size = size_bytes(form, width, height, step)
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    image = decode_frame(raw(data, form, width, height, step), 64).image
    assert image.flags.c_contiguous
    assert np.abs(image - decode_by_hand(form, data, width, height, step)).max() < 1
    if packed or size - 1 != size_bytes(form, width, height, width):  # else it is an image without padding
        with pytest.raises(DecodeError) as caught:
            decode_frame(raw(data[:-1], form, width, height, step), 64)
        assert caught.value.reason == "short_data"


@settings(max_examples=120, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    width=st.integers(1, 11),
    height=st.integers(1, 7),
    padding=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_any_size_and_padding_below_720_lines(
    form: str, width: int, height: int, padding: int, seed: int
) -> None:
    check(form, width, height, padding, seed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("width", "height", "padding"), [(4, 720, 0), (3, 721, 5), (6, 719, 2)])
def test_from_720_lines_up_it_is_bt709(form: str, width: int, height: int, padding: int) -> None:
    check(form, width, height, padding, seed=height)


@pytest.mark.parametrize("form", ["YUYV", "NV12", "I420"])
def test_names_in_capitals(form: str) -> None:
    check(form.lower(), 4, 4, 0, 0)
    assert decode_frame(raw(bytes(32), form, 4, 4, 8 if form == "YUYV" else 4), 64).image.shape == (4, 4, 3)


@pytest.mark.parametrize("form", ["nv12", "nv21", "nv24", "i420"])
@pytest.mark.parametrize("step", [0, 9, 12, 18, 24])
def test_a_planar_step_that_the_data_contradict(form: str, step: int) -> None:
    """Drivers write 0, the pixel's bits, or two and three times the width; the length tells the truth."""
    data = np.random.default_rng(1).integers(0, 256, size_bytes(form, 8, 6, 8), np.uint8).tobytes()
    image = decode_frame(raw(data, form, 8, 6, step), 64).image
    assert (image == decode_frame(raw(data, form, 8, 6, 8), 64).image).all()


@pytest.mark.parametrize(
    ("form", "step", "size", "reason"),
    [
        ("nv12", 7, 72, "bad_step"),
        ("nv12", -8, 72, "bad_step"),
        ("nv12", 12, 73, "short_data"),
        ("yuyv", 15, 96, "bad_step"),
        ("yuyv", 0, 95, "bad_step"),
        ("yuyv", 2**40, 96, "short_data"),
        ("i420", 2**40, 70, "short_data"),
    ],
)
def test_steps_that_make_no_image(form: str, step: int, size: int, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_frame(raw(bytes(size), form, 8, 6, step), 64)
    assert caught.value.reason == reason


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("down", "across"), [(1, 1), (1, 2), (2, 2), (2, 1)])
def test_every_rule_for_every_subsampling(matrix: str, full_range: bool, down: int, across: int) -> None:
    rng = np.random.default_rng(2)
    rule = ColorRule(matrix, full_range)  # type: ignore[arg-type]
    for height, width in ((4, 6), (5, 7), (1, 1), (2, 1), (1, 4), (16, 64)):
        luma = rng.integers(0, 256, (height, width), np.uint8)
        color = rng.integers(0, 256, (-(-height // down), -(-width // across), 2), np.uint8)
        expected = np.array(
            [
                [
                    rgb_by_hand(luma[y, x], *map(int, color[y // down, x // across]), matrix, full_range)
                    for x in range(width)
                ]
                for y in range(height)
            ]
        )
        u, v = np.ascontiguousarray(color[..., 0]), np.ascontiguousarray(color[..., 1])
        for image in (
            rgb_from_planes(luma, u, v, rule),
            rgb_from_two_planes(luma, color, rule),
            rgb_from_two_planes(luma, np.dstack([v, u]), rule, u_first=False),
        ):
            assert np.abs(image - expected).max() < 1


def test_reference_colors() -> None:
    """White, black and the primaries of a 100 % colour bar (BT.601-7 and BT.709-6: quantised levels)."""
    bars = {
        "bt601": [(235, 128, 128), (16, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110)],
        "bt709": [(235, 128, 128), (16, 128, 128), (63, 102, 240), (173, 42, 26), (32, 240, 118)],
    }
    wanted = [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for matrix, yuvs in bars.items():
        for yuv, rgb in zip(yuvs, wanted, strict=True):
            full = np.full((2, 2), yuv[0], np.uint8), np.full((1, 1, 2), yuv[1:], np.uint8)
            rule = ColorRule(matrix, False)  # type: ignore[arg-type]
            assert np.abs(rgb_from_two_planes(*full, rule).astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ((720, None, None), ColorRule("bt709", False)),
        ((719, None, None), ColorRule("bt601", False)),
        ((1080, 2, 0), ColorRule("bt709", False)),
        ((480, 2, 1), ColorRule("bt601", False)),
        ((1080, 6, 1), ColorRule("bt601", False)),
        ((1080, 5, 2), ColorRule("bt601", True)),
        ((480, 1, 2), ColorRule("bt709", True)),
        ((480, 9, None), ColorRule("bt2020", False)),
        ((480, 10, 1), ColorRule("bt2020", False)),
        ((480, 0, 2), ColorRule("bt601", True)),
        ((2000, 77, 9), ColorRule("bt709", False)),
    ],
)
def test_the_rule(tags: tuple[int, int | None, int | None], expected: ColorRule) -> None:
    assert choose_colors(*tags) == expected


def test_the_matrix_cannot_be_changed_by_its_users() -> None:
    with pytest.raises(ValueError, match="read-only"):
        yuv_to_rgb_matrix(ColorRule("bt709", False))[0, 0] = 1


def smooth(height: int, width: int) -> Image:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / 23 + k) * np.cos(y / 17 - 2 * k) for k in range(3)]
    return np.dstack(waves).astype(np.uint8)


def test_nv12_of_the_simulator_comes_back() -> None:
    image = smooth(120, 160)
    picture = open_encoder("nv12", (160, 120), 10.0, 90).encode(image)
    frame = EncodedFrame(
        "cam", 0, 0, RawPayload(picture.data, picture.step_bytes, False), "nv12", 0, 160, 120, 0
    )
    error = decode_frame(frame, 64).image.astype(float) - image
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 40
