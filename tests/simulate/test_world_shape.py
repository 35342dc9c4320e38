"""The drawn world in space: boxes, scenery, ground; and that it is a pure function of bounded size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.simulate import world as world_module
from perception_batch.simulate.paths import PathMaker
from perception_batch.simulate.scene import Mesh, Thing
from perception_batch.simulate.scenery import PAINT_M, build_tile
from perception_batch.simulate.signals import ROUND_S, Signal
from perception_batch.simulate.streets import BLOCK_M, MAX_GRADE, Ground
from perception_batch.simulate.world import StreetWorld, build_world


@pytest.fixture(scope="module")
def flat() -> StreetWorld:
    return build_world(0, duration_s=60)


@pytest.fixture(scope="module")
def hilly() -> StreetWorld:
    return build_world(1, duration_s=60, hills=True)


def same(a: Thing, b: Thing) -> bool:
    return (
        a.object_id == b.object_id
        and a.label == b.label
        and a.size_lwh_m == b.size_lwh_m
        and np.array_equal(a.odom_SE3_object.rotation, b.odom_SE3_object.rotation)
        and np.array_equal(a.odom_SE3_object.translation_m, b.odom_SE3_object.translation_m)
        and np.array_equal(a.velocity_mps, b.velocity_mps)
        and np.array_equal(a.mesh.vertices_m, b.mesh.vertices_m)
        and np.array_equal(a.mesh.colors, b.mesh.colors)
    )


def normals(mesh: Mesh) -> np.ndarray:
    p = mesh.vertices_m[mesh.faces]
    triangle = mesh.faces[:, 2] == mesh.faces[:, 3]
    n = np.cross(p[:, 2] - p[:, 0], p[:, 3] - p[:, 1])
    n[triangle] = np.cross(p[triangle, 1] - p[triangle, 0], p[triangle, 2] - p[triangle, 0])
    return n / np.linalg.norm(n, axis=1)[:, None]


def test_every_mesh_fills_its_box(flat: StreetWorld) -> None:
    shapes: dict[int, Thing] = {}
    for t in np.arange(0, 200, 1.1):
        shapes.update({id(x.mesh): x for x in flat.things(t, 130)})
    assert {x.label for x in shapes.values()} >= {"car", "truck", "motorcycle", "bicycle", "person"}
    for x in shapes.values():
        half = np.array(x.size_lwh_m) / 2
        assert np.abs(x.mesh.vertices_m.min(axis=0) + half).max() < 1e-9, x.label
        assert np.abs(x.mesh.vertices_m.max(axis=0) - half).max() < 1e-9, x.label
        assert 10 <= len(x.mesh.faces) <= 120


def test_faces_of_things_look_outward(flat: StreetWorld) -> None:
    """The outermost face in each direction is seen from that direction."""
    for x in flat.things(5.0, 100):
        n, p = normals(x.mesh), x.mesh.vertices_m[x.mesh.faces].mean(axis=1)
        for axis in range(3):
            for sign in (1, -1):
                facing = np.abs(n[:, axis]) > 0.95
                if facing.any():
                    outer = np.flatnonzero(facing)[np.argmax(sign * p[facing, axis])]
                    assert sign * n[outer, axis] > 0, (x.label, axis, sign)


def test_two_worlds_of_one_seed_are_equal_in_any_order() -> None:
    from perception_batch.simulate.road_users import plan_traffic

    times = [3.1, 250.0, 0.0, 41.7, 3.1, 99.9]
    a = build_world(0, duration_s=10)
    plan_traffic.cache_clear()
    b = build_world(0, duration_s=1000)
    first = {t: (a.things(t, 90), a.ego(t), a.scenery(t, 60)) for t in times}
    for t in reversed(times):
        things, ego, scenery = b.things(t, 90), b.ego(t), b.scenery(t, 60)
        assert len(things) == len(first[t][0]) and all(map(same, things, first[t][0]))
        assert np.array_equal(ego.odom_SE3_base.translation_m, first[t][1].odom_SE3_base.translation_m)
        assert np.array_equal(ego.velocity_mps, first[t][1].velocity_mps)
        assert all(
            np.array_equal(m.vertices_m, n.vertices_m) and np.array_equal(m.colors, n.colors)
            for m, n in zip(scenery, first[t][2], strict=True)
        )


def test_other_seeds_are_other_worlds(flat: StreetWorld, hilly: StreetWorld) -> None:
    assert flat.ego(30.0).velocity_mps[0] != hilly.ego(30.0).velocity_mps[0]
    assert {x.size_lwh_m for x in flat.things(1.0, 60)} != {x.size_lwh_m for x in hilly.things(1.0, 60)}


def test_no_two_cycles_look_alike(flat: StreetWorld) -> None:
    period = flat.cycle.duration_s
    a, b = flat.things(12.0, 80), flat.things(12.0 + period, 80)
    assert {x.object_id for x in a}.isdisjoint(x.object_id for x in b if x.label == "traffic light")
    assert {x.size_lwh_m for x in a if x.label == "car"} != {x.size_lwh_m for x in b if x.label == "car"}


def test_ids_are_unique_sorted_and_fit_an_id_image(flat: StreetWorld) -> None:
    for t in (0.0, 7.0, 50.0, 9e5):
        ids = [x.object_id for x in flat.things(t, 140)]
        assert ids == sorted(set(ids)) and ids[0] > 0 and ids[-1] < 2**31


def test_one_id_is_one_thing_over_the_drive(flat: StreetWorld) -> None:
    known: dict[int, tuple[str, tuple[float, float, float]]] = {}
    for t in np.arange(0, 300, 2.3):
        for x in flat.things(t, 130):
            assert known.setdefault(x.object_id, (x.label, x.size_lwh_m)) == (x.label, x.size_lwh_m)


def test_a_smaller_radius_gives_a_part_of_the_larger(flat: StreetWorld) -> None:
    for t in np.arange(0, 90, 7.0):
        ego = flat.ego(t).odom_SE3_base.translation_m[:2]
        wide = flat.things(t, 120)
        near = [x.object_id for x in wide if np.hypot(*(x.odom_SE3_object.translation_m[:2] - ego)) <= 45]
        assert [x.object_id for x in flat.things(t, 45)] == near


def test_scenery_meshes_stay_the_same_objects_while_near(flat: StreetWorld) -> None:
    before = {id(m): m for m in flat.scenery(20.0, 80)}
    flat.things(20.0, 100)
    assert {id(m) for m in flat.scenery(20.0, 80)} == set(before)
    after = {id(m) for m in flat.scenery(20.5, 80)}
    assert len(after & set(before)) > 0.85 * len(before)


def test_memory_does_not_grow_with_the_time() -> None:
    world = build_world(0, duration_s=60)

    def kept() -> tuple[int, ...]:
        return tuple(len(k) for k in vars(world).values() if isinstance(k, world_module._Kept))

    most = tuple(k._most for k in vars(world).values() if isinstance(k, world_module._Kept))
    for t in np.arange(0, 560, 13.0):
        world.things(t, 60)
        world.scenery(t, 60)
    assert all(n <= m for n, m in zip(kept(), most, strict=True))
    # What was forgotten comes back the same.
    again = build_world(0, duration_s=60)
    assert all(map(same, world.things(0.0, 90), again.things(0.0, 90)))


def test_ground_under_wheels_and_in_meshes_agree(hilly: StreetWorld) -> None:
    for t in np.arange(0, 100, 3.3):
        base = hilly.ego(t).odom_SE3_base
        x, y, z = base.translation_m
        assert abs(z - hilly.ground_z_m(x, y)) < 1e-9
        for thing in hilly.things(t, 60):
            if thing.label == "traffic light":
                continue
            foot = thing.odom_SE3_object.apply(np.array([0, 0, -thing.size_lwh_m[2] / 2]))
            assert abs(foot[2] - hilly.ground_z_m(foot[0], foot[1])) < 0.02, thing.label
            front = thing.odom_SE3_object.apply(
                np.array([thing.size_lwh_m[0] / 2, 0, -thing.size_lwh_m[2] / 2])
            )
            assert abs(front[2] - hilly.ground_z_m(front[0], front[1])) < 0.12, "it stands in the ground"


def test_the_hills_are_hills(hilly: StreetWorld, flat: StreetWorld) -> None:
    times = np.arange(0, 250, 0.5)
    pitch = np.array([hilly.ego(t).odom_SE3_base.rotation[2, 0] for t in times])
    assert 0.015 < np.abs(pitch).max() <= MAX_GRADE + 1e-3
    assert all(flat.ego(t).odom_SE3_base.rotation[2, 2] == 1.0 for t in times[:50])


@given(
    x=st.floats(-1000, 1000, allow_nan=False),
    y=st.floats(-1000, 1000, allow_nan=False),
    seed=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_slope_and_bend_of_the_ground_are_derivatives(x: float, y: float, seed: int) -> None:
    ground = Ground(seed, True)
    h = 1e-3
    for axis, u in enumerate((x, y)):
        low, mid, high = ground.profile(np.array([u - h, u, u + h]), axis)[0]
        _, slope, bend = (float(v[0]) for v in ground.profile(np.array([u]), axis))
        assert abs((high - low) / (2 * h) - slope) < 1e-5
        assert abs((high - 2 * mid + low) / h**2 - bend) < 1e-3
        assert abs(slope) <= MAX_GRADE + 1e-9


@pytest.mark.parametrize("hills", [False, True])
def test_the_ground_has_no_holes_and_no_two_floors(hills: bool) -> None:
    """Random places of a tile lie in exactly one polygon of the ground, at its height; paint lies 2 cm above."""
    ground = Ground(3, hills)
    random = np.random.default_rng(0)
    tiles = [(i, j) for i in (0, 1) for j in (0, 1)]
    pieces = [p for ij in tiles for p in build_tile(3, ground, *ij, lamps_on=False)]
    quads = np.concatenate([p.mesh.vertices_m[p.mesh.faces] for p in pieces if p.layer == 0])
    edges = np.roll(quads, -1, axis=1) - quads
    places = np.concatenate(
        [random.uniform(0, BLOCK_M, (150, 2)), BLOCK_M + random.uniform(-17, 17, (250, 2))]
    )
    for x, y in places:
        side = edges[..., 0] * (y - quads[..., 1]) - edges[..., 1] * (x - quads[..., 0])
        inside = (side >= 0).all(axis=1)
        levels = quads[inside].mean(axis=1)
        assert inside.any(), f"a hole at {x:.1f}, {y:.1f}"
        here = float(ground.height_m(np.array([x]), np.array([y]))[0])
        assert np.abs(levels[:, 2] - here).max() < 0.45
        spread = np.ptp(quads[inside][..., 2])
        assert hills or spread < 0.03
    for piece in pieces:
        v = piece.mesh.vertices_m
        height = v[:, 2] - ground.height_m(v[:, 0], v[:, 1])
        if piece.layer == 1:
            assert np.abs(height - PAINT_M).max() < 1e-9
        if piece.layer < 2:
            assert (normals(piece.mesh)[:, 2] > 0.99).all(), "the ground looks up"


def test_buildings_stand_back_from_the_pavement() -> None:
    from perception_batch.simulate.streets import PAVEMENT_EDGE_M

    count = 0
    for piece in build_tile(2, Ground(2, False), 0, 0, lamps_on=True):
        v = piece.mesh.vertices_m
        if piece.layer == 2 and min(piece.x_m, piece.y_m) > 15 and np.ptp(v[:, :2], axis=0).min() > 8:
            count += 1
            assert v[:, :2].min() > PAVEMENT_EDGE_M and v[:, :2].max() < BLOCK_M - PAVEMENT_EDGE_M
    assert count > 15


def test_lit_windows_only_when_it_is_dark() -> None:
    def lit(time_of_day: str) -> int:
        world = build_world(0, duration_s=1, time_of_day=time_of_day)  # type: ignore[arg-type]
        meshes = world.scenery(0.0, 60)
        return sum(int(m.shines.sum()) for m in meshes if m.shines is not None)

    assert lit("night") > lit("day") + 20
    assert build_world(0, duration_s=1, time_of_day="night").light.is_night
    for time_of_day in ("day", "dusk", "night"):
        light = build_world(0, duration_s=1, time_of_day=time_of_day).light  # type: ignore[arg-type]
        assert abs(np.linalg.norm(light.sun_odom) - 1) < 1e-12 and light.sun_odom[2] > 0


@given(turns=st.lists(st.sampled_from(["left", "right", "shift"]), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_paths_have_unit_speed_and_end_where_they_should(turns: list[str]) -> None:
    maker = PathMaker(0.0, 0.0, 0.0)
    yaw = 0.0
    for turn in turns:
        maker.straight(7.3)
        if turn == "shift":
            maker.shift(3.3, 38.0)
        else:
            maker.turn(np.pi / 2 * (1 if turn == "left" else -1), 20.0)
            yaw += np.pi / 2 * (1 if turn == "left" else -1)
    maker.straight(5.0)
    path = maker.path(1.0)
    steps = np.hypot(*np.diff(path.nodes[:, :2], axis=0).T)
    assert (steps > 0.997).all() and (steps < 1.0001).all()
    assert abs(np.cos(yaw) - path.nodes[-1, 2]) < 1e-6 and abs(np.sin(yaw) - path.nodes[-1, 3]) < 1e-6
    assert np.abs(path.curvature()).max() < 0.13


@given(offset=st.floats(-100, 100), time=st.floats(-500, 500))
@settings(deadline=None)
def test_crossing_streets_never_have_green_together(offset: float, time: float) -> None:
    signal = Signal(offset)
    assert "red" in (signal.aspect(time, 0), signal.aspect(time, 1))
    assert signal.aspect(time, 0) == signal.aspect(time, 2)
    greens = signal.greens(time, time + 2 * ROUND_S, 1)
    assert len(greens) == 2 and all(signal.aspect(g + 0.01, 1) == "green" for g in greens)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 0, "duration_s": -1.0}, "duration"),
        ({"seed": 0, "duration_s": float("nan")}, "duration"),
        ({"seed": 0, "duration_s": 1.0, "density": 5.0}, "density"),
        ({"seed": -1, "duration_s": 1.0}, "seed"),
        ({"seed": 0, "duration_s": 1.0, "time_of_day": "noon"}, "day, dusk, night"),
    ],
)
def test_impossible_options_are_refused_with_what_is_allowed(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build_world(**options)  # type: ignore[arg-type]
