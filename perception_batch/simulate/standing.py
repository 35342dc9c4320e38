"""What stands along the own vehicle's way, and who walks on its pavements: one junction with its streets at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.simulate.ego_drive import CYCLE_NODES, CYCLE_STEP_M, STEP_S, EgoCycle, ego_track
from perception_batch.simulate.looks import draw_look
from perception_batch.simulate.motion import stand
from perception_batch.simulate.scene import Mesh, Thing
from perception_batch.simulate.signal_poles import signal_heads
from perception_batch.simulate.streets import (
    BAY_OFFSET_M,
    BAYS_M,
    BLOCK_M,
    PAVEMENT_EDGE_M,
    FloatArray,
    Ground,
    random_of,
    street_angle_rad,
)
from perception_batch.simulate.traffic import SIGHT_M, node_on_route, route_node

IDS_PER_CYCLE = 4096
"""Ids of one cycle: first its trips, then what stands or walks at its junctions' streets."""
FIRST_STANDING_ID = 1024
IDS_PER_JUNCTION = 512
PARKED_SLOT_M = 6.6
WALK_LANES_M = (12.95, 14.0)
"""From the middle of the street."""


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Things of one junction and its streets that do not move, walkers on the pavement, and lights."""

    parked: tuple[Thing, ...]
    parked_xy: FloatArray
    """(N, 2)."""
    first_walker: int
    """Id of the first walker, the others follow."""
    walks: FloatArray
    """(M, 7) x and y at the middle time, direction x and y, speed, how far back and how far on they walk."""
    walk_middle_s: float
    """The time, within the cycle, at which walkers are in the middle of their way."""
    lights: tuple[tuple[int, int, SE3], ...]
    """Id, heading that they are for, pose."""
    cycle: int
    place: int


def make_standing(
    seed: int, ground: Ground, ego_cycle: EgoCycle, density: float, node: tuple[int, int]
) -> Standing | None:
    """What stands at a junction of the own vehicle's way, and along the streets that leave it.

    Streets between two such junctions belong to the first one on the way.
    """
    on_route = node_on_route(node)
    if on_route is None:
        return None
    cycle, place = on_route
    index = cycle * len(CYCLE_NODES) + place
    random = random_of(seed, 30, *node)
    base = (cycle + 1) * IDS_PER_CYCLE + FIRST_STANDING_ID + place * IDS_PER_JUNCTION
    before = route_node(index - 1)
    parked: list[Thing] = []
    walks: list[tuple[float, ...]] = []
    next_id = base
    # Where the own vehicle is over three cycles, and when it is nearest to the junction.
    steps = np.arange(-ego_cycle.steps, 2 * ego_cycle.steps, 5)
    ego_xy = ego_track(ego_cycle, steps)[:, :2] + cycle * CYCLE_STEP_M
    seconds = steps * STEP_S
    near = np.hypot(*(ego_xy - np.array(node) * BLOCK_M).T) < BLOCK_M / 2
    middle_s = float(seconds[near].mean())
    for arm in range(4):
        di, dj = ((1, 0), (0, 1), (-1, 0), (0, -1))[arm]
        if (node[0] + di, node[1] + dj) == before:
            continue
        ahead = np.array([di, dj], np.float64)
        right = np.array([dj, -di], np.float64)
        origin = np.array(node) * BLOCK_M
        for side in (-1, 1):
            heading = arm if side > 0 else (arm + 2) % 4
            for start, stop in BAYS_M:
                for slot in range(int((stop - start) // PARKED_SLOT_M)):
                    if random.random() > 0.5 * min(1.6, density):
                        continue
                    label = str(random.choice(("car", "motorcycle", "truck"), p=(0.94, 0.04, 0.02)))
                    look = draw_look(label, random)
                    length, width, height = look.size_lwh_m
                    if length > PARKED_SLOT_M - 0.6 or width > 2.3:
                        continue
                    u = start + (slot + 0.5) * PARKED_SLOT_M + float(random.uniform(-0.25, 0.25))
                    v = BAY_OFFSET_M + float(random.uniform(-0.08, 0.08))
                    yaw = street_angle_rad(heading) + float(random.normal(0, 0.012))
                    x, y = origin + ahead * u + right * (side * v)
                    pose = _stand_still(ground, float(x), float(y), yaw, height / 2)
                    parked.append(
                        Thing(next_id, label, pose, look.size_lwh_m, np.zeros(3), _lamps_off(look.poses[0]))
                    )
                    next_id += 1
            low, high = PAVEMENT_EDGE_M + 3, BLOCK_M - PAVEMENT_EDGE_M - 3
            for offset in WALK_LANES_M:
                # All of one lane walk alike, so that nobody catches up; in 40 s they go some 50 m.
                speed = float(random.uniform(1.05, 1.5))
                way = 1 if random.random() < 0.5 else -1
                for u in np.arange(low - 40, high + 40, 3.0):
                    u = float(u + random.uniform(-0.6, 0.6))
                    if random.random() > 0.045 * density:
                        continue
                    x, y = origin + ahead * u + right * (side * offset)
                    # Nobody leaves the pavement, and with it the world, before the own vehicle's eyes.
                    gone = way * speed * (seconds - middle_s)
                    seen = (ego_xy[:, 0] - x - ahead[0] * gone) ** 2 + (
                        ego_xy[:, 1] - y - ahead[1] * gone
                    ) ** 2 < (SIGHT_M + 10) ** 2
                    if ((u + gone < low) | (u + gone > high))[seen].any() or not seen.any():
                        continue
                    first, last = ((low - u) * way, (high - u) * way)[::way]
                    walks.append((float(x), float(y), way * ahead[0], way * ahead[1], speed, first, last))
    lights = []
    for heading in range(4):
        for x, y, up in signal_heads(heading):
            z = float(ground.height_m(*(np.array([n * BLOCK_M]) for n in node))[0]) + up
            yaw = street_angle_rad((heading + 2) % 4)
            c, s = round(np.cos(yaw)), round(np.sin(yaw))
            rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float64)
            place_m = np.array([node[0] * BLOCK_M + x, node[1] * BLOCK_M + y, z])
            lights.append((next_id, heading, SE3(rotation, place_m)))
            next_id += 1
    return Standing(
        tuple(parked),
        np.array([t.odom_SE3_object.translation_m[:2] for t in parked]).reshape(-1, 2),
        next_id,
        np.array(walks, np.float64).reshape(-1, 7),
        middle_s,
        tuple(lights),
        cycle,
        place,
    )


def _lamps_off(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices_m, mesh.faces, mesh.colors, mesh.two_sided)


def _stand_still(ground: Ground, x: float, y: float, yaw: float, height: float) -> SE3:
    zero = np.zeros(1)
    pose = stand(
        ground,
        np.array([x]),
        np.array([y]),
        np.array([np.cos(yaw)]),
        np.array([np.sin(yaw)]),
        zero,
        zero,
        zero,
        np.array([height]),
    )
    return SE3(pose.rotation[0], pose.position_m[0])
