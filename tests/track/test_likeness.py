"""How alike boxes are, for all cameras at once, against one pair after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from track.track_scene import Seen, timestep

from perception_batch.geometry import box_iou
from perception_batch.track.likeness import likeness
from perception_batch.track.lives import Life
from perception_batch.track.sighting import from_polar, jacobian
from perception_batch.types import Observation

STEP_NS = 100_000_000


def test_likeness_of_every_pair_is_that_of_its_best_camera() -> None:
    rng = np.random.default_rng(4)

    def boxes(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        corner = rng.uniform(0, 60, (n, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 40, (n, 2))], axis=1).astype(np.float32)

    before, now = ({camera: boxes(7) for camera in ("a", "b", "c")} for _ in range(2))
    lives = [Life(i, "vehicle", 0) for i in range(7)]
    for i, life in enumerate(lives):
        life.boxes = {
            camera: (0, before[camera], i) for camera in ("a", "b", "gone")[: i % 4] if camera in before
        }
    lives[1].boxes["a"] = (-10 * STEP_NS, before["a"], 0)  # too old
    (thing,) = timestep(0, [Seen((20.0, 0.0))]).fusion.objects
    objects = [
        replace(thing, observations=tuple(Observation(camera, i) for camera in ("a", "b", "c")[: 1 + i % 3]))
        for i in range(7)
    ]
    turned = rng.uniform(-0.1, 0.1, 7)
    turns = {"a": 100.0, "b": -50.0}
    expected = np.full((7, 7), np.nan)
    for i, life in enumerate(lives):
        for j, item in enumerate(objects):
            for observation in item.observations:
                camera = observation.camera
                if camera not in life.boxes or life.boxes[camera][0] < 0:
                    continue
                old = before[camera][i].astype(float) + np.array([1, 0, 1, 0]) * turns[camera] * turned[i]
                new = now[camera][observation.detection].astype(float)
                sides = np.clip(np.minimum(old[2:], new[2:]) - np.maximum(old[:2], new[:2]), 0, None)
                areas = sorted(float(np.prod(box[2:] - box[:2])) for box in (old, new))
                part = 0.7 * np.prod(sides) / areas[0] if areas[0] >= 0.25 * areas[1] else 0.0
                alike = max(box_iou(old[None], new[None])[0, 0], part)
                expected[i, j] = np.fmax(expected[i, j], alike)
    assert np.isfinite(expected).any() and np.isnan(expected).any() and (expected == 0).any()
    np.testing.assert_allclose(likeness(STEP_NS, lives, turned, objects, now, turns), expected, atol=1e-6)
    assert "a" not in lives[1].boxes


def test_what_is_taken_to_polar_comes_back() -> None:
    slope = jacobian(np.array([[3.0, 4.0], [-20.0, 0.1], [0.0, 0.0]]), np.zeros(2))
    np.testing.assert_allclose(from_polar(slope) @ slope, np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-12)
