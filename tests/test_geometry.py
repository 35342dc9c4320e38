"""Transforms against 4x4 matrices and SciPy, boxes against loops, the detector's view against turned pixels."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from perception_batch.geometry import SE3, DetectorView, box_iou

FloatArray = npt.NDArray[np.float64]
unit_floats = st.floats(-1, 1)
metres = st.floats(-1e4, 1e4)
vectors = st.tuples(metres, metres, metres)
quaternions = st.tuples(unit_floats, unit_floats, unit_floats, unit_floats).filter(
    lambda q: math.hypot(*q) > 1e-3
)
poses = st.builds(SE3.from_quaternion, quaternions, vectors)


def matrix(pose: SE3) -> FloatArray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = pose.rotation, pose.translation_m
    return out


@given(quaternions, vectors)
def test_a_quaternion_means_what_scipy_says(q: tuple[float, ...], t: tuple[float, ...]) -> None:
    pose = SE3.from_quaternion(q, t)
    assert np.allclose(pose.rotation, Rotation.from_quat(q).as_matrix(), atol=1e-12)
    assert pose.translation_m.tolist() == list(t)


@given(poses, poses, vectors)
def test_composition_inverse_and_points_are_those_of_4x4_matrices(
    a: SE3, b: SE3, point: tuple[float, ...]
) -> None:
    assert np.allclose(matrix(a @ b), matrix(a) @ matrix(b), atol=1e-8)
    assert np.allclose(matrix(a.inverse()), np.linalg.inv(matrix(a)), atol=1e-8)
    homogeneous = matrix(a) @ np.array([*point, 1.0])
    assert np.allclose(a.apply(np.array(point)), homogeneous[:3], atol=1e-8)
    assert np.allclose(a.apply(np.array([point, point])), [homogeneous[:3]] * 2, atol=1e-8)
    assert np.allclose(matrix(SE3.identity() @ a), matrix(a), atol=0)


@given(
    st.tuples(unit_floats, unit_floats, unit_floats).filter(lambda v: math.hypot(*v) > 1e-3),
    st.one_of(
        st.floats(-math.pi, math.pi),
        st.floats(-1e-6, 1e-6).map(lambda x: math.pi + x),
        st.sampled_from([0.0, math.pi, -math.pi, 1e-9]),
    ),
)
def test_a_rotation_matrix_becomes_a_quaternion_and_comes_back(axis: tuple[float, ...], angle: float) -> None:
    rotation = Rotation.from_rotvec(np.array(axis) / np.linalg.norm(axis) * angle).as_matrix()
    q = SE3(rotation, np.zeros(3)).quaternion_xyzw()
    assert math.isclose(np.linalg.norm(q), 1, abs_tol=1e-15)
    assert q[3] >= 0
    assert np.allclose(SE3.from_quaternion(q, np.zeros(3)).rotation, rotation, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_a_turn_about_each_axis(axis: int) -> None:
    diagonal = np.full(3, -1.0)
    diagonal[axis] = 1
    q = SE3(np.diag(diagonal), np.zeros(3)).quaternion_xyzw()
    assert np.abs(q).tolist() == [float(i == axis) for i in range(4)]


@given(poses, poses)
def test_what_is_stored_as_json_comes_back_to_the_bit(a: SE3, b: SE3) -> None:
    for pose in (a, a @ b, a.inverse(), SE3.identity(), a.interpolate(b, 0.3)):
        kept = pose.storable()
        assert np.allclose(matrix(kept), matrix(pose), atol=1e-9)
        text = json.dumps([kept.quaternion_xyzw().tolist(), kept.translation_m.tolist()])
        again = SE3.from_quaternion(*json.loads(text))
        assert again.rotation.tobytes() == kept.rotation.tobytes()
        assert again.translation_m.tobytes() == kept.translation_m.tobytes()
        assert again.quaternion_xyzw().tobytes() == kept.quaternion_xyzw().tobytes()
        assert again.storable() is again


@given(poses, poses, st.floats(0, 1))
def test_interpolation_is_slerp_and_a_line(a: SE3, b: SE3, fraction: float) -> None:
    turns = Rotation.from_matrix(np.stack([a.rotation, b.rotation]))
    assume((turns[0].inv() * turns[1]).magnitude() < math.pi - 1e-3)  # both ways round are right there
    got = a.interpolate(b, fraction)
    expected = Slerp([0, 1], turns)(fraction).as_matrix()
    assert np.allclose(got.rotation, expected, atol=2e-6)
    line = a.translation_m * (1 - fraction) + b.translation_m * fraction
    assert np.allclose(got.translation_m, line, atol=1e-8)


@given(poses, poses)
def test_interpolation_ends_where_the_poses_are(a: SE3, b: SE3) -> None:
    assert np.allclose(matrix(a.interpolate(b, 0)), matrix(a), atol=1e-9)
    assert np.allclose(matrix(a.interpolate(b, 1)), matrix(b), atol=1e-8)


@pytest.mark.parametrize(
    ("quaternion", "translation"),
    [
        ([0, 0, 0, 0], [0, 0, 0]),
        ([1e-9, 0, 0, 0], [0, 0, 0]),
        ([math.nan, 0, 0, 1], [0, 0, 0]),
        ([0, 0, 0, math.inf], [0, 0, 0]),
        ([1e200, 0, 0, 0], [0, 0, 0]),  # its length is no float
        ([0, 0, 0, 1], [0, math.nan, 0]),
        ([0, 0, 1], [0, 0, 0]),
        ([[0], [0], [0], [1]], [0, 0, 0]),
        ([0, 0, 0, 1], [0, 0]),
        (1.0, 0.0),
    ],
)
def test_what_is_no_transform_is_refused(quaternion: Any, translation: Any) -> None:
    with pytest.raises(ValueError, match="not a rigid transform"):
        SE3.from_quaternion(quaternion, translation)


def test_arrays_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected rotation \(3, 3\)"):
        SE3(np.eye(4), np.zeros(3))
    with pytest.raises(ValueError, match=r"got \(3, 3\) and \(2,\)"):
        SE3(np.eye(3), np.zeros(2))


boxes = arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(-20, 20).map(float))


def iou_by_pixels(a: FloatArray, b: FloatArray) -> float:
    """Of boxes with whole corners, by counting unit squares."""
    squares = [
        {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}
        for box in (a, b)
    ]
    union = len(squares[0] | squares[1])
    return len(squares[0] & squares[1]) / union if union else 0.0


@given(boxes, boxes)
@settings(max_examples=40)
def test_iou_is_that_of_counted_pixels(a: FloatArray, b: FloatArray) -> None:
    for corners in (a, b):
        corners.sort(axis=1)
        corners[:] = corners[:, [0, 1, 2, 3]] if not len(corners) else corners[:, [0, 1, 3, 2]]
        corners[:, [1, 3]] = np.sort(corners[:, [1, 3]], axis=1)
        corners[:, [0, 2]] = np.sort(corners[:, [0, 2]], axis=1)
    got = box_iou(a, b)
    assert got.shape == (len(a), len(b))
    for i, j in np.ndindex(*got.shape):
        assert math.isclose(got[i, j], iou_by_pixels(a[i], b[j]), abs_tol=1e-12)


@st.composite
def views(draw: st.DrawFn) -> DetectorView:
    """Any size, odd ones too, any roi, any turn."""
    h, w = draw(st.integers(1, 2000)), draw(st.integers(1, 2000))
    roi = None
    if draw(st.booleans()):
        left, top = draw(st.integers(0, w - 1)), draw(st.integers(0, h - 1))
        roi = (left, top, draw(st.integers(left + 1, w)), draw(st.integers(top + 1, h)))
    return DetectorView.fit(
        (h, w),
        long_side_px=draw(st.integers(32, 1300)),
        stride_px=draw(st.sampled_from([1, 32, 64])),
        roi_px=roi,
        rotate_deg=draw(st.sampled_from([0, 90, 180, 270])),
        stretch=draw(st.booleans()),
    )


@given(views(), st.tuples(*[st.floats(0, 1)] * 4))
@settings(max_examples=300)
def test_letterbox_then_inverse_is_the_identity(view: DetectorView, at: tuple[float, ...]) -> None:
    left, top, right, bottom = view.roi_px
    x = np.sort([left + (right - left) * at[0], left + (right - left) * at[2]])
    y = np.sort([top + (bottom - top) * at[1], top + (bottom - top) * at[3]])
    box = np.array([[x[0], y[0], x[1], y[1]]])
    there = view.to_input(box)
    assert (there[:, :2] <= there[:, 2:] + 1e-9).all()
    px, py = view.pad_left_top
    assert there.min() >= min(px, py) - 1e-6
    assert (there[:, 2:] <= np.array([px, py]) + view.resized_hw[::-1] + 1e-6).all()
    back = view.to_original(there)
    assert back.dtype == np.float32
    assert np.abs(back - box).max() <= 0.01  # within half a pixel is promised; float32 is what is left


@given(views())
def test_the_picture_lies_within_the_input(view: DetectorView) -> None:
    (rh, rw), (px, py), (ih, iw) = view.resized_hw, view.pad_left_top, view.input_hw
    assert rh >= 1
    assert rw >= 1
    assert 0 <= px <= iw - rw
    assert 0 <= py <= ih - rh
    assert abs((iw - rw) - 2 * px) <= 1  # bars alike on both sides
    assert abs((ih - rh) - 2 * py) <= 1


@given(views())
def test_the_whole_input_is_the_roi(view: DetectorView) -> None:
    ih, iw = view.input_hw
    everything = np.array([[-50, -50, iw + 50, ih + 50]], np.float32)
    assert view.to_original(everything)[0].tolist() == list(view.roi_px)


@given(
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.sampled_from([0, 90, 180, 270]),
    st.data(),
)
def test_boxes_turn_as_pixels_do(hw: tuple[int, int], rotate_deg: int, data: st.DataObject) -> None:
    h, w = hw
    x = sorted(data.draw(st.lists(st.integers(0, w), min_size=2, max_size=2, unique=True)))
    y = sorted(data.draw(st.lists(st.integers(0, h), min_size=2, max_size=2, unique=True)))
    marked = np.zeros(hw, bool)
    marked[y[0] : y[1], x[0] : x[1]] = True
    turned = np.rot90(marked, k=-rotate_deg // 90)
    rows, columns = np.flatnonzero(turned.any(axis=1)), np.flatnonzero(turned.any(axis=0))
    expected = [columns[0] + 5, rows[0] + 7, columns[-1] + 6, rows[-1] + 8]
    size = (turned.shape[0], turned.shape[1])
    view = DetectorView(hw, (0, 0, w, h), rotate_deg, size, (5, 7), (size[0] + 9, size[1] + 9))
    assert view.to_input(np.array([[x[0], y[0], x[1], y[1]]]))[0].tolist() == expected


@given(
    st.tuples(st.integers(8, 3000), st.integers(8, 3000)).filter(lambda s: max(s) < 12 * min(s)),
    st.sampled_from([320, 640, 1280]),
    st.sampled_from([32, 64]),
)
@settings(max_examples=200)
def test_it_has_the_geometry_of_ultralytics_letterbox(hw: tuple[int, int], side: int, stride: int) -> None:
    """`LetterBox(auto=True)` on a pixel-free image: the sizes it resizes and pads to.

    `tests/detect` compares the pixels too, for a few sizes.
    """
    r = min(side / hw[0], side / hw[1])
    unpadded_w, unpadded_h = round(hw[1] * r), round(hw[0] * r)
    dw, dh = (side - unpadded_w) % stride / 2, (side - unpadded_h) % stride / 2
    top, bottom, left, right = round(dh - 0.1), round(dh + 0.1), round(dw - 0.1), round(dw + 0.1)
    view = DetectorView.fit(hw, long_side_px=side, stride_px=stride)
    assert view.resized_hw == (unpadded_h, unpadded_w)
    assert view.pad_left_top == (left, top)
    assert view.input_hw == (unpadded_h + top + bottom, unpadded_w + left + right)


def test_stretched_views_fill_the_square() -> None:
    view = DetectorView.fit((375, 1242), long_side_px=630, stretch=True)
    assert (view.resized_hw, view.pad_left_top, view.input_hw) == ((640, 640), (0, 0), (640, 640))


@given(views())
def test_equal_requests_give_equal_views(view: DetectorView) -> None:
    """Nothing else than its arguments decides; so a view can be the key of a bucket."""
    again = DetectorView.fit(view.image_hw, long_side_px=640, roi_px=view.roi_px, rotate_deg=view.rotate_deg)
    other = DetectorView.fit(view.image_hw, long_side_px=640, roi_px=view.roi_px, rotate_deg=view.rotate_deg)
    assert again == other
    assert hash(again) == hash(other)


@pytest.mark.parametrize(
    "roi",
    [(0, 0, 0, 0), (0, 0, 101, 50), (0, 0, 100, 51), (-1, 0, 50, 50), (60, 0, 60, 50), (0, 30, 100, 20)],
)
def test_a_roi_outside_the_image_is_refused(roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="not inside the image of 100x50"):
        DetectorView.fit((50, 100), long_side_px=64, roi_px=roi)


@pytest.mark.parametrize("degrees", [45, 360, -90, 1])
def test_other_than_quarter_turns_are_refused(degrees: int) -> None:
    with pytest.raises(ValueError, match="allowed are 0, 90, 180, 270"):
        DetectorView.fit((50, 100), long_side_px=64, rotate_deg=degrees)


@pytest.mark.parametrize("hw", [(0, 100), (50, 0)])
def test_an_image_without_pixels_is_refused(hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not inside the image"):
        DetectorView.fit(hw, long_side_px=64)
