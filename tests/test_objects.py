"""Timesteps that are fused together against the same ones fused one after the other: equal to the byte."""

from __future__ import annotations

import math
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fusion.fuse_scene import LABELS, Thing, ring, see
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.calibration import Rig
from perception_batch.columnar import FusedObjects
from perception_batch.config import load_config
from perception_batch.geometry import SE3
from perception_batch.lidar import LidarRanges
from perception_batch.objects import Detected, make_objects
from perception_batch.types import Detections, EgoPose, FusedObject, TimestepResult

START_NS, STEP_NS = 1_700_000_000_123_456_789, 100_000_000
STEPS = 14
RIG = ring()


def timestep(index: int, seed: int) -> Detected:
    """Things that drive by, as one to six cameras see them; in some timesteps nothing, or one thing alone."""
    rng = np.random.default_rng([seed, index])
    moving = np.random.default_rng(seed)
    things = []
    for k in range((0, 1, 9)[min(2, (index + seed) % 5)]):
        label = ("car", "truck", "person", "bicycle")[k % 4]
        bearing, reach, speed = moving.uniform(0, 2 * math.pi), moving.uniform(4, 50), moving.uniform(-9, 9)
        x, y = reach * math.cos(bearing) + 0.1 * index * speed, reach * math.sin(bearing)
        things.append(Thing.standing(label, x, y, 0.0 if speed > 0 else math.pi))
    stamp_ns = START_NS + index * STEP_NS
    seen = see(things, RIG, noise=rng)
    # A class that the ontology lacks, an image that is missing, and boxes that no rule lets pass.
    light = Detections(
        np.array([[5, 5, 25, 60], [400, 400, 460, 480]], np.float32),
        np.array([0.8, 0.1], np.float32),
        np.array([9, 2], np.int16),
    )
    detections = {**seen.detections, "dash": light}
    sizes = {**seen.image_hw, "dash": (900, 1600)}
    if index % 4 == 3:
        detections.pop("cam_back", None)
    late = {name: stamp_ns + int(rng.integers(-20, 20)) * 1_000_000 for name in detections}
    pose = SE3(np.eye(3), np.array([0.8 * index, 0.0, 0.0]))
    lidar = {}
    if seed % 2 and len(seen.detections.get("cam_front", ())):
        told = lidar["cam_front"] = LidarRanges.nothing(len(seen.detections["cam_front"]))
        told.range_m[0], told.sigma_m[0], told.apart_s[0], told.points[0] = 20.0, 0.3, 0.02, 30
    return Detected(
        index, stamp_ns, dict.fromkeys(detections, "ok"), late, detections, sizes, seen.poses,
        EgoPose(stamp_ns, "odom", pose, np.array([8.0, 0.0, 0.0]), "tf"), lidar,
    )  # fmt: skip


def told(results: list[TimestepResult]) -> list[Any]:
    """All of the results that fusion and tracks made, to the bit."""
    out: list[Any] = []
    for result in results:
        objects = FusedObjects.of(result.fusion.objects)
        for entry in fields(FusedObject):
            column = getattr(objects, entry.name)
            out.append(column.tobytes() if isinstance(column, np.ndarray) else list(column))
        out.append({camera: of.tobytes() for camera, of in result.fusion.object_of.items()})
        out.append(dict(result.fusion.suppressed))
    return out


@pytest.mark.parametrize("ground", ["mount", "learnt", "flat"])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(1, STEPS - 1)))
def test_how_many_timesteps_go_in_together_leaves_no_trace(ground: str, seed: int, cuts: set[int]) -> None:
    rig = Rig("base_link", RIG.cameras, {"dash": "no CameraInfo"}, math.nan)
    overrides = ["track.confirm=2", "cameras.cam_front.mask=[[[0,800],[1600,800],[1600,900],[0,900]]]"]
    if ground == "learnt":  # the base frame is on the roof
        lowered = {
            name: type(camera)(camera.name, camera.intrinsics, _lowered(camera.base_SE3_camera), "drawn")
            for name, camera in RIG.cameras.items()
        }
        rig = Rig("roof", lowered, {"dash": "no CameraInfo"}, math.nan)
    if ground == "flat":
        overrides.append("fuse.ground_memory_s=0")
    config = load_config(None, overrides)
    steps = [timestep(index, seed) for index in range(STEPS)]
    if ground == "learnt":
        steps = [_with_poses(step, {n: c.base_SE3_camera for n, c in rig.cameras.items()}) for step in steps]
    alone, together = make_objects(config, rig, LABELS), make_objects(config, rig, LABELS)
    expected = [result for step in steps for result in alone.push([step])] + alone.flush()
    bounds = [0, *sorted(cuts), STEPS]
    found: list[TimestepResult] = []
    for start, stop in pairwise(bounds):
        found += together.push(steps[start:stop])
    found += together.flush()
    assert sum(len(result.fusion.objects) for result in found) > 20
    assert told(found) == told(expected)
    assert together.fuser.ground == alone.fuser.ground
    assert together.push([]) == []


def _lowered(pose: SE3) -> SE3:
    return SE3(pose.rotation, pose.translation_m - [0.0, 0.0, 1.9])


def _with_poses(step: Detected, poses: dict[str, SE3]) -> Detected:
    values = {entry.name: getattr(step, entry.name) for entry in fields(Detected)}
    return Detected(**{**values, "base_now_SE3_camera": {n: poses[n] for n in step.base_now_SE3_camera}})
