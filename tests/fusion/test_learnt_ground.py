"""The ground learnt from the drive: hills, a nodding body, a camera that looks lower than it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fusion.fuse_scene import LABELS, ONTOLOGY, Thing, pose, ring, see

from perception_batch.calibration import Camera, Rig
from perception_batch.config import FuseConfig
from perception_batch.fusion import open_fuser
from perception_batch.fusion.fuser import Fuser
from perception_batch.fusion.ground import Ground
from perception_batch.fusion.surface import SurfaceEstimator
from perception_batch.geometry import SE3

STEP_NS = 100_000_000


def traffic(rng: np.random.Generator, slope: float, n: int = 10) -> list[Thing]:
    """Cars and persons of drawn sizes ahead and behind, on a road that climbs ahead."""
    things = []
    for k in range(n):
        label = ("car", "person")[k % 2]
        entry = ONTOLOGY.classes[label]
        x = rng.uniform(8, 40) * (1 if k % 3 else -1)
        y = (-1) ** k * rng.uniform(2, 9)
        size = rng.normal(entry.size_lwh_m, entry.size_sd_m).clip(0.3)
        z = slope * max(x, 0.0)
        things.append(Thing.standing(label, x, y, rng.choice([0.0, math.pi]), size=size, z=z))
    return things


def drive(
    fuser: Fuser, rig: Rig, slope: float, *, steps: int = 30, true_poses: dict[str, SE3] | None = None
) -> list[float]:
    """Relative range errors of the second half."""
    rng = np.random.default_rng(4)
    errors = []
    for k in range(steps):
        things = traffic(rng, slope)
        seen = see(things, rig, noise=rng, true_poses=true_poses)
        fusion = fuser.fuse(seen.detections, seen.image_hw, seen.poses, stamp_ns=k * STEP_NS)
        for item in fusion.objects if k >= steps // 2 else ():
            owners = {seen.truth[o.camera][o.detection] for o in item.observations}
            if len(owners) == 1 and item.has_position:
                truth = np.array(things[owners.pop()].center_m[:2])
                if 10 < truth[0] < 40:
                    errors.append(float(np.hypot(*item.position_m[:2]) / np.hypot(*truth) - 1))
    return errors


@pytest.mark.parametrize("slope", [-0.03, 0.0, 0.04])
def test_slope_ahead_is_learnt_and_ranges_follow(slope: float) -> None:
    rig = ring()
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    errors = drive(fuser, rig, slope)
    ground = fuser.ground
    assert ground.source == "mount"
    # A dozen boxes tell the height of the road at 25 m, but hardly a step there from a slope up to there.
    pitch = dict(zip(sorted(rig.cameras), ground.camera_pitch_rad, strict=True))
    assert abs(ground.z_m + 25 * (ground.slope_ahead + pitch["cam_front"]) - 25 * slope) < 0.2
    assert abs(ground.z_m - 25 * (ground.slope_behind - pitch["cam_back"])) < 0.2
    assert abs(ground.slope_ahead - slope) < 3 * ground.slope_sigma
    assert ground.slope_sigma < 0.012
    assert ground.pitch_rad == pytest.approx(-0.5 * (ground.slope_ahead + ground.slope_behind), rel=1e-3)
    assert np.median(np.abs(errors)) < 0.065
    flat = drive(open_fuser(rig, ONTOLOGY, LABELS, FuseConfig(ground_memory_s=0)), rig, slope)
    assert np.median(np.abs(errors)) <= np.median(np.abs(flat)) + 0.003


def test_a_camera_that_looks_lower_than_its_calibration_says_is_found_out() -> None:
    rig = ring()
    true = {name: camera.base_SE3_camera for name, camera in rig.cameras.items()}
    true["cam_back"] = pose(0.0, 0.0, 1.55, 180.0, 0.8)
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    drive(fuser, rig, 0.0, steps=60, true_poses=true)
    pitch = dict(zip(sorted(rig.cameras), np.degrees(fuser.ground.camera_pitch_rad), strict=True))
    # The slope behind explains a part of it.
    lower = pitch["cam_back"] + math.degrees(-fuser.ground.slope_behind)
    assert 0.4 < lower < 1.2
    assert max(pitch, key=lambda name: pitch[name]) == "cam_back"


def test_too_little_to_see_leaves_the_mount() -> None:
    rig = ring()
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    before = fuser.ground
    fuser.fuse({}, {}, {}, stamp_ns=0)
    assert fuser.ground == before
    seen = see([Thing.standing("car", 20, 0)], rig, score=0.3)  # not sure enough to teach
    fuser.fuse(seen.detections, seen.image_hw, seen.poses, stamp_ns=STEP_NS)
    assert abs(fuser.ground.z_m - before.z_m) < 0.01
    assert fuser.ground.slope_sigma > 0.025


def test_one_car_alone_does_not_confirm_itself() -> None:
    """A car 20 % taller than its class, alone for a while: its range is as uncertain as at first sight."""
    rig = ring()
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    tall = [size * (1.2 if k == 2 else 1) for k, size in enumerate(ONTOLOGY.classes["car"].size_lwh_m)]
    thing = Thing.standing("car", 25, 0, size=tall)
    for k in range(60):
        seen = see([thing], rig)
        (found,) = fuser.fuse(seen.detections, seen.image_hw, seen.poses, stamp_ns=k * STEP_NS).objects
        if k == 0:
            first = found
    assert found.covariance_m2[0, 0] > 0.5 * first.covariance_m2[0, 0]
    error = found.position_m[:2] - np.array(thing.center_m[:2])
    assert error @ np.linalg.inv(found.covariance_m2[:2, :2]) @ error < 9.2  # chi-square, 2 degrees, 99 %


def test_camera_under_the_ground_and_camera_without_calibration_are_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = ring()
    cameras = dict(rig.cameras)
    front = cameras["cam_front"]
    cameras["cam_front"] = Camera("cam_front", front.intrinsics, pose(1.7, 0, -0.4, 0), "drawn\x1b[31m")
    odd = Rig("base_link", cameras, {"dash": "no CameraInfo"})
    fuser = open_fuser(odd, ONTOLOGY, LABELS, FuseConfig(ground_z_m=0.0))
    thing = Thing.standing("car", 20, 0)
    seen = see([thing], rig)
    seen.detections["dash"], seen.image_hw["dash"] = seen.detections["cam_front"], (900, 1600)
    seen.poses["cam_front"] = cameras["cam_front"].base_SE3_camera
    for k in range(3):
        fusion = fuser.fuse(seen.detections, seen.image_hw, seen.poses, stamp_ns=k * STEP_NS)
    assert [o.has_position for o in fusion.objects] == [True, False]
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "cam_front" in text and "-0.40 m above the ground" in text]) == 1
    assert len([text for text in said if "dash is not calibrated" in text]) == 1
    assert not any("\x1b" in text for text in said)
    assert fuser.notes == tuple(said)
    assert open_fuser(Rig("", {}, {"a": "x", "b": "y"}), ONTOLOGY, LABELS, FuseConfig()).notes == ()


def test_what_changes_between_timesteps_is_solved_anew_as_if_from_the_start() -> None:
    """What was told fades evenly, and how steep roads are is learnt: the second as one correction of the solution."""
    rng = np.random.default_rng(5)
    n = 12
    ground = Ground(0.1, 0.2, "config")
    surface = SurfaceEstimator(3, FuseConfig())
    for k in range(20):
        azimuth = rng.uniform(-math.pi, math.pi, n)
        toward, origin = np.array([np.cos(azimuth), np.sin(azimuth)]), np.zeros((3, n))
        told = rng.normal(0.5, 0.3, n) + 0.02 * rng.uniform(5, 40, n)
        surface.look(
            ground,
            [0, n],
            [k * STEP_NS],
            toward,
            origin,
            rng.uniform(5, 40, n),
            np.arange(n) % 3,
            told,
            np.full(n, 0.1),
        )
        surface._forget(0.1)
        surface._reweigh(ground)
        quick = surface._solved.copy()
        surface._solve(ground)
        np.testing.assert_allclose(quick, surface._solved, rtol=1e-7, atol=1e-12)
