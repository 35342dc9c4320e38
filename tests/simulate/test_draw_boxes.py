"""Boxes from drawn ids against an oracle that knows only OpenCV's own projection of points on the surface."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from simulate.toy_world import ToyWorld, car_mesh, person_mesh, pose, thing

from perception_batch.calibration import Camera, Intrinsics
from perception_batch.geometry import SE3
from perception_batch.simulate.draw import Drawer
from perception_batch.simulate.scene import Mesh, Thing

LENSES = {
    "pinhole": Intrinsics("pinhole", 960, 600, 685.0, 680.0, 479.5, 299.5),
    "plumb_bob": Intrinsics(
        "plumb_bob", 960, 600, 600.0, 602.0, 484.0, 296.0, (-0.25, 0.06, 2e-4, -3e-4, 0.0)
    ),
    "rational": Intrinsics(
        "rational_polynomial",
        960,
        600,
        420.0,
        420.0,
        479.5,
        299.5,
        (0.32, 0.03, 1e-4, 2e-4, 0.0005, 0.55, 0.10, 0.002),
    ),
    "fisheye": Intrinsics(
        "equidistant", 960, 600, 290.0, 290.0, 479.5, 299.5, (-0.015, 0.004, -0.0012, 0.0001)
    ),
}
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def camera(lens: str, yaw: float = 0.0, pitch: float = 0.0) -> Camera:
    c, s, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ np.array([[cp, 0, sp], [0, 1.0, 0], [-sp, 0, cp]])
    return Camera("cam", LENSES[lens], SE3(turn @ FORWARD, np.array([1.5, 0.0, 1.5])), "test")


def outlines(mesh: Mesh, steps: int = 400) -> np.ndarray:
    """(F, N, 3) points along the edges of each face, all around it."""
    t = np.arange(steps)[:, None] / steps
    out = []
    for face in mesh.faces:
        ring = mesh.vertices_m[face]
        out.append(np.concatenate([ring[k] * (1 - t) + ring[(k + 1) % 4] * t for k in range(4)]))
    return np.array(out)


def opencv_pixels(intrinsics: Intrinsics, points: np.ndarray) -> np.ndarray:
    """Pixel centres by OpenCV, for points in front of the image plane."""
    k = np.array(
        [
            [intrinsics.fx_px, 0, intrinsics.cx_px],
            [0, intrinsics.fy_px, intrinsics.cy_px],
            [0, 0, 1.0],
        ]
    )
    d = np.array(intrinsics.distortion or (0.0,) * 4)
    zero = np.zeros(3)
    if intrinsics.model == "equidistant":
        return cv2.fisheye.projectPoints(points[:, None], zero, zero, k, d)[0][:, 0]
    return cv2.projectPoints(points[:, None], zero, zero, k, d)[0][:, 0]


def box_of(rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box of (F, N, 2) closed curves and box of what they enclose inside of the image, in corner coordinates."""
    points = rings.reshape(-1, 2)
    whole = np.concatenate([points.min(axis=0), points.max(axis=0)])
    inside = points[((points >= 0) & (points <= [960, 600])).all(axis=1)]
    # A corner of the image that a face covers belongs to what is seen of it.
    covered = [
        [[x, y]]
        for x, y in ((0, 0), (960, 0), (0, 600), (960, 600))
        if any(cv2.pointPolygonTest(ring.astype(np.float32), (x, y), False) >= 0 for ring in rings)
    ]
    inside = np.concatenate([inside, *covered])
    if not len(inside):
        return whole, np.zeros(4)
    return whole, np.concatenate([inside.min(axis=0), inside.max(axis=0)])


def true_box(cam: Camera, item: Thing) -> tuple[np.ndarray, np.ndarray]:
    """Its whole box and that of the part inside the image; the own vehicle stands at the origin."""
    rings = outlines(item.mesh)
    points = cam.base_SE3_camera.inverse().apply(item.odom_SE3_object.apply(rings.reshape(-1, 3)))
    assert points[:, 2].min() > 0.05
    return box_of((opencv_pixels(cam.intrinsics, points) + 0.5).reshape(*rings.shape[:2], 2))


def id_box(ids: np.ndarray, object_id: int) -> np.ndarray:
    rows, columns = np.nonzero(ids == object_id)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


@pytest.mark.parametrize("lens", LENSES)
def test_ids_and_truth_are_within_a_pixel_of_opencvs_projection(lens: str) -> None:
    """Things alone in the picture, all over it, near and far, some cut by its border."""
    rng = np.random.default_rng(5)
    worst_ids = worst_truth = worst_visible = 0.0
    tried = 0
    cams = [camera(lens, yaw, pitch) for yaw, pitch in ((0.0, 0.0), (0.17, 0.1), (-0.2, -0.08))]
    drawers = [Drawer(cam) for cam in cams]
    while tried < 30:
        label = "car" if rng.random() < 0.6 else "person"
        away = float(rng.uniform(4.5, 60))
        bearing = float(rng.uniform(-0.65, 0.65) * (1.6 if lens == "fisheye" else 1))
        item = thing(7, label, 1.5 + away * math.cos(bearing), away * math.sin(bearing), rng.uniform(-3, 3))
        cam, drawer = cams[tried % 3], drawers[tried % 3]
        points = cam.base_SE3_camera.inverse().apply(item.odom_SE3_object.apply(item.mesh.vertices_m))
        limit = 0.2 if lens == "fisheye" else 1 / math.tan(1.05)
        if (points[:, 2] < limit * np.hypot(points[:, 0], points[:, 1])).any():
            continue  # OpenCV's polynomials mean nothing far outside of the picture
        whole, inside = true_box(cam, item)
        if inside[2] - inside[0] < 1 or inside[3] - inside[1] < 1:
            continue
        drawing = drawer.draw(ToyWorld([item]), 0.0)
        tried += 1
        worst_ids = max(worst_ids, float(np.abs(id_box(drawing.ids, 7) - inside).max()))
        worst_truth = max(worst_truth, float(np.abs(np.array(drawing.amodal_px[7]) - inside).max()))
        worst_visible = max(worst_visible, float(np.abs(np.array(drawing.visible_px[7]) - inside).max()))
        assert drawing.visible_fraction[7] == 1.0
        area = np.prod(whole[2:] - whole[:2])
        cut = 1 - np.prod(inside[2:] - inside[:2]) / area
        if (whole[:2] > (-960, -600)).all() and (whole[2:] < (1920, 1200)).all():
            assert drawing.truncation[7] == pytest.approx(cut, abs=0.03)
    assert worst_ids <= 1.0 + 1 / 16, worst_ids  # corners are rounded to sixteenths
    assert worst_truth <= 0.35, worst_truth
    assert worst_visible <= 1.0, worst_visible


def test_fisheye_beyond_ninety_degrees() -> None:
    """A car beside the camera, behind its image plane, is where the Kannala-Brandt polynomial puts it."""
    cam = camera("fisheye")
    item = thing(3, "car", 1.2, 9.0, 0.3)
    drawing = Drawer(cam).draw(ToyWorld([item]), 0.0)
    rings = outlines(item.mesh, 100)
    points = cam.base_SE3_camera.inverse().apply(item.odom_SE3_object.apply(rings.reshape(-1, 3)))
    assert points[:, 2].min() < -0.5
    k = cam.intrinsics.distortion
    uv = []
    for x, y, z in points:  # one by one, from the definition
        r = math.hypot(x, y)
        theta = math.atan2(r, z)
        rd = theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
        uv.append((290.0 * rd * x / r + 480.0, 290.0 * rd * y / r + 300.0))
    _, box = box_of(np.array(uv).reshape(*rings.shape[:2], 2))
    assert np.abs(np.array(drawing.amodal_px[3]) - box).max() < 0.35
    assert np.abs(id_box(drawing.ids, 3) - box).max() <= 1.0 + 1 / 16


def test_a_long_straight_edge_bends_as_the_lens_bends_it() -> None:
    """The middle of a wall's edge, far from its corners, bounds the box where distortion makes it bulge."""
    wall = Mesh(
        np.array([[0.0, -8, -1], [0, 8, -1], [0, 8, 1], [0, -8, 1]]),
        np.array([[0, 3, 2, 1]], np.int32),
        np.array([[200, 0, 0]], np.uint8),
    )
    item = Thing(9, "car", pose(9.0, 0.0, 2.5), (0.01, 16.0, 2.0), np.zeros(3), wall)
    cam = camera("fisheye")
    drawing = Drawer(cam).draw(ToyWorld([item]), 0.0)
    _, box = true_box(cam, item)
    corners = cam.base_SE3_camera.inverse().apply(item.odom_SE3_object.apply(wall.vertices_m))
    of_corners = opencv_pixels(cam.intrinsics, corners) + 0.5
    assert of_corners[:, 1].min() > box[1] + 10  # the corners alone would be far off
    assert np.abs(np.array(drawing.amodal_px[9]) - box).max() < 0.35
    assert np.abs(id_box(drawing.ids, 9) - box).max() <= 1.0 + 1 / 16


def test_far_things_keep_their_box_though_drawn_as_an_outline() -> None:
    cam = camera("plumb_bob")
    for distance in (70, 110, 150):
        item = thing(4, "person", float(distance), 6.0, 0.4, person_mesh())
        drawing = Drawer(cam).draw(ToyWorld([item]), 0.0)
        _, box = true_box(cam, item)
        assert np.abs(np.array(drawing.amodal_px[4]) - box).max() < 0.1
        assert np.abs(id_box(drawing.ids, 4) - box).max() <= 1.0 + 1 / 16


def test_truncation_is_the_share_of_the_whole_box_outside() -> None:
    cam = camera("pinhole")
    drawer = Drawer(cam)
    for side in (1.0, 2.0, 3.0, 3.5, 4.0):
        item = thing(4, "car", 7.5, side, 0.2)
        whole, inside = true_box(cam, item)
        area, seen = np.prod(whole[2:] - whole[:2]), np.prod(inside[2:] - inside[:2])
        assert drawer.draw(ToyWorld([item]), 0.0).truncation[4] == pytest.approx(1 - seen / area, abs=0.01)


def test_what_is_behind_the_camera_has_no_truth() -> None:
    behind = thing(1, "car", -15.0, 0.0)
    drawing = Drawer(camera("pinhole")).draw(ToyWorld([behind]), 0.0)
    assert not drawing.amodal_px and not drawing.visible_px and not drawing.ids.any()


def test_a_car_that_the_camera_passes_is_cut_and_says_so() -> None:
    """It reaches from beside the camera to before it: its polygons cross the image plane."""
    beside = thing(2, "car", 3.0, -2.6, 0.0, car_mesh())
    drawing = Drawer(camera("rational")).draw(ToyWorld([beside]), 0.0)
    left, top, right, bottom = drawing.visible_px[2]
    assert right == 960 and bottom <= 600 and 480 < left < 960 and top > 0
    assert 0.3 < drawing.truncation[2] <= 1.0
