"""The fast ways to find duplicates and best choices, against slow and obvious ones."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.assignment import assignment
from perception_batch.fusion.placed import Places, combine
from perception_batch.fusion.position import Sketch
from perception_batch.fusion.predicted import _near
from perception_batch.fusion.suppress import duplicates
from perception_batch.geometry import box_iou
from perception_batch.pairs import pairs_within

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


@settings(max_examples=40, deadline=None)
@given(runs=st.lists(st.integers(0, 5), max_size=12).map(sorted))
def test_pairs_are_every_two_of_a_run(runs: list[int]) -> None:
    first, second = pairs_within(np.array(runs, np.int64))
    slow = [pair for pair in combinations(range(len(runs)), 2) if runs[pair[0]] == runs[pair[1]]]
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == slow


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), boxes=st.integers(1, 9), tracks=st.integers(1, 9))
def test_no_box_and_track_within_the_gate_are_overlooked(seed: int, boxes: int, tracks: int) -> None:
    rng = np.random.default_rng(seed)
    gate = rng.uniform(1, 5)
    about = Sketch(rng.uniform(-150, 150, (2, boxes)), rng.uniform(0.1, 30, (3, boxes)) * [[1], [1], [0.01]])
    late_s = rng.choice([0.0, -0.05, 0.03], boxes)
    place, velocity = rng.uniform(-150, 150, (2, tracks)), rng.uniform(-30, 30, (2, tracks))
    cov = rng.uniform(0.1, 30, (3, tracks)) * [[1], [1], [0.01]]
    for k in range(min(boxes, tracks)):  # some just within and some just beyond what may be
        room = about.cover_m2[:2, k].sum() + cov[:2, k].sum() + 2 * 0.3**2
        edge = gate * np.sqrt(room) * rng.choice([0.5, 0.9999, 1.01])
        turn = rng.uniform(0, 2 * np.pi)
        there = place[:, k] + velocity[:, k] * late_s[k]
        about.place_m[:, k] = there + edge * np.array([np.cos(turn), np.sin(turn)])
    may = rng.random((boxes, tracks)) < 0.8
    place[:, rng.random(tracks) < 0.1] = np.nan
    near = _near(about, place, velocity, cov, late_s, gate, may)
    found = set(zip(*(x.tolist() for x in near), strict=True))
    for i in range(boxes):
        for j in range(tracks):
            apart = about.place_m[:, i] - place[:, j] - velocity[:, j] * late_s[i]
            room = about.cover_m2[:2, i].sum() + cov[:2, j].sum() + 2 * 0.3**2
            excess = apart @ apart - gate**2 * room
            if not may[i, j] or np.isnan(excess) or excess > 0.01:
                assert (i, j) not in found
            elif excess <= 0:
                assert (i, j) in found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(2, 6), min_size=1, max_size=5))
def test_objects_of_several_views_are_as_each_view_by_view_alone(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    root, lasting = rng.normal(size=(n, 3, 3)), rng.normal(size=(n, 2, 3))
    views = Places.of(rng.normal(size=(n, 3)), root @ root.transpose(0, 2, 1) + np.eye(3), lasting)
    counts = np.array(sizes)
    first = counts.cumsum() - counts
    together = combine(views, first, counts)
    for k, (start, count) in enumerate(zip(first, sizes, strict=True)):
        rows = range(start, start + count)
        information = {i: np.linalg.inv(views.total_m2[i]) for i in rows}
        whole = np.linalg.inv(sum(information.values()))
        mean = whole @ sum(information[i] @ views.position_m[i] for i in rows)
        weight = {i: whole @ information[i] for i in rows}
        lasts = sum(lasting[i] @ weight[i].T for i in rows)
        alone = sum(weight[i] @ views.jitter_m2[i] @ weight[i].T for i in rows)
        off = {i: views.position_m[i] - mean for i in rows}
        ratio = sum(off[i] @ information[i] @ off[i] for i in rows) / (3 * (count - 1))
        alone = alone + max(ratio - 1, 0) * (alone + lasts.T @ lasts)
        np.testing.assert_allclose(together.position_m[k], mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(together.lasting_m[k], lasts, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(together.jitter_m2[k], alone, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(together.total_m2[k], alone + lasts.T @ lasts, rtol=1e-9, atol=1e-9)
        for square in (together.total_m2[k], together.jitter_m2[k]):
            assert (square == square.T).all()


@settings(max_examples=80, deadline=None)
@given(rows=BOXES)
def test_duplicates_are_those_of_each_camera_alone(rows: list[tuple[int, int, int, int, int, str]]) -> None:
    rows.sort(key=lambda row: row[4])
    xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h, _, _ in rows], float).reshape(-1, 4)
    camera = np.array([row[4] for row in rows], np.int64)
    groups = np.array([ord(row[5]) for row in rows], np.int64)
    slow: list[tuple[int, int]] = []
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
                slow.append((i, j))
                gone.add(j)
    kept, others = duplicates(xyxy, camera, groups, 0.7)
    assert list(zip(kept.tolist(), others.tolist(), strict=True)) == slow
