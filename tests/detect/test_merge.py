"""Views of an image put together: every object once, as the view shows it that shows all of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.detect import lay_out_crops, merge_views
from perception_batch.geometry import DetectorView, box_iou
from perception_batch.types import Detections

HW = (900, 1600)
WHOLE = DetectorView.fit(HW, long_side_px=640)
LEFT = DetectorView.fit(HW, long_side_px=960, roi_px=(0, 0, 960, 900))
RIGHT = DetectorView.fit(HW, long_side_px=960, roi_px=(640, 0, 1600, 900))
VIEWS = [WHOLE, LEFT, RIGHT]
Row = tuple[float, float, float, float, float, int]


def boxes(*rows: Row) -> Detections:
    data = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        data[:, :4].astype(np.float32), data[:, 4].astype(np.float32), data[:, 5].astype(np.int16)
    )


def merged(*found: Sequence[Row], most: int = 300) -> list[Row]:
    got = merge_views([boxes(*rows) for rows in found], VIEWS, most)
    return [
        (*map(float, xyxy), pytest.approx(float(score)), int(label))
        for xyxy, score, label in zip(got.xyxy, got.score, got.class_id, strict=True)
    ]


def test_one_view_is_left_alone() -> None:
    found = boxes((0, 0, 10, 10, 0.9, 2), (0, 0, 10, 10, 0.8, 2))
    assert merge_views([found], [WHOLE], 1) is found


def test_the_best_of_several_views_stays() -> None:
    far = (300, 400, 340, 430, 0.8, 2)
    assert merged([(301, 401, 341, 431, 0.3, 2)], [far], []) == [far]
    # other classes and other places are other objects
    other, beside = (300, 400, 340, 430, 0.7, 7), (350, 400, 390, 430, 0.6, 2)
    assert merged([other], [far, beside], []) == [far, other, beside]


def test_what_one_view_shows_twice_stays_twice() -> None:
    pair = [(300, 400, 340, 430, 0.8, 2), (304, 400, 346, 430, 0.6, 2)]
    assert merged([], pair, []) == pair


def test_a_cut_box_loses_against_the_whole_one() -> None:
    # a car from 900 to 1100: whole in the right crop, cut at 960 in the left one, which is surer
    assert merged([], [(900, 400, 959, 500, 0.9, 2)], [(900, 400, 1100, 500, 0.6, 2)]) == [
        (900, 400, 1100, 500, 0.9, 2)
    ]
    # ... and taken for something else there
    assert merged([], [(900, 400, 958, 500, 0.9, 0)], [(900, 400, 1100, 500, 0.6, 2)]) == [
        (900, 400, 1100, 500, 0.6, 2)
    ]
    # a sliver of it, where the whole image is coarse
    assert merged([(500, 400, 641, 500, 0.5, 2)], [], [(640, 400, 643, 500, 0.9, 2)]) == [
        (500, 400, 641, 500, 0.5, 2)
    ]
    # a truck over both crops is whole in the whole image alone
    truck = (500, 200, 1200, 800, 0.5, 7)
    parts = [(500, 200, 960, 800, 0.8, 7)], [(640, 200, 1200, 800, 0.7, 7)]
    assert merged([truck], *parts) == [(*truck[:4], 0.8, 7)]


def test_parts_that_nothing_shows_whole_are_joined() -> None:
    assert merged([], [(500, 200, 960, 800, 0.8, 7)], [(640, 200, 1200, 800, 0.7, 7)]) == [
        (500, 200, 1200, 800, 0.8, 7)
    ]
    # not where they disagree, and nothing is lost
    apart = (500, 200, 960, 400, 0.8, 7), (640, 600, 1200, 800, 0.7, 7)
    assert merged([], [apart[0]], [apart[1]]) == list(apart)
    assert merged([], [apart[0]], []) == [apart[0]]


def test_the_images_own_border_cuts_nothing() -> None:
    # at the left border of image and crop: as whole as it gets
    assert merged([(0, 400, 98, 500, 0.4, 2)], [(0, 400, 100, 500, 0.6, 2)], []) == [
        (0, 400, 100, 500, 0.6, 2)
    ]
    roi = DetectorView.fit(HW, long_side_px=640, roi_px=(100, 0, 1600, 900))
    crop = DetectorView.fit(HW, long_side_px=640, roi_px=(100, 0, 900, 900))
    got = merge_views([boxes((100, 4, 200, 90, 0.4, 2)), boxes((100, 4, 202, 92, 0.9, 2))], [roi, crop], 9)
    assert got.xyxy.tolist() == [[100, 4, 202, 92]]


def test_the_best_are_kept() -> None:
    rows = [(float(x), 0.0, x + 10.0, 10.0, 0.9 - x / 1000, 2) for x in range(0, 600, 20)]
    assert merged(rows[::2], rows[1::2], [], most=7) == rows[:7]


@settings(max_examples=60, deadline=None)
@given(
    tiles=st.sampled_from(["horizon", "2x1", "2x2", "4x3"]),
    seed=st.integers(0, 2**31),
    count=st.integers(0, 12),
    noise_px=st.sampled_from([0.0, 1.5]),
)
def test_every_object_is_there_once(tiles: str, seed: int, count: int, noise_px: float) -> None:
    """Each view sees what is in it of each object, the whole image sees large ones only."""
    rng = np.random.default_rng(seed)
    views = [WHOLE] + [
        DetectorView.fit(HW, long_side_px=crop.image_size, roi_px=crop.roi_px)
        for crop in lay_out_crops(WHOLE, tiles, stride=32, stretch=False)
    ]
    truth = np.zeros((0, 4))
    for _ in range(count * 4):
        size = rng.uniform(24, 420, 2)
        corner = rng.uniform(0, np.maximum(np.array([1600, 900]) - size, 1))
        box = np.concatenate([corner, corner + size])
        apart = np.minimum(box[2:], truth[:, 2:]) - np.maximum(box[:2], truth[:, :2])
        if len(truth) < count and not (apart > -12).all(1).any():
            truth = np.concatenate([truth, box[None]])
    labels = rng.integers(0, 3, len(truth))
    found, whole_somewhere = [], np.zeros(len(truth), bool)
    for number, view in enumerate(views):
        x0, y0, x1, y1 = view.roi_px
        rows: list[Row] = []
        for i, box in enumerate(truth):
            part = np.clip(box, [x0, y0, x0, y0], [x1, y1, x1, y1])
            width, height = part[2:] - part[:2]
            if min(width, height) < (60 if number == 0 else 14):
                continue
            inside = (np.abs(part - box) < 1e-9).all()
            # a margin, because a network cannot tell a box that ends just at a border from one that goes on
            margin = 8 + 0.03 * max(box[2] - box[0], box[3] - box[1]) + 2 * noise_px
            clear = [
                e == w or abs(e - b) > margin for e, w, b in zip(view.roi_px, WHOLE.roi_px, box, strict=True)
            ]
            whole_somewhere[i] |= bool(inside and all(clear))
            moved = np.clip(part + rng.normal(0, noise_px, 4).clip(-2, 2), [x0, y0, x0, y0], [x1, y1, x1, y1])
            rows.append((*moved, rng.uniform(0.1, 0.9), int(labels[i])))
        rows.sort(key=lambda row: -row[4])
        found.append(boxes(*rows))
    got = merge_views(found, views, 300)
    assert (np.diff(got.score) <= 0).all()
    for box, label in zip(truth[whole_somewhere], labels[whole_somewhere], strict=True):
        mine = got.class_id == label
        iou = box_iou(box[None], got.xyxy[mine])[0]
        assert (iou > 0.7).sum() == 1
        assert ((iou > 0.02) & (iou < 0.7)).sum() == 0  # and no part of it beside
    # the same whatever order the crops come in
    order = [0, *(1 + rng.permutation(len(views) - 1))]
    again = merge_views([found[i] for i in order], [views[i] for i in order], 300)
    assert len(again.score) == len(got.score)
