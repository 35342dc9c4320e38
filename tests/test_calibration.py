"""Lenses against OpenCV, scaling against drawn grids, and what a calibration may not be."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.calibration import Camera, Intrinsics, LensModel, Rig, _largest_angle
from perception_batch.errors import CalibrationError
from perception_batch.geometry import SE3

FloatArray = npt.NDArray[np.float64]

RATIONAL_8 = (0.9, 0.2, 0.0008, -0.0004, 0.01, 1.25, 0.4, 0.05)
THIN_PRISM = (0.0015, -0.0007, -0.0012, 0.0004)
LENSES: dict[str, Intrinsics] = {
    "pinhole": Intrinsics("pinhole", 1600, 900, 1266.4, 1266.4, 816.3, 491.5),
    "plumb_bob_4": Intrinsics("plumb_bob", 1280, 720, 900.0, 905.0, 640.2, 355.1, (-0.31, 0.11, 1e-3, -5e-4)),
    "plumb_bob_5": Intrinsics(
        "plumb_bob", 1280, 720, 900.0, 905.0, 640.2, 355.1, (-0.31, 0.11, 1e-3, -5e-4, -0.02)
    ),
    "rational_8": Intrinsics("rational_polynomial", 1920, 1208, 1000.0, 998.0, 960.1, 604.9, RATIONAL_8),
    "rational_12": Intrinsics(
        "rational_polynomial", 1920, 1208, 1000.0, 998.0, 960.1, 604.9, (*RATIONAL_8, *THIN_PRISM)
    ),
    "rational_14": Intrinsics(
        "rational_polynomial", 1920, 1208, 1000.0, 998.0, 960.1, 604.9, (*RATIONAL_8, *THIN_PRISM, 0.0, 0.0)
    ),
    "equidistant": Intrinsics(
        "equidistant", 960, 640, 302.4, 320.7, 496.6, 331.2, (-0.0437, 0.0217, -0.0264, 0.0084)
    ),
    "equidistant_wide": Intrinsics(
        "equidistant", 848, 800, 286.0, 286.0, 424.0, 400.0, (-0.008, 0.04, -0.037, 0.006)
    ),
}


def k_of(lens: Intrinsics) -> FloatArray:
    return np.array([[lens.fx_px, 0, lens.cx_px], [0, lens.fy_px, lens.cy_px], [0, 0, 1]])


def opencv_project(lens: Intrinsics, points_m: FloatArray) -> FloatArray:
    zero, d = np.zeros(3), np.array(lens.distortion)
    if lens.model == "equidistant":
        uv, _ = cv2.fisheye.projectPoints(points_m[:, None], zero, zero, k_of(lens), d)
    else:
        uv, _ = cv2.projectPoints(points_m[:, None], zero, zero, k_of(lens), d)
    return np.asarray(uv, np.float64).reshape(-1, 2)


def points_within(max_angle_deg: float, seed: int = 0, n: int = 500) -> FloatArray:
    """Points in all directions up to an angle from the axis, near and far."""
    rng = np.random.default_rng(seed)
    theta = np.radians(max_angle_deg) * np.sqrt(rng.uniform(0, 1, n))
    phi = rng.uniform(-math.pi, math.pi, n)
    ray = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    return ray * np.exp(rng.uniform(-2, 5, (n, 1)))


@pytest.mark.parametrize("name", LENSES)
def test_projection_is_opencvs(name: str) -> None:
    lens = LENSES[name]
    points = points_within(85.0 if lens.model == "equidistant" else 38.0)
    points[0] = (0, 0, 3.0)
    uv = lens.project(points)
    assert np.abs(uv - opencv_project(lens, points)).max() < 1e-6
    assert np.allclose(uv[0], [lens.cx_px, lens.cy_px])


@pytest.mark.parametrize("name", LENSES)
def test_rays_of_pixels_are_opencvs_undistortion(name: str) -> None:
    lens = LENSES[name]
    uv = lens.project(points_within(70.0 if lens.model == "equidistant" else 38.0, seed=1))
    d = np.array(lens.distortion)
    if lens.model == "equidistant":
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-12)
        xy = cv2.fisheye.undistortPoints(uv[:, None], k_of(lens), d, criteria=stop)
    else:
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-12)
        if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4
            xy = cv2.undistortPointsIter(uv[:, None], k_of(lens), d, None, None, stop)
        else:
            xy = cv2.undistortPoints(uv[:, None], k_of(lens), d, criteria=stop)
    rays = lens.unproject(uv)
    assert np.abs(rays[:, :2] / rays[:, 2:] - xy.reshape(-1, 2)).max() < 1e-6


@pytest.mark.parametrize("name", LENSES)
def test_every_pixel_of_the_image_has_a_unit_ray_that_projects_back(name: str) -> None:
    lens = LENSES[name]
    u, v = np.meshgrid(np.linspace(0, lens.width_px - 1, 41), np.linspace(0, lens.height_px - 1, 31))
    uv = np.stack([u.ravel(), v.ravel()], axis=1)
    rays = lens.unproject(uv)
    assert np.allclose(np.linalg.norm(rays, axis=1), 1)
    assert np.abs(lens.project(rays * 7.5) - uv).max() < 1e-4
    assert np.array_equal(lens.rays_of_corners(uv + 0.5), rays)


def lenses() -> st.SearchStrategy[Intrinsics]:
    small = st.floats(-0.002, 0.002)
    plumb = st.tuples(st.floats(-0.45, 0.3), st.floats(-0.1, 0.2), small, small, st.floats(-0.05, 0.05))
    denominator = st.tuples(st.floats(0, 1.5), st.floats(0, 0.5), st.floats(0, 0.1))
    rational = st.tuples(plumb, denominator).map(lambda parts: (*parts[0], *parts[1]))
    fisheye = st.tuples(*[st.floats(-0.05, 0.05)] * 4)
    models: list[tuple[LensModel, Any]] = [
        ("plumb_bob", plumb),
        ("rational_polynomial", rational),
        ("equidistant", fisheye),
    ]
    return st.one_of(
        *(
            coefficients.map(
                lambda d, m=model: Intrinsics(m, 1280, 960, 700.0, 710.0, 639.0, 481.0, tuple(d))
            )
            for model, coefficients in models
        )
    )


@given(lenses(), st.integers(0, 99))
@settings(max_examples=100)
def test_what_a_lens_sees_it_sees_back(lens: Intrinsics, seed: int) -> None:
    """project then unproject: the same direction. Where the lens hardly rises any more, two directions may meet
    in a pixel: there it is one of them, or an honest NaN.
    """
    points = points_within(80.0, seed, 60)
    angle = np.arctan2(np.hypot(points[:, 0], points[:, 1]), points[:, 2])
    uv = lens.project(points)
    rays = lens.unproject(uv)
    hidden = np.isnan(uv).any(axis=1)
    assert np.isnan(rays[hidden]).all()
    known = ~np.isnan(rays).any(axis=1)
    again = lens.project(rays[known])
    assert np.nanmax(np.abs(again - uv[known]), initial=0) < 1e-2
    rising = np.linspace(0, _largest_angle(lens.model, lens.distortion), 400)[:-1]
    u = lens.project(np.stack([np.sin(rising), 0 * rising, np.cos(rising)], axis=1))[:, 0]
    slow = np.flatnonzero(np.diff(u) < 0.1 * lens.fx_px * np.diff(rising))
    safe = 0.8 * rising[slow[0] if len(slow) else -1]
    in_picture = ((uv > -0.5) & (uv < [lens.width_px, lens.height_px])).all(axis=1)
    across = np.cross(rays, points / np.linalg.norm(points, axis=1, keepdims=True))
    assert (np.linalg.norm(across, axis=1)[in_picture & (angle < safe)] < 2e-5).all()


@pytest.mark.parametrize("name", [n for n, lens in LENSES.items() if lens.model != "equidistant"])
def test_behind_a_pinhole_is_nan(name: str) -> None:
    points = np.array([[0, 0, -1.0], [1, 1, 0], [0.1, 0.1, -5], [0, 0, 0], [np.nan, 0, 1], [0, 0, np.nan]])
    assert np.isnan(LENSES[name].project(points)).all()


def test_folding_beyond_the_largest_angle_is_nan() -> None:
    """Barrel distortion k1 = -0.3 turns back at r = sqrt(1 / 0.9), an angle of 46.5 degrees."""
    lens = Intrinsics("plumb_bob", 1280, 720, 900.0, 900.0, 639.5, 359.5, (-0.3, 0.0, 0.0, 0.0, 0.0))
    turning = math.sqrt(1 / (3 * 0.3))
    inside, outside = (np.array([[turning * f, 0.0, 1.0]]) for f in (0.98, 1.02))
    assert np.isfinite(lens.project(inside)).all()
    assert np.isnan(lens.project(outside)).all()
    # OpenCV folds: it puts a point far out to the side into the middle of the picture.
    assert 0 < opencv_project(lens, np.array([[math.sqrt(1 / 0.3), 0, 1.0]]))[0, 0] < 1280
    largest = lens.cx_px + 900 * turning * (1 - 0.3 * turning**2)
    rays = lens.unproject(np.array([[largest - 2, lens.cy_px], [largest + 2, lens.cy_px]]))
    assert np.isfinite(rays[0]).all()
    assert np.isnan(rays[1]).all()


def test_a_rational_lens_with_a_pole_is_cut_before_it() -> None:
    lens = Intrinsics(
        "rational_polynomial", 640, 480, 500.0, 500.0, 319.5, 239.5, (0, 0, 0, 0, 0, -0.25, 0, 0)
    )
    uv = lens.project(np.array([[1.9, 0, 1], [2.1, 0, 1]]))  # 1 - r^2 / 4 is zero at 2
    assert np.isfinite(uv[0]).all()
    assert np.isnan(uv[1]).all()


def test_a_fisheye_sees_behind_itself() -> None:
    lens = Intrinsics("equidistant", 2000, 2000, 300.0, 300.0, 999.5, 999.5, (0.0, 0.0, 0.0, 0.0))
    angles = np.radians([0, 45, 90, 100, 120, 170])
    points = np.stack([np.sin(angles), np.zeros(6), np.cos(angles)], axis=1)
    uv = lens.project(5 * points)
    assert np.allclose(uv[:, 0], 999.5 + 300 * angles)
    assert np.allclose(uv[:, 1], 999.5)
    assert np.allclose(lens.unproject(uv), points, atol=1e-9)


def test_a_fisheye_does_not_put_what_is_behind_it_into_the_middle() -> None:
    lens = Intrinsics("equidistant", 2000, 2000, 300.0, 300.0, 999.5, 999.5, (0.0, 0.0, 0.0, 0.0))
    uv = lens.project(np.array([[1e-13, 0, -5.0], [0, 0, -1.0], [0, 0, 0], [np.nan, 0, 1]]))
    assert np.hypot(*(uv[0] - 999.5)) > 900
    assert np.isnan(uv[1:]).all()


def test_a_fisheye_that_folds_is_cut_where_it_turns() -> None:
    lens = Intrinsics("equidistant", 960, 640, 300.0, 300.0, 479.5, 319.5, (-0.1, 0.0, 0.0, 0.0))
    turning = math.sqrt(1 / 0.3)  # of theta - 0.1 theta^3, 104.6 degrees
    for angle, seen in ((turning - 0.02, True), (turning + 0.02, False)):
        uv = lens.project(np.array([[math.sin(angle), 0, math.cos(angle)]]))
        assert np.isfinite(uv).all() == seen
    beyond = lens.cx_px + 300 * (turning - 0.1 * turning**3) + 1
    assert np.isnan(lens.unproject(np.array([[beyond, lens.cy_px], [np.nan, 0]]))).all()


@given(st.sampled_from(sorted(LENSES)), st.sampled_from([(1, 2), (2, 1), (1, 4), (3, 2)]))
def test_scaling_keeps_corners_on_corners(name: str, ratio: tuple[int, int]) -> None:
    """A ray that meets a pixel's outer corner at x meets x * s in an image resized by s."""
    lens = LENSES[name]
    lens = replace(lens, width_px=lens.width_px * 12, height_px=lens.height_px * 12)
    s = ratio[0] / ratio[1]
    scaled = lens.scaled_to(lens.width_px * ratio[0] // ratio[1], lens.height_px * ratio[0] // ratio[1])
    points = points_within(30.0, n=50)
    assert np.abs((scaled.project(points) + 0.5) - (lens.project(points) + 0.5) * s).max() < 1e-6
    corners = (lens.project(points) + 0.5) * s
    assert np.allclose(scaled.rays_of_corners(corners), lens.unproject(lens.project(points)), atol=1e-6)


def test_scaling_is_what_area_averaging_does_to_a_picture() -> None:
    """A bright dot drawn where a point projects is found there again in the picture at half the size."""
    lens = Intrinsics("pinhole", 640, 480, 500.0, 500.0, 320.0, 240.0)
    point = np.array([[0.31, -0.17, 2.0]])
    x, y = lens.project(point)[0]
    yy, xx = np.mgrid[:480, :640]
    image = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 50.0).astype(np.float32)
    small = cv2.resize(image, (320, 240), interpolation=cv2.INTER_AREA)
    yy, xx = np.mgrid[:240, :320]
    found = np.array([(small * xx).sum(), (small * yy).sum()]) / small.sum()
    assert np.abs(lens.scaled_to(320, 240).project(point)[0] - found).max() < 0.02


@pytest.mark.parametrize("size", [(1600, 1200), (900, 1600), (1600, 1), (16, 9000)])
def test_another_aspect_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"calibration is for 1600x900, images are .*aspect"):
        LENSES["pinhole"].scaled_to(*size)
    assert LENSES["pinhole"].scaled_to(799, 450).width_px == 799  # an odd pixel is rounding, not a crop


@pytest.mark.parametrize("size", [(0, 0), (640, 0), (0, 480), (-1600, -900)])
def test_no_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        LENSES["pinhole"].scaled_to(*size)


def test_a_tilted_sensor_is_refused() -> None:
    lens = LENSES["rational_14"]
    assert np.array_equal(
        lens.project(points_within(30.0)), LENSES["rational_12"].project(points_within(30.0))
    )
    with pytest.raises(ValueError, match=r"tilted sensor .*0\.02"):
        replace(lens, distortion=(*lens.distortion[:12], 0.02, 0.0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "omni"}, "'omni' is not one of pinhole, plumb_bob"),
        ({"distortion": (0.1,)}, "takes 0 coefficients, got 1"),
        ({"model": "plumb_bob"}, "takes 4 or 5 coefficients, got 0"),
        ({"fx_px": 0.0}, "positive"),
        ({"fy_px": -5.0}, "positive"),
        ({"cx_px": math.nan}, "finite"),
        ({"model": "equidistant", "distortion": (0, 0, 0, math.inf)}, "finite"),
        ({"width_px": 0}, "size must be positive"),
    ],
)
def test_what_is_no_lens_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(LENSES["pinhole"], **change)


@given(lenses())
def test_a_lens_comes_back_from_json_and_yaml(lens: Intrinsics) -> None:
    assert Intrinsics.from_dict(json.loads(json.dumps(lens.to_dict()))) == lens
    assert Intrinsics.from_dict(yaml.safe_load(yaml.safe_dump(lens.to_dict()))) == lens


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fx": 3}, "unknown fx; allowed: model, width_px"),
        ({"\x1b[31m": 3}, r"unknown \\x1b\[31m"),
        ({"fx_px": None}, "intrinsics: float"),
        ({"fx_px": "wide"}, "could not convert"),
        ({"width_px": math.inf}, "infinity"),
        ({"cx_px": 10**400}, "too large"),
        ({"distortion": 3}, "not iterable"),
        ({"model": ["pinhole"]}, "is not one of"),
    ],
)
def test_fields_that_make_no_sense_are_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Intrinsics.from_dict({**LENSES["pinhole"].to_dict(), **change})


def test_missing_fields_are_named() -> None:
    data = LENSES["pinhole"].to_dict()
    del data["fx_px"], data["width_px"]
    with pytest.raises(ValueError, match="fx_px, width_px missing"):
        Intrinsics.from_dict(data)


def make_rig() -> Rig:
    turned = SE3.from_quaternion([-0.4, 0.5, -0.5, 0.6], [1.5, 0.25, 1.6])
    cameras = {name: Camera(name, lens, turned @ turned, "camera_info+tf") for name, lens in LENSES.items()}
    return Rig("base_link", cameras, {"rear": "no CameraInfo"}, -0.33, ("rear: no tf",))


def test_a_rig_comes_back_to_the_bit() -> None:
    rig = make_rig()
    for data in (json.loads(json.dumps(rig.to_dict())), yaml.safe_load(yaml.safe_dump(rig.to_dict()))):
        again = Rig.from_dict(data)
        assert again.to_dict() == rig.to_dict()
        assert list(again.cameras) == list(rig.to_dict()["cameras"]) or set(again.cameras) == set(rig.cameras)
        for name, camera in rig.cameras.items():
            there = again.cameras[name].base_SE3_camera
            assert there.rotation.tobytes() == camera.base_SE3_camera.rotation.tobytes()
            assert there.translation_m.tobytes() == camera.base_SE3_camera.translation_m.tobytes()
            assert again.cameras[name].intrinsics == camera.intrinsics
        assert (again.base_frame, again.uncalibrated, again.notes) == (
            rig.base_frame,
            rig.uncalibrated,
            rig.notes,
        )


def test_an_unknown_ground_is_left_out() -> None:
    data = replace(make_rig(), ground_z_m=math.nan).to_dict()
    assert "ground_z_m" not in data
    assert math.isnan(Rig.from_dict(data).ground_z_m)
    assert Rig.from_dict({}).cameras == {}


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("cameras", "pinhole", "base_SE3_camera"), None, "camera pinhole"),
        (("cameras", "pinhole", "base_SE3_camera", "position_m"), [1, 2], "camera pinhole: not a rigid"),
        (("cameras", "pinhole", "base_SE3_camera", "position_m"), [10**400, 0, 0], "camera pinhole"),
        (("cameras", "pinhole", "base_SE3_camera", "quaternion_xyzw"), "north", "camera pinhole"),
        (("cameras", "pinhole", "intrinsics"), 5, "camera pinhole"),
        (("cameras", "pinhole", "intrinsics", "width_px"), math.inf, "camera pinhole"),
        (("cameras", "pinhole"), "here", "camera pinhole"),
        (("cameras",), ["pinhole"], "cameras in the rig is a list"),
        (("uncalibrated",), 3, "uncalibrated in the rig is a int"),
        (("ground_z_m",), "low", "ground_z_m"),
    ],
)
def test_a_rig_that_makes_no_sense_names_the_camera(path: tuple[str, ...], value: Any, says: str) -> None:
    data = make_rig().to_dict()
    node = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(CalibrationError, match=re.escape(says)):
        Rig.from_dict(data)


def test_a_rig_without_a_field_says_which() -> None:
    data = make_rig().to_dict()
    del data["cameras"]["pinhole"]["base_SE3_camera"]["position_m"]
    with pytest.raises(CalibrationError, match="camera pinhole: 'position_m' is missing"):
        Rig.from_dict(data)


@pytest.mark.real
@pytest.mark.parametrize("name", ["front", "back", "left", "right"])
def test_real_fisheye_calibrations_agree_with_opencv(recordings: Path, name: str) -> None:
    storage = cv2.FileStorage(
        str(recordings / "fisheye_rig" / "yaml" / f"{name}.yaml"), cv2.FILE_STORAGE_READ
    )
    k, d = storage.getNode("camera_matrix").mat(), storage.getNode("dist_coeffs").mat().ravel()
    width, height = storage.getNode("resolution").mat().ravel().astype(int).tolist()
    storage.release()
    lens = Intrinsics("equidistant", width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2], tuple(d.tolist()))
    points = points_within(80.0)
    assert np.abs(lens.project(points) - opencv_project(lens, points)).max() < 1e-6
    u, v = np.meshgrid(np.arange(0, width, 16.0), np.arange(0, height, 16.0))
    uv = np.stack([u.ravel(), v.ravel()], axis=1)
    rays = lens.unproject(uv)
    seen = np.isfinite(rays).all(axis=1)
    assert seen.mean() > 0.6  # the corners lie outside the image circle
    assert np.abs(lens.project(rays[seen]) - uv[seen]).max() < 1e-6
    # Sold as lenses of 180 degrees and more; two of the four polynomials turn back a little before that.
    assert math.degrees(math.acos(rays[seen, 2].min())) > 75
