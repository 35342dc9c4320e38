"""Pairs of observations, counted by loops and by arrays."""

from __future__ import annotations

import numpy as np
import pytest
from evaluate.made import CAR, CLASSES, T0, TRUCK, run_picture, run_step, truth_picture

from perception_batch.evaluate.merges import collect_pairs, score_merges
from perception_batch.evaluate.pairing import PairedStep, pair_boxes
from perception_batch.evaluate.report import MergeFigures, Skipped
from perception_batch.evaluate.settings import EvaluateSettings

SETTINGS = EvaluateSettings(resamples=50)


def slot(k: int, size: float = 60.0) -> list[float]:
    """Boxes that never overlap."""
    return [100.0 * k, 0.0, 100.0 * k + size, size]


def step(cameras: dict[str, list[tuple[int, int, int]]], truth: dict[str, list[int]]) -> PairedStep:
    """Detections as (slot, class, object); truth objects stand in the slot of their own number."""
    pictures = tuple(
        pair_boxes(
            run_picture(camera, T0, [(slot(k), 0.9, c, o) for k, c, o in rows]),
            truth_picture(0, camera, [(k, CAR, slot(k)) for k in truth[camera]]),
            CLASSES,
            SETTINGS,
        )
        for camera, rows in cameras.items()
    )
    return PairedStep(run_step(0, [p.run for p in pictures]), 0, pictures)


def by_loops(steps: list[PairedStep]) -> tuple[int, int, int]:
    """True, fused and right pairs."""
    true = fused = right = 0
    for s in steps:
        items = []
        for camera, p in enumerate(s.pictures):
            items += [
                (camera, int(p.identity[d]), int(p.run.objects[d]))
                for d in range(len(p.run.objects))
                if p.run.objects[d] >= 0 and (p.decided[d] or (p.truth_row[d] < 0 and not p.unclear[d]))
            ]
        for n, (camera, who, obj) in enumerate(items):
            for other_camera, other_who, other_obj in items[n + 1 :]:
                if camera == other_camera or (who < 0 and other_who < 0):
                    continue
                true += who == other_who
                fused += obj == other_obj
                right += who == other_who and obj == other_obj
    return true, fused, right


@pytest.mark.parametrize("seed", range(30))
def test_pairs_equal_the_slow_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(4):
        cameras = {
            c: [
                (int(k), CAR, int(rng.integers(-1, 5)))
                for k in rng.choice(8, rng.integers(0, 7), replace=False)
            ]
            for c in "abc"
        }
        steps.append(step(cameras, {c: [k for k in range(6) if rng.random() < 0.8] for c in "abc"}))
    pairs = collect_pairs(steps)
    assert (int(pairs.same.sum()), int(pairs.fused.sum()), int((pairs.same & pairs.fused).sum())) == by_loops(
        steps
    )
    assert ((pairs.same | pairs.fused) == 1).all()


def figures(*steps: PairedStep) -> MergeFigures:
    found = score_merges(steps, SETTINGS)
    assert isinstance(found, MergeFigures)
    return found


def test_what_right_wrong_and_missed_merges_count() -> None:
    truth = {"a": [0, 1], "b": [0, 1]}
    right = figures(step({"a": [(0, CAR, 0), (1, CAR, 1)], "b": [(0, TRUCK, 0), (1, CAR, 1)]}, truth))
    assert (right.precision, right.recall, right.f1) == (1, 1, 1)
    crossed = figures(step({"a": [(0, CAR, 0), (1, CAR, 1)], "b": [(0, CAR, 1), (1, CAR, 0)]}, truth))
    assert (crossed.precision, crossed.recall) == (0, 0)
    split = figures(step({"a": [(0, CAR, 0), (1, CAR, 1)], "b": [(0, CAR, 2), (1, CAR, 1)]}, truth))
    assert (split.precision, split.recall) == (1, 0.5)
    with_false = figures(step({"a": [(0, CAR, 0), (5, CAR, 1)], "b": [(0, CAR, 0), (1, CAR, 1)]}, truth))
    assert (with_false.precision, with_false.recall) == (0.5, 1)


def test_two_false_boxes_fused_say_nothing() -> None:
    truth = {"a": [0], "b": [0]}
    both = step({"a": [(0, CAR, 0), (5, CAR, 1)], "b": [(0, CAR, 0), (5, CAR, 1)]}, truth)
    assert figures(both).fused_pairs == 1


def test_a_box_that_half_fits_is_neither_right_nor_false() -> None:
    truth = truth_picture(0, "b", [(0, CAR, [0, 0, 60, 150])])  # a loose box: overlap 0.4
    a = pair_boxes(
        run_picture("a", T0, [(slot(0), 0.9, CAR, 0)]),
        truth_picture(0, "a", [(0, CAR, slot(0))]),
        CLASSES,
        SETTINGS,
    )
    b = pair_boxes(run_picture("b", T0, [(slot(0), 0.9, CAR, 0)]), truth, CLASSES, SETTINGS)
    assert b.unclear.all()
    assert isinstance(score_merges([PairedStep(run_step(0, []), 0, (a, b))], SETTINGS), Skipped)


def test_small_truth_boxes_do_not_count() -> None:
    small = [0.0, 0.0, 60.0, 20.0]
    pictures = tuple(
        pair_boxes(
            run_picture(c, T0, [(small, 0.9, CAR, 0 if c == "a" else 1)]),
            truth_picture(0, c, [(0, CAR, small)]),
            CLASSES,
            SETTINGS,
        )
        for c in "ab"
    )
    assert isinstance(score_merges([PairedStep(run_step(0, []), 0, pictures)], SETTINGS), Skipped)


def test_the_interval_holds_the_figure_and_repeats() -> None:
    truth = {"a": list(range(6)), "b": list(range(6))}
    steps = [
        step(
            {
                "a": [(k, CAR, k) for k in range(6)],
                "b": [(k, CAR, k if (k + n) % 3 else 9) for k in range(6)],
            },
            truth,
        )
        for n in range(5)
    ]
    one, two = figures(*steps), figures(*steps)
    assert one == two
    assert one.f1_interval is not None
    assert one.f1_interval[0] <= one.f1 <= one.f1_interval[1]
    assert one.truth_objects == 6
