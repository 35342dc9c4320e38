"""The drawn world in time: it is continuous, its velocities are true, and nobody touches anybody."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.simulate.road_users import plan_traffic
from perception_batch.simulate.scene import Thing
from perception_batch.simulate.world import EGO_SIZE_LWH_M, StreetWorld, build_world

SEEDS = (0, 1)


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> StreetWorld:
    return build_world(request.param, duration_s=60, hills=request.param == 1)


def footprint(pose: SE3, length: float, width: float) -> np.ndarray:
    corners = [(sx * length / 2, sy * width / 2, 0.0) for sx, sy in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return pose.apply(np.array(corners))[:, :2]


def touch(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two convex polygons overlap: no edge of either separates them."""
    for polygon in (a, b):
        for i in range(4):
            edge = polygon[(i + 1) % 4] - polygon[i]
            normal = np.array([edge[1], -edge[0]])
            if (a @ normal).max() <= (b @ normal).min() or (b @ normal).max() <= (a @ normal).min():
                return False
    return True


def ego_box(world: StreetWorld, t: float) -> SE3:
    pose = world.ego(t).odom_SE3_base
    return SE3(pose.rotation, pose.apply(np.array([EGO_SIZE_LWH_M[0] / 2 - 0.95, 0.0, 0.0])))


def test_nobody_touches_anybody_or_the_own_vehicle(world: StreetWorld) -> None:
    seen = 0
    for t in np.arange(0.0, world.cycle.duration_s + 10, 0.4):
        things = [x for x in world.things(t, 110) if x.label != "traffic light"]
        boxes = [footprint(x.odom_SE3_object, *x.size_lwh_m[:2]) for x in things]
        boxes.append(footprint(ego_box(world, t), *EGO_SIZE_LWH_M[:2]))
        names = [f"{x.label} {x.object_id}" for x in things] + ["ego"]
        middle = np.array([b.mean(axis=0) for b in boxes])
        reach = np.array([np.hypot(*(b[0] - b.mean(axis=0))) for b in boxes])
        apart = np.hypot(*(middle[:, None] - middle[None]).transpose(2, 0, 1))
        for i, j in np.argwhere(np.triu(apart < reach[:, None] + reach[None], 1)):
            assert not touch(boxes[i], boxes[j]), f"{names[i]} and {names[j]} at {t:.1f} s"
            seen += 1
    assert seen > 100  # the search did come across near ones


def test_velocity_is_the_derivative_of_the_pose(world: StreetWorld) -> None:
    h = 1e-4
    moving = 0
    for t in np.arange(0.33, 100, 3.7):
        now = {x.object_id: x for x in world.things(t, 100)}
        before = {x.object_id: x for x in world.things(t - h, 110)}
        after = {x.object_id: x for x in world.things(t + h, 110)}
        for number in now.keys() & before.keys() & after.keys():
            a, b = before[number].odom_SE3_object, after[number].odom_SE3_object
            slope = (b.translation_m - a.translation_m) / (2 * h)
            # The acceleration jumps at the steps of the plan (at most 7 m/s² over h).
            assert np.abs(slope - now[number].velocity_mps).max() < 2e-3, now[number].label
            moving += np.linalg.norm(slope) > 0.5
    assert moving > 100


def test_own_velocity_and_yaw_rate_are_derivatives(world: StreetWorld) -> None:
    h = 1e-4
    for t in np.arange(0.17, 200, 1.3):
        a, now, b = world.ego(t - h), world.ego(t), world.ego(t + h)
        slope = (b.odom_SE3_base.translation_m - a.odom_SE3_base.translation_m) / (2 * h)
        assert np.abs(now.odom_SE3_base.rotation.T @ slope - now.velocity_mps).max() < 2e-3
        spin = now.odom_SE3_base.rotation.T @ (b.odom_SE3_base.rotation - a.odom_SE3_base.rotation) / (2 * h)
        assert abs((spin[1, 0] - spin[0, 1]) / 2 - now.yaw_rate_radps) < 2e-3


def test_the_own_vehicle_drives_like_a_car(world: StreetWorld) -> None:
    dt = 0.05
    times = np.arange(0, world.cycle.duration_s * 2.1, dt)
    states = [world.ego(t) for t in times]
    v = np.array([s.velocity_mps for s in states])
    assert v[:, 0].min() >= -1e-9
    assert v[:, 0].min() < 0.01, "it stops somewhere"
    assert 13 < v[:, 0].max() <= 15
    assert np.abs(v[:, 1]).max() < 1e-9
    assert np.abs(np.diff(v[:, 0])).max() / dt < 3.0
    yaw_rate = np.array([s.yaw_rate_radps for s in states])
    assert np.abs(yaw_rate).max() < 0.75
    assert yaw_rate.min() < -0.4, "it turns right"
    assert yaw_rate.max() > 0.3, "it turns left"
    assert np.abs(yaw_rate * v[:, 0]).max() < 4.0, "m/s² sideways"


def test_moves_are_continuous_and_nobody_pops_up_in_sight(world: StreetWorld) -> None:
    dt = 0.1
    before: dict[int, Thing] = {}
    for t in np.arange(0.0, 45, dt):
        now = {x.object_id: x for x in world.things(t, 140)}
        ego = world.ego(t).odom_SE3_base.translation_m
        if before:
            for number in now.keys() ^ before.keys():
                thing = now.get(number) or before[number]
                assert np.linalg.norm((thing.odom_SE3_object.translation_m - ego)[:2]) > 120, thing.label
            for number in now.keys() & before.keys():
                a, b = before[number], now[number]
                assert a.size_lwh_m == b.size_lwh_m and a.label == b.label
                mean = (a.velocity_mps + b.velocity_mps) / 2
                step = b.odom_SE3_object.translation_m - a.odom_SE3_object.translation_m
                assert np.linalg.norm(step - mean * dt) < 0.04
                assert np.linalg.norm(b.velocity_mps - a.velocity_mps) < 7 * dt
        before = now


def test_red_lights_are_obeyed(world: StreetWorld) -> None:
    """Nobody's front passes a stop line, towards a junction of the way, while their light has been red for a second."""
    cycle, trips = plan_traffic(world.seed, world.density)
    from perception_batch.simulate.ego_drive import CYCLE_NODES, STEP_S
    from perception_batch.simulate.streets import BLOCK_M, STOP_LINE_M, street_frame

    passed = 0
    for trip in trips:
        if trip.kind.label == "person":
            continue
        track = trip.track()
        for k, node in enumerate(CYCLE_NODES):
            for heading in range(4):
                ahead, right = street_frame(heading)
                rel = track[:, :2] - np.array(node) * BLOCK_M
                along, across = rel @ ahead, rel @ right
                front = along + 0.77 * trip.kind.most_lwh_m[0]
                facing = np.cos(track[:, 2]) * ahead[0] + np.sin(track[:, 2]) * ahead[1] > 0.9
                ok = facing & (across > 0) & (across < 9) & (np.abs(along) < 60)
                over = np.flatnonzero(ok[:-1] & (front[:-1] < -STOP_LINE_M) & (front[1:] >= -STOP_LINE_M))
                for i in over:
                    t = (trip.first_step + int(i)) * STEP_S
                    passed += 1
                    long_red = all(
                        cycle.signals[k].aspect(t - back, heading) == "red" for back in (0.0, 0.5, 1.0)
                    )
                    assert not long_red, f"{trip.kind.label} over a red light at {t:.1f} s"
    assert passed > 20


@pytest.mark.parametrize("seed", range(3))
def test_the_first_twenty_seconds_show_what_a_demo_needs(seed: int) -> None:
    world = build_world(seed, duration_s=20)
    stopped = turned = False
    side: dict[int, list[float]] = {}
    on_zebra = set()
    hidden = False
    for t in np.arange(0, 20, 0.25):
        ego = world.ego(t)
        stopped |= bool(ego.velocity_mps[0] < 0.05)
        turned |= abs(ego.yaw_rate_radps) > 0.3
        angles = []
        for x in world.things(t, 60):
            p = ego.odom_SE3_base.inverse().apply(x.odom_SE3_object.translation_m)
            if x.label in ("car", "motorcycle") and 2 < p[1] < 5 and ego.velocity_mps[0] > 3 and not turned:
                side.setdefault(x.object_id, []).append(p[0])
            if x.label == "person" and np.linalg.norm(x.velocity_mps) > 0.5:
                at = x.odom_SE3_object.translation_m
                if abs(at[1]) < 7 and 9 < abs(at[0]) < 14:
                    on_zebra.add(x.object_id)
            if x.label != "traffic light" and p[0] > 0:
                distance = math.hypot(p[0], p[1])
                half = max(x.size_lwh_m[:2]) / 2 / distance
                angles.append((math.atan2(p[1], p[0]), half, distance))
        hidden |= any(
            abs(a[0] - b[0]) < a[1] / 2 and a[2] != b[2] for a, b in itertools.combinations(angles, 2)
        )
    assert stopped and turned
    assert on_zebra, "someone crosses at the first junction"
    assert any(xs[0] < 0 < xs[-1] for xs in side.values()), "someone overtakes"
    assert hidden


def test_density_is_that_of_a_town(world: StreetWorld) -> None:
    counts = [len(world.things(t, 60)) for t in np.arange(0, 90, 2.0)]
    assert 18 <= np.median(counts) <= 50
    labels = {x.label for t in np.arange(0, 90, 2.0) for x in world.things(t, 80)}
    assert {"car", "person", "bicycle", "traffic light"} <= labels
    ontology = Ontology()
    assert all(ontology.find(label) is not None for label in labels)


def test_sizes_spread_like_the_ontology(world: StreetWorld) -> None:
    heights = {}
    for t in np.arange(0, 400, 20.0):
        for x in world.things(t, 130):
            if x.label == "car":
                heights[x.object_id] = x.size_lwh_m
    sizes = np.array(list(heights.values()))
    entry = Ontology().classes["car"]
    assert len(sizes) > 100
    assert np.abs(sizes.mean(axis=0) - entry.size_lwh_m).max() < 0.12
    assert (sizes.std(axis=0) > 0.7 * np.array(entry.size_sd_m)).all()
