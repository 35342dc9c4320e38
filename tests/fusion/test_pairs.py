"""The fast ways to find duplicates and best choices, against slow and obvious ones."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.fusion.assignment import assignment
from perception_batch.fusion.suppress import duplicates
from perception_batch.geometry import box_iou

BOXES = st.lists(
    st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(0, 9)] * 2, st.integers(0, 2), st.sampled_from("ab")),
    max_size=14,
)


@settings(max_examples=80, deadline=None)
@given(pairs=st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 50), max_size=9))
def test_choice_is_worth_as_much_as_the_best_of_all(pairs: dict[tuple[int, int], int]) -> None:
    first = np.array([10 + i for i, _ in pairs], np.int64)
    second = np.array([3 * j for _, j in pairs], np.int64)
    chosen = assignment(first, second, np.array(list(pairs.values()), float))
    assert len(set(first[chosen])) == len(set(second[chosen])) == chosen.sum()
    best = max(sum(pairs.get(pair, 0) for pair in enumerate(order)) for order in permutations(range(4)))
    assert np.array(list(pairs.values()))[chosen].sum() == best


@settings(max_examples=80, deadline=None)
@given(rows=BOXES)
def test_duplicates_are_those_of_each_camera_alone(rows: list[tuple[int, int, int, int, int, str]]) -> None:
    rows.sort(key=lambda row: row[4])
    xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h, _, _ in rows], float).reshape(-1, 4)
    camera = np.array([row[4] for row in rows], np.int64)
    groups = [row[5] for row in rows]
    slow: dict[int, list[int]] = {}
    gone: set[int] = set()
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            if camera[i] != camera[j] or groups[i] != groups[j] or {i, j} & gone:
                continue
            iou = box_iou(xyxy[i : i + 1], xyxy[j : j + 1])[0, 0]
            sides = np.minimum(xyxy[i, 2:], xyxy[j, 2:]) - np.maximum(xyxy[i, :2], xyxy[j, :2])
            smaller = min(np.prod(xyxy[k, 2:] - xyxy[k, :2]) for k in (i, j))
            inside = (sides > 0).all() and np.prod(sides) >= 0.9 * smaller
            if iou >= 0.7 or (inside and iou >= 0.75 * 0.7):
                slow.setdefault(i, []).append(j)
                gone.add(j)
    assert duplicates(xyxy, camera, groups, 0.7) == slow
