"""What of the world a camera may see, in its optical frame: faces and bodies of scenery and things, as arrays."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import SE3
from perception_batch.simulate.joining import Scenery, join_scenery
from perception_batch.simulate.lens import Lens
from perception_batch.simulate.scene import Mesh, Thing
from perception_batch.simulate.seen import Seen, Source
from perception_batch.simulate.solids import Solid, plain_solid_of_thing, solid_of_scenery, solid_of_thing

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_Size = tuple[float, float, float]

_KEPT_SOLIDS = 1024
"""Prepared meshes that are kept; the least recently used go first, so memory does not grow with the drive."""
_LEAST_PX = 0.4
"""Bodies whose ball is smaller than this are left out."""
_LEAST_PX2 = 0.5
"""Faces of scenery that would fill less than this are left out: filled, they would be drawn far too large."""
_FAR_PX = 14.0
"""Things whose ball is smaller than this are drawn as one outline in their mean colour."""
_PLAIN_PX = 44.0
"""Faces of bodies whose ball is smaller than this go by distance, what is laid on them last: a few pixels of one id."""
_DIRECTIONS = 250
"""A far thing's outline is drawn through its outermost corners in so many directions: off by a hundredth of it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Outline:
    """A mesh from far away."""

    points: FloatArray
    """(P, 3) its outermost corners."""
    color: FloatArray
    """(3,) mean colour of its faces by area, before light."""


class ShapeCache:
    """Meshes made ready for drawing; drawers of one world share it. Not for several threads at once."""

    def __init__(self) -> None:
        self._solids: OrderedDict[tuple[int, _Size | None], tuple[Mesh, Solid]] = OrderedDict()
        self._alike: OrderedDict[tuple[bytes, bool, _Size | None], Solid] = OrderedDict()
        self._plain: OrderedDict[tuple[int, _Size], tuple[Mesh, Solid]] = OrderedDict()
        self._outlines: OrderedDict[int, tuple[Mesh, _Outline]] = OrderedDict()
        self._scenery: Scenery | None = None
        self._directions = _around(_DIRECTIONS)

    def outline(self, mesh: Mesh) -> _Outline:
        """A thing's mesh as it is seen from far away."""
        known = self._outlines.get(id(mesh))
        if known is not None:
            self._outlines.move_to_end(id(mesh))
            return known[1]
        used = mesh.vertices_m[mesh.faces]
        area = np.linalg.norm(np.cross(used[:, 2] - used[:, 0], used[:, 3] - used[:, 1]), axis=1)
        color = (area @ mesh.colors.astype(np.float64)) / max(float(area.sum()), 1e-12)
        corners = mesh.vertices_m[np.unique(mesh.faces)]
        made = _Outline(corners[np.unique((corners @ self._directions.T).argmax(axis=0))], color)
        self._outlines[id(mesh)] = (mesh, made)
        while len(self._outlines) > _KEPT_SOLIDS:
            self._outlines.popitem(last=False)
        return made

    def of_thing(self, thing: Thing) -> Solid:
        """A thing's shape in its own frame."""
        return self._remembered(thing.mesh, thing.size_lwh_m)

    def plain_of_thing(self, thing: Thing) -> Solid:
        """The same without an order of its faces, for small pictures."""
        key = (id(thing.mesh), thing.size_lwh_m)
        known = self._plain.get(key)
        if known is not None:
            self._plain.move_to_end(key)
            return known[1]
        made = plain_solid_of_thing(thing.mesh, thing.size_lwh_m)
        self._plain[key] = (thing.mesh, made)
        while len(self._plain) > _KEPT_SOLIDS:
            self._plain.popitem(last=False)
        return made

    def of_scenery(self, scenery: Sequence[Mesh]) -> Scenery:
        """All scenery that is near, as one; put together anew only where something came or went."""
        if self._scenery is None or not self._scenery.is_of(scenery):
            self._scenery = join_scenery(scenery, lambda mesh: self._remembered(mesh, None), self._scenery)
        return self._scenery

    def _remembered(self, mesh: Mesh, size_lwh_m: _Size | None) -> Solid:
        key = (id(mesh), size_lwh_m)
        known = self._solids.get(key)
        if known is not None:
            self._solids.move_to_end(key)
            return known[1]
        # A world may make the same mesh anew; comparing its bytes costs a hundredth of making it ready.
        shines = b"" if mesh.shines is None else mesh.shines.tobytes()
        parts = (mesh.vertices_m.tobytes(), mesh.faces.tobytes(), mesh.colors.tobytes(), shines)
        content = hashlib.blake2b(b"".join(parts), digest_size=16).digest()
        alike = (content, mesh.two_sided, size_lwh_m)
        solid = self._alike.get(alike)
        if solid is None:
            solid = solid_of_scenery(mesh) if size_lwh_m is None else solid_of_thing(mesh, size_lwh_m)
        self._alike[alike] = solid
        self._alike.move_to_end(alike)
        self._solids[key] = (mesh, solid)  # the mesh is held too: its id stays its own
        while len(self._solids) > _KEPT_SOLIDS:
            self._solids.popitem(last=False)
        while len(self._alike) > _KEPT_SOLIDS:
            self._alike.popitem(last=False)
        return solid


@dataclass(frozen=True, slots=True, eq=False)
class _Faces:
    """Faces of scenery, near things or far ones, as in `Seen`; bodies numbered from 0."""

    corners: FloatArray
    count: IntArray
    normal_odom: FloatArray
    middle: FloatArray
    color: FloatArray
    shines: BoolArray
    leaf: BoolArray
    ground: BoolArray
    rank: IntArray
    body: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Things before the camera."""

    things: list[Thing]
    odom_turns: FloatArray
    """(N, 3, 3) rotations from their frames to odom."""
    turns: FloatArray
    """(N, 3, 3) rotations from their frames to the optical frame."""
    moves: FloatArray
    """(N, 3) their centres in the optical frame."""


class Gatherer:
    """Gathers what is in view of one camera."""

    def __init__(self, lens: Lens, shapes: ShapeCache) -> None:
        self._lens, self._shapes = lens, shapes

    def gather(self, scenery: Sequence[Mesh], things: Sequence[Thing], odom_SE3_camera: SE3) -> Seen:
        """What may be in view of the camera at this pose."""
        camera_SE3_odom = odom_SE3_camera.inverse()
        turn, move = camera_SE3_odom.rotation, camera_SE3_odom.translation_m
        whole = self._shapes.of_scenery(scenery)
        solid = whole.solid
        center = solid.center @ turn.T + move
        size_px = self._size_px(center, whole.radius)
        in_view = self._lens.may_show(center, whole.radius) & (size_px > _LEAST_PX)
        bodies = np.flatnonzero(in_view)
        standing, source = self._of_scenery(solid, in_view, odom_SE3_camera)

        near, far, plain = self._things_in_view(things, camera_SE3_odom)
        shapes = [
            self._shapes.plain_of_thing(thing) if is_plain else self._shapes.of_thing(thing)
            for thing, is_plain in zip(near.things, plain.tolist(), strict=True)
        ]
        moving, sources = _of_things(near, shapes, plain, len(source.faces))
        outlines = [self._shapes.outline(thing.mesh) for thing in far.things]
        distant, far_points, far_count = _of_far(far, outlines, turn)
        both = near.things + far.things
        none = np.zeros(len(far.things), np.bool_)
        is_plain = size_px[bodies] < _PLAIN_PX
        parts = (standing, moving, distant)
        first = (0, len(bodies), len(bodies) + len(near.things))

        def of_faces(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in parts])

        normal_odom = of_faces("normal_odom")
        return Seen(
            of_faces("corners"),
            of_faces("count"),
            normal_odom @ turn.T,
            normal_odom,
            of_faces("middle"),
            of_faces("color"),
            of_faces("shines"),
            of_faces("leaf"),
            of_faces("ground"),
            of_faces("rank"),
            np.concatenate([part.body + by for part, by in zip(parts, first, strict=True)]),
            np.array([0] * len(bodies) + [thing.object_id for thing in both], np.int64),
            np.concatenate([center[bodies], near.moves, far.moves]),
            np.concatenate(
                [solid.axes[bodies] @ turn.T, np.concatenate([near.turns, far.turns]).transpose(0, 2, 1)]
            ),
            np.concatenate([solid.half[bodies], _sizes(both) / 2]),
            np.concatenate([solid.fill[bodies], np.ones(len(both))]),
            np.concatenate([solid.ranked[bodies] | is_plain, _flags(shapes, "ranked") | plain, ~none]),
            np.concatenate([solid.complete[bodies], _flags(shapes, "complete") | plain, ~none]),
            np.concatenate([is_plain, np.zeros(len(both), np.bool_)]),
            np.concatenate([whole.is_ground[bodies], np.zeros(len(both), np.bool_)]),
            whole.is_hilly,
            (source, *sources),
            far_points,
            far_count,
            tuple(thing.mesh for thing in both),
        )

    def _of_scenery(self, solid: Solid, in_view: BoolArray, odom_SE3_camera: SE3) -> tuple[_Faces, Source]:
        """The faces of bodies in view that look at the camera and are large enough to be seen."""
        eye, turn = odom_SE3_camera.translation_m, odom_SE3_camera.rotation  # rows times it: odom to optical
        faces = np.flatnonzero(in_view[solid.body])
        middle = solid.middle[faces] - eye
        facing = -np.einsum("fi,fi->f", solid.normal[faces], middle)
        away = np.sqrt(np.einsum("fi,fi->f", middle, middle))
        # The solid angle of a face, in pixels.
        focal = self._lens.intrinsics.fx_px
        area_px2 = solid.area_m2[faces] * facing * (focal * focal) / np.maximum(away, 1e-3) ** 3
        large = np.flatnonzero((facing > 0) & (area_px2 > _LEAST_PX2))
        faces, middle = faces[large], middle[large]
        row = np.cumsum(in_view) - 1
        corners = ((solid.corners[faces] - eye).reshape(-1, 3) @ turn).reshape(-1, 4, 3)
        found = _Faces(
            corners,
            solid.count[faces],
            solid.normal[faces],
            middle @ turn,
            solid.color[faces],
            solid.shines[faces],
            solid.leaf[faces],
            solid.ground[faces],
            solid.rank[faces],
            row[solid.body[faces]],
        )
        return found, Source(solid, faces, 0, eye, by_rank=False)

    def _size_px(self, center: FloatArray, radius: FloatArray) -> FloatArray:
        """(N,) about how wide balls look."""
        away = np.maximum(np.sqrt(np.einsum("ni,ni->n", center, center)), 1e-6)
        size: FloatArray = 2 * radius / away * self._lens.intrinsics.fx_px
        return size

    def _things_in_view(
        self, things: Sequence[Thing], camera_SE3_odom: SE3
    ) -> tuple[_Placed, _Placed, BoolArray]:
        """Those to be drawn face by face, those far away, and which of the first are so small that the order of
        their own faces does not matter."""
        turn = camera_SE3_odom.rotation
        odom = np.array([t.odom_SE3_object.translation_m for t in things]).reshape(-1, 3)
        center = camera_SE3_odom.apply(odom)
        radius = np.linalg.norm(_sizes(things), axis=1) / 2
        size_px = self._size_px(center, radius)
        seen = self._lens.may_show(center, radius) & (size_px > _LEAST_PX)
        far = size_px < _FAR_PX

        def placed(rows: IntArray) -> _Placed:
            chosen = [things[i] for i in rows.tolist()]
            odom_turns = np.array([t.odom_SE3_object.rotation for t in chosen]).reshape(-1, 3, 3)
            return _Placed(chosen, odom_turns, np.matmul(turn, odom_turns), center[rows])

        near = np.flatnonzero(seen & ~far)
        return placed(near), placed(np.flatnonzero(seen & far)), size_px[near] < _PLAIN_PX


def _of_things(
    placed: _Placed, shapes: Sequence[Solid], plain: BoolArray, first: int
) -> tuple[_Faces, list[Source]]:
    """The faces of near things that look at the camera; one body each. Rows of seen faces begin at `first`."""
    if not shapes:
        return _no_faces(), []
    turns, moves = placed.turns, placed.moves
    eyes = -np.matmul(turns.transpose(0, 2, 1), moves[:, :, None])[:, :, 0]
    sizes = [len(shape.count) for shape in shapes]
    body = np.repeat(np.arange(len(shapes)), sizes)

    def all_of(name: str) -> Any:
        return np.concatenate([getattr(shape, name) for shape in shapes])

    normal, middle = all_of("normal"), all_of("middle")
    front = np.flatnonzero(np.einsum("fi,fi->f", normal, middle - eyes[body]) < 0)
    body = body[front]
    ends = np.searchsorted(front, np.cumsum([0, *sizes]))
    starts = np.cumsum([0, *sizes])
    sources = [
        Source(shape, front[a:b] - start, first + a, eye, by_rank=by_rank)
        for shape, a, b, start, eye, by_rank in zip(
            shapes,
            ends[:-1].tolist(),
            ends[1:].tolist(),
            starts[:-1].tolist(),
            eyes,
            plain.tolist(),
            strict=True,
        )
    ]
    found = _Faces(
        _turned(all_of("corners")[front], turns[body]) + moves[body, None],
        all_of("count")[front],
        _turned(normal[front, None], placed.odom_turns[body])[:, 0],
        _turned(middle[front, None], turns[body])[:, 0] + moves[body],
        all_of("color")[front],
        all_of("shines")[front],
        all_of("leaf")[front],
        np.zeros(len(front), np.bool_),
        all_of("rank")[front],
        body,
    )
    return found, sources


def _of_far(
    placed: _Placed, outlines: Sequence[_Outline], turn: FloatArray
) -> tuple[_Faces, FloatArray, IntArray]:
    """One face without corners for each far thing; its points instead, and how many each has."""
    if not outlines:
        return _no_faces(), np.zeros((0, 3)), np.zeros(0, np.int64)
    none, at = np.zeros(len(outlines), np.bool_), placed.moves
    # Lit as if it were a wall that looks at the camera and a little upwards.
    toward = -at / np.linalg.norm(at, axis=1, keepdims=True)
    leaning = toward @ turn + (0.0, 0.0, 0.5)
    faces = _Faces(
        np.repeat(at, 4, axis=0).reshape(-1, 4, 3),
        none.astype(np.int64),
        leaning / np.linalg.norm(leaning, axis=1, keepdims=True),
        at,
        np.array([o.color for o in outlines]),
        none,
        none,
        none,
        none.astype(np.int64),
        np.arange(len(outlines)),
    )
    count = np.array([len(o.points) for o in outlines], np.int64)
    of = np.repeat(np.arange(len(outlines)), count)
    points = _turned(np.concatenate([o.points for o in outlines])[:, None], placed.turns[of])[:, 0] + at[of]
    return faces, points, count


def _no_faces() -> _Faces:
    none, vector = np.zeros(0, np.bool_), np.zeros((0, 3))
    rows = np.zeros(0, np.int64)
    return _Faces(np.zeros((0, 4, 3)), rows, vector, vector, vector, none, none, none, rows, rows)


def _turned(points: FloatArray, turns: FloatArray) -> FloatArray:
    """(N, K, 3) points turned by (N, 3, 3) rotations, K for each."""
    out: FloatArray = points[:, :, 0, None] * turns[:, None, :, 0]
    out += points[:, :, 1, None] * turns[:, None, :, 1]
    out += points[:, :, 2, None] * turns[:, None, :, 2]
    return out


def _sizes(things: Sequence[Thing]) -> FloatArray:
    """(N, 3) lengths, widths and heights."""
    return np.array([thing.size_lwh_m for thing in things], np.float64).reshape(-1, 3)


def _flags(shapes: Sequence[Solid], name: str) -> BoolArray:
    """(N,) a flag of solids of one body each."""
    return np.array([bool(getattr(shape, name)[0]) for shape in shapes], np.bool_)


def _around(count: int) -> FloatArray:
    """(count + 6, 3) directions all around, evenly spread (Fibonacci's lattice), and the axes."""
    k = np.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    wide = np.sqrt(1 - height * height)
    spread = np.stack([wide * np.cos(turn), wide * np.sin(turn), height], axis=1)
    return np.concatenate([spread, np.eye(3), -np.eye(3)])
