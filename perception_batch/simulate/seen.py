"""What one camera may see at one instant, as arrays: faces and bodies of scenery and things in its optical frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.simulate.scene import Mesh
from perception_batch.simulate.solids import Solid

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where a run of seen faces comes from, to look up what its solid knows of their order."""

    solid: Solid
    """Scenery as a whole, or one thing's shape."""
    faces: IntArray
    """(N,) faces of the solid that are seen."""
    first: int
    """Row of the first of them among all seen faces; the others follow."""
    eye: FloatArray
    """(3,) the camera in the solid's frame."""
    by_rank: bool
    """Whether the rank alone orders the faces: for things that look small."""

    def edges(self, is_open: BoolArray) -> IntArray:
        """(E, 2) rows of seen faces that `is_open` ((N,)) of which the first must be painted before the second."""
        if self.by_rank:
            rank = self.solid.rank[self.faces]
            pairs: IntArray = np.argwhere(rank[:, None] < rank[None]) + self.first
            return pairs
        solid, eye = self.solid, self.eye
        row = np.full(len(solid.count), -1)
        row[self.faces[is_open]] = self.first + np.flatnonzero(is_open)
        before, after = row[solid.always[:, 0]], row[solid.always[:, 1]]
        both = np.flatnonzero((before >= 0) & (after >= 0))
        low, high = solid.unless_below_m[both], solid.unless_above_m[both]
        needed = np.ones(len(both), np.bool_)
        for i in range(3):
            needed &= (eye[i] > low[:, i]) & (eye[i] < high[:, i])
        both = both[needed]
        always = np.stack([before[both], after[both]], axis=1)
        above = eye[solid.sided[:, 2]] > solid.level_m
        sided = row[np.where(above[:, None], solid.sided[:, :2], solid.sided[:, 1::-1])]
        kept: IntArray = np.concatenate([always, sided[(sided[:, 0] >= 0) & (sided[:, 1] >= 0)]])
        return kept


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
    small: BoolArray
    """(B,) whether it is scenery that looks so small that faces may go by distance."""
    is_ground: BoolArray
    """(B,) whether the body is a patch of the ground."""
    is_hilly: bool
    """Whether the ground may hide something."""
    sources: tuple[Source, ...]
    """Of all faces but those of far things, run after run."""
    far_points: FloatArray
    """(P, 3) corners of the meshes of things that are drawn as one outline, optical frame."""
    far_count: IntArray
    """(N,) how many each of them has; their faces and bodies are the last N, one each, with no corners used."""
    meshes: tuple[Mesh, ...]
    """Of the last bodies, one each: those that are things."""

    def edges(self, open_body: BoolArray) -> IntArray:
        """(E, 2) faces of one body of which the first must be painted before the second, in bodies `open_body`."""
        found = [np.zeros((0, 2), np.int64)]
        is_open = open_body[self.body] & ~self.ground
        for source in self.sources:
            mine = is_open[source.first : source.first + len(source.faces)]
            if mine.any():
                found.append(source.edges(mine))
        return np.concatenate(found)

    def outer(self, body: int) -> FloatArray:
        """(N, 3) all corners of a thing's mesh, hidden ones too, in the optical frame."""
        mesh = self.meshes[body - (len(self.center) - len(self.meshes))]
        points: FloatArray = mesh.vertices_m[np.unique(mesh.faces)] @ self.axes[body] + self.center[body]
        return points
