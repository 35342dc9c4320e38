"""What is around the own vehicle, joined from the tiles and junctions in reach into flat arrays: one test finds all.

Ranges of tiles change every dozen seconds of a drive, so what is joined is kept by `world` and used thousands of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import SE3
from perception_batch.simulate import people
from perception_batch.simulate.ego_drive import EgoCycle
from perception_batch.simulate.looks import LIGHT_SIZE_LWH_M, Look
from perception_batch.simulate.motion import Stands, stand
from perception_batch.simulate.scene import Mesh, Thing
from perception_batch.simulate.scenery import Piece
from perception_batch.simulate.signals import Aspect
from perception_batch.simulate.standing import Standing
from perception_batch.simulate.streets import BLOCK_M, FloatArray, Ground

TileRange = tuple[int, int, int, int]
"""First and last tile along x, first and last along y."""
STRIDE_M = 1.5
"""Two steps of a walker."""


def tiles_within(xy_m: FloatArray, reach_m: float) -> TileRange:
    """The tiles that a square of twice `reach_m` about a place touches."""
    low, high = np.floor((xy_m - reach_m) / BLOCK_M), np.floor((xy_m + reach_m) / BLOCK_M)
    return int(low[0]), int(high[0]), int(low[1]), int(high[1])


def numbers_of(tiles: TileRange, further: int = 0) -> Iterable[tuple[int, int]]:
    """The tiles of a range, and `further` ones behind its end, row by row."""
    for i in range(tiles[0], tiles[1] + 1 + further):
        for j in range(tiles[2], tiles[3] + 1 + further):
            yield i, j


def things_of(
    stands: Stands, numbers: Iterable[tuple[int, str, tuple[float, float, float], Mesh]]
) -> list[Thing]:
    """One thing for each pose, of its id, label, size and mesh."""
    return [
        Thing(object_id, label, SE3(rotation, position), size, velocity, mesh)
        for rotation, position, velocity, (object_id, label, size, mesh) in zip(
            stands.rotation, stands.position_m, stands.velocity_mps, numbers, strict=True
        )
    ]


def step_number(s_m: FloatArray, poses: int = people.POSES) -> npt.NDArray[np.int64]:
    """(N,) which pose of a step a walker has at an arc length."""
    return np.floor(s_m / (STRIDE_M / poses)).astype(np.int64)


class NearScenery:
    """Pieces of several tiles, in drawing order."""

    def __init__(self, tiles: Iterable[list[Piece]]) -> None:
        pieces = sorted((piece for tile in tiles for piece in tile), key=lambda piece: piece.layer)
        self._meshes = [piece.mesh for piece in pieces]
        self._x_m = np.array([piece.x_m for piece in pieces])
        self._y_m = np.array([piece.y_m for piece in pieces])
        self._radius_m = np.array([piece.radius_m for piece in pieces])

    def within(self, xy_m: FloatArray, radius_m: float) -> list[Mesh]:
        """Those that reach into the radius."""
        away2 = (self._x_m - xy_m[0]) ** 2 + (self._y_m - xy_m[1]) ** 2
        return list(compress(self._meshes, (away2 < (radius_m + self._radius_m) ** 2).tolist()))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Things around one place."""

    things: list[Thing]
    away_m: FloatArray
    """(N,) from the place, on the ground."""

    @classmethod
    def joined(cls, parts: Iterable[Found]) -> Found:
        """All of them, by id."""
        parts = list(parts)
        things = [thing for part in parts for thing in part.things]
        away_m = np.concatenate([part.away_m for part in parts])
        order = np.argsort([thing.object_id for thing in things], kind="stable").tolist()
        return cls([things[n] for n in order], away_m[order])

    def within(self, radius_m: float) -> list[Thing]:
        """Those within a radius."""
        return list(compress(self.things, (self.away_m <= radius_m).tolist()))


class NearStanding:
    """Parked cars, lights and walkers on the pavement of several junctions."""

    def __init__(self, ground: Ground, cycle: EgoCycle, standing: Iterable[Standing]) -> None:
        self._ground, self._cycle = ground, cycle
        all_standing = list(standing)
        self._parked = [thing for s in all_standing for thing in s.parked]
        self._parked_xy = np.concatenate([np.zeros((0, 2)), *(s.parked_xy for s in all_standing)])
        self._lights = [
            (s.cycle, s.place, heading, object_id, pose)
            for s in all_standing
            for object_id, heading, pose in s.lights
        ]
        self._lights_xy = np.array([light[-1].translation_m[:2] for light in self._lights]).reshape(-1, 2)
        self._shown: dict[tuple[int, Aspect], Thing] = {}
        self._walks = np.concatenate([np.zeros((0, 7)), *(s.walks for s in all_standing)])
        self._walkers = np.concatenate(
            [np.zeros(0, np.int64), *(s.first_walker + np.arange(len(s.walks)) for s in all_standing)]
        )
        counts = [len(s.walks) for s in all_standing]
        self._walk_cycle = np.repeat(np.array([s.cycle for s in all_standing], np.int64), counts)
        self._walk_middle_s = np.repeat(np.array([s.walk_middle_s for s in all_standing]), counts)

    def parked(self, xy_m: FloatArray, radius_m: float) -> Found:
        """Those who never move."""
        away_m = _away_m(self._parked_xy[:, 0], self._parked_xy[:, 1], xy_m)
        near = away_m <= radius_m
        return Found(list(compress(self._parked, near.tolist())), away_m[near])

    def lights(
        self, number: int, local_s: float, xy_m: FloatArray, radius_m: float, meshes: dict[Aspect, Mesh]
    ) -> Found:
        """Traffic lights with what they show at a time within cycle `number`."""
        away_m = _away_m(self._lights_xy[:, 0], self._lights_xy[:, 1], xy_m)
        near = np.flatnonzero(away_m <= radius_m)
        things = []
        for row in near.tolist():
            cycle, place, heading, object_id, pose = self._lights[row]
            time_s = local_s + (number - cycle) * self._cycle.duration_s
            aspect = self._cycle.signals[place].aspect(time_s, heading)
            thing = self._shown.get((row, aspect))
            if thing is None:
                thing = self._shown[row, aspect] = Thing(
                    object_id, "traffic light", pose, LIGHT_SIZE_LWH_M, np.zeros(3), meshes[aspect]
                )
            things.append(thing)
        return Found(things, away_m[near])

    def walkers(
        self, number: int, local_s: float, xy_m: FloatArray, radius_m: float, look: Callable[[int], Look]
    ) -> Found:
        """Those who walk along the pavement."""
        walks = self._walks
        time_s = local_s + (number - self._walk_cycle) * self._cycle.duration_s
        way_m = walks[:, 4] * (time_s - self._walk_middle_s)
        x_m, y_m = walks[:, 0] + walks[:, 2] * way_m, walks[:, 1] + walks[:, 3] * way_m
        away_m = _away_m(x_m, y_m, xy_m)
        there = (way_m >= walks[:, 5]) & (way_m <= walks[:, 6]) & (away_m <= radius_m)
        near = np.flatnonzero(there)
        if not len(near):
            return Found([], np.zeros(0))
        walkers = self._walkers[near].tolist()
        looks = [look(walker) for walker in walkers]
        zero = np.zeros(len(near))
        stands = stand(
            self._ground,
            x_m[near],
            y_m[near],
            walks[near, 2],
            walks[near, 3],
            walks[near, 4],
            zero,
            zero,
            np.array([each.size_lwh_m[2] for each in looks]) / 2,
        )
        poses = (step_number(way_m[near]) % people.POSES).tolist()
        things = things_of(
            stands,
            (
                (walker, "person", each.size_lwh_m, each.poses[pose])
                for walker, each, pose in zip(walkers, looks, poses, strict=True)
            ),
        )
        return Found(things, away_m[near])


def _away_m(x_m: FloatArray, y_m: FloatArray, xy_m: FloatArray) -> FloatArray:
    away: FloatArray = np.hypot(x_m - xy_m[0], y_m - xy_m[1])
    return away
