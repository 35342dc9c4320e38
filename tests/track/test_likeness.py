"""How alike boxes are, for all cameras at once, against one pair after the other."""

from __future__ import annotations

import numpy as np

from perception_batch.geometry import box_iou
from perception_batch.track.likeness import Glimpses, likeness
from perception_batch.track.shown import shown
from perception_batch.track.sighting import from_polar, slopes, turned

STEP_NS = 100_000_000


def test_likeness_of_every_pair_is_that_of_its_best_camera() -> None:
    rng = np.random.default_rng(4)

    def boxes(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        corner = rng.uniform(0, 60, (n, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 40, (n, 2))], axis=1).astype(np.float32)

    cameras = ("a", "b", "c", "gone")
    before, now = ({camera: boxes(7) for camera in cameras[:3]} for _ in range(2))
    glimpses = Glimpses.none(7, 4)
    for i in range(7):
        for k in range(min(i % 4, 2)):
            glimpses.seen_ns[i, k], glimpses.edges_px[i, k] = 0, before[cameras[k]][i]
        glimpses.seen_ns[i, 3] = 0  # it has no frame now
    glimpses.seen_ns[1, 0] = -10 * STEP_NS  # too old
    object_of = {
        camera: np.array([j if k < 1 + j % 3 else -1 for j in range(7)], np.int32)
        for k, camera in enumerate(cameras[:3])
    }
    images = shown(now, object_of, {camera: k for k, camera in enumerate(cameras)})
    turned_rad = rng.uniform(-0.1, 0.1, 7)
    turns = np.array([100.0, -50.0, 30.0, 0.0])
    expected, expected_by_both = np.zeros((7, 7)), np.zeros((7, 7), bool)
    for i in range(7):
        for j in range(7):
            for k in range(1 + j % 3):
                if glimpses.seen_ns[i, k] < 0:
                    continue
                old = before[cameras[k]][i].astype(float) + np.array([1, 0, 1, 0]) * turns[k] * turned_rad[i]
                new = now[cameras[k]][j].astype(float)
                sides = np.clip(np.minimum(old[2:], new[2:]) - np.maximum(old[:2], new[:2]), 0, None)
                areas = sorted(float(np.prod(box[2:] - box[:2])) for box in (old, new))
                part = 0.7 * np.prod(sides) / areas[0] if areas[0] >= 0.25 * areas[1] else 0.0
                alike = max(box_iou(old[None], new[None])[0, 0], part)
                expected[i, j], expected_by_both[i, j] = max(expected[i, j], alike), True
    assert 0 < expected_by_both.sum() < 49 and (expected[expected_by_both] == 0).any()
    found, by_both = likeness(STEP_NS, glimpses, turned_rad, images, 7, turns)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(by_both, expected_by_both)


def test_a_tracks_last_boxes_are_remembered() -> None:
    boxes = {"a": np.array([[0, 0, 9, 9], [5, 5, 7, 7]], np.float32), "b": np.zeros((0, 4), np.float32)}
    object_of = {"a": np.array([1, 0], np.int32), "b": np.zeros(0, np.int32)}
    images = shown(boxes, object_of, {})
    glimpses = Glimpses.none(3, 2)
    glimpses.see(STEP_NS, images, np.array([2, -1]))
    np.testing.assert_array_equal(glimpses.edges_px[2, 0], [5, 5, 7, 7])
    assert (glimpses.seen_ns == STEP_NS).sum() == 1
    more = glimpses.take(np.array([2, 0])).append(1, 3)
    assert more.seen_ns.shape == (3, 3)
    assert more.seen_ns[0, 0] == STEP_NS
    assert (more.seen_ns == STEP_NS).sum() == 1


def test_what_is_taken_to_polar_comes_back() -> None:
    slope = slopes(np.array([[3.0, -20.0, 0.0], [4.0, 0.1, 0.0]]), np.zeros((2, 1)))
    cover = np.array([[2.0, 1.0, 3.0], [0.5, -0.2, 0.0], [1.0, 4.0, 2.0]])
    np.testing.assert_allclose(turned(from_polar(slope), turned(slope, cover)), cover, atol=1e-12)
    for x, y, xx, xy, yy, *told in np.concatenate([slope, cover, turned(slope, cover)]).T:
        matrix = np.array([[x, y], [-y, x]])
        around = matrix @ np.array([[xx, xy], [xy, yy]]) @ matrix.T
        np.testing.assert_allclose(told, around[[0, 0, 1], [0, 1, 1]], atol=1e-12)
