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
from perception_batch.simulate.ego_drive import CYCLE_STEP_M, EGO_SIZE_LWH_M
from perception_batch.simulate.looks import Look, draw_look, light_mesh
from perception_batch.simulate.motion import TripTable, stand
from perception_batch.simulate.nearby import (
    Found,
    NearScenery,
    NearStanding,
    TileRange,
    numbers_of,
    step_number,
    things_of,
    tiles_within,
)
from perception_batch.simulate.paths import hermite
from perception_batch.simulate.road_users import plan_traffic
from perception_batch.simulate.scene import EgoState, Light, Mesh, Thing
from perception_batch.simulate.scenery import Piece, build_tile
from perception_batch.simulate.signals import Aspect
from perception_batch.simulate.sky import TimeOfDay, light_of
from perception_batch.simulate.standing import IDS_PER_CYCLE, Standing, make_standing
from perception_batch.simulate.streets import FloatArray, Ground, random_of
from perception_batch.simulate.traffic import REAR_AXLE

__all__ = ["EGO_SIZE_LWH_M", "StreetWorld", "build_world"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TILES_KEPT = 48
"""More than the 5 by 5 that a look 170 m round takes in at once; what is looked at is kept joined besides."""
LOOKS_KEPT = 256
"""Some 60 road users and 60 walkers are near at a time."""
LEFT_OUT = 0.1
"""Share of a cycle's road users that stay at home, so that no two cycles are the same."""
ALWAYS_HERE = 6
"""... but not the first trips: those who wait, overtake and cross where a demonstration begins."""
LOOK_M = 165.0
"""Things are looked for this far round at least: truth, drawer and whoever else asks for one time share one look."""


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
        self._near_scenery: _Kept[TileRange, NearScenery] = _Kept(
            lambda tiles: NearScenery(map(self._tiles, numbers_of(tiles))), 2
        )
        self._near_standing: _Kept[TileRange, NearStanding] = _Kept(
            lambda tiles: NearStanding(
                self.ground, self.cycle, filter(None, map(self._standing, numbers_of(tiles, 1)))
            ),
            2,
        )
        self._found: _Kept[tuple[float, float], Found] = _Kept(self._find, 12)
        self._scenery: _Kept[tuple[float, float], list[Mesh]] = _Kept(self._make_scenery, 2)
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
        return self._found((float(time_s), max(float(radius_m), LOOK_M))).within(radius_m)

    def scenery(self, time_s: float, radius_m: float) -> list[Mesh]:
        """What stands and lies around, pieces that reach into `radius_m`: first the ground, then paint, then solids."""
        return list(self._scenery((float(time_s), float(radius_m))))

    def _make_scenery(self, key: tuple[float, float]) -> list[Mesh]:
        time_s, radius_m = key
        xy = self.ego(time_s).odom_SE3_base.translation_m[:2]
        return self._near_scenery(tiles_within(xy, radius_m + 16)).within(xy, radius_m)

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

    def _find(self, key: tuple[float, float]) -> Found:
        time_s, radius_m = key
        xy = self.ego(time_s).odom_SE3_base.translation_m[:2]
        number, local_s = self.cycle.cycle_at(time_s)
        standing = self._near_standing(tiles_within(xy, radius_m + 10))
        return Found.joined(
            [
                self._moving(number, local_s, xy, radius_m),
                standing.parked(xy, radius_m),
                standing.lights(number, local_s, xy, radius_m, self._light_meshes),
                standing.walkers(number, local_s, xy, radius_m, self._walker_looks),
            ]
        )

    def _moving(self, number: int, local_s: float, xy_m: FloatArray, radius_m: float) -> Found:
        moves = self.table.at(number, local_s)
        d2 = (moves.x_m - xy_m[0]) ** 2 + (moves.y_m - xy_m[1]) ** 2
        near = np.flatnonzero(d2 < (radius_m + 10) ** 2)
        cycles, trips = moves.cycle[near].tolist(), moves.trip[near].tolist()
        looks = [self._looks(key) for key in zip(cycles, trips, strict=True)]
        keep = [n for n, look in enumerate(looks) if look.is_here]
        if not keep:
            return Found([], np.zeros(0))
        near, looks = near[keep], [looks[n] for n in keep]
        cycles, trips = [cycles[n] for n in keep], [trips[n] for n in keep]
        labels = [self.labels[trip] for trip in trips]
        sizes = np.array([look.size_lwh_m for look in looks])
        poses = stand(
            self.ground,
            moves.x_m[near],
            moves.y_m[near],
            moves.cos[near],
            moves.sin[near],
            moves.speed_mps[near],
            moves.yaw_rate_radps[near],
            np.where([label == "person" for label in labels], 0.0, REAR_AXLE * sizes[:, 0]),
            sizes[:, 2] / 2,
        )
        away_m = np.hypot(poses.position_m[:, 0] - xy_m[0], poses.position_m[:, 1] - xy_m[1])
        steps = np.where(moves.speed_mps[near] > 0.05, step_number(moves.s_m[near]), 1).tolist()
        things = things_of(
            poses,
            (
                (
                    (cycle + 1) * IDS_PER_CYCLE + 1 + trip,
                    label,
                    look.size_lwh_m,
                    look.poses[step % len(look.poses)],
                )
                for cycle, trip, label, look, step in zip(cycles, trips, labels, looks, steps, strict=True)
            ),
        )
        return Found(things, away_m)


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
