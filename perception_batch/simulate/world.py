"""A street world from a seed, as a pure function of time.

The own vehicle drives the same way in every cycle (see `ego_drive`), each time `CYCLE_STEP` junctions further, so
that no place is seen twice. Streets, buildings and parked cars come from the seed and the number of their tile,
looks and sizes of road users from the seed and the number of their cycle; both are kept in caches of a fixed size
and made again when they are asked for again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.simulate import people
from perception_batch.simulate.ego_drive import CYCLE_STEP_M, EGO_SIZE_LWH_M
from perception_batch.simulate.looks import LIGHT_SIZE_LWH_M, Look, draw_look, light_mesh
from perception_batch.simulate.motion import TripTable, stand
from perception_batch.simulate.paths import hermite
from perception_batch.simulate.road_users import plan_traffic
from perception_batch.simulate.scene import EgoState, Light, Mesh, Thing
from perception_batch.simulate.scenery import Piece, build_tile
from perception_batch.simulate.signals import Aspect
from perception_batch.simulate.sky import TimeOfDay, light_of
from perception_batch.simulate.standing import IDS_PER_CYCLE, Standing, make_standing
from perception_batch.simulate.streets import (
    BLOCK_M,
    FloatArray,
    Ground,
    random_of,
)
from perception_batch.simulate.traffic import REAR_AXLE

__all__ = ["EGO_SIZE_LWH_M", "StreetWorld", "build_world"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TILES_KEPT = 96
"""More than the 5 by 5 that a look 170 m round takes in at once: a smaller cache would forget each before its next use."""
LOOKS_KEPT = 600
LEFT_OUT = 0.1
"""Share of a cycle's road users that stay at home, so that no two cycles are the same."""
ALWAYS_HERE = 6
"""... but not the first trips: those who wait, overtake and cross where a demonstration begins."""
STRIDE_M = 1.5
"""Two steps of a walker."""


class _Kept(Generic[K, V]):
    """The most recently used of what a function makes; all of it can be made again."""

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        self._make, self._most = make, most
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __call__(self, key: K) -> V:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = self._kept[key] = self._make(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._kept)


class StreetWorld:
    """See `build_world`. Implements `scene.World`."""

    def __init__(self, seed: int, time_of_day: TimeOfDay, hills: bool, density: float) -> None:
        self.seed = seed
        self.density = density
        self.ground = Ground(seed, hills)
        self._light = light_of(time_of_day)
        lamps_on = time_of_day != "day"
        self.cycle, trips = plan_traffic(seed, density)
        self.labels = tuple(t.kind.label for t in trips)
        self.table = TripTable(trips, self.cycle.steps)
        self._light_meshes: dict[Aspect, Mesh] = {a: light_mesh(a) for a in ("green", "yellow", "red")}
        self._looks: _Kept[tuple[int, int], Look] = _Kept(
            lambda key: draw_look(
                self.labels[key[1]],
                random_of(seed, 20, *key),
                left_out=0.0 if key[1] < ALWAYS_HERE else LEFT_OUT,
            ),
            LOOKS_KEPT,
        )
        self._tiles: _Kept[tuple[int, int], list[Piece]] = _Kept(
            lambda key: build_tile(seed, self.ground, *key, lamps_on=lamps_on), TILES_KEPT
        )
        self._walker_looks: _Kept[int, Look] = _Kept(
            lambda object_id: draw_look("person", random_of(seed, 31, object_id)), LOOKS_KEPT
        )
        self._standing: _Kept[tuple[int, int], Standing | None] = _Kept(
            lambda node: make_standing(seed, self.ground, self.cycle, density, node), TILES_KEPT
        )
        self._things: _Kept[tuple[float, float], list[Thing]] = _Kept(self._make_things, 12)
        self._ego: _Kept[float, EgoState] = _Kept(self._make_ego, 64)

    @property
    def light(self) -> Light:
        """Light of the drive."""
        return self._light

    def ground_z_m(self, x_m: float, y_m: float) -> float:
        """Height of the ground in odom."""
        return float(self.ground.height_m(np.array([x_m], np.float64), np.array([y_m], np.float64))[0])

    def ego(self, time_s: float) -> EgoState:
        """The own vehicle."""
        return self._ego(float(time_s))

    def things(self, time_s: float, radius_m: float) -> list[Thing]:
        """Objects within `radius_m` of the own vehicle, by id. Beyond 130 m nobody moves about."""
        return list(self._things((float(time_s), float(radius_m))))

    def scenery(self, time_s: float, radius_m: float) -> list[Mesh]:
        """What stands and lies around, pieces that reach into `radius_m`: first the ground, then paint, then solids."""
        x, y = self.ego(time_s).odom_SE3_base.translation_m[:2]
        low_i, high_i = (int(np.floor((x + d) / BLOCK_M)) for d in (-radius_m - 16, radius_m + 16))
        low_j, high_j = (int(np.floor((y + d) / BLOCK_M)) for d in (-radius_m - 16, radius_m + 16))
        layers: tuple[list[Mesh], list[Mesh], list[Mesh]] = ([], [], [])
        for i in range(low_i, high_i + 1):
            for j in range(low_j, high_j + 1):
                for piece in self._tiles((i, j)):
                    if (piece.x_m - x) ** 2 + (piece.y_m - y) ** 2 < (radius_m + piece.radius_m) ** 2:
                        layers[piece.layer].append(piece.mesh)
        return [*layers[0], *layers[1], *layers[2]]

    def _make_ego(self, time_s: float) -> EgoState:
        number, local = self.cycle.cycle_at(time_s)
        s, v = self.cycle.progress(local)
        nodes = self.cycle.path.nodes
        i = min(max(int(s), 0), len(nodes) - 2)
        x, y, dx, dy, ddx, ddy = hermite(nodes[i : i + 1], nodes[i + 1 : i + 2], 1.0, np.array([s - i]))
        norm = np.hypot(dx, dy)
        speed = v * norm
        zero = np.zeros(1)
        pose = stand(
            self.ground,
            x + number * CYCLE_STEP_M[0],
            y + number * CYCLE_STEP_M[1],
            dx / norm,
            dy / norm,
            speed,
            speed * (dx * ddy - dy * ddx) / norm**3,
            zero,
            zero,
        )
        rotation = pose.rotation[0]
        return EgoState(
            SE3(rotation, pose.position_m[0]),
            rotation.T @ pose.velocity_mps[0],
            float(pose.yaw_rate_radps[0]),
        )

    def _make_things(self, key: tuple[float, float]) -> list[Thing]:
        time_s, radius_m = key
        ego_xy = self.ego(time_s).odom_SE3_base.translation_m[:2]
        number, local = self.cycle.cycle_at(time_s)
        found = self._moving(number, local, ego_xy, radius_m)
        reach = radius_m + 10
        low = np.floor((ego_xy - reach) / BLOCK_M).astype(int)
        high = np.floor((ego_xy + reach) / BLOCK_M).astype(int) + 1
        for i in range(int(low[0]), int(high[0]) + 1):
            for j in range(int(low[1]), int(high[1]) + 1):
                standing = self._standing((i, j))
                if standing is not None:
                    found += self._around(standing, number, local, ego_xy, radius_m)
        return sorted(found, key=lambda thing: thing.object_id)

    def _moving(self, number: int, local_s: float, ego_xy: FloatArray, radius_m: float) -> list[Thing]:
        moves = self.table.at(number, local_s)
        d2 = (moves.x_m - ego_xy[0]) ** 2 + (moves.y_m - ego_xy[1]) ** 2
        near = np.flatnonzero(d2 < (radius_m + 10) ** 2)
        looks = [self._looks((int(moves.cycle[i]), int(moves.trip[i]))) for i in near]
        keep = [n for n, look in enumerate(looks) if look.is_here]
        if not keep:
            return []
        near, looks = near[keep], [looks[n] for n in keep]
        labels = [self.labels[int(moves.trip[i])] for i in near]
        sizes = np.array([look.size_lwh_m for look in looks])
        ahead = np.where([label == "person" for label in labels], 0.0, REAR_AXLE * sizes[:, 0])
        poses = stand(
            self.ground,
            moves.x_m[near],
            moves.y_m[near],
            moves.cos[near],
            moves.sin[near],
            moves.speed_mps[near],
            moves.yaw_rate_radps[near],
            ahead,
            sizes[:, 2] / 2,
        )
        d = np.hypot(poses.position_m[:, 0] - ego_xy[0], poses.position_m[:, 1] - ego_xy[1])
        things = []
        for n in np.flatnonzero(d <= radius_m):
            i, look = near[n], looks[n]
            steps = int(moves.s_m[i] / (STRIDE_M / people.POSES)) if moves.speed_mps[i] > 0.05 else 1
            object_id = (int(moves.cycle[i]) + 1) * IDS_PER_CYCLE + 1 + int(moves.trip[i])
            things.append(
                Thing(
                    object_id,
                    labels[n],
                    SE3(poses.rotation[n], poses.position_m[n]),
                    look.size_lwh_m,
                    poses.velocity_mps[n],
                    look.poses[steps % len(look.poses)],
                )
            )
        return things

    def _around(
        self, standing: Standing, number: int, local_s: float, ego_xy: FloatArray, radius_m: float
    ) -> list[Thing]:
        things: list[Thing] = []
        if len(standing.parked):
            d2 = ((standing.parked_xy - ego_xy) ** 2).sum(axis=1)
            things += [standing.parked[i] for i in np.flatnonzero(d2 <= radius_m**2)]
        time_s = local_s + (number - standing.cycle) * self.cycle.duration_s
        for object_id, heading, pose in standing.lights:
            if float(((pose.translation_m[:2] - ego_xy) ** 2).sum()) <= radius_m**2:
                aspect = self.cycle.signals[standing.place].aspect(time_s, heading)
                mesh = self._light_meshes[aspect]
                things.append(Thing(object_id, "traffic light", pose, LIGHT_SIZE_LWH_M, np.zeros(3), mesh))
        if len(standing.walks):
            walks = standing.walks
            way = walks[:, 4] * (time_s - standing.walk_middle_s)
            x, y = walks[:, 0] + walks[:, 2] * way, walks[:, 1] + walks[:, 3] * way
            there = (way >= walks[:, 5]) & (way <= walks[:, 6])
            near = np.flatnonzero(there & ((x - ego_xy[0]) ** 2 + (y - ego_xy[1]) ** 2 <= radius_m**2))
            if len(near):
                looks = [self._walker_looks(standing.first_walker + int(i)) for i in near]
                heights = np.array([look.size_lwh_m[2] for look in looks])
                zero = np.zeros(len(near))
                poses = stand(
                    self.ground,
                    x[near],
                    y[near],
                    walks[near, 2],
                    walks[near, 3],
                    walks[near, 4],
                    zero,
                    zero,
                    heights / 2,
                )
                for n, i in enumerate(near):
                    look = looks[n]
                    pose_number = int(np.floor(way[i] / (STRIDE_M / people.POSES))) % people.POSES
                    things.append(
                        Thing(
                            standing.first_walker + int(i),
                            "person",
                            SE3(poses.rotation[n], poses.position_m[n]),
                            look.size_lwh_m,
                            poses.velocity_mps[n],
                            look.poses[pose_number],
                        )
                    )
        return things


def build_world(
    seed: int,
    *,
    duration_s: float,
    time_of_day: TimeOfDay = "day",
    hills: bool = False,
    density: float = 1.0,
) -> StreetWorld:
    """A street world: junctions with lights, traffic, people, parked cars, and an own vehicle that drives through.

    The drive goes on for ever; `duration_s` only has to be possible. `density` scales how many road users there
    are, 0.1 to 2.

    Raises:
        ValueError: an option is impossible; the message says what is allowed.
    """
    if not (np.isfinite(duration_s) and 0 < duration_s <= 1e6):
        raise ValueError(f"duration is {duration_s} s, allowed is more than 0 up to 1000000 s")
    if not (np.isfinite(density) and 0.1 <= density <= 2):
        raise ValueError(f"density is {density}, allowed is 0.1 to 2")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}, allowed is 0 to 2**63 - 1")
    return StreetWorld(seed, time_of_day, hills, density)
