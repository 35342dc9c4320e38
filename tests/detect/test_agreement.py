"""How boxes of two detectors are paired and counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.detect import compare_boxes
from perception_batch.types import Detections


def boxes(*rows: tuple[float, ...]) -> Detections:
    """Rows of left, top, right, bottom, score, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    table = table[np.argsort(-table[:, 4], kind="stable")]
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int16)
    )


A = (10, 10, 50, 60, 0.9, 2)


def test_the_same_is_the_same() -> None:
    found = compare_boxes([boxes(A), boxes()], [boxes(A), boxes()], score=0.25)
    assert (found.boxes, found.close, found.lost, found.gained) == (2, 2, 0, 0)
    assert found.share == 1.0
    assert compare_boxes([], [], score=0.25).share == 1.0


def test_what_counts_as_close_lost_and_gained() -> None:
    moved = (10.4, 10, 50, 60, 0.9, 2)
    found = compare_boxes([boxes(A)], [boxes(moved)], score=0.25)
    assert found.close == 2
    assert found.edge_difference_px == pytest.approx(0.4, abs=1e-5)
    far = compare_boxes([boxes(A)], [boxes((11, 10, 50, 60, 0.9, 2))], score=0.25)
    assert (far.boxes, far.close, far.lost, far.gained) == (2, 0, 0, 0)
    score = compare_boxes([boxes(A)], [boxes((*A[:4], 0.898, 2))], score=0.25)
    assert score.close == 0
    assert score.score_difference == pytest.approx(0.002, abs=1e-6)
    other_class = compare_boxes([boxes(A)], [boxes((*A[:5], 7))], score=0.25)
    assert (other_class.lost, other_class.gained, other_class.share) == (1, 1, 0.0)
    weak = compare_boxes([boxes((*A[:4], 0.2, 2))], [boxes()], score=0.25)
    assert (weak.boxes, weak.lost) == (0, 0)


def test_a_box_that_crosses_the_score_is_not_lost() -> None:
    found = compare_boxes([boxes((*A[:4], 0.2502, 2))], [boxes((*A[:4], 0.2498, 2))], score=0.25)
    assert (found.boxes, found.close, found.lost, found.gained) == (1, 1, 0, 0)


def test_one_box_serves_one_other() -> None:
    found = compare_boxes([boxes(A, A)], [boxes(A)], score=0.25)
    assert (found.boxes, found.close, found.lost) == (3, 2, 1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 12))
def test_the_two_sides_are_treated_alike(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)

    def some() -> Detections:
        corner = rng.uniform(0, 40, (count, 2))
        size = rng.uniform(20, 40, (count, 2))
        rows = np.concatenate(
            [corner, corner + size, rng.uniform(0.1, 1, (count, 1)), rng.integers(0, 2, (count, 1))], 1
        )
        return boxes(*map(tuple, rows))

    a, b = [some() for _ in range(3)], [some() for _ in range(3)]
    there, back = compare_boxes(a, b, score=0.4, most_px=9), compare_boxes(b, a, score=0.4, most_px=9)
    assert (there.boxes, there.close, there.lost, there.gained) == (
        back.boxes,
        back.close,
        back.gained,
        back.lost,
    )
    itself = compare_boxes(a, a, score=0.4)
    assert itself.boxes == itself.close == 2 * sum(int((d.score >= 0.4).sum()) for d in a)
