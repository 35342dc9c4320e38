"""Meshes made ready for drawing: bodies with a box each, and what of the painting order holds for every eye.

A face is drawn only where its outer side is seen. So of two faces of one body, which of them must be painted
first does not depend on where the eye is: a face whose corners all lie on the outer side of another's plane is
never hidden by it (Newell, Newell and Sancha 1972, without the eye). A shape's order is therefore found once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from perception_batch.simulate.cutting import areas_of, body_order, connected_parts, cut_apart
from perception_batch.simulate.scene import Mesh

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

KERB_M = 0.35
"""What rises less than this above what it stands on belongs to the ground."""
_DECAL_M = 0.05
"""What is laid on a face lies within this much of it."""
_MOST_ORDERED = 500
"""Faces of one body that are compared with each other; those of a larger one go by distance."""


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """One mesh made ready: one-sided faces, grouped into bodies."""

    corners: FloatArray
    """(F, 4, 3) corners; a triangle repeats its last one."""
    count: IntArray
    """(F,) 3 or 4."""
    normal: FloatArray
    """(F, 3) unit normals, outwards."""
    middle: FloatArray
    """(F, 3) mean corners."""
    area_m2: FloatArray
    """(F,) how large they are."""
    color: FloatArray
    """(F, 3) RGB before light."""
    shines: BoolArray
    """(F,) faces that give light."""
    leaf: BoolArray
    """(F,) faces of a two-sided mesh."""
    ground: BoolArray
    """(F,) faces that are part of the ground, in the order in which they are to be painted."""
    body: IntArray
    """(F,) number of the body that each face belongs to."""
    center: FloatArray
    """(B, 3) centres of the bodies' boxes."""
    axes: FloatArray
    """(B, 3, 3) their axes, one a row."""
    half: FloatArray
    """(B, 3) their half sizes along those."""
    fill: FloatArray
    """(B,) about how much of its box each body fills; little for a lamp post with its arm."""
    always: IntArray
    """(E, 2) faces of one body of which the first must be painted before the second, wherever both are seen."""
    unless_below_m: FloatArray
    """(E, 3) but not where the eye is below this on any axis, as in `BodyOrder`."""
    unless_above_m: FloatArray
    """(E, 3) the same above."""
    sided: IntArray
    """(S, 3) pairs that depend on the side of the eye, and the axis, as in `BodyOrder`."""
    level_m: FloatArray
    """(S,) where on its axis each such plane is."""
    rank: IntArray
    """(F,) place in the painting order within the body; where the body is not `ranked`, 1 for what is laid on another
    face (lamps, windows), else 0: enough for small pictures."""
    ranked: BoolArray
    """(B,) whether `rank` settles the body's order for every eye."""
    complete: BoolArray
    """(B,) whether `always` and `sided` do."""


@dataclass(frozen=True, slots=True, eq=False)
class _Faces:
    """Faces alone, as in `Solid`."""

    corners: FloatArray
    count: IntArray
    normal: FloatArray
    color: FloatArray
    shines: BoolArray
    leaf: BoolArray

    def of(self, rows: IntArray) -> _Faces:
        """The chosen ones."""
        return _Faces(*(getattr(self, f.name)[rows] for f in fields(self)))


def solid_of_thing(mesh: Mesh, size_lwh_m: tuple[float, float, float]) -> Solid:
    """A thing's mesh: one body, whose box is the thing's own."""
    faces = _faces(mesh)
    body = np.zeros(len(faces.count), np.int64)
    half = np.array([size_lwh_m], np.float64) / 2
    faces, body = _cut_bodies(faces, body)
    no_ground = np.zeros(len(body), np.bool_)
    return _solid(faces, body, no_ground, np.zeros((1, 3)), np.eye(3)[None], half)


def plain_solid_of_thing(mesh: Mesh, size_lwh_m: tuple[float, float, float]) -> Solid:
    """A thing's mesh for small pictures: its faces go by distance, what is laid on others after those.

    Nothing is cut or compared, which is most of the work of `solid_of_thing`; many a thing never comes nearer.
    """
    faces = _faces(mesh)
    body = np.zeros(len(faces.count), np.int64)
    half = np.array([size_lwh_m], np.float64) / 2
    return _solid(faces, body, body > 0, np.zeros((1, 3)), np.eye(3)[None], half, most_ordered=0)


def solid_of_scenery(mesh: Mesh) -> Solid:
    """A piece of scenery in odom: ground where all of it is flat or as low as a kerb, else bodies, one for each part."""
    faces = _faces(mesh)
    rise = np.ptp(faces.corners[:, :, 2], axis=1)
    low = (faces.normal[:, 2] > 0.6) | (rise < KERB_M)
    ground = np.full(len(low), bool(low.all()))
    part = np.full(len(low), -1, np.int64)
    if not low.all():
        part = _merged_parts(faces.corners, connected_parts(faces.corners))
        faces, part = _cut_bodies(faces, part)
        ground = part < 0
    if ground.any():
        # Every patch of the ground is its own body: it may have to be painted between things on a hill.
        part = np.where(ground, part.max(initial=0) + 1 + np.arange(len(part)), part)
    _, body = np.unique(part, return_inverse=True)
    body = body.astype(np.int64)
    center, axes, half = _boxes(faces.corners, faces.normal, body, int(body.max(initial=-1)) + 1, ground)
    return _solid(faces, body, ground, center, axes, half)


def _solid(
    faces: _Faces,
    body: IntArray,
    ground: BoolArray,
    center: FloatArray,
    axes: FloatArray,
    half: FloatArray,
    most_ordered: int = _MOST_ORDERED,
) -> Solid:
    always, sided = [np.zeros((0, 2), np.int64)], [np.zeros((0, 3), np.int64)]
    levels, below, above = [np.zeros(0)], [np.zeros((0, 3))], [np.zeros((0, 3))]
    ranked, complete = np.ones(len(center), np.bool_), np.ones(len(center), np.bool_)
    for b in np.unique(body[~ground]):
        mine = np.flatnonzero(body == b)
        if len(mine) > most_ordered:
            ranked[b] = complete[b] = False
            continue
        found = body_order(faces.corners[mine], faces.normal[mine])
        always.append(mine[found.always])
        sided.append(np.concatenate([mine[found.sided[:, :2]], found.sided[:, 2:]], axis=1))
        levels.append(found.level_m)
        below.append(found.unless_below_m)
        above.append(found.unless_above_m)
        complete[b] = found.is_complete
        ranked[b] = found.is_complete and not len(found.sided)
    all_always = np.concatenate(always)
    rank, lost = ranks(all_always, len(body), most=16)
    ranked[np.unique(body[lost])] = False
    for b in np.flatnonzero(~ranked):
        mine = np.flatnonzero(body == b)
        if len(mine) <= _MOST_ORDERED:
            rank[mine] = _is_decal(faces.corners[mine], faces.normal[mine])
    return Solid(
        faces.corners,
        faces.count,
        faces.normal,
        faces.corners.mean(axis=1),
        areas_of(faces.corners),
        faces.color,
        faces.shines,
        faces.leaf,
        ground,
        body,
        center,
        axes,
        half,
        _fill_shares(faces, body, half),
        all_always,
        np.concatenate(below),
        np.concatenate(above),
        np.concatenate(sided),
        np.concatenate(levels),
        rank,
        ranked,
        complete,
    )


def normals_of(corners: FloatArray) -> FloatArray:
    """(F, 3) unit normals of (F, 4, 3) faces, by their diagonals; zero for a face without area."""
    normal = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    unit: FloatArray = normal / np.maximum(length, 1e-12)
    return unit


def _faces(mesh: Mesh) -> _Faces:
    """A mesh's faces, those without area left out; of a two-sided mesh one for each side."""
    corners = mesh.vertices_m[mesh.faces]
    count = np.where(mesh.faces[:, 3] == mesh.faces[:, 2], 3, 4).astype(np.int64)
    shines = np.zeros(len(corners), np.bool_) if mesh.shines is None else mesh.shines
    leaf = np.full(len(corners), mesh.two_sided)
    faces = _Faces(corners, count, normals_of(corners), mesh.colors.astype(np.float64), shines, leaf)
    real = np.abs(faces.normal).sum(axis=1) > 0.5
    if not real.all():
        faces = faces.of(np.flatnonzero(real))
    if mesh.two_sided and not faces.normal[:, 2].min(initial=1.0) > 0.3:  # nobody sees the ground from below
        both = faces.of(np.tile(np.arange(len(faces.count)), 2))
        back = np.arange(len(both.count)) >= len(faces.count)
        turned = np.where(
            (both.count == 4)[:, None, None], both.corners[:, ::-1], both.corners[:, [2, 1, 0, 0]]
        )
        faces = replace(
            both,
            corners=np.where(back[:, None, None], turned, both.corners),
            normal=np.where(back[:, None], -both.normal, both.normal),
        )
    return faces


def _cut_bodies(faces: _Faces, body: IntArray) -> tuple[_Faces, IntArray]:
    """The faces after each body's were cut apart; those of body -1 are left whole and in their order."""
    rest = np.flatnonzero(body < 0)
    pieces = [faces.of(rest)]
    bodies = [body[rest]]
    for b in np.unique(body[body >= 0]):
        mine = np.flatnonzero(body == b)
        piece = faces.of(mine)
        if len(mine) <= _MOST_ORDERED:
            corners, count, source = cut_apart(piece.corners, piece.count, piece.normal)
            piece = replace(piece.of(source), corners=corners, count=count)
        pieces.append(piece)
        bodies.append(np.full(len(piece.count), b))
    joined = _Faces(*(np.concatenate([getattr(p, f.name) for p in pieces]) for f in fields(_Faces)))
    return joined, np.concatenate(bodies)


def _is_decal(corners: FloatArray, normal: FloatArray) -> BoolArray:
    """(F,) whether a face lies flat on a larger one of the same body, within a few centimetres."""
    middle = corners.mean(axis=1)
    area = np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=1)
    low, high = corners.min(axis=1) - _DECAL_M, corners.max(axis=1) + _DECAL_M
    above = np.einsum("ijk,jk->ij", middle[:, None] - middle[None], normal)  # [i, j]: i before j's plane
    on = (above > 1e-4) & (above < _DECAL_M) & (normal @ normal.T > 0.98) & (area[:, None] < area[None])
    meet = ((low[:, None] < high[None]) & (low[None] < high[:, None])).all(axis=2)
    return np.asarray((on & meet).any(axis=1))


def _fill_shares(faces: _Faces, body: IntArray, half: FloatArray) -> FloatArray:
    """(B,) volume within the faces (by the divergence theorem) over that of the box."""
    areas = np.cross(faces.corners[:, 2] - faces.corners[:, 0], faces.corners[:, 3] - faces.corners[:, 1]) / 2
    middle = faces.corners.mean(axis=1)
    first = np.zeros((len(half), 3))
    first[body] = middle  # any point of the body keeps the sum's terms small
    volume = np.bincount(body, np.einsum("fi,fi->f", areas, middle - first[body]) / 3, len(half))
    share: FloatArray = np.clip(volume / np.maximum(8 * half.prod(axis=1), 1e-9), 0, 1)
    return share


def _merged_parts(corners: FloatArray, part: IntArray) -> IntArray:
    """Parts whose upright boxes overlap become one: windows belong to their house, a crown to its trunk."""
    names = np.unique(part)
    low = np.array([corners[part == n].min(axis=(0, 1)) for n in names]) - 0.05
    high = np.array([corners[part == n].max(axis=(0, 1)) for n in names]) + 0.05
    near = ((low[:, None] <= high[None]) & (high[:, None] >= low[None])).all(axis=2)
    group = np.arange(len(names))
    while len(names):
        least = np.where(near, group[None, :], len(names)).min(axis=1)
        if np.array_equal(least, group):
            break
        group = least
    merged = part.copy()
    for name, target in zip(names, group, strict=True):
        merged[part == name] = names[target]
    return merged


def _boxes(
    corners: FloatArray, normal: FloatArray, body: IntArray, bodies: int, ground: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Upright boxes around the bodies, turned like the widest of their walls."""
    center, half = np.zeros((bodies, 3)), np.zeros((bodies, 3))
    axes = np.repeat(np.eye(3)[None], bodies, axis=0)
    flat = np.flatnonzero(ground)
    low, high = corners[flat].min(axis=1), corners[flat].max(axis=1)
    center[body[flat]], half[body[flat]] = (low + high) / 2, (high - low) / 2
    for b in np.unique(body[~ground]):
        mine = body == b
        points = corners[mine].reshape(-1, 3)
        best = None
        n = normal[mine]
        walls = np.unique(np.round(np.degrees(np.arctan2(n[:, 1], n[:, 0])), 1)[np.abs(n[:, 2]) < 0.5] % 90)
        for yaw in np.radians(walls[:24] if len(walls) else np.zeros(1)):
            c, s = np.cos(yaw), np.sin(yaw)
            turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
            turned = points @ turn.T
            low, high = turned.min(axis=0), turned.max(axis=0)
            area = float(np.prod((high - low)[:2]))
            if best is None or area < best[0] - 1e-9:
                best = (area, turn, low, high)
        if best is not None:
            _, turn, low, high = best
            center[b], axes[b], half[b] = turn.T @ ((low + high) / 2), turn, (high - low) / 2
    return center, axes, half


def ranks(order: IntArray, faces: int, most: int = 64) -> tuple[IntArray, IntArray]:
    """(F,) length of the longest chain of `order` that ends at each face, and the faces on or after a cycle."""
    rank = np.zeros(faces, np.int64)
    first, second = order[:, 0], order[:, 1]
    for _ in range(most):
        ahead = rank[first] + 1
        low = ahead > rank[second]
        if not low.any():
            return rank, np.zeros(0, np.int64)
        np.maximum.at(rank, second[low], ahead[low])
    low = rank[first] + 1 > rank[second]
    return rank, np.unique(second[low])
