"""The lidar as a third cue: which layer of points is the thing, and what it does to ranges in a drawn world."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fusion.fuse_scene import LABELS, NUMBERS, ONTOLOGY, Thing, pose, ring, see
from hypothesis import given
from hypothesis import strategies as st
from lidar_clouds import Array, beams, cast

from perception_batch.config import FuseConfig
from perception_batch.fusion import measure_lidar, open_fuser
from perception_batch.fusion.lidar_cue import near_face
from perception_batch.geometry import SE3
from perception_batch.lidar import LidarSweep, MovedSweep
from perception_batch.types import LidarRanges

AT = np.array([1.0, 0.0, 1.9])


def sweep(things: list[Thing], apart_s: float = 0.0, now_SE3_then: SE3 | None = None) -> MovedSweep:
    boxes = [(np.array(t.center_m), np.array(t.size_lwh_m), t.yaw_rad) for t in things]
    points = cast(boxes, AT, beams(32, 1200)).astype(np.float32)
    return MovedSweep(LidarSweep(0, 0, points), now_SE3_then or SE3.identity(), apart_s, True)


def world(seed: int) -> list[Thing]:
    """Things all round, none behind another, of sizes that differ as the classes' do."""
    rng = np.random.default_rng(seed)
    things = []
    for k in range(14):
        label = ("car", "car", "truck", "person")[k % 4]
        entry = ONTOLOGY.classes[label]
        size = np.maximum(rng.normal(entry.size_lwh_m, entry.size_sd_m), 0.4 * np.array(entry.size_lwh_m))
        bearing, reach = 2 * math.pi * (k + 0.3 * rng.uniform()) / 14, rng.uniform(9, 45)
        x, y = reach * math.cos(bearing), reach * math.sin(bearing)
        things.append(Thing.standing(label, x, y, rng.uniform(0, 6.28), size=size))
    return things


def errors() -> tuple[Array, Array, Array]:
    """Of all things that got a position, over five drawn worlds: relative range errors without and with the lidar, and
    squared Mahalanobis distances with it."""
    without, with_lidar, squared = [], [], []
    for seed in range(5):
        things, rig = world(seed), ring(ground_z_m=0.0)
        seen = see(things, rig, noise=np.random.default_rng(100 + seed))
        sweeps = dict.fromkeys(rig.cameras, sweep(things))
        found = measure_lidar(seen.detections, seen.image_hw, seen.poses, sweeps, rig)
        for lidar, out in (({}, without), (found, with_lidar)):
            fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
            for item in fuser.fuse(seen.detections, seen.image_hw, seen.poses, lidar=lidar).objects:
                who = {seen.truth[o.camera][o.detection] for o in item.observations}
                if len(who) == 1 and item.has_position:
                    true = np.array(things[who.pop()].center_m)[:2]
                    out.append(abs(np.hypot(*item.position_m[:2]) / np.hypot(*true) - 1))
                    off = item.position_m[:2] - true
                    if lidar:
                        squared.append(off @ np.linalg.solve(item.covariance_m2[:2, :2], off))
    return np.array(without), np.array(with_lidar), np.array(squared)


def test_the_range_error_falls_and_the_ellipse_stays_honest() -> None:
    without, with_lidar, squared = errors()
    assert len(with_lidar) > 50
    assert np.median(with_lidar) < 0.4 * np.median(without)
    assert np.quantile(with_lidar, 0.9) < 0.6 * np.quantile(without, 0.9)
    assert (squared <= 5.99).mean() >= 0.9


def test_ego_motion_brings_a_sweep_to_the_picture() -> None:
    """A sweep half a second old, 6 m back, with the motion between: the same range as a sweep of now."""
    thing = Thing.standing("car", 24.0, 0.0)
    rig = ring(ground_z_m=0.0)
    seen = see([thing], rig)
    moved = SE3(np.eye(3), np.array([-6.0, 0.0, 0.0]))  # base now, seen from base then, is 6 m ahead
    then = replace(thing, center_m=(30.0, 0.0, thing.center_m[2]))
    sweeps = {"cam_front": sweep([then], 0.5, moved)}
    found = measure_lidar(seen.detections, seen.image_hw, seen.poses, sweeps, rig)["cam_front"]
    assert set(measure_lidar(seen.detections, seen.image_hw, seen.poses, sweeps, rig)) == {"cam_front"}
    assert found.range_m[0] == pytest.approx(24 - thing.size_lwh_m[0] / 2 - 1.7, abs=0.15)
    assert found.apart_s[0] == 0.5
    assert found.sigma_m[0] > 2.5  # the car may have driven 3 m since


def test_a_lidar_of_another_thing_is_not_believed() -> None:
    """Points at a tenth of the range that box and ground tell: a branch before the lens."""
    rig = ring(ground_z_m=0.0)
    seen = see([Thing.standing("car", 30.0, 0.0)], rig)
    plain = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig()).fuse(seen.detections, seen.image_hw, seen.poses)
    wrong = LidarRanges.nothing(len(seen.detections["cam_front"]))
    wrong.range_m[0], wrong.sigma_m[0], wrong.apart_s[0], wrong.points[0] = 3.0, 0.1, 0.0, 20
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    fusion = fuser.fuse(seen.detections, seen.image_hw, seen.poses, lidar={"cam_front": wrong})
    np.testing.assert_array_equal(fusion.objects[0].position_m, plain.objects[0].position_m)


def test_a_box_without_a_cue_of_its_own_takes_the_lidars_range() -> None:
    """A car so near that both its ends leave the image: neither its height nor its wheels are seen."""
    thing = Thing.standing("truck", 9.0, 0.0, size=(8.0, 2.5, 9.5), z=-3.5)
    rig = ring(ground_z_m=0.0)
    seen = see([thing], rig)
    seen = replace(
        seen,
        detections={"cam_front": seen.detections["cam_front"]},
        image_hw={"cam_front": seen.image_hw["cam_front"]},
    )
    plain = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig()).fuse(seen.detections, seen.image_hw, seen.poses)
    assert not plain.objects[0].has_position
    found = measure_lidar(seen.detections, seen.image_hw, seen.poses, {"cam_front": sweep([thing])}, rig)
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    (item,) = fuser.fuse(seen.detections, seen.image_hw, seen.poses, lidar=found).objects
    assert item.has_position
    assert item.position_m[0] == pytest.approx(9.0, abs=2.0)


@pytest.mark.parametrize(
    ("layers", "near"),
    [
        ([(12.0, 60), (40.0, 200)], 12.0),  # a person before a wall that shows more
        ([(6.0, 4), (15.0, 60), (16.0, 30)], 15.0),  # a post before a car
        ([(15.0, 60), (30.0, 100)], 15.0),
    ],
)
def test_the_nearest_layer_of_weight(layers: list[tuple[float, int]], near: float) -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([r + 0.05 * rng.normal(size=n) for r, n in layers])
    found = near_face(rng.permutation(points))
    assert found is not None
    assert found[0] == pytest.approx(near, abs=0.15)


@given(st.lists(st.floats(0.5, 100), max_size=30))
def test_the_range_is_one_of_the_points(ranges: list[float]) -> None:
    found = near_face(np.array(ranges))
    if found is not None:
        near, spread, count = found
        assert min(ranges) <= near <= max(ranges)
        assert spread >= 0
        assert 3 <= count <= len(ranges)
    elif len(ranges) >= 3:  # no three of them near each other
        r = np.sort(ranges)
        assert ((r[2:] - r[:-2]) > 0.59).all()


def test_a_fisheyes_rim_gives_a_bearing_only_with_a_lidar_too() -> None:
    from perception_batch.calibration import Camera, Intrinsics, Rig

    lens = Intrinsics("equidistant", 800, 600, 250.0, 250.0, 399.5, 299.5, (0.0, 0.0, 0.0, 0.0))
    rig = Rig("base_link", {"fish": Camera("fish", lens, pose(1.0, 0.0, 1.2, 0.0), "drawn")}, {}, 0.0)
    from fusion.fuse_scene import detections_of

    found = detections_of([("car", 0.9, (0.0, 280.0, 120.0, 400.0))])
    told = LidarRanges.nothing(1)
    told.range_m[0], told.sigma_m[0], told.apart_s[0], told.points[0] = 5.0, 0.1, 0.0, 50
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    poses = {"fish": rig.cameras["fish"].base_SE3_camera}
    (item,) = fuser.fuse({"fish": found}, {"fish": (600, 800)}, poses, lidar={"fish": told}).objects
    assert not item.has_position
    assert NUMBERS["car"] == item.class_id
