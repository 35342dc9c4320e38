"""What of the world a camera may see, in its optical frame: faces and bodies of scenery and things, as arrays."""

from __future__ import annotations

import hashlib
import operator
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import SE3
from perception_batch.simulate.lens import Lens
from perception_batch.simulate.scene import Mesh, Thing
from perception_batch.simulate.solids import KERB_M, Solid, solid_of_scenery, solid_of_thing

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_Size = tuple[float, float, float]

_KEPT_SOLIDS = 2048
"""Prepared meshes that are kept; the least recently used go first, so memory does not grow with the drive."""
_LEAST_PX = 0.4
"""Bodies whose ball is smaller than this are left out."""
_FAR_PX = 14.0
"""Things whose ball is smaller than this are drawn as one outline in their mean colour."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Faces whose outer side looks at the camera, and the bodies they belong to."""

    corners: FloatArray
    """(F, 4, 3) in the optical frame."""
    count: IntArray
    """(F,) corners used, 3 or 4."""
    normal: FloatArray
    """(F, 3) in the optical frame."""
    normal_odom: FloatArray
    """(F, 3) in odom."""
    middle: FloatArray
    """(F, 3) mean corner, optical frame."""
    color: FloatArray
    """(F, 3) before light."""
    shines: BoolArray
    """(F,) as in `Mesh`."""
    leaf: BoolArray
    """(F,) of a two-sided mesh."""
    ground: BoolArray
    """(F,) part of the ground."""
    rank: IntArray
    """(F,) painting order within its body."""
    body: IntArray
    """(F,) row of the bodies below."""
    object_id: IntArray
    """(B,) id of the thing, 0 for scenery."""
    center: FloatArray
    """(B, 3) centres of the boxes, optical frame."""
    axes: FloatArray
    """(B, 3, 3) axes of the boxes, one a row, optical frame."""
    half: FloatArray
    """(B, 3) half sizes."""
    fill: FloatArray
    """(B,) share of its box that a body fills."""
    ranked: BoolArray
    """(B,) whether `rank` is enough."""
    complete: BoolArray
    """(B,) whether `edges` is."""
    edges: IntArray
    """(E, 2) faces of one body of which the first must be painted before the second."""
    is_ground: BoolArray
    """(B,) whether the body is a patch of the ground."""
    is_hilly: bool
    """Whether the ground may hide something."""
    far_points: FloatArray
    """(P, 3) corners of the meshes of things that are drawn as one outline, optical frame."""
    far_count: IntArray
    """(N,) how many each of them has; their faces and bodies are the last N, one each, with no corners used."""
    things: tuple[tuple[Mesh, SE3], ...]
    """Of the last bodies, one each: mesh and pose in the optical frame."""

    def outer(self, body: int) -> FloatArray:
        """(N, 3) all corners of a thing's mesh, hidden ones too, in the optical frame."""
        mesh, camera_SE3_object = self.things[body - (len(self.center) - len(self.things))]
        return camera_SE3_object.apply(mesh.vertices_m[np.unique(mesh.faces)])


@dataclass(frozen=True, slots=True, eq=False)
class _Outline:
    """A mesh from far away."""

    points: FloatArray
    """(P, 3) its corners."""
    color: FloatArray
    """(3,) mean colour of its faces by area, before light."""


@dataclass(frozen=True, slots=True, eq=False)
class _Scenery:
    """All scenery that is near, as one."""

    meshes: tuple[Mesh, ...]
    """What it is made of; held, so that no other mesh can take over an id."""
    solid: Solid
    """The parts one after another."""
    radius: FloatArray
    """(B,) of the bodies' balls."""
    is_ground: BoolArray
    """(B,) patches of the ground."""
    edge_body: IntArray
    """(E,) body of each of the solid's `always`."""
    is_hilly: bool
    """Whether the ground rises or falls by more than a kerb or a bump."""


class ShapeCache:
    """Meshes made ready for drawing; drawers of one world share it. Not for several threads at once."""

    def __init__(self) -> None:
        self._solids: OrderedDict[tuple[int, _Size | None], tuple[Mesh, Solid]] = OrderedDict()
        self._alike: OrderedDict[tuple[bytes, bool, _Size | None], Solid] = OrderedDict()
        self._outlines: OrderedDict[int, tuple[Mesh, _Outline]] = OrderedDict()
        self._scenery: _Scenery | None = None

    def outline(self, mesh: Mesh) -> _Outline:
        """A thing's mesh as it is seen from far away."""
        known = self._outlines.get(id(mesh))
        if known is not None:
            self._outlines.move_to_end(id(mesh))
            return known[1]
        used = mesh.vertices_m[mesh.faces]
        area = np.linalg.norm(np.cross(used[:, 2] - used[:, 0], used[:, 3] - used[:, 1]), axis=1)
        color = (area @ mesh.colors.astype(np.float64)) / max(float(area.sum()), 1e-12)
        made = _Outline(mesh.vertices_m[np.unique(mesh.faces)], color)
        self._outlines[id(mesh)] = (mesh, made)
        while len(self._outlines) > _KEPT_SOLIDS:
            self._outlines.popitem(last=False)
        return made

    def of_thing(self, thing: Thing) -> Solid:
        """A thing's shape in its own frame."""
        return self._remembered(thing.mesh, thing.size_lwh_m)

    def of_scenery(self, scenery: Sequence[Mesh]) -> _Scenery:
        """All scenery that is near, as one; put together anew only when something came or went."""
        old = self._scenery
        if (
            old is not None
            and len(old.meshes) == len(scenery)
            and all(map(operator.is_, old.meshes, scenery))
        ):
            return old
        solid = _joined([self._remembered(mesh, None) for mesh in scenery])
        is_ground = np.zeros(len(solid.center), np.bool_)
        is_ground[solid.body[solid.ground]] = True
        radius = np.linalg.norm(solid.half, axis=1)
        heights = solid.corners[solid.ground][:, :, 2]
        is_hilly = bool(heights.size) and float(np.ptp(heights)) > 2 * KERB_M
        edge_body = solid.body[solid.always[:, 0]]
        self._scenery = _Scenery(tuple(scenery), solid, radius, is_ground, edge_body, is_hilly)
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


_PLAIN_PX = 44.0
"""Faces of things whose ball is smaller than this go by distance, what is laid on them last: a few pixels of one id."""


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
        near = self._in_view(center, whole.radius)
        faces = np.flatnonzero(near[solid.body])
        corner = solid.corners[faces, 0] - odom_SE3_camera.translation_m
        faces = faces[np.einsum("fi,fi->f", solid.normal[faces], corner) < 0]
        row = np.cumsum(near) - 1
        corners = [solid.corners[faces].reshape(-1, 3) @ turn.T + move]
        normal_odom = [solid.normal[faces]]
        picked: list[tuple[Solid, IntArray]] = [(solid, faces)]
        body = [row[solid.body[faces]]]
        bodies = int(near.sum())
        centers, axes, halves = [center[near]], [solid.axes[near] @ turn.T], [solid.half[near]]
        ids, ranked, complete = [np.zeros(bodies, np.int64)], [solid.ranked[near]], [solid.complete[near]]
        edges = [
            _edges(solid, faces, odom_SE3_camera.translation_m, 0, np.flatnonzero(near[whole.edge_body]))
        ]
        count = len(faces)
        ranks_of = [solid.rank[faces]]

        near_things, far_things = self._things_in_view(things, camera_SE3_odom)
        plain = self._plain([at for _, at in near_things], [thing for thing, _ in near_things])
        for (thing, at), is_plain in zip(near_things, plain, strict=True):
            shape = self._shapes.of_thing(thing)
            eye = -(at.rotation.T @ at.translation_m)
            front = np.flatnonzero(np.einsum("fi,fi->f", shape.normal, shape.corners[:, 0] - eye) < 0)
            corners.append(shape.corners[front].reshape(-1, 3) @ at.rotation.T + at.translation_m)
            normal_odom.append(shape.normal[front] @ thing.odom_SE3_object.rotation.T)
            picked.append((shape, front))
            body.append(np.full(len(front), bodies))
            bodies += 1
            ranked.append(shape.ranked | is_plain)
            complete.append(shape.complete | is_plain)
            edges.append(
                _edges_by_rank(shape.rank[front], count) if is_plain else _edges(shape, front, eye, count)
            )
            count += len(front)
            ranks_of.append(shape.rank[front])
        ranks_of.append(np.zeros(len(far_things), np.int64))
        both = near_things + far_things
        far = [self._shapes.outline(thing.mesh) for thing, _ in far_things]
        none = np.zeros(len(far), np.bool_)
        if far:
            at_far = np.array([at.translation_m for _, at in far_things])
            corners.append(np.repeat(at_far, 4, axis=0))
            # Lit as if it were a wall that looks at the camera and a little upwards.
            toward = -at_far / np.linalg.norm(at_far, axis=1, keepdims=True)
            leaning = toward @ turn + (0.0, 0.0, 0.5)
            normal_odom.append(leaning / np.linalg.norm(leaning, axis=1, keepdims=True))
            body.append(np.arange(bodies, bodies + len(far)))
            ranked.append(~none)
            complete.append(~none)
        if both:
            axes.append(np.array([at.rotation.T for _, at in both]))
            centers.append(np.array([at.translation_m for _, at in both]))
            halves.append(np.array([thing.size_lwh_m for thing, _ in both]) / 2)
            ids.append(np.array([thing.object_id for thing, _ in both]))
        all_corners = np.concatenate(corners).reshape(-1, 4, 3)
        normals = np.concatenate(normal_odom)
        points = [
            o.points @ at.rotation.T + at.translation_m for o, (_, at) in zip(far, far_things, strict=True)
        ]

        def of_faces(name: str, of_far: Any) -> Any:
            return np.concatenate([*(getattr(s, name)[f] for s, f in picked), of_far])

        return Seen(
            all_corners,
            of_faces("count", np.zeros(len(far), np.int64)),
            normals @ turn.T,
            normals,
            all_corners.mean(axis=1),
            of_faces("color", np.array([o.color for o in far]).reshape(-1, 3)),
            of_faces("shines", none),
            of_faces("leaf", none),
            of_faces("ground", none),
            np.concatenate(ranks_of),
            np.concatenate(body),
            np.concatenate(ids),
            np.concatenate(centers),
            np.concatenate(axes),
            np.concatenate(halves),
            np.concatenate([solid.fill[near], np.ones(len(both))]),
            np.concatenate(ranked),
            np.concatenate(complete),
            np.concatenate(edges),
            np.concatenate([whole.is_ground[near], np.zeros(len(both), np.bool_)]),
            whole.is_hilly,
            np.concatenate(points) if points else np.zeros((0, 3)),
            np.array([len(p) for p in points], np.int64),
            tuple((thing.mesh, at) for thing, at in both),
        )

    def _in_view(self, center: FloatArray, radius: FloatArray) -> BoolArray:
        return np.asarray(self._lens.may_show(center, radius) & (self._size_px(center, radius) > _LEAST_PX))

    def _size_px(self, center: FloatArray, radius: FloatArray) -> FloatArray:
        """(N,) about how wide balls look."""
        away = np.maximum(np.linalg.norm(center, axis=1), 1e-6)
        size: FloatArray = 2 * radius / away * self._lens.intrinsics.fx_px
        return size

    def _plain(self, at: Sequence[SE3], things: Sequence[Thing]) -> list[bool]:
        """Whether things are so small that the order of their own faces does not matter."""
        center = np.array([a.translation_m for a in at]).reshape(-1, 3)
        radius = np.linalg.norm(np.array([t.size_lwh_m for t in things]).reshape(-1, 3), axis=1) / 2
        return list((self._size_px(center, radius) < _PLAIN_PX).tolist())

    def _things_in_view(
        self, things: Sequence[Thing], camera_SE3_odom: SE3
    ) -> tuple[list[tuple[Thing, SE3]], list[tuple[Thing, SE3]]]:
        """Those to be drawn face by face, and those far away."""
        if not things:
            return [], []
        center = camera_SE3_odom.apply(np.array([t.odom_SE3_object.translation_m for t in things]))
        radius = np.linalg.norm(np.array([t.size_lwh_m for t in things]), axis=1) / 2
        seen = self._in_view(center, radius)
        far = self._size_px(center, radius) < _FAR_PX
        turn = camera_SE3_odom.rotation

        def placed(rows: BoolArray) -> list[tuple[Thing, SE3]]:
            return [
                (things[i], SE3(turn @ things[i].odom_SE3_object.rotation, center[i]))
                for i in np.flatnonzero(rows).tolist()
            ]

        return placed(seen & ~far), placed(seen & far)


def _edges(
    solid: Solid, faces: IntArray, eye: FloatArray, first: int, among: IntArray | None = None
) -> IntArray:
    """(E, 2) of the pairs that a solid knows those of two seen faces, in rows of the seen ones from `first` on.

    `among` are the rows of `always` to look at; None: all.
    """
    row = np.full(len(solid.count), -1)
    row[faces] = np.arange(first, first + len(faces))
    chosen = np.arange(len(solid.always)) if among is None else among
    before, after = row[solid.always[chosen, 0]], row[solid.always[chosen, 1]]
    both = np.flatnonzero((before >= 0) & (after >= 0))
    seen = chosen[both]
    needed = ((eye > solid.unless_below_m[seen]) & (eye < solid.unless_above_m[seen])).all(axis=1)
    above = eye[solid.sided[:, 2]] > solid.level_m
    sided = row[np.where(above[:, None], solid.sided[:, :2], solid.sided[:, 1::-1])]
    always = np.stack([before[both[needed]], after[both[needed]]], axis=1)
    kept: IntArray = np.concatenate([always, sided[(sided >= 0).all(axis=1)]])
    return kept


def _edges_by_rank(rank: IntArray, first: int) -> IntArray:
    """(E, 2) rows from `first` on, each of a lower rank before each of a higher one."""
    edges: IntArray = np.argwhere(rank[:, None] < rank[None]) + first
    return edges


def _joined(solids: Sequence[Solid]) -> Solid:
    """Several solids as one, bodies and faces renumbered."""
    if not solids:
        empty = Mesh(np.zeros((0, 3)), np.zeros((0, 4), np.int32), np.zeros((0, 3), np.uint8))
        return solid_of_scenery(empty)
    bodies = np.cumsum([0] + [len(s.center) for s in solids]).tolist()
    first = np.cumsum([0] + [len(s.count) for s in solids]).tolist()

    def stacked(name: str, shift: Sequence[int] | None = None) -> Any:
        parts = [getattr(s, name) for s in solids]
        if shift is not None:
            parts = [part + by for part, by in zip(parts, shift, strict=False)]
        return np.concatenate(parts)

    plain = {f.name: stacked(f.name) for f in fields(Solid) if f.name not in ("body", "always", "sided")}
    sided = np.concatenate([s.sided + np.array([by, by, 0]) for s, by in zip(solids, first, strict=False)])
    return Solid(**plain, body=stacked("body", bodies), always=stacked("always", first), sided=sided)
