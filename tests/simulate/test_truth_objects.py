"""The truth's columns of many objects at once are, to the bit, those of each object alone."""

from __future__ import annotations

import math

import numpy as np
from simulate.toy_world import car_mesh

from perception_batch.geometry import SE3
from perception_batch.simulate.scene import Thing
from perception_batch.simulate.truth_objects import object_columns, quaternions_xyzw


def turned(random: np.random.Generator, *, stored: bool) -> SE3:
    axis = random.standard_normal(3)
    half = random.uniform(0, math.pi) / 2
    q = [*(axis / np.linalg.norm(axis) * math.sin(half)), math.cos(half)]
    pose = SE3.from_quaternion(q, random.uniform(-1e3, 1e3, 3))
    return pose if stored else SE3(pose.rotation, pose.translation_m)


def test_quaternions_are_those_of_each_transform() -> None:
    random = np.random.default_rng(0)
    poses = [turned(random, stored=n % 5 == 0) for n in range(400)]
    poses += [
        SE3(np.diag(d), np.zeros(3)) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1], [1.0, 1, 1])
    ]
    for row, pose in zip(quaternions_xyzw(poses), poses, strict=True):
        assert row.tolist() == pose.quaternion_xyzw().tolist()


def test_columns_are_those_of_each_thing() -> None:
    random = np.random.default_rng(1)
    ego = turned(random, stored=False)
    mesh = car_mesh()
    things = [
        Thing(
            n + 1,
            "car",
            turned(random, stored=n % 7 == 0),
            (4.0 + n / 100, 1.8, 1.5),
            random.normal(0, 9, 3),
            mesh,
        )
        for n in range(100)
    ]
    base_SE3_odom = ego.inverse()
    for thing, row in zip(things, zip(*object_columns(ego, things), strict=True), strict=True):
        there = base_SE3_odom @ thing.odom_SE3_object
        forward = there.rotation[:, 0]
        assert row == (
            thing.object_id,
            "car",
            *there.translation_m,
            math.atan2(forward[1], forward[0]),
            *thing.odom_SE3_object.translation_m,
            *thing.odom_SE3_object.quaternion_xyzw(),
            *thing.size_lwh_m,
            *(base_SE3_odom.rotation @ thing.velocity_mps),
            *thing.velocity_mps,
            np.linalg.norm(there.translation_m),
        )
