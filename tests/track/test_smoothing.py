"""The filter and its hindsight against slow, obvious ones: all measurements of a track solved at once."""

from __future__ import annotations

import numpy as np
import pytest

from perception_batch.columnar import FusedObjects
from perception_batch.geometry import SE3
from perception_batch.track import motion
from perception_batch.track.motion import Beliefs
from perception_batch.track.sighting import Sightings, Views, sightings, turned_within_half
from perception_batch.track.smoothing import Moment, Smoothed, smooth

SECONDS, JERKINESS, SPEED_MPS = 0.1, 0.7, 8.0
FAR = np.zeros((2, 1))
"""The vehicle."""


def seen_at(places: np.ndarray, sigma: float) -> Sightings:
    """Sightings of (M, 2) places."""
    out = Sightings.none(len(places))
    out.place_m[:], out.polar[:] = places.T, Views.of(places.T, FAR).polar
    out.noise[:] = np.array([[sigma**2], [0.0], [(0.1 * sigma) ** 2]])
    out.height_m[:], out.height_m2[:] = 0, 1
    return out


def slope_at(place: np.ndarray) -> np.ndarray:
    """(2, 2) derivative of polar by a place (2,)."""
    x, y = Views.of(place[:, None], FAR).slope[:, 0]
    return np.array([[x, y], [-y, x]])


def run_filter(measured: list[np.ndarray | None], sigma: float) -> list[Moment]:
    """One track; None where it is not seen."""
    moments: list[Moment] = []
    beliefs = Beliefs(np.zeros((14, 0)))
    for k, place in enumerate(measured):
        rows = np.arange(len(beliefs))
        if k:
            beliefs = motion.predict(beliefs, SECONDS, np.full((2, len(rows)), JERKINESS))
        seen = np.zeros((0, 2)) if place is None or not k else place[None]
        views = Views.of(beliefs.mean[:2, : len(seen)], FAR)
        lesson = motion.update(beliefs, np.arange(len(seen)), seen_at(seen, sigma), views)
        if not k:
            assert place is not None
            beliefs = motion.begin(seen_at(place[None], sigma), FAR, np.array([SPEED_MPS]))
        moments.append(Moment(beliefs, lesson, SECONDS if k else 0.0, rows))
    return moments


def matrix2(entries: np.ndarray) -> np.ndarray:
    """(2, 2) of xx, xy, yy."""
    return entries[[0, 1, 1, 2]].reshape(2, 2)


def one_by_one(told: Smoothed) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and (2, 2) covariance of the place, column by column."""
    return [(mean, matrix2(m2)) for mean, m2 in zip(told.mean.T, told.place_m2.T, strict=True)]


def solve_at_once(measured: list[np.ndarray | None], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares over all states of all timesteps, with each sighting linear where it was measured."""
    n = len(measured)
    information, vector = np.zeros((4 * n, 4 * n)), np.zeros(4 * n)
    information[2:4, 2:4] += np.eye(2) / SPEED_MPS**2
    step = np.eye(4)
    step[0, 2] = step[1, 3] = SECONDS
    q2 = JERKINESS * np.array([[SECONDS**3 / 3, SECONDS**2 / 2], [SECONDS**2 / 2, SECONDS]])
    q_inverse = np.linalg.inv(np.kron(q2, np.eye(2)))
    for k in range(1, n):
        block = np.hstack([-step, np.eye(4)])
        part = slice(4 * (k - 1), 4 * (k + 1))
        information[part, part] += block.T @ q_inverse @ block
    for k, place in enumerate(measured):
        if place is not None:
            slope = slope_at(place)
            weight = slope.T @ np.diag([sigma**-2, (0.1 * sigma) ** -2]) @ slope
            information[4 * k : 4 * k + 2, 4 * k : 4 * k + 2] += weight
            vector[4 * k : 4 * k + 2] += weight @ place
    covariance = np.linalg.inv(information)
    return (covariance @ vector).reshape(n, 4), covariance


def test_hindsight_is_the_solution_of_all_measurements_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion, "_BELIEVED2", 1e9)  # least squares knows no doubt
    rng = np.random.default_rng(0)
    sigma = 1e-3
    true = np.array([[300.0 + 0.8 * k, 40.0 + 0.3 * k] for k in range(14)])
    measured: list[np.ndarray | None] = [p + 0.02 * rng.standard_normal(2) for p in true]
    measured[5] = measured[6] = None
    told = one_by_one(smooth(run_filter(measured, sigma), len(measured)))
    states, covariance = solve_at_once(measured, sigma)
    for k, (mean, place_m2) in enumerate(told):
        # The filter takes each sighting's slope at the predicted place, least squares at the measured one.
        np.testing.assert_allclose(mean, states[k], atol=2e-3)
        np.testing.assert_allclose(
            place_m2, covariance[4 * k : 4 * k + 2, 4 * k : 4 * k + 2], rtol=2e-2, atol=1e-6
        )


def test_the_last_moment_is_as_filtered() -> None:
    moments = run_filter([np.array([50.0 + k, 3.0]) for k in range(6)], 0.02)
    mean, place_m2 = one_by_one(smooth(moments, 6))[-1]
    np.testing.assert_array_equal(mean, moments[-1].beliefs.mean[:, 0])
    np.testing.assert_allclose(place_m2, moments[-1].beliefs.covariance[:2, :2, 0])


def test_the_first_moments_are_the_same_alone() -> None:
    moments = run_filter([np.array([50.0 + k, 3.0]) for k in range(9)], 0.02)
    every, first = smooth(moments, 9), smooth(moments, 4)
    np.testing.assert_array_equal(every.mean[:, :4], first.mean)
    np.testing.assert_array_equal(every.place_m2[:, :4], first.place_m2)
    assert smooth([], 0).mean.shape == (4, 0)


def test_hindsight_never_knows_less_than_the_filter() -> None:
    moments = run_filter([np.array([50.0 + k, 3.0]) for k in range(12)], 0.02)
    for moment, (_, place_m2) in zip(moments, one_by_one(smooth(moments, 12)), strict=True):
        less = moment.beliefs.covariance[:2, :2, 0] - place_m2
        assert np.linalg.eigvalsh(less).min() > -1e-9
        assert np.linalg.eigvalsh(place_m2).min() > 0


def test_columns_that_end_or_begin_do_not_touch_the_others() -> None:
    alone = run_filter([np.array([50.0 + k, 3.0]) for k in range(5)], 0.02)
    # The same track as column 1, after one that ends at moment 2 and before one that begins at moment 3.
    beside, starts = [], [0]
    for k, moment in enumerate(alone):
        before, after = int(k < 2), int(k > 2)
        n = before + 1 + after

        def spread(values: np.ndarray, n: int = n, before: int = before) -> np.ndarray:
            out = np.ones((*values.shape[:-1], n)) + np.arange(n)
            out[..., before : before + values.shape[-1]] = values
            return out

        survivors = {0: [], 1: [0, 1], 2: [1], 3: [0], 4: [0, 1]}[k]
        table = spread(moment.lesson.table) if k else moment.lesson.table
        lesson = motion.Lesson(table[..., : len(survivors)])
        beliefs = Beliefs(spread(moment.beliefs.table))
        beside.append(Moment(beliefs, lesson, moment.seconds, np.array(survivors, np.int64)))
        starts.append(starts[-1] + n)
    many = one_by_one(smooth(beside, 5))
    for k, (mean, place_m2) in enumerate(one_by_one(smooth(alone, 5))):
        mean_too, place_m2_too = many[starts[k] + int(k < 2)]
        np.testing.assert_allclose(mean_too, mean)
        np.testing.assert_allclose(place_m2_too, place_m2)


def test_all_columns_at_once_are_one_after_the_other_with_matrices() -> None:
    """Prediction and update of 40 tracks against the textbook's, track by track."""
    rng = np.random.default_rng(5)
    n, seconds, origin = 40, 0.13, np.array([[3.0], [-2.0]])
    root = rng.standard_normal((n, 4, 4))
    p = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(4)
    mean = np.concatenate([rng.uniform(-60, 60, (n, 2)), rng.normal(0, 5, (n, 2))], axis=1)
    rows, columns = np.triu_indices(4)
    beliefs = Beliefs(np.concatenate([mean.T, p[:, rows, columns].T]))
    np.testing.assert_array_equal(beliefs.covariance, p.transpose(1, 2, 0))
    jerkiness = rng.uniform(0.1, 6, (2, n))
    later = motion.predict(beliefs, seconds, jerkiness)
    index = rng.permutation(n)[:25]
    seen = Sightings.none(25)
    views = Views.of(later.mean[:2, index], origin)
    seen.polar[:] = views.polar + rng.normal(0, 0.1, (2, 25))
    noise = rng.standard_normal((25, 2, 2)) * 0.05
    noise = noise @ noise.transpose(0, 2, 1) + 1e-4 * np.eye(2)
    seen.noise[:] = noise[:, [0, 0, 1], [0, 1, 1]].T
    predicted = Beliefs(later.table.copy())
    lesson = motion.update(later, index, seen, views)
    step = np.eye(4)
    step[0, 2] = step[1, 3] = seconds
    for i in range(n):
        speed2 = mean[i, 2:] @ mean[i, 2:]
        gained = jerkiness[0, i] + speed2 / (speed2 + 4) * (jerkiness[1, i] - jerkiness[0, i])
        q2 = gained * np.array([[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]])
        before, cover = step @ mean[i], step @ p[i] @ step.T + np.kron(q2, np.eye(2))
        np.testing.assert_allclose(predicted.mean[:, i], before, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(predicted.covariance[:, :, i], cover, rtol=1e-12, atol=1e-12)
        if i not in index:
            np.testing.assert_array_equal(later.table[:, i], predicted.table[:, i])
            assert not lesson.table[:, :, i].any()
            continue
        k = int(np.flatnonzero(index == i)[0])
        off = before[:2] - origin[:, 0]
        reach = np.hypot(*off)
        h = np.zeros((2, 4))
        h[:, :2] = np.array([[off[0], off[1]], [-off[1], off[0]]]) / reach**2
        apart = seen.polar[:, k] - [np.log(reach), np.arctan2(off[1], off[0])]
        surprise = apart @ np.linalg.inv(h @ cover @ h.T + noise[k]) @ apart
        s_inverse = np.linalg.inv(h @ cover @ h.T + max(surprise, 1.0) * noise[k])
        gain = cover @ h.T @ s_inverse
        np.testing.assert_allclose(later.mean[:, i], before + gain @ apart, rtol=1e-9)
        np.testing.assert_allclose(later.covariance[:, :, i], cover - gain @ h @ cover, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(lesson.taken[:, :, i].T, (gain @ h)[:, :2], rtol=1e-7, atol=1e-10)
        weighed = (h.T @ s_inverse)[:2]
        np.testing.assert_allclose(lesson.told[0, :, i], weighed @ apart, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(lesson.told[1:, :, i], weighed @ h[:, :2], rtol=1e-7, atol=1e-10)


def test_the_slope_is_that_of_polar() -> None:
    place, origin = np.array([[12.0], [-7.0]]), np.array([[2.0], [1.0]])
    x, y = Views.of(place, origin).slope[:, 0]
    for axis, expected in ((0, (x, -y)), (1, (y, x))):
        step = np.zeros((2, 1))
        step[axis] = 1e-5
        slope = (Views.of(place + step, origin).polar - Views.of(place - step, origin).polar) / 2e-5
        np.testing.assert_allclose(slope[:, 0], expected, rtol=1e-6)


def test_nothing_breaks_at_the_origin() -> None:
    assert np.isfinite(Views.of(np.zeros((2, 1)), np.zeros((2, 1))).table).all()
    assert len(sightings(FusedObjects.of([]), np.zeros(0, np.int64), SE3.identity())) == 0


@pytest.mark.parametrize(("angle", "equal"), [(3.2, 3.2 - 2 * np.pi), (-3.2, 2 * np.pi - 3.2), (0.5, 0.5)])
def test_angles_turn_within_half(angle: float, equal: float) -> None:
    assert turned_within_half(np.array([angle]))[0] == pytest.approx(equal)
