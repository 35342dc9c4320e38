"""What tracks lend to fusion: motion between frames, headings, and who is who."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fusion.fuse_scene import LABELS, ONTOLOGY, Thing, pinhole, pose, ring, see
from pydantic import ValidationError

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.config import FuseConfig
from perception_batch.fusion import open_fuser
from perception_batch.types import FusedObject, Prediction

T = 1_700_000_000_123_456_789


def predicted(
    thing: Thing, velocity: tuple[float, float] = (math.nan, math.nan), track: int = 7
) -> Prediction:
    return Prediction(
        track, thing.label, np.array(thing.center_m), np.diag([0.5, 0.5, 0.1]), np.array([*velocity, 0.0])
    )


def check_parts(found: FusedObject) -> None:
    total = found.own_m2 + found.shared_m.T @ found.shared_m
    np.testing.assert_allclose(found.covariance_m2, total, rtol=1e-9, atol=1e-12)
    assert np.linalg.eigvalsh(found.own_m2).min() > 0


def test_errors_split_into_what_is_new_and_what_lasts() -> None:
    rig, a = ring(), math.radians(29)
    things = [Thing.standing("car", 25 * math.cos(a), 25 * math.sin(a)), Thing.standing("person", -15, 2)]
    seen = see(things, rig)
    fusion = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig()).fuse(seen.detections, seen.image_hw, seen.poses)
    assert sorted(len(item.observations) for item in fusion.objects) == [1, 2]
    for item in fusion.objects:
        check_parts(item)
    near = see([Thing.standing("car", 5.5, 0.0)], rig)
    (cut,) = (
        open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
        .fuse(near.detections, near.image_hw, near.poses)
        .objects
    )
    assert np.isnan(cut.own_m2).all()
    assert np.isnan(cut.shared_m).all()


def test_what_moves_is_brought_to_the_timestep_by_its_own_velocity() -> None:
    """A car that crosses at 15 m/s, seen 40 ms after the timestep: 0.6 m."""
    rig = ring()
    now = Thing.standing("car", 20.0, 0.0, math.pi / 2)
    then = Thing.standing("car", 20.0, 0.6, math.pi / 2)
    seen = see([then], rig)
    late = {"stamp_ns": T, "frame_stamps_ns": {"cam_front": T + 40_000_000}}
    alone = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    (before,) = alone.fuse(seen.detections, seen.image_hw, seen.poses, **late).objects
    assert before.position_m[1] == pytest.approx(0.6, abs=0.1)
    assert math.isnan(before.yaw_rad)
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    (found,) = fuser.fuse(
        seen.detections, seen.image_hw, seen.poses, [predicted(now, (0.0, 15.0))], **late
    ).objects
    assert found.position_m[1] == pytest.approx(0.0, abs=0.1)
    assert found.yaw_rad == pytest.approx(math.pi / 2)
    check_parts(found)


@pytest.mark.parametrize("yaw", [0.0, math.pi / 2])
def test_a_known_heading_says_how_deep_the_car_is(yaw: float) -> None:
    rig = Rig("base_link", {"cam": Camera("cam", pinhole(f=800.0), pose(0, 0, 1.5, 0), "drawn")}, {})
    thing = Thing.standing("truck", 18.0, 0.0, yaw)
    seen = see([thing], rig)
    velocity = (5 * math.cos(yaw), 5 * math.sin(yaw))
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    (blind,) = fuser.fuse(seen.detections, seen.image_hw, seen.poses).objects
    again = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    (found,) = again.fuse(seen.detections, seen.image_hw, seen.poses, [predicted(thing, velocity)]).objects
    assert found.covariance_m2[0, 0] < 1.02 * blind.covariance_m2[0, 0]  # its width told most of it already
    assert abs(found.position_m[0] - 18.0) < abs(blind.position_m[0] - 18.0) + 0.1


@pytest.mark.parametrize("camera_yaw_deg", [-25.0, 0.0, 30.0])
@pytest.mark.parametrize(("label", "far_m"), [("car", 16.0), ("bus", 32.0)])
def test_a_known_heading_says_where_the_centre_is_in_the_outline(
    label: str, far_m: float, camera_yaw_deg: float
) -> None:
    """The near half of what stands askew looks wider; off the axis of a flat image so does the outer half."""
    camera = Camera("cam", pinhole(f=800.0), pose(0, 0, 1.5, camera_yaw_deg), "drawn")
    rig = Rig("base_link", {"cam": camera}, {})
    aside: dict[bool, list[float]] = {False: [], True: []}
    for yaw in np.linspace(0.15, math.pi + 0.15, 9).tolist():
        thing = Thing.standing(label, far_m, 1.0, yaw)
        seen = see([thing], rig)
        track = predicted(thing, (5 * math.cos(yaw), 5 * math.sin(yaw)))
        for told in (False, True):
            fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
            (found,) = fuser.fuse(seen.detections, seen.image_hw, seen.poses, [track] * told).objects
            x, y = found.position_m[:2] / np.hypot(*found.position_m[:2])
            error = found.position_m - thing.center_m
            aside[told].append(x * error[1] - y * error[0])
            if told:
                left = np.array([-y, x])
                assert abs(aside[told][-1]) < 2 * math.sqrt(left @ found.own_m2[:2, :2] @ left)
    blind, told = (float(np.sqrt(np.mean(np.square(aside[k])))) for k in (False, True))
    assert told < 0.1 * blind


def test_tracks_of_another_group_far_away_or_without_position_change_nothing() -> None:
    rig = ring()
    thing = Thing.standing("car", 20.0, 3.0)
    seen = see([thing], rig)
    (plain,) = (
        open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
        .fuse(seen.detections, seen.image_hw, seen.poses)
        .objects
    )
    nowhere = Prediction(3, "car", np.full(3, np.nan), np.full((3, 3), np.nan), np.array([9.0, 0, 0]))
    others = [
        predicted(Thing.standing("person", 20.0, 3.0), (9.0, 0.0)),
        predicted(Thing.standing("car", 45.0, -10.0), (9.0, 0.0)),
        nowhere,
    ]
    (found,) = (
        open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
        .fuse(
            seen.detections,
            seen.image_hw,
            seen.poses,
            others,
            stamp_ns=T,
            frame_stamps_ns={"cam_front": T + 30_000_000},
        )
        .objects
    )
    np.testing.assert_array_equal(found.position_m, plain.position_m)
    assert math.isnan(found.yaw_rad)


def test_a_fisheye_box_on_the_border_or_under_the_bumper_is_a_bearing() -> None:
    lens = Intrinsics("equidistant", 1280, 960, 400, 400, 639.5, 479.5, (0.02, -0.01, 0.002, 0.0))
    rig = Rig("base_link", {"cam": Camera("cam", lens, pose(0, 0, 1.5, 0, 20), "drawn")}, {})
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())

    def found(x: float, y: float, label: str = "person") -> FusedObject:
        seen = see([Thing.standing(label, x, y)], rig)
        (item,) = fuser.fuse(seen.detections, seen.image_hw, seen.poses).objects
        return item

    assert found(10.0, 2.0).has_position
    assert not found(1.0, 0.1).has_position  # its feet are 56 degrees below the horizon
    assert not found(-0.2, 3.0, "car").has_position  # cut by the side


def test_what_lies_in_the_own_footprint_is_suppressed() -> None:
    rig = ring()
    trailer, follower = Thing.standing("truck", -9.0, 0.5), Thing.standing("car", -25.0, -1.0)
    seen = see([trailer, follower], rig)
    settings = FuseConfig(ego_footprint_m=(-14.0, -2.5, 4.0, 2.5))
    fusion = open_fuser(rig, ONTOLOGY, LABELS, settings).fuse(seen.detections, seen.image_hw, seen.poses)
    for camera, owners in seen.truth.items():
        for detection, owner in enumerate(owners):
            inside = owner == 0
            assert fusion.suppressed[camera][detection] == ("ego_mask" if inside else "")
            assert (fusion.object_of[camera][detection] < 0) == inside
    assert len(fusion.objects) == 1
    with pytest.raises(ValidationError, match="x_min, y_min, x_max, y_max"):
        FuseConfig(ego_footprint_m=(4.0, -2.5, -14.0, 2.5))


def test_same_calls_same_bytes() -> None:
    def run() -> list[bytes]:
        rng, rig = np.random.default_rng(5), ring()
        fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
        out = []
        for k in range(8):
            things = [Thing.standing("car", *rng.uniform(-30, 30, 2), rng.uniform(0, 6)) for _ in range(10)]
            seen = see(things, rig, noise=rng)
            tracks = [predicted(thing, (3.0, 1.0), n) for n, thing in enumerate(things[:6])]
            stamps = {name: T + k * 10**8 + 7_000_000 * n for n, name in enumerate(rig.cameras)}
            fusion = fuser.fuse(
                seen.detections,
                seen.image_hw,
                seen.poses,
                tracks,
                stamp_ns=T + k * 10**8,
                frame_stamps_ns=stamps,
            )
            for item in fusion.objects:
                out += [item.position_m.tobytes(), item.covariance_m2.tobytes(), item.shared_m.tobytes()]
        return out

    assert run() == run()
