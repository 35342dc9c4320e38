"""Errors and coverage of made positions, whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluate.made import (
    CAR,
    CLASSES,
    STEP,
    T0,
    run_of,
    run_picture,
    run_step,
    truth_frame,
    truth_of,
    truth_picture,
)
from hypothesis import given
from hypothesis import strategies as st

from perception_batch.evaluate.bootstrap import interval, weighted_median, weighted_share
from perception_batch.evaluate.pairing import pair
from perception_batch.evaluate.positions import Located, covered, positions_at, score_positions
from perception_batch.evaluate.report import PositionFigures, Skipped
from perception_batch.evaluate.settings import EvaluateSettings

SETTINGS = EvaluateSettings(resamples=100)
BOX = [0.0, 0.0, 50.0, 50.0]


def scored(
    truth_m: list[tuple[float, float]], found_m: list[tuple[float, float]], sigma_m: float = 1.0
) -> PositionFigures | Skipped:
    """One car a timestep; timesteps and frames have the same stamps."""
    frames = [truth_frame(T0 + i * STEP, {0: (CAR, [*p, 0.8])}) for i, p in enumerate(truth_m)]
    pictures = [truth_picture(i, "a", [(0, CAR, BOX)]) for i in range(len(truth_m))]
    truth = truth_of(frames, pictures, knows_pictures=True)
    steps = [
        run_step(
            i,
            [run_picture("a", T0 + i * STEP, [(BOX, 0.9, CAR, 0)])],
            [(0, 3, CAR, [*p, 0.8])],
            sigma_m=sigma_m,
        )
        for i, p in enumerate(found_m)
    ]
    run = run_of(steps, ["a"])
    return score_positions(
        pair(run, truth, CLASSES, SETTINGS), truth, SETTINGS, has_positions=run.has_positions
    )


def test_known_errors() -> None:
    figures = scored([(10, 0), (20, 0), (0, 30)], [(11, 0), (18, 0), (0, 30)])
    assert isinstance(figures, PositionFigures)
    assert (figures.rows, figures.truth_objects) == (3, 1)
    assert figures.range_error_median == pytest.approx(0.1)
    assert figures.range_error_bias == pytest.approx(0.0)
    assert figures.range_error_largest == pytest.approx(0.1)
    assert figures.position_error_median_m == pytest.approx(1.0)
    assert figures.range_error_interval is None  # one object: nothing to draw from
    assert [b.rows for b in figures.bands] == [1, 2]


def test_too_far_or_without_position() -> None:
    assert isinstance(scored([(50, 0)], [(50, 0)]), Skipped)
    figures = scored([(10, 0), (10, 0)], [(10, 0), (math.nan, math.nan)])
    assert isinstance(figures, PositionFigures)
    assert (figures.rows, figures.without_position) == (1, 1)
    assert isinstance(scored([(10, 0)], [(math.nan, math.nan)]), Skipped)


def gaussian(rng: np.random.Generator, count: int, stated: float) -> Located:
    """Errors of a random true covariance, which the run states `stated` times as large (in sigma)."""
    true = rng.uniform(-30, 30, (count, 2))
    found, covariances = [], []
    for p in true:
        a = rng.normal(size=(2, 2))
        covariance = a @ a.T + 0.1 * np.eye(2)
        found.append(p + np.linalg.cholesky(covariance) @ rng.normal(size=2))
        covariances.append(stated**2 * covariance)
    return Located(
        np.arange(count),
        np.full(count, CAR),
        true,
        np.array(found),
        np.array(covariances),
        np.zeros(count),
        0,
    )


@pytest.mark.parametrize(
    ("stated", "share"),
    [
        (1.0, 0.95),
        (0.5, 1 - math.exp(-0.125 * 5.991464547107979)),
        (2.0, 1 - math.exp(-2 * 5.991464547107979)),
    ],
)
def test_coverage_of_gaussians(stated: float, share: float) -> None:
    count = 4000
    inside = covered(gaussian(np.random.default_rng(5), count, stated)).mean()
    assert abs(inside - share) < 4 * math.sqrt(share * (1 - share) / count) + 1e-3


def test_coverage_equals_the_slow_one() -> None:
    rows = gaussian(np.random.default_rng(2), 300, 0.8)
    for i, inside in enumerate(covered(rows)):
        d = rows.true_m[i] - rows.found_m[i]
        assert inside == (d @ np.linalg.inv(rows.covariance_m2[i]) @ d <= -2 * math.log(0.05))


def test_a_covariance_that_is_none_covers_nothing() -> None:
    rows = gaussian(np.random.default_rng(2), 3, 1)
    rows.covariance_m2[0] = 0
    rows.covariance_m2[1] = np.nan
    assert not covered(rows)[:2].any()


def test_truth_is_brought_to_the_stamp_of_the_timestep() -> None:
    frames = [
        truth_frame(T0, {0: (CAR, [10, 0, 0]), 1: (CAR, [5, 5, 0])}),
        truth_frame(T0 + STEP, {0: (CAR, [12, 1, 0])}),
        truth_frame(T0 + STEP + 10**9, {0: (CAR, [99, 0, 0])}),
    ]
    truth = truth_of(frames, [], knows_pictures=False)
    moved = positions_at(truth, 0, T0 + STEP // 4)
    assert moved[0][1].tolist() == pytest.approx([10.5, 0.25, 0])
    assert moved[1][1].tolist() == [5, 5, 0]  # not in the next frame: it stays
    assert positions_at(truth, 1, T0 + 3 * STEP // 4)[0][1].tolist() == pytest.approx([11.5, 0.75, 0])
    assert positions_at(truth, 1, T0 + STEP + STEP // 2)[0][1].tolist() == [
        12,
        1,
        0,
    ]  # a gap: no line through it
    assert positions_at(truth, 0, T0 - STEP)[0][1].tolist() == [10, 0, 0]


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 5)), min_size=1, max_size=30))
def test_weighted_median_is_the_median_of_repeated_rows(rows: list[tuple[float, int]]) -> None:
    values, weights = np.array([v for v, _ in rows]), np.array([w for _, w in rows], float)
    found = weighted_median(values)(weights)
    repeated = np.repeat(values, weights.astype(int))
    if len(repeated):
        assert found == pytest.approx(float(np.median(repeated)))
    else:
        assert math.isnan(found)


def test_objects_are_drawn_and_not_rows() -> None:
    hits = np.array([True] * 500 + [False] * 500)
    by_row = interval(np.arange(1000), weighted_share(hits), resamples=200, seed=1)
    by_object = interval(np.repeat([0, 1], 500), weighted_share(hits), resamples=200, seed=1)
    assert by_row is not None
    assert by_object == (0.0, 1.0)
    assert by_row[1] - by_row[0] < 0.1
    assert interval(np.zeros(9, int), weighted_share(hits[:9]), resamples=9, seed=1) is None
    assert by_row == interval(np.arange(1000), weighted_share(hits), resamples=200, seed=1)
