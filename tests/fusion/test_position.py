"""Positions of drawn boxes against where they were drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fusion.fuse_scene import LABELS, ONTOLOGY, Thing, box_of, detections_of, pinhole, pose, ring, see
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.config import CameraConfig, FuseConfig
from perception_batch.fusion import open_fuser
from perception_batch.geometry import SE3
from perception_batch.types import FusedObject, Fusion

CLASSES = tuple(LABELS.values())


def fuse(
    rig: Rig, things: list[Thing], settings: FuseConfig | None = None, **cameras: CameraConfig
) -> Fusion:
    seen = see(things, rig)
    fuser = open_fuser(
        rig, ONTOLOGY, LABELS, settings or FuseConfig(), detect_classes=CLASSES, cameras=cameras
    )
    return fuser.fuse(seen.detections, seen.image_hw, seen.poses)


def single(lens: Intrinsics, place: SE3, **kwargs: float) -> Rig:
    return Rig("base_link", {"cam": Camera("cam", lens, place, "drawn")}, {}, **kwargs)


def relative_error(found: FusedObject, thing: Thing) -> float:
    return float(np.linalg.norm(found.position_m[:2] - thing.center_m[:2]) / np.hypot(*thing.center_m[:2]))


@pytest.mark.parametrize("yaw", [0.0, math.pi / 2, 0.6])
@pytest.mark.parametrize("range_m", [9.0, 20.0, 38.0])
@pytest.mark.parametrize("label", ["car", "truck", "person"])
def test_clean_box_of_mean_size_is_found_where_it_was_drawn(label: str, range_m: float, yaw: float) -> None:
    thing = Thing.standing(label, range_m * math.cos(0.2), range_m * math.sin(0.2), yaw)
    rig = single(pinhole(f=800.0), pose(0, 0, 1.5, 0))
    (found,) = fuse(rig, [thing]).objects
    # Heading is unknown, and a car at 45 degrees looks as wide as from the side: up to a quarter of a length.
    length = thing.size_lwh_m[0]
    assert relative_error(found, thing) < max(0.25 * length / range_m, 0.03)
    assert abs(found.position_m[2] - thing.center_m[2]) < 0.15
    assert found.size_lwh_m.tolist() == list(ONTOLOGY.classes[label].size_lwh_m)
    assert math.isnan(found.yaw_rad)
    error = found.position_m - np.array(thing.center_m)
    assert error @ np.linalg.inv(found.covariance_m2) @ error < 7.81  # chi-square, 3 degrees, 95 %


@pytest.mark.parametrize("roll", [180.0, 90.0, -90.0])
def test_turned_camera_gives_what_the_upright_one_gives(roll: float) -> None:
    thing = Thing.standing("car", 15.0, 1.0)
    lens = pinhole(1600, 1600, 1000.0)
    upright = fuse(single(lens, pose(0, 0, 1.5, 0)), [thing]).objects[0]
    turned = fuse(single(lens, pose(0, 0, 1.5, 0, roll_deg=roll)), [thing]).objects[0]
    np.testing.assert_allclose(turned.position_m, upright.position_m, atol=0.02)


def test_camera_that_looks_down_ten_degrees_and_is_placed_elsewhere() -> None:
    thing = Thing.standing("car", 3.0, 22.0, math.pi / 2)
    (found,) = fuse(single(pinhole(f=900), pose(0.4, 1.0, 2.1, 80, 10)), [thing]).objects
    assert relative_error(found, thing) < 0.05


def test_distorted_lenses_are_undone() -> None:
    thing = Thing.standing("car", 14.0, 7.0, 0.3)
    plumb = Intrinsics("plumb_bob", 1600, 900, 1000, 1000, 799.5, 449.5, (-0.3, 0.1, 0.001, -0.001, 0.0))
    fisheye = Intrinsics("equidistant", 1280, 960, 400, 400, 639.5, 479.5, (0.02, -0.01, 0.002, 0.0))
    from perception_batch.fusion.lens import RayTables

    exactly = pinhole()
    tables = RayTables()
    numbers = [tables.add(lens) for lens in (plumb, exactly, fisheye)]
    for number, lens in zip(numbers, (plumb, exactly, fisheye), strict=True):
        points = np.random.default_rng(0).uniform([0, 0], [lens.width_px, lens.height_px], (200, 2))
        exact = lens.rays_of_corners(points)
        inside = np.isfinite(exact).all(axis=1)
        got = tables.rays(np.full(len(points), number), *points.T[:, None])[:, 0].T
        mixed = tables.rays(np.array(numbers)[np.arange(600) % 3], *np.repeat(points, 3, axis=0).T[:, None])
        np.testing.assert_array_equal(mixed[:, 0, numbers.index(number) :: 3].T, got)  # whoever else is asked
        got /= np.linalg.norm(got, axis=1, keepdims=True)
        near_border = ~np.isfinite(got).all(axis=1)
        assert (inside & ~near_border).sum() > 150
        usable = inside & ~near_border
        assert np.abs(got[usable] - exact[usable]).max() < 2e-4  # rad: a fifth of a pixel at f = 1000
    (found,) = fuse(single(fisheye, pose(0, 0, 1.5, 0)), [thing]).objects
    assert relative_error(found, thing) < 0.08


def test_road_that_climbs_is_not_believed_to_be_flat() -> None:
    thing = Thing.standing("car", 30.0, 0.0, z=1.8)  # 6 % grade: the box stands above the horizon
    (found,) = fuse(single(pinhole(), pose(0, 0, 1.5, 0)), [thing]).objects
    assert relative_error(found, thing) < 0.05
    assert abs(found.position_m[2] - thing.center_m[2]) < 0.3


def test_hanging_light_is_placed_by_its_height_alone() -> None:
    size = ONTOLOGY.classes["traffic light"].size_lwh_m
    thing = Thing("traffic light", (25.0, -3.0, 5.0), size)
    (found,) = fuse(single(pinhole(), pose(0, 0, 1.5, 0)), [thing]).objects
    assert relative_error(found, thing) < 0.03
    assert abs(found.position_m[2] - 5.0) < 0.2


def test_cut_bottom_leaves_the_bearing_only() -> None:
    rig = single(pinhole(), pose(0, 0, 1.5, 0))
    fusion = fuse(rig, [Thing.standing("car", 5.5, 0.0)])  # its bottom is below the image
    assert len(fusion.objects) == 1
    assert not fusion.objects[0].has_position
    assert np.isnan(fusion.objects[0].covariance_m2).all()
    assert fusion.object_of["cam"].tolist() == [0]


def test_cut_top_is_placed_by_its_ground_contact() -> None:
    thing = Thing.standing("bus", 16.0, 0.0)
    rig = single(pinhole(1600, 500), pose(0, 0, 1.5, 0, 4.0))
    assert box_of(thing, rig.cameras["cam"])[1] == 0
    (found,) = fuse(rig, [thing]).objects
    assert relative_error(found, thing) < 0.1


def test_bottom_hidden_by_the_own_bonnet_is_no_ground_contact() -> None:
    rig = single(pinhole(), pose(0, 0, 1.5, 0))
    thing = Thing.standing("car", 20.0, 0.0)
    bonnet = ((0.0, 530.0), (1600.0, 530.0), (1600.0, 900.0), (0.0, 900.0))
    box = box_of(thing, rig.cameras["cam"])
    box[3] = 530.0
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig(), cameras={"cam": CameraConfig(mask=(bonnet,))})
    fusion = fuser.fuse(
        {"cam": detections_of([("car", 0.9, box)])}, {"cam": (900, 1600)}, {"cam": pose(0, 0, 1.5, 0)}
    )
    assert len(fusion.objects) == 1
    assert not fusion.objects[0].has_position


def test_box_cut_by_a_side_has_its_center_beyond_that_side() -> None:
    thing = Thing.standing("truck", 20.0, 14.5, 0.0)
    rig = single(pinhole(), pose(0, 0, 1.5, 0))
    left, _, right, _ = box_of(thing, rig.cameras["cam"])
    assert left == 0
    (found,) = fuse(rig, [thing]).objects
    middle = math.atan2(800 - (left + right) / 2, 1266)
    truth = math.atan2(thing.center_m[1], thing.center_m[0])
    bearing = math.atan2(found.position_m[1], found.position_m[0])
    assert truth > middle + 0.03
    assert abs(bearing - truth) < 0.7 * (truth - middle)
    error = found.position_m - np.array(thing.center_m)
    assert error @ np.linalg.inv(found.covariance_m2) @ error < 7.81


def test_beyond_the_range_limit_no_position_is_claimed() -> None:
    rig = single(pinhole(), pose(0, 0, 1.5, 0))
    things = [Thing.standing("car", 30.0, 0.0)]
    assert fuse(rig, things).objects[0].has_position
    assert not fuse(rig, things, FuseConfig(max_range_m=25.0)).objects[0].has_position
    assert not fuse(rig, things, cam=CameraConfig(max_range_m=25.0)).objects[0].has_position
    assert fuse(rig, things, cam=CameraConfig(max_range_m=45.0)).objects[0].has_position


def test_images_of_another_size_than_the_calibration_scale_it_or_lose_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = single(pinhole(), pose(0, 0, 1.5, 0))
    thing = Thing.standing("car", 20.0, 0.0)
    box = box_of(thing, rig.cameras["cam"])
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    poses = {"cam": pose(0, 0, 1.5, 0)}
    half = fuser.fuse({"cam": detections_of([("car", 0.9, box / 2)])}, {"cam": (450, 800)}, poses)
    assert relative_error(half.objects[0], thing) < 0.05
    for _ in range(2):
        odd = fuser.fuse({"cam": detections_of([("car", 0.9, box / 2)])}, {"cam": (800, 800)}, poses)
        assert not odd.objects[0].has_position
    assert sum("aspect" in record.message for record in caplog.records) == 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(CLASSES),
            st.floats(0.25, 1),
            st.floats(0, 1280),
            st.floats(0, 960),
            st.floats(0, 1280),
            st.floats(0, 960),
        ),
        max_size=6,
    ),
    st.sampled_from(["pinhole", "equidistant"]),
    st.sampled_from([0.0, 45.0, 89.9, 90.0, -30.0]),
)
def test_any_box_gives_an_object_without_warning(
    rows: list[tuple[str, float, float, float, float, float]], model: str, pitch: float
) -> None:
    lens = Intrinsics(model, 1280, 960, 500, 500, 640, 480, (0.1, 0.0, 0.0, 0.0) if model[0] == "e" else ())
    boxes = [
        (label, score, [min(a, c), min(b, d), max(a, c), max(b, d)]) for label, score, a, b, c, d in rows
    ]
    boxes.sort(key=lambda row: -row[1])
    rig = single(lens, pose(0, 0, 1.5, 0, pitch))
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig(), detect_classes=CLASSES)
    fusion = fuser.fuse(
        {"cam": detections_of(boxes)}, {"cam": (960, 1280)}, {"cam": rig.cameras["cam"].base_SE3_camera}
    )
    assert len(fusion.objects) == fusion.suppressed["cam"].count("")
    for item in fusion.objects:
        if item.has_position:
            assert np.isfinite(item.covariance_m2).all()
            assert np.array_equal(item.covariance_m2, item.covariance_m2.T)
            assert np.linalg.eigvalsh(item.covariance_m2).min() > 0
        else:
            assert np.isnan(item.covariance_m2).all()


def turned_about_x(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def test_ellipses_hold_what_they_promise() -> None:
    """95 % ellipses against errors drawn as the settings say: sizes, pitch, slopes, pixels, any heading."""
    rng = np.random.default_rng(7)
    rig = ring()
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    inside, errors = [], []
    for _ in range(60):
        things = []
        for _ in range(12):
            label = ("car", "car", "person", "truck")[rng.integers(4)]
            entry = ONTOLOGY.classes[label]
            size = np.maximum(0.3, rng.normal(entry.size_lwh_m, entry.size_sd_m))
            r, a = rng.uniform(7, 40), rng.uniform(0, 2 * math.pi)
            z = 0.02 * r * rng.normal()
            things.append(
                Thing.standing(label, r * math.cos(a), r * math.sin(a), rng.uniform(0, 6.3), size=size, z=z)
            )
        true = {
            name: SE3(
                camera.base_SE3_camera.rotation @ turned_about_x(math.radians(0.5) * rng.normal()),
                camera.base_SE3_camera.translation_m,
            )
            for name, camera in rig.cameras.items()
        }
        seen = see(things, rig, noise=rng, true_poses=true)
        for item in fuser.fuse(seen.detections, seen.image_hw, seen.poses).objects:
            owners = {seen.truth[o.camera][o.detection] for o in item.observations}
            if len(owners) == 1 and item.has_position:
                truth = things[owners.pop()]
                error = item.position_m[:2] - truth.center_m[:2]
                inside.append(error @ np.linalg.inv(item.covariance_m2[:2, :2]) @ error < 5.99)
                errors.append(relative_error(item, truth))
    assert len(inside) > 500
    assert 0.90 <= np.mean(inside) <= 0.995
    assert np.median(errors) < 0.1
