"""The fast ways to find duplicates and best choices, against slow and obvious ones."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.fusion.assignment import assignment
from perception_batch.fusion.objects import combine
from perception_batch.fusion.pairs import pairs_within
from perception_batch.fusion.position import Sketch, Views
from perception_batch.fusion.predicted import _near
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
    about = Sketch(rng.uniform(-150, 150, (boxes, 2)), rng.uniform(0.1, 30, (boxes, 3)) * (1, 1, 0.01))
    late_s = rng.choice([0.0, -0.05, 0.03], boxes)
    place, velocity = rng.uniform(-150, 150, (tracks, 3)), rng.uniform(-30, 30, (tracks, 3))
    cov = rng.uniform(0.1, 30, (3, tracks)) * [[1], [1], [0.01]]
    for k in range(min(boxes, tracks)):  # some just within and some just beyond what may be
        room = about.cover_m2[k, :2].sum() + cov[:2, k].sum() + 2 * 0.3**2
        edge = gate * np.sqrt(room) * rng.choice([0.5, 0.9999, 1.01])
        turn = rng.uniform(0, 2 * np.pi)
        there = place[k, :2] + velocity[k, :2] * late_s[k]
        about.place_m[k] = there + edge * np.array([np.cos(turn), np.sin(turn)])
    may = rng.random((boxes, tracks)) < 0.8
    place[rng.random(tracks) < 0.1] = np.nan
    found = set(
        zip(*(x.tolist() for x in _near(about, place, velocity, cov, late_s, gate, may)), strict=True)
    )
    for i in range(boxes):
        for j in range(tracks):
            apart = about.place_m[i] - place[j, :2] - velocity[j, :2] * late_s[i]
            room = about.cover_m2[i, :2].sum() + cov[:2, j].sum() + 2 * 0.3**2
            excess = apart @ apart - gate**2 * room
            if not may[i, j] or np.isnan(excess) or excess > 0.01:
                assert (i, j) not in found
            elif excess <= 0:
                assert (i, j) in found


def test_objects_of_more_and_fewer_views_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(2)
    root, lasting = rng.normal(size=(6, 3, 3)), rng.normal(size=(6, 2, 3))
    jitter = root @ root.transpose(0, 2, 1) + np.eye(3)
    total = jitter + lasting.transpose(0, 2, 1) @ lasting
    place, yes, flat = rng.normal(size=(6, 3)), np.ones(6, bool), np.zeros((6, 2))
    of = Views(place, total[:, :2, :2], lasting[:, :, :2], total, jitter, lasting, yes, yes, flat, flat)
    groups = [[0, 1], [2, 3, 4], [5, 1], [0, 1, 2, 3, 4, 5]]
    together = combine(of, groups)
    for k, rows in enumerate(groups):
        for part, alone in zip(together, combine(of, [rows]), strict=True):
            np.testing.assert_allclose(part[k], alone[0], rtol=1e-12, atol=1e-12)
    information = np.linalg.inv(total[:2])
    mean = np.linalg.solve(information.sum(axis=0), np.einsum("kij,kj->i", information, place[:2]))
    np.testing.assert_allclose(together[0][0], mean, atol=1e-9)


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
