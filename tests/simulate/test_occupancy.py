"""Who blocks a way, against a search through everything."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perception_batch.simulate.occupancy import Occupancy, Way
from perception_batch.simulate.paths import Path, PathMaker


def bent_path() -> Path:
    maker = PathMaker(3.0, -7.0, 0.4)
    maker.straight(30)
    maker.turn(-math.pi / 2, 18)
    maker.straight(25)
    return maker.path(1.0)


def some_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Someone who drives straight across the country."""
    start, yaw, speed = random.uniform(-30, 50, 2), random.uniform(-3, 3), random.uniform(0, 12)
    way = np.arange(count)[:, None] * 0.2 * speed * np.array([math.cos(yaw), math.sin(yaw)])
    size = [random.uniform(1, 4), random.uniform(0.4, 1.2)]
    return np.column_stack([start + way, np.full(count, yaw), np.tile(size, (count, 1))])


@pytest.mark.parametrize("seed", range(6))
def test_the_nearest_point_of_each_on_the_way(seed: int) -> None:
    random = np.random.default_rng(seed)
    path, first, count, half_width_m = bent_path(), 40, 30, 0.9
    occupancy, all_boxes = Occupancy(), []
    for _ in range(90):
        begin, length = int(random.integers(0, 80)), int(random.integers(5, 60))
        boxes = some_boxes(random, length)
        occupancy.add(begin, boxes)
        all_boxes.append((begin, boxes))
    got = Way(path).blocked(occupancy, first, count, half_width_m)
    assert len(got) == count and len({len(row) for row in got}) == 1
    for step in range(count):
        wanted = []
        for begin, boxes in all_boxes:
            if not begin <= first + step < begin + len(boxes):
                continue
            x, y, yaw, half_length, half_box = boxes[first + step - begin]
            surely, perhaps = [], []
            for k in (-1, 0, 1):
                point = np.array([x, y]) + k * half_length * np.array([math.cos(yaw), math.sin(yaw)])
                away = np.hypot(*(path.nodes[:, :2] - point).T)
                node = int(away.argmin())
                tx, ty = path.nodes[node, 2:]
                dx, dy = point - path.nodes[node, :2]
                lateral = abs(tx * dy - ty * dx) - (half_width_m + half_box + 0.2)
                if away[node] < 6 and lateral < 0.3:
                    perhaps.append(node + tx * dx + ty * dy)
                if away[node] < 2.5 and lateral < -0.1:
                    surely.append(node + tx * dx + ty * dy)
            if surely:
                wanted.append((min(perhaps), min(surely)))
        # The grid looks some 4 m around and knows the nearest node to about a metre: on a curve a place moves a little.
        for low, high in wanted:
            assert any(low - 0.6 < one < high + 0.6 for one in got[step])
    assert sum(math.isfinite(one) for row in got for one in row) > 20


def test_nobody_is_no_obstacle() -> None:
    occupancy = Occupancy()
    assert Way(bent_path()).blocked(occupancy, 0, 5, 1.0) == [[]] * 5
    boxes = some_boxes(np.random.default_rng(0), 9)
    occupancy.add(0, boxes + np.array([1e4, 1e4, 0, 0, 0]))
    occupancy.add(500, boxes)
    assert Way(bent_path()).blocked(occupancy, 0, 5, 1.0) == [[]] * 5


def test_it_grows_and_forgets_nobody() -> None:
    occupancy, path = Occupancy(), bent_path()
    x, y = path.nodes[10, :2]
    for number in range(300):
        occupancy.add(number, np.array([[x, y, 0.0, 2.0, 0.9]]))
    assert len(list(occupancy.near(0, 300, path))) == 300
    assert [(a, b) for _, a, b in occupancy.near(17, 3, path)] == [(17, 18), (18, 19), (19, 20)]
