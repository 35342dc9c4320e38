"""All scenery that is near as one solid, put together anew where something came or went.

While a vehicle drives, a few meshes of hundreds change at a time: long runs of the last solid are taken over whole.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.simulate.scene import Mesh
from perception_batch.simulate.solids import KERB_M, Solid, solid_of_scenery

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_BY_BODY = ("center", "axes", "half", "fill", "ranked", "complete")
_BY_ALWAYS = ("always", "unless_below_m", "unless_above_m")
_BY_SIDED = ("sided", "level_m")
_FACE, _BODY, _ALWAYS, _SIDED = range(4)
_KIND = {
    f.name: _BODY
    if f.name in _BY_BODY
    else _ALWAYS
    if f.name in _BY_ALWAYS
    else _SIDED
    if f.name in _BY_SIDED
    else _FACE
    for f in fields(Solid)
}
"""What the rows of each array of a solid are."""


@dataclass(frozen=True, slots=True, eq=False)
class Scenery:
    """All scenery that is near, as one."""

    meshes: tuple[Mesh, ...]
    """What it is made of; held, so that no other mesh can take over an id."""
    solid: Solid
    """The parts one after another."""
    begin: IntArray
    """(M + 1, 4) first face, body, `always` and `sided` of each mesh, and the ends."""
    radius: FloatArray
    """(B,) of the bodies' balls."""
    is_ground: BoolArray
    """(B,) patches of the ground."""
    is_hilly: bool
    """Whether the ground rises or falls by more than a kerb or a bump."""

    def is_of(self, meshes: Sequence[Mesh]) -> bool:
        """Whether it is made of these very meshes."""
        return len(self.meshes) == len(meshes) and all(map(operator.is_, self.meshes, meshes))


def join_scenery(meshes: Sequence[Mesh], solid_of: Callable[[Mesh], Solid], old: Scenery | None) -> Scenery:
    """The meshes as one; what `old` has of them in the same order is taken from there."""
    known = {} if old is None else {id(mesh): row for row, mesh in enumerate(old.meshes)}
    parts: list[Solid] = []
    sizes: list[IntArray] = [np.zeros((1, 4), np.int64)]
    place = 0
    while place < len(meshes):
        row = known.get(id(meshes[place]))
        end = place + 1
        if old is None or row is None:
            solid = solid_of(meshes[place])
            parts.append(solid)
            sizes.append(np.array([_sizes(solid)], np.int64))
        else:
            while end < len(meshes) and known.get(id(meshes[end])) == row + end - place:
                end += 1
            last = row + end - place
            parts.append(_slice(old.solid, old.begin[row].tolist(), old.begin[last].tolist()))
            sizes.append(np.diff(old.begin[row : last + 1], axis=0))
        place = end
    solid = _joined(parts)
    is_ground = np.zeros(len(solid.center), np.bool_)
    is_ground[solid.body[solid.ground]] = True
    heights = solid.corners[solid.ground][:, :, 2]
    return Scenery(
        tuple(meshes),
        solid,
        np.cumsum(np.concatenate(sizes), axis=0),
        np.linalg.norm(solid.half, axis=1),
        is_ground,
        bool(heights.size) and float(np.ptp(heights)) > 2 * KERB_M,
    )


def _sizes(solid: Solid) -> tuple[int, int, int, int]:
    return len(solid.count), len(solid.center), len(solid.always), len(solid.sided)


def _slice(whole: Solid, begin: list[int], end: list[int]) -> Solid:
    """A run of the meshes of a solid, its faces and bodies numbered from 0."""
    cut: dict[str, Any] = {
        name: getattr(whole, name)[begin[kind] : end[kind]] for name, kind in _KIND.items()
    }
    cut["body"] = cut["body"] - begin[_BODY]
    cut["always"] = cut["always"] - begin[_FACE]
    cut["sided"] = cut["sided"] - (begin[_FACE], begin[_FACE], 0)
    return Solid(**cut)


def _joined(solids: Sequence[Solid]) -> Solid:
    """Several solids as one, bodies and faces renumbered."""
    if not solids:
        return solid_of_scenery(
            Mesh(np.zeros((0, 3)), np.zeros((0, 4), np.int32), np.zeros((0, 3), np.uint8))
        )
    sizes = np.array([_sizes(s) for s in solids], np.int64)
    shift = np.cumsum(sizes, axis=0) - sizes
    whole: dict[str, Any] = {name: np.concatenate([getattr(s, name) for s in solids]) for name in _KIND}
    whole["body"] += np.repeat(shift[:, _BODY], sizes[:, _FACE])
    whole["always"] += np.repeat(shift[:, _FACE], sizes[:, _ALWAYS])[:, None]
    whole["sided"][:, :2] += np.repeat(shift[:, _FACE], sizes[:, _SIDED])[:, None]
    return Solid(**whole)
