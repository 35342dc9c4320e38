"""Where the crops lie: everything is seen, nothing is scaled down, and the horizon runs through its band."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from perception_batch.calibration import Camera, Intrinsics
from perception_batch.detect import horizon_points, lay_out_crops
from perception_batch.detect.crops import OVERLAP
from perception_batch.geometry import SE3, DetectorView

FULL_HD = (1080, 1920)


def crops_of(view: DetectorView, tiles: str, **extra: object) -> list[tuple[int, int, int, int]]:
    found = lay_out_crops(view, tiles, stride=32, stretch=False, **extra)  # type: ignore[arg-type]
    return [crop.roi_px for crop in found]


def test_columns_and_rows() -> None:
    whole = DetectorView.fit(FULL_HD, long_side_px=640)
    assert crops_of(whole, "none") == []
    assert crops_of(whole, "1x1") == [(0, 0, 1920, 1080)]
    # 960 px and a fifth, in whole strides of 32
    assert crops_of(whole, "2x1") == [(0, 0, 1152, 1080), (768, 0, 1920, 1080)]
    assert crops_of(whole, "2x2")[3] == (768, 1080 - 672, 1920, 1080)
    # a row of crops as large as the whole image's input, in the middle where nothing is known of the horizon
    assert crops_of(whole, "horizon") == [(x, 348, x + 640, 732) for x in (0, 427, 853, 1280)]


def test_an_image_that_is_not_scaled_down_needs_no_crops() -> None:
    for tiles in ("2x2", "horizon"):
        assert crops_of(DetectorView.fit((360, 640), long_side_px=640), tiles) == []
        assert crops_of(DetectorView.fit((300, 400), long_side_px=640), tiles) == []


def test_a_model_of_one_size_gets_its_size() -> None:
    whole = DetectorView.fit(FULL_HD, long_side_px=640, stretch=True)
    for tiles in ("3x2", "horizon"):
        assert {crop.image_size for crop in lay_out_crops(whole, tiles, stride=32, stretch=True)} == {640}
    first = lay_out_crops(whole, "horizon", stride=32, stretch=True)[0]
    assert first.roi_px == (0, 220, 640, 860)


@settings(max_examples=80, deadline=None)
@given(
    hw=st.tuples(st.integers(40, 1500), st.integers(40, 1500)),
    side=st.sampled_from([64, 320, 640]),
    turn=st.sampled_from([0, 90, 180, 270]),
    tiles=st.one_of(st.just("horizon"), st.builds("{}x{}".format, st.integers(1, 5), st.integers(1, 5))),
    trim=st.tuples(*[st.integers(0, 9)] * 4),
)
def test_crops_cover_what_is_seen_at_full_resolution(
    hw: tuple[int, int], side: int, turn: int, tiles: str, trim: tuple[int, int, int, int]
) -> None:
    h, w = hw
    roi = (trim[0], trim[1], w - trim[2], h - trim[3])
    whole = DetectorView.fit(hw, long_side_px=side, roi_px=roi, rotate_deg=turn)
    crops = lay_out_crops(whole, tiles, stride=32, stretch=False)
    assume(crops)
    seen = np.zeros(hw, np.int64)
    for crop in crops:
        x0, y0, x1, y1 = crop.roi_px
        assert roi[0] <= x0 < x1 <= roi[2] and roi[1] <= y0 < y1 <= roi[3]
        seen[y0:y1, x0:x1] += 1
        view = DetectorView.fit(hw, long_side_px=crop.image_size, roi_px=crop.roi_px, rotate_deg=turn)
        long = max(x1 - x0, y1 - y0)
        assert long <= max(view.resized_hw) < long + 32  # never down, up by less than a stride
    part = seen[roi[1] : roi[3], roi[0] : roi[2]]
    upright = np.rot90(part, -turn // 90)
    assert upright.any(0).all()  # every column
    if tiles != "horizon":
        assert upright.all()
    else:  # of one shape, that of the whole image's input
        assert len({(c.roi_px[2] - c.roi_px[0], c.roi_px[3] - c.roi_px[1]) for c in crops}) == 1


@pytest.mark.parametrize("tiles", ["horizon", "2x1", "3x2", "5x1"])
def test_what_is_no_larger_than_the_overlap_is_whole_in_a_crop(tiles: str) -> None:
    whole = DetectorView.fit(FULL_HD, long_side_px=640)
    crops = crops_of(whole, tiles)
    width = crops[0][2] - crops[0][0]
    small = math.floor(OVERLAP * width / 1.2) if tiles != "horizon" else math.floor(OVERLAP * width)
    for left in range(1920 - small):
        assert any(x0 <= left and left + small <= x1 for x0, _, x1, _ in crops)


def looking(pitch_deg: float, roll_deg: float = 0.0, model: str = "pinhole") -> Camera:
    """A camera that looks forward, down by `pitch_deg`, turned clockwise by `roll_deg`."""
    p, r = math.radians(pitch_deg), math.radians(roll_deg)
    level = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # base from optical
    pitch = np.array([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    roll = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    lens = Intrinsics(
        model,  # type: ignore[arg-type]
        1920,
        1080,
        1000.0,
        1000.0,
        959.5,
        539.5,
        (0.1, 0.0, 0.0, 0.0) if model == "equidistant" else (),
    )
    return Camera("front", lens, SE3(level @ pitch @ roll, np.array([0.0, 0, 1.5])), "test")


@pytest.mark.parametrize("model", ["pinhole", "equidistant"])
@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (10, 0), (-8, 0), (5, 12)])
def test_the_band_follows_the_horizon(pitch: float, roll: float, model: str) -> None:
    camera = looking(pitch, roll, model)
    horizon = horizon_points(camera, FULL_HD)
    assert horizon is not None
    crops = crops_of(DetectorView.fit(FULL_HD, long_side_px=640), "horizon", horizon_px=horizon)
    to_camera = camera.base_SE3_camera.inverse()
    seen = 0
    for azimuth in np.radians(np.arange(-40, 41, 0.5)):
        far = 1e6 * np.array([[math.cos(azimuth), math.sin(azimuth), 0.0]])
        u, v = camera.intrinsics.project(to_camera.apply(far))[0] + 0.5
        for x0, y0, x1, y1 in crops:
            if abs(u - (x0 + x1) / 2) < 5 and y0 > 0 and y1 < 1080:
                seen += 1
                assert v == pytest.approx((y0 + y1) / 2, abs=6)
    assert seen >= 2


def test_the_band_of_an_upside_down_camera() -> None:
    horizon = horizon_points(looking(10), FULL_HD)
    upright = crops_of(DetectorView.fit(FULL_HD, long_side_px=640), "horizon", horizon_px=horizon)
    assert horizon is not None
    turned = crops_of(
        DetectorView.fit(FULL_HD, long_side_px=640, rotate_deg=180),
        "horizon",
        horizon_px=np.array([1920, 1080]) - horizon,
    )
    mirrored = [(1920 - x1, 1080 - y1, 1920 - x0, 1080 - y0) for x0, y0, x1, y1 in turned]
    assert np.abs(np.array(upright) - mirrored).max() <= 1


def test_cameras_without_a_horizon() -> None:
    assert horizon_points(None, FULL_HD) is None
    assert horizon_points(looking(90), FULL_HD) is None  # straight down
    assert horizon_points(looking(0), (1000, 1000)) is None  # the calibration is of other images
    below = crops_of(
        DetectorView.fit(FULL_HD, long_side_px=640),
        "horizon",
        horizon_px=horizon_points(looking(60), FULL_HD),
    )
    assert {roi[1] for roi in below} == {0}  # above the image: the nearest there is
