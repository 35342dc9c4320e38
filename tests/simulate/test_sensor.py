"""What the sensor does to a picture."""

from __future__ import annotations

import numpy as np
import pytest
from simulate.toy_world import DAY, NIGHT

from perception_batch.simulate.sensor import Sensor, low_passed


def grey(level: int, height: int = 200, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_the_same_seed_camera_and_frame_give_the_same_picture() -> None:
    picture = grey(90)
    one, other = Sensor(7, "cam_front"), Sensor(7, "cam_front")
    other.expose(picture, 4, DAY)  # what was exposed before does not matter
    assert np.array_equal(one.expose(picture, 12, DAY), other.expose(picture, 12, DAY))
    for different in (
        Sensor(8, "cam_front").expose(picture, 12, DAY),
        Sensor(7, "cam_back").expose(picture, 12, DAY),
        one.expose(picture, 13, DAY),
    ):
        assert not np.array_equal(one.expose(picture, 12, DAY), different)


def test_frames_count_themselves_where_no_index_is_given() -> None:
    counted, told = Sensor(1), Sensor(1)
    for index in range(3):
        assert np.array_equal(counted.expose(grey(60)), told.expose(grey(60), index))


def test_the_picture_given_is_left_alone() -> None:
    picture = grey(120)
    out = Sensor(1).expose(picture, 0, NIGHT)
    assert (picture == 120).all() and out.shape == picture.shape and out.dtype == np.uint8
    assert out.flags.c_contiguous and not np.shares_memory(out, picture)


def test_noise_follows_read_and_shot_noise() -> None:
    """Variance = read^2 + gain times signal, with 1.1 steps and 0.028 a step (and rounding's 1/12)."""
    sensor = Sensor(3, "a", blur_px=0, exposure_jitter=0, vignette=0)
    for level in (20, 80, 160):
        out = sensor.expose(grey(level), 0, DAY).astype(float)
        assert out.mean() == pytest.approx(level, abs=0.15)
        assert out.std() == pytest.approx(np.sqrt(1.1**2 + 0.028 * level + 1 / 12), rel=0.08)


def test_noise_differs_from_frame_to_frame_and_is_not_a_shift_of_one_sheet() -> None:
    sensor = Sensor(3, blur_px=0, exposure_jitter=0, vignette=0)
    first, second = (sensor.expose(grey(80), i, DAY).astype(float)[..., 1] - 80 for i in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_night_is_noisier_and_bright_spots_glare() -> None:
    picture = grey(40)
    sensor = Sensor(2, blur_px=0, exposure_jitter=0, vignette=0)
    by_day, by_night = sensor.expose(picture, 0, DAY), sensor.expose(picture, 0, NIGHT)
    assert by_night.astype(float).std() > 2 * by_day.astype(float).std()
    lamp = grey(10)
    lamp[90:110, 150:170] = 255
    quiet = Sensor(2, noise=0, blur_px=0, exposure_jitter=0, vignette=0)
    assert quiet.expose(lamp, 0, NIGHT)[100, 178].mean() > 14
    assert quiet.expose(lamp, 0, DAY)[100, 178].mean() == 10


def test_corners_get_less_light() -> None:
    out = Sensor(1, noise=0, blur_px=0, exposure_jitter=0, vignette=0.3).expose(grey(200), 0, DAY)
    assert out[100, 160].mean() == pytest.approx(200, abs=1)
    assert out[0, 0].mean() == pytest.approx(200 * 0.7, abs=3)


def test_an_ideal_sensor_changes_nothing_but_the_highlights() -> None:
    picture = np.random.default_rng(0).integers(0, 226, (50, 60, 3)).astype(np.uint8)
    ideal = Sensor(1, noise=0, blur_px=0, exposure_jitter=0, vignette=0, glare=0)
    assert np.array_equal(ideal.expose(picture, 0, NIGHT), picture)


def test_exposure_wanders_within_three_deviations() -> None:
    sensor = Sensor(1, noise=0, blur_px=0, exposure_jitter=0.05, vignette=0)
    means = [float(sensor.expose(grey(100, 16, 16), i, DAY).mean()) for i in range(60)]
    assert np.std(means) == pytest.approx(5, abs=2) and max(means) <= 100 * np.exp(0.15) + 1


@pytest.mark.parametrize(
    "wrong", [{"noise": -1}, {"blur_px": float("nan")}, {"vignette": 1.0}, {"exposure_jitter": -0.1}]
)
def test_impossible_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sensor(1, **wrong)


def test_the_optical_low_pass_keeps_light_and_flat_colours_and_takes_what_a_bayer_filter_cannot_see() -> None:
    flat = np.full((20, 30, 3), (40, 130, 220), np.uint8)
    assert np.array_equal(low_passed(flat), flat)
    stripes = np.zeros((20, 30, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(low_passed(stripes)[:, 1:-1].astype(int) - 100).max() <= 1
    spot = np.zeros((9, 9, 3), np.uint8)
    spot[4, 4] = 160
    seen = low_passed(spot)
    assert seen[3:6, 3:6, 0].tolist() == [[10, 20, 10], [20, 40, 20], [10, 20, 10]] and seen.sum() == 3 * 160


@pytest.mark.parametrize("blur_px", [0.0, 0.45, 2.0])
def test_working_in_strips_leaves_no_seam(blur_px: float) -> None:
    """The rows of a tall picture come out as those of a part of it that begins and ends elsewhere."""
    picture = np.random.default_rng(1).integers(0, 226, (200, 40, 3)).astype(np.uint8)
    sensor = Sensor(1, noise=0, blur_px=blur_px, exposure_jitter=0, vignette=0)
    whole = sensor.expose(picture, 0, DAY)
    part = Sensor(1, noise=0, blur_px=blur_px, exposure_jitter=0, vignette=0).expose(picture[31:171], 0, DAY)
    assert np.array_equal(whole[45:157], part[14:126])
