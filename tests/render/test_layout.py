"""The picture's parts: inside it, apart from each other, cameras where one looks for them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from render.scene import RING, rig_of

from perception_batch.calibration import Rig
from perception_batch.errors import ConfigError
from perception_batch.render import make_layout
from perception_batch.render.layout import arrange, rest_of

NO_RIG = Rig("", {}, {})


@given(
    aspects=st.lists(st.floats(0.01, 100), min_size=1, max_size=14),
    width=st.integers(160, 4096),
    calibrated=st.booleans(),
    bird_eye=st.booleans(),
)
def test_parts_lie_inside_and_apart(
    aspects: list[float], width: int, calibrated: bool, bird_eye: bool
) -> None:
    named = {f"c{i}": aspect for i, aspect in enumerate(aspects)}
    rig = rig_of({name: 25.0 * i for i, name in enumerate(named)}) if calibrated else NO_RIG
    layout = make_layout(named, rig, width_px=width, bird_eye=bird_eye)
    size = layout.size_wh
    assert size[0] % 2 == size[1] % 2 == 0
    assert size[0] == width - width % 2
    assert size[1] <= 0.66 * size[0] + 2
    assert set(layout.slots) == set(named)
    rest = rest_of(layout.size_wh, layout.slots.values())
    covered = np.zeros(layout.size_wh[::-1], np.uint8)
    for rect in (*rest, *layout.slots.values()):
        covered[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] += 1
    assert (covered == 1).all()
    assert (layout.bird_eye is not None) == (calibrated and bird_eye)
    parts = [layout.header, *layout.slots.values(), *(p for p in (layout.bird_eye, layout.table) if p)]
    for part in parts:
        assert part.x >= 0 <= part.y
        assert part.width > 0 < part.height
        assert part.x + part.width <= size[0]
        assert part.y + part.height <= size[1]
    for one, other in itertools.combinations(parts, 2):
        assert not one.overlaps(other)


def test_six_cameras_stand_as_they_look() -> None:
    expected = [["front_left", "front", "front_right"], ["back_left", "back", "back_right"]]
    shuffled = ["back", "front_right", "front", "back_left", "front_left", "back_right"]
    assert arrange(shuffled, NO_RIG, 3) == expected  # from the names
    numbered = {name: f"camera_{i:02d}" for i, name in enumerate(RING)}
    rig = rig_of({numbered[name]: yaw for name, yaw in RING.items()})
    assert arrange([numbered[n] for n in shuffled], rig, 3) == [
        [numbered[n] for n in row] for row in expected
    ]


def test_unknown_bearings_keep_the_order() -> None:
    names = ["z", "b", "front", "a"]
    assert arrange(names, NO_RIG, 2) == [["z", "b"], ["front", "a"]]
    assert arrange(["kitti_image_02", "kitti_image_03"], NO_RIG, 2) == [["kitti_image_02", "kitti_image_03"]]
    assert arrange(["cam_right", "cam_left"], NO_RIG, 2) == [["cam_left", "cam_right"]]


def test_usual_tiles_need_no_resizing() -> None:
    layout = make_layout(dict.fromkeys(RING, 16 / 9), rig_of(RING), width_px=1920)
    assert {(slot.width, slot.height) for slot in layout.slots.values()} == {(640, 360)}


def test_no_camera_is_a_picture_all_the_same() -> None:
    assert make_layout({}, NO_RIG).slots == {}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 8, 12])
def test_tiles_use_most_of_the_width_or_height(n: int) -> None:
    layout = make_layout({f"c{i}": 16 / 9 for i in range(n)}, NO_RIG)
    area = sum(slot.width * slot.height for slot in layout.slots.values())
    assert area > 0.75 * layout.size_wh[0] * (layout.size_wh[1] - layout.header.height)


def test_a_given_arrangement_is_kept() -> None:
    rows = [["back", "front"], ["front_left"]]
    named = dict.fromkeys(RING, 16 / 9)
    layout = make_layout(named, rig_of(RING), width_px=1280, rows=rows)
    assert list(layout.slots) == ["back", "front", "front_left"]
    slots = layout.slots
    assert slots["back"].x < slots["front"].x
    assert slots["back"].y == slots["front"].y < slots["front_left"].y


@pytest.mark.parametrize(
    ("rows", "message"),
    [([["front", "top"]], "no camera top"), ([["front"], ["front"]], "front is named twice")],
)
def test_an_arrangement_of_other_cameras_is_refused(rows: list[list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_layout(dict.fromkeys(RING, 16 / 9), NO_RIG, rows=rows)


@pytest.mark.parametrize("width", [640, 1280, 1920, 3840, 7680])
def test_text_keeps_its_share_of_the_picture(width: int) -> None:
    layout = make_layout(dict.fromkeys(RING, 16 / 9), rig_of(RING), width_px=width)
    assert max(9, width / 120) <= layout.text_px <= max(9, width / 105)
