"""Which timestep goes with which frame, and whether its pictures belong together."""

from __future__ import annotations

import pytest
from evaluate.made import (
    CAR,
    CLASSES,
    PERSON,
    STEP,
    T0,
    TRUCK,
    run_of,
    run_picture,
    run_step,
    truth_frame,
    truth_of,
    truth_picture,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.errors import LogError
from perception_batch.evaluate.pairing import pair, pair_boxes
from perception_batch.evaluate.report import Skipped, SyncFigures
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.sync import score_sync
from perception_batch.evaluate.truth import Truth

SETTINGS = EvaluateSettings()
STAGGER = 20_000_000


def two_camera_truth(count: int = 4) -> Truth:
    """Camera b fires 20 ms after a; the last picture of b shows an older one (frozen)."""
    frames = [truth_frame(T0 + i * STEP, {}) for i in range(count)]
    pictures = []
    for i in range(count):
        pictures.append(truth_picture(i, "a", [], stamp_ns=T0 + i * STEP))
        pictures.append(truth_picture(i, "b", [], stamp_ns=T0 + i * STEP + STAGGER, in_set=i != count - 1))
    return truth_of(frames, pictures, knows_pictures=True)


def step(index: int, a: int | None, b: int | None):
    """A timestep with the pictures of these cycles."""
    pictures = []
    if a is not None:
        pictures.append(run_picture("a", T0 + a * STEP, []))
    if b is not None:
        pictures.append(run_picture("b", T0 + b * STEP + STAGGER, []))
    return run_step(index, pictures)


def sync(*steps) -> SyncFigures:
    found = score_sync(run_of(steps), two_camera_truth())
    assert isinstance(found, SyncFigures)
    return found


def test_kinds_of_timesteps() -> None:
    found = sync(step(0, 0, 0), step(1, 1, 2), step(2, 2, None), step(3, 3, 3))
    assert (found.exact, found.mixed, found.short, found.unknown) == (1, 2, 1, 0)
    assert (found.true_sets, found.true_sets_made) == (4, 1)


def test_a_dropped_frame_is_no_ones_fault() -> None:
    assert sync(step(3, 3, None)).exact == 1  # b's picture of that cycle belongs to no set


def test_a_frame_that_the_truth_does_not_know() -> None:
    assert sync(step(9, 9, None)).unknown == 1


def test_json_truth_knows_no_sets() -> None:
    truth = truth_of([truth_frame(T0, {})], [], knows_pictures=False)
    assert isinstance(score_sync(run_of([step(0, 0, 0)]), truth), Skipped)


def test_pictures_are_found_by_their_own_stamps() -> None:
    run = run_of([step(0, 0, 0), step(1, 1, 1)])
    paired = pair(run, two_camera_truth(), CLASSES, SETTINGS)
    assert [(s.frame, [p.truth.frame for p in s.pictures]) for s in paired] == [(0, [0, 0]), (1, [1, 1])]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=12, unique=True),
    st.lists(st.integers(0, 2000), min_size=1, max_size=12, unique=True),
)
def test_each_frame_once_and_within_half_a_period(truth_ms: list[int], run_ms: list[int]) -> None:
    frames = [truth_frame(T0 + t * 1_000_000, {}) for t in sorted(truth_ms)]
    truth = truth_of(frames, [], knows_pictures=False)
    run = run_of([run_step(i, [], stamp_ns=T0 + t * 1_000_000) for i, t in enumerate(sorted(run_ms))])
    limit = min(100_000_000, truth.period_ns // 2) if len(frames) > 1 else 100_000_000
    near = [
        (abs(s.stamp_ns - f.stamp_ns), i, k)
        for i, s in enumerate(run.steps)
        for k, f in enumerate(truth.frames)
        if abs(s.stamp_ns - f.stamp_ns) <= limit
    ]
    if not near:
        with pytest.raises(LogError, match="is it of this drive"):
            pair(run, truth, CLASSES, SETTINGS)
        return
    paired = pair(run, truth, CLASSES, SETTINGS)
    assert len({s.frame for s in paired}) == len(paired)
    gaps = {(s.run.index, s.frame) for s in paired}
    assert gaps <= {(i, k) for _, i, k in near}
    closest = min(near)
    assert any(abs(run.steps[i].stamp_ns - truth.frames[k].stamp_ns) == closest[0] for i, k in gaps)


def test_no_camera_in_common_is_said() -> None:
    truth = truth_of(
        [truth_frame(T0, {})], [truth_picture(0, "front", [(0, CAR, [0, 0, 9, 9])])], knows_pictures=False
    )
    with pytest.raises(LogError, match="no camera of the run: it knows front"):
        pair(run_of([step(0, 0, 0)]), truth, CLASSES, SETTINGS)


def test_boxes_go_together_within_groups_and_doubles_belong_to_the_same_object() -> None:
    truth = truth_picture(0, "a", [(0, CAR, [0, 0, 50, 50]), (1, PERSON, [0, 0, 48, 50])])
    rows = [
        ([0, 0, 50, 50], 0.9, TRUCK, -1),  # suppressed: comes second
        ([0, 0, 49, 50], 0.8, CAR, 3),
        ([0, 0, 50, 50], 0.7, PERSON, 4),
        ([500, 0, 550, 50], 0.7, CAR, 5),
    ]
    paired = pair_boxes(run_picture("a", T0, rows), truth, CLASSES, SETTINGS)
    assert paired.identity.tolist() == [0, 0, 1, -1]
    assert paired.unclear.tolist() == [False] * 4


def test_a_box_that_fusion_did_not_use_pushes_none_to_its_neighbour() -> None:
    truth = truth_picture(0, "a", [(0, CAR, [0, 0, 50, 50]), (1, CAR, [12, 0, 62, 50])])
    rows = [([0, 0, 50, 50], 0.9, CAR, -1), ([2, 0, 52, 50], 0.8, CAR, 0)]
    assert pair_boxes(run_picture("a", T0, rows), truth, CLASSES, SETTINGS).identity.tolist() == [0, 0]


def test_two_cars_close_together_keep_their_own_boxes() -> None:
    """Each for itself would both take the first car; together they do not."""
    truth = truth_picture(0, "a", [(0, CAR, [0, 0, 50, 50]), (1, CAR, [12, 0, 62, 50])])
    rows = [([1, 0, 51, 50], 0.9, CAR, 0), ([5, 0, 55, 50], 0.8, CAR, 1)]
    assert pair_boxes(run_picture("a", T0, rows), truth, CLASSES, SETTINGS).identity.tolist() == [0, 1]
