"""What must be seen in the picture, looked for in its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from render.scene import RING, STAMP_NS, a_mosaic, a_result, an_object, camera, grey_tile, rig_of, view_of

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.geometry import SE3
from perception_batch.render import Layout, Mosaic, make_layout, text
from perception_batch.render.bird_eye import field_of_view
from perception_batch.render.color import PALETTE, object_colors
from perception_batch.render.layout import Rect
from perception_batch.types import FrameStatus, Image

TILE = grey_tile(view_of())
BOX = (400.0, 300.0, 800.0, 600.0)
OK: dict[str, FrameStatus] = dict.fromkeys(RING, "ok")


def part(image: Image, rect: Rect) -> Image:
    return image[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]


def colors_in(image: Image) -> set[tuple[int, int, int]]:
    """Colours of the palette that cover more than a few pixels."""
    return {c for c in PALETTE if (image == np.array(c, np.uint8)).all(axis=2).sum() > 40}


def test_one_object_has_one_colour_in_every_camera() -> None:
    layout, mosaic = a_mosaic(list(RING), rig_of(RING))
    boxes = {"front": [BOX], "front_left": [BOX], "back": [BOX]}
    objects = [an_object([("front", 0), ("front_left", 0)], (12, 5)), an_object([("back", 0)], (-9, 0.5))]
    result = a_result(OK, boxes, {"front": [0], "front_left": [0], "back": [1]}, objects)
    image = mosaic.draw(dict.fromkeys(RING, TILE), result)
    assert image.shape == (layout.size_wh[1], layout.size_wh[0], 3)
    assert image.dtype == np.uint8
    first, second = object_colors(result)
    assert first != second
    seen = {name: colors_in(part(image, slot)) for name, slot in layout.slots.items()}
    assert seen == {
        "front": {first}, "front_left": {first}, "back": {second}, "front_right": set(), "back_left": set(),
        "back_right": set(),
    }  # fmt: skip
    assert layout.bird_eye is not None
    assert colors_in(part(image, layout.bird_eye)) == {first, second}


def test_boxes_stand_where_they_are() -> None:
    layout, mosaic = a_mosaic(["front"], Rig("", {}, {}))
    result = a_result({"front": "ok"}, {"front": [BOX]}, {"front": [0]}, [an_object([("front", 0)], None)])
    image = part(mosaic.draw({"front": TILE}, result), layout.slots["front"])
    rows, columns = np.nonzero((image == np.array(object_colors(result)[0], np.uint8)).all(axis=2))
    scale = layout.slots["front"].width / 1600
    assert columns.min() == pytest.approx(BOX[0] * scale, abs=2)
    assert columns.max() == pytest.approx(BOX[2] * scale, abs=2)
    assert rows.max() == pytest.approx(BOX[3] * scale, abs=2)


def test_suppressed_boxes_are_not_drawn() -> None:
    layout, mosaic = a_mosaic(["front"], Rig("", {}, {}))
    result = a_result({"front": "ok"}, {"front": [BOX]}, {"front": [-1]}, [])
    with_box = mosaic.draw({"front": TILE}, result)
    result.fusion.suppressed["front"] = ("duplicate",)  # type: ignore[index]
    without = mosaic.draw({"front": TILE}, result)
    slot = layout.slots["front"]
    assert (part(with_box, slot) != part(without, slot)).any()
    assert (part(without, slot)[60:-2, 2:-2] == 90).all()


@pytest.mark.parametrize("status", ["missing", "not_due", "undecodable", "held"])
def test_a_camera_without_a_frame_is_seen_to_be_missing(status: FrameStatus) -> None:
    layout, mosaic = a_mosaic(list(RING), rig_of(RING))
    tiles = {name: TILE for name in RING if name != "back" or status == "held"}
    usual = mosaic.draw(dict.fromkeys(RING, TILE), a_result(OK, {}, {}, []))
    image = mosaic.draw(tiles, a_result({**OK, "back": status}, {}, {}, []))
    changed = {name for name, slot in layout.slots.items() if (part(image, slot) != part(usual, slot)).any()}
    stamps_shift = {"back_left", "back_right"}  # their offsets in ms are other ones, as told in `a_result`
    assert "back" in changed
    assert changed <= {"back"} | stamps_shift
    if status != "held":
        back = part(image, layout.slots["back"])
        assert (back == 90).all(axis=2).mean() < 0.01  # nothing of an image
        assert len(np.unique(back[60:100, 60:200, 0])) >= 2  # hatched


@pytest.mark.parametrize("size_wh", [(1600, 900), (900, 1600), (300, 280)])
def test_nothing_shows_of_the_picture_before(
    size_wh: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures are made in memory that held others; tiles of another shape, and ones whose camera is said to be missing."""
    layout = make_layout(
        dict.fromkeys(RING, 16 / 9), rig_of(RING), rows=[["front", "back", "back_left"], ["front_left"]]
    )
    mosaic = Mosaic(layout, rig_of(RING), drive="d", first_stamp_ns=0, labels={})
    tiles = dict.fromkeys(RING, grey_tile(view_of(size_wh)))
    result = a_result({**OK, "back": "missing"}, {}, {}, [])
    images = []
    for level in (3, 250):
        monkeypatch.setattr(np, "empty_like", lambda like, level=level: np.full_like(like, level))
        images.append(mosaic.draw(tiles, result))
    np.testing.assert_array_equal(*images)


def test_every_status_reads_differently() -> None:
    layout, mosaic = a_mosaic(["front", "back"], rig_of({"front": 0, "back": 180}))
    states: list[FrameStatus] = ["missing", "not_due", "undecodable"]
    seen = [
        part(
            mosaic.draw({"front": TILE}, a_result({"front": "ok", "back": s}, {}, {}, [])),
            layout.slots["back"],
        )
        for s in states
    ]
    assert all((one != other).any() for one, other in zip(seen, seen[1:] + seen[:1], strict=True))


def test_a_track_keeps_its_colour_and_neighbours_differ() -> None:
    for index, x in enumerate((5.0, 12.0, -30.0)):
        objects = [an_object([], (x, 3.0 + k), track_id=7 if k == 0 else -1) for k in range(6)]
        colors = object_colors(a_result(OK, {}, {}, objects, index=index))
        assert colors[0] == PALETTE[7]
        assert len(set(colors[1:])) == 5
    many = object_colors(a_result(OK, {}, {}, [an_object([], (10.0, 0.1 * k)) for k in range(50)]))
    assert len(many) == 50
    assert set(many) == set(PALETTE)


def test_birds_eye_has_forward_up_and_left_left() -> None:
    layout, mosaic = a_mosaic(list(RING), rig_of(RING))
    assert layout.bird_eye is not None
    places = {}
    for where, xy in {"ahead": (30.0, 0.0), "behind": (-20.0, 0.0), "left": (0.0, 30.0)}.items():
        result = a_result(OK, {}, {}, [an_object([], xy)])
        panel = part(mosaic.draw({}, result), layout.bird_eye)
        rows, columns = np.nonzero((panel == np.array(object_colors(result)[0], np.uint8)).all(axis=2))
        near = (rows[0] - 6 <= rows) & (rows <= rows[0] + 14)
        places[where] = (float(np.median(columns[near])), float(rows.min()))
    middle = layout.bird_eye.width / 2
    assert places["ahead"][1] < places["left"][1] < places["behind"][1]
    assert places["left"][0] < middle - 60
    assert abs(places["ahead"][0] - middle) < 40


def test_field_of_view_of_odd_cameras() -> None:
    outline = field_of_view(camera("c", 90.0), 50.0)
    assert outline is not None
    assert outline[1:, 1].min() > 20  # looks to the left
    assert outline[1, 0] < outline[-1, 0]  # who looks left has the rear on his left
    down = SE3(np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]), np.array([0.0, 0, 1.5]))
    lens = Intrinsics("pinhole", 640, 480, 5000.0, 5000.0, 320, 240)
    assert field_of_view(Camera("down", lens, down, ""), 50.0) is None
    fisheye = Intrinsics("equidistant", 848, 800, 286.0, 286.0, 424, 400, (-0.01, 0.04, -0.04, 0.006))
    wide = field_of_view(Camera("f", fisheye, camera("c", 0).base_SE3_camera, ""), 50.0)
    assert wide is not None
    assert np.isfinite(wide).all()


HOSTILE = "\x1b[31m\n\x00" + "名" * 5 + "x" * 5000


@pytest.fixture(params=["truetype", "strokes"])
def font(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "strokes" and hasattr(cv2, "FontFace"):
        monkeypatch.delattr(cv2, "FontFace")  # as before OpenCV 5
    text._mask.cache_clear()
    yield request.param
    text._mask.cache_clear()


@pytest.mark.parametrize("stamp_ns", [STAMP_NS, 0, -(1 << 62), (1 << 63) - 1])
def test_hostile_names_and_stamps_are_drawn(stamp_ns: int, font: str) -> None:
    names = [HOSTILE, "b"]
    layout, mosaic = a_mosaic(names, rig_of({HOSTILE: 0, "b": 180}), drive=HOSTILE)
    odd = an_object([(HOSTILE, 0)], (1e9, -1e9), track_id=1 << 60, yaw=1e300)
    odd.covariance_m2[...] = 1e300
    boxes = {HOSTILE: [(0.0, 0.0, 1600.0, 900.0), (5.0, 5.0, 5.0, 5.0)]}
    status: dict[str, FrameStatus] = {HOSTILE: "ok", "b": "ok"}
    result = a_result(status, boxes, {HOSTILE: [0, -1]}, [odd], stamp_ns=stamp_ns)
    before = TILE.image.copy()
    one, other = (mosaic.draw({HOSTILE: TILE}, result) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(TILE.image, before)
    assert one.shape == (layout.size_wh[1], layout.size_wh[0], 3)


def test_text_fits_and_is_cut_off_at_the_edge(font: str) -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    text.draw_text(image, "outside", (-20, -5), 16, (255, 255, 255))
    text.draw_text(image, "outside", (90, 35), 16, (255, 255, 255))
    text.draw_text(image, "outside", (500, 500), 16, (255, 255, 255))
    assert image.any()
    for width in (0, 10, 60, 500):
        fitted = text.fit_text("a_rather_long_name", width, 16)
        assert text.text_size(fitted, 16)[0] <= width
    assert text.fit_text("short", 500, 16) == "short"
    assert text.plain_text("cam\n\u00e9") == "cam??"


def test_labels_do_not_hide_each_other_or_the_name() -> None:
    rig = Rig("", {}, {})
    layout, mosaic = a_mosaic(["front"], rig)
    boxes = [(10.0 + 30 * i, 5.0 + 3 * i, 200.0 + 30 * i, 200.0) for i in range(20)]
    result = a_result({"front": "ok"}, {"front": boxes}, {"front": [-1] * 20}, [])
    image = part(mosaic.draw({"front": TILE}, result), layout.slots["front"])
    alone = part(mosaic.draw({"front": TILE}, a_result({"front": "ok"}, {}, {}, [])), layout.slots["front"])
    bright = (alone[:24, :60] > 200).all(axis=2)  # the letters of the camera's name
    assert bright.sum() > 30
    assert (image[:24, :60][bright] > 150).all()


def test_no_cameras_and_no_tiles() -> None:
    rig = Rig("", {}, {})
    layout: Layout = make_layout({}, rig)
    mosaic = Mosaic(layout, rig, drive="d", first_stamp_ns=0, labels={})
    result = a_result({}, {}, {}, [an_object([], None)])
    assert mosaic.draw({}, result).shape == (layout.size_wh[1], layout.size_wh[0], 3)
    assert math.isfinite(layout.text_px)
