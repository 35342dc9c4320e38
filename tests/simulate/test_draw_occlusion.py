"""Who hides whom, against a slow oracle that follows one ray through every pixel of a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulate.test_draw_boxes import LENSES, camera
from simulate.toy_world import ToyWorld, box, car_mesh, flat, joined, street, thing

from perception_batch.calibration import Camera
from perception_batch.simulate.draw import Drawer
from perception_batch.simulate.own_vehicle import own_vehicle_mesh
from perception_batch.simulate.scene import Mesh, World
from perception_batch.simulate.world import build_world


def triangles(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3, 3) corners, both halves of every face, and (T,) the face."""
    first, second = mesh.vertices_m[mesh.faces[:, [0, 1, 2]]], mesh.vertices_m[mesh.faces[:, [0, 2, 3]]]
    return np.concatenate([first, second]), np.tile(np.arange(len(mesh.faces)), 2)


def traced(world: World, cam: Camera, pixels: np.ndarray, time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Ids of (N, 2) pixels, and the colour (N, 3) of the face hit; ground and scenery are 0 (Moeller, Trumbore)."""
    pose = world.ego(time_s).odom_SE3_base @ cam.base_SE3_camera
    rays = cam.intrinsics.unproject(pixels.astype(float)) @ pose.rotation.T
    eye = pose.translation_m
    corners, ids, colors, sided = [], [], [], []
    for item in world.things(time_s, 160.0):
        points, face = triangles(item.mesh)
        corners.append(item.odom_SE3_object.apply(points.reshape(-1, 3)).reshape(-1, 3, 3))
        ids.append(np.full(len(face), item.object_id))
        colors.append(item.mesh.colors[face])
        sided.append(np.full(len(face), item.mesh.two_sided))
    for mesh in world.scenery(time_s, 160.0):
        points, face = triangles(mesh)
        corners.append(points)
        ids.append(np.zeros(len(face), int))
        colors.append(mesh.colors[face])
        sided.append(np.full(len(face), mesh.two_sided))
    tri, owner = np.concatenate(corners), np.concatenate(ids)
    color, both = np.concatenate(colors), np.concatenate(sided)
    e1, e2 = tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0]
    normal = np.cross(e1, e2)
    seen = (np.linalg.norm(normal, axis=1) > 1e-12) & (
        both | (np.einsum("ti,ti->t", normal, tri[:, 0] - eye) < 0)
    )
    tri, owner, color, e1, e2 = tri[seen], owner[seen], color[seen], e1[seen], e2[seen]
    out, paint = np.zeros(len(rays), int), np.zeros((len(rays), 3))
    s = eye - tri[:, 0]
    q = np.cross(s, e1)
    far = np.einsum("ti,ti->t", q, e2)
    for i, ray in enumerate(rays):
        p = np.cross(ray, e2)
        det = np.einsum("ti,ti->t", p, e1)
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v, t = np.einsum("ti,ti->t", p, s) / det, q @ ray / det, far / det
            hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0.02)
        if hit.any():
            k = int(np.where(hit, t, np.inf).argmin())
            out[i], paint[i] = owner[k], color[k]
    return out, paint


def inner_pixels(ids: np.ndarray, step: int) -> np.ndarray:
    """A grid of pixels whose neighbours within two pixels have the same id: edges may be a pixel off."""
    ys, xs = np.mgrid[3 : ids.shape[0] - 3 : step, 3 : ids.shape[1] - 3 : step]
    same = np.ones(ys.shape, bool)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            same &= ids[ys + dy, xs + dx] == ids[ys, xs]
    return np.stack([xs[same], ys[same]], axis=1)


@pytest.mark.parametrize(
    ("lens", "yaw"), [("pinhole", 0.0), ("rational", math.pi), ("fisheye", 1.4), ("plumb_bob", 0.9)]
)
def test_a_crowded_street(lens: str, yaw: float) -> None:
    world, cam = street(things=60), camera(lens, yaw)
    drawing = Drawer(cam).draw(world, 0.3)
    pixels = inner_pixels(drawing.ids, 13)
    ids, _ = traced(world, cam, pixels, 0.3)
    drawn = drawing.ids[pixels[:, 1], pixels[:, 0]]
    assert (ids > 0).sum() > 30
    wrong = np.flatnonzero(ids != drawn)
    # One pixel in a thousand may be a sliver thinner than the edges' width, such as between two legs.
    assert len(wrong) <= 0.001 * len(pixels), [(pixels[i].tolist(), ids[i], drawn[i]) for i in wrong[:5]]


@pytest.mark.parametrize(("lens", "yaw", "time_s"), [("plumb_bob", 0.0, 4.0), ("fisheye", -0.8, 5.0)])
def test_the_built_world(lens: str, yaw: float, time_s: float) -> None:
    world, cam = build_world(5, duration_s=10), camera(lens, yaw)
    drawing = Drawer(cam).draw(world, time_s)
    pixels = inner_pixels(drawing.ids, 17)
    # The sky is not worth a ray; only pixels in the band where things are.
    pixels = pixels[(pixels[:, 1] > 200) & (pixels[:, 1] < 420)]
    ids, _ = traced(world, cam, pixels, time_s)
    drawn = drawing.ids[pixels[:, 1], pixels[:, 0]]
    wrong = np.flatnonzero(ids != drawn)
    assert len(wrong) <= 0.002 * len(pixels), [(pixels[i].tolist(), ids[i], drawn[i]) for i in wrong[:8]]


@pytest.mark.parametrize("bearing", [0.0, 0.7, 2.0, 3.3, 4.4, 5.5])
def test_faces_of_one_car_hide_each_other_rightly(bearing: float) -> None:
    """The face that a ray meets first has its colour in the picture: dark glass, red paint, black wheels."""
    world = ToyWorld([thing(1, "car", 8.0, 0.4, bearing, car_mesh((250, 20, 20)))])
    cam = camera("pinhole", 0.0, 0.15)
    drawing = Drawer(cam, shadows=False).draw(world, 0.0)
    pixels = inner_pixels(drawing.ids, 5)
    pixels = pixels[drawing.ids[pixels[:, 1], pixels[:, 0]] == 1]
    ids, paint = traced(world, cam, pixels, 0.0)
    assert (ids == 1).all() and len(pixels) > 300
    image = drawing.image[pixels[:, 1], pixels[:, 0]].astype(float)
    is_red, looks_red = paint[:, 0] > 3 * paint[:, 2], image[:, 0] > 2.5 * image[:, 2]
    assert (is_red != looks_red).mean() < 0.02  # pixels on the line between two faces


@pytest.mark.parametrize("distance", [8.0, 15.0, 22.0, 28.0, 35.0])
@pytest.mark.parametrize("yaw", [2.6, math.pi, 3.6])
def test_a_lamp_is_seen_on_its_case_near_and_far(distance: float, yaw: float) -> None:
    """Also where the thing is so small that its faces are not compared one by one."""
    case, hood = (
        box((-0.15, -0.2, -0.5), (0.13, 0.2, 0.5), (25, 27, 26)),
        box((0.13, -0.2, 0.4), (0.2, 0.2, 0.5), (25, 27, 26)),
    )
    corners = np.array([[0.15, -0.15, -0.1], [0.15, 0.15, -0.1], [0.15, 0.15, 0.2], [0.15, -0.15, 0.2]])
    lamp = Mesh(
        corners,
        np.array([[0, 1, 2, 3]], np.int32),
        np.array([[255, 40, 32]], np.uint8),
        False,
        np.ones(1, bool),
    )
    item = thing(1, "traffic light", distance, 0.0, yaw, joined([case, hood, lamp]))
    cam = camera("pinhole")
    # A pole that goes into the case: their boxes cannot be told apart.
    away = item.odom_SE3_object.translation_m + 0.1 * np.array([1.0, 0.0, 0.0])
    pole = box((away[0] - 0.07, -0.07, 0.0), (away[0] + 0.07, 0.07, float(away[2])), (104, 108, 112))
    drawing = Drawer(cam).draw(ToyWorld([item], [pole]), 0.0)
    where = item.odom_SE3_object.apply(np.array([[0.15, 0.0, 0.05]]))
    u, v = np.round(cam.intrinsics.project(cam.base_SE3_camera.inverse().apply(where))[0]).astype(int)
    assert drawing.image[v, u, 0] > 180 and drawing.image[v, u, 1] < 120


def test_visible_fraction_and_boxes_of_a_half_hidden_car() -> None:
    """A wall before its left half: pixels are counted against the same car without the wall."""
    car = thing(1, "car", 14.0, 0.0, math.pi / 2)
    wall = box((9.0, 0.0, 0.0), (9.2, 6.0, 3.0), (120, 120, 120))
    cam = camera("pinhole")
    alone, hidden = Drawer(cam).draw(ToyWorld([car]), 0.0), Drawer(cam).draw(ToyWorld([car], [wall]), 0.0)
    assert alone.visible_fraction[1] == 1.0
    share = (hidden.ids == 1).sum() / (alone.ids == 1).sum()
    assert 0.3 < share < 0.7
    assert hidden.visible_fraction[1] == pytest.approx(share, abs=1e-9)
    assert hidden.amodal_px[1] == alone.amodal_px[1] == pytest.approx(alone.visible_px[1], abs=1.0)
    assert hidden.visible_px[1][0] > alone.visible_px[1][0] + 20
    assert hidden.truncation[1] == 0.0


def test_a_fully_hidden_thing_keeps_its_amodal_box_only() -> None:
    person = thing(5, "person", 20.0, 0.0)
    wall = box((9.0, -4.0, 0.0), (9.2, 4.0, 3.0), (120, 120, 120))
    drawing = Drawer(camera("plumb_bob")).draw(ToyWorld([person], [wall]), 0.0)
    assert 5 not in drawing.visible_px and drawing.visible_fraction[5] == 0.0
    alone = Drawer(camera("plumb_bob")).draw(ToyWorld([person]), 0.0)
    assert drawing.amodal_px[5] == alone.amodal_px[5]


@pytest.mark.parametrize("bearing", [0.0, 1.1, 2.2, 3.2, 4.3, 5.4])
def test_a_person_below_a_tree(bearing: float) -> None:
    """The tree's box holds the person: no plane parts the two, their faces must be compared."""
    trunk, crown = (
        box((11.9, -0.1, 0.0), (12.1, 0.1, 1.9), (90, 60, 40)),
        box((10.0, -2, 1.9), (14.0, 2, 4), (40, 120, 40)),
    )
    person = thing(1, "person", 12 + 0.8 * math.cos(bearing), 0.8 * math.sin(bearing), 0.3)
    world, cam = ToyWorld([person], [joined([trunk, crown])]), camera("pinhole")
    drawing = Drawer(cam).draw(world, 0.0)
    pixels = inner_pixels(drawing.ids, 2)
    pixels = pixels[(np.abs(pixels[:, 0] - 480) < 70) & (np.abs(pixels[:, 1] - 310) < 90)]
    ids, _ = traced(world, cam, pixels, 0.0)
    assert (ids == 1).sum() > 100
    assert (ids != drawing.ids[pixels[:, 1], pixels[:, 0]]).mean() < 0.002


def test_a_crest_hides_what_stands_behind_it() -> None:
    """The ground rises for 20 m and falls again; of a car in the dip behind, the roof is seen at most."""
    xs = np.arange(-20.0, 80.0, 4.0)
    height = np.interp(xs, [10, 24, 40], [0, 1.4, 0])
    patches = []
    for x, z, next_z in zip(xs[:-1], height[:-1], height[1:], strict=True):
        for y in np.arange(-12.0, 12.0, 6.0):
            corners = np.array([[x, y, z], [x + 4, y, next_z], [x + 4, y + 6, next_z], [x, y + 6, z]])
            patches.append(
                Mesh(corners, np.array([[0, 1, 2, 3]], np.int32), np.array([[90, 90, 94]], np.uint8))
            )
    hill, person, car = (
        joined(patches, two_sided=True),
        thing(1, "person", 46.0, 1.0),
        thing(2, "car", 6.0, -4.0),
    )
    world, cam = ToyWorld([person, car], [hill]), camera("pinhole")
    drawing = Drawer(cam).draw(world, 0.0)
    pixels = inner_pixels(drawing.ids, 2)
    pixels = pixels[(np.abs(pixels[:, 0] - 480) < 200) & (np.abs(pixels[:, 1] - 300) < 60)]
    ids, _ = traced(world, cam, pixels, 0.0)
    assert 0.05 < drawing.visible_fraction[1] < 0.6 and drawing.visible_fraction[2] == 1.0
    assert (ids != drawing.ids[pixels[:, 1], pixels[:, 0]]).mean() < 0.001


def test_the_own_bonnet_hides_what_is_below_it() -> None:
    low = box((4.2, -0.4, 0.0), (4.6, 0.4, 0.5), (255, 0, 0))
    item = thing(1, "person", 4.4, 0.0, 0.0, Mesh(low.vertices_m - [4.4, 0, 0.25], low.faces, low.colors))
    cam = camera("pinhole", 0.0, 0.25)
    without = Drawer(cam).draw(ToyWorld([item]), 0.0)
    with_own = Drawer(cam, own_vehicle=own_vehicle_mesh()).draw(ToyWorld([item]), 0.0)
    assert without.visible_fraction[1] == 1.0
    assert with_own.visible_fraction.get(1, 0.0) < 0.5
    assert not with_own.ids[-5:, 400:560].any()


def test_every_lens_draws_the_same_things_twice() -> None:
    world = street(things=20)
    for lens in LENSES:
        first, again = Drawer(camera(lens)).draw(world, 0.5), Drawer(camera(lens)).draw(world, 0.5)
        assert np.array_equal(first.image, again.image) and np.array_equal(first.ids, again.ids)
        assert first.visible_px == again.visible_px and first.truncation == again.truncation


def test_nothing_to_draw_is_sky_and_ground() -> None:
    empty = ToyWorld([])
    drawing = Drawer(camera("fisheye")).draw(empty, 0.0)
    assert drawing.image.shape == (600, 960, 3) and not drawing.ids.any() and not drawing.amodal_px
    only_ground = ToyWorld([], [flat(-50, -50, 50, 50, 0.0, (90, 90, 90))])
    assert not Drawer(camera("pinhole")).draw(only_ground, 0.0).ids.any()


def test_a_radius_must_be_positive() -> None:
    with pytest.raises(ValueError, match="radius_m must be positive"):
        Drawer(camera("pinhole"), radius_m=0)


def test_scenery_that_things_stand_in_front_of_and_behind() -> None:
    """A thin post between two cars covers the far one and is covered by the near one."""
    post = joined([box((13.9, -0.1, 0.0), (14.1, 0.1, 6.0), (40, 40, 40))])
    far, near = thing(1, "car", 20.0, 0.0, 1.5), thing(2, "person", 9.0, 0.0)
    drawing = Drawer(camera("pinhole")).draw(ToyWorld([far, near], [post]), 0.0)
    column = drawing.ids[:, 480]
    assert 2 in column and 1 not in column and (drawing.ids == 1).any()
