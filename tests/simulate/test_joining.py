"""Scenery put together anew from what was known is the same as put together from its meshes."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate.toy_world import box, flat

from perception_batch.simulate.gather import ShapeCache
from perception_batch.simulate.joining import Scenery, join_scenery
from perception_batch.simulate.scene import Mesh
from perception_batch.simulate.solids import Solid, solid_of_scenery

_MESHES: tuple[Mesh, ...] = (
    *(box((4.0 * k, 0, 0), (4.0 * k + 2, 3, 2), (10 * k, 90, 90)) for k in range(5)),
    *(flat(20.0 * k, -10, 20.0 * k + 20, 10, 0.0, (40 * k, 50, 50)) for k in range(3)),
)
_SOLIDS: dict[int, Solid] = {id(mesh): solid_of_scenery(mesh) for mesh in _MESHES}


def _solid(mesh: Mesh) -> Solid:
    return _SOLIDS[id(mesh)]


def _assert_same(one: Scenery, other: Scenery) -> None:
    assert one.meshes == other.meshes
    for field in fields(Solid):
        a, b = getattr(one.solid, field.name), getattr(other.solid, field.name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=field.name)
    for name in ("begin", "radius", "is_ground"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.is_hilly == other.is_hilly


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(range(len(_MESHES))), max_size=12), min_size=2, max_size=4))
def test_any_change_joins_as_from_nothing(steps: list[list[int]]) -> None:
    """Meshes come, go, change places and stand there twice."""
    old: Scenery | None = None
    for step in steps:
        meshes = [_MESHES[k] for k in step]
        old = join_scenery(meshes, _solid, old)
        _assert_same(old, join_scenery(meshes, _solid, None))


def test_known_meshes_are_not_made_again() -> None:
    asked: list[Mesh] = []

    def solid_of(mesh: Mesh) -> Solid:
        asked.append(mesh)
        return _solid(mesh)

    old = join_scenery(_MESHES[:5], solid_of, None)
    asked.clear()
    join_scenery(_MESHES[2:7], solid_of, old)
    assert asked == list(_MESHES[5:7])


def test_the_cache_joins_once_while_nothing_changes() -> None:
    shapes = ShapeCache()
    first = shapes.of_scenery(_MESHES)
    assert shapes.of_scenery(list(_MESHES)) is first
    assert shapes.of_scenery(_MESHES[1:]) is not first
