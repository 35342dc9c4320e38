"""Boxes on the own vehicle are told from those on traffic, while it drives."""

from __future__ import annotations

import math

import numpy as np
from fusion.fuse_scene import detections_of

from perception_batch.fusion import MaskFinder
from perception_batch.fusion.suppress import masked

HW = (600, 960)
BONNET = (300.0, 520.0, 700.0, 600.0)


def drive(
    finder: MaskFinder, *, length_m: float, step_m: float = 1.0, bonnet: bool = True, seed: int = 0
) -> None:
    rng = np.random.default_rng(seed)
    for k in range(int(length_m / max(step_m, 0.1)) if step_m else 600):
        rows = []
        if bonnet and rng.random() < 0.6:
            rows.append(
                ("car", 0.26, np.clip(np.array(BONNET) + rng.normal(0, 3, 4), 0, [960, 600, 960, 600]))
            )
        for n in range(
            6
        ):  # traffic that comes nearer and goes by, each car with a lane and a size of its own
            age = k + 17 * n
            near = (age % 50) / 50
            lane, size = np.random.default_rng([n, age // 50]).uniform([20, 120], [140, 260])
            w, x = 20 + size * near, 480 + (-1) ** n * (lane + 400 * near)
            rows.append(("car", 0.8, [max(0.0, x - w), 300 - w / 2, min(960.0, x + w), 300 + w / 2]))
        # A lorry that is followed all the way: its distance breathes.
        scale = 1 + 0.3 * math.sin(k / 9)
        rows.append(("truck", 0.9, [480 - 60 * scale, 300 - 70 * scale, 480 + 60 * scale, 300 + 50 * scale]))
        rows.sort(key=lambda row: -row[1])
        finder.add("cam_front", detections_of(rows), HW, k * step_m)


def test_bonnet_is_found_and_traffic_is_not() -> None:
    finder = MaskFinder()
    drive(finder, length_m=400)
    masks = finder.masks()
    assert list(masks) == ["cam_front"]
    (polygon,) = masks["cam_front"]
    assert len(polygon) == 4
    assert masked(np.array([BONNET]), [polygon]).all()
    low, high = np.min(polygon, axis=0), np.max(polygon, axis=0)
    assert np.abs(np.concatenate([low, high]) - BONNET).max() < 20


def test_nothing_is_found_before_200_m_or_standing_or_without_motion() -> None:
    short = MaskFinder()
    drive(short, length_m=150)
    assert short.masks() == {}
    standing = MaskFinder()
    drive(standing, length_m=0, step_m=0.0)
    assert standing.masks() == {}
    unknown = MaskFinder()
    unknown.add("cam_front", detections_of([("car", 0.9, BONNET)]), HW, math.nan)
    assert unknown.masks() == {}
    clean = MaskFinder()
    drive(clean, length_m=400, bonnet=False)
    assert clean.masks() == {}


def test_same_drive_same_masks_and_bounded_memory() -> None:
    found = []
    for _ in range(2):
        finder = MaskFinder()
        drive(finder, length_m=300, seed=4)
        found.append(finder.masks())
    assert found[0] == found[1]
    rng = np.random.default_rng(1)
    finder = MaskFinder()
    for k in range(300):
        corners = rng.uniform(0, 400, (40, 2))
        boxes = [("car", 0.5, [x, y, x + 40, y + 30]) for x, y in corners.tolist()]
        finder.add("cam", detections_of(boxes), HW, float(k))
    assert len(finder._watches["cam"].places) <= 48
    assert finder.masks() == {}
