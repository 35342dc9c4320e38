"""The filter and its hindsight against slow, obvious ones: all measurements of a track solved at once."""

from __future__ import annotations

import numpy as np
import pytest

from perception_batch.geometry import SE3
from perception_batch.track import motion
from perception_batch.track.motion import Beliefs
from perception_batch.track.sighting import Sightings, jacobian, polar, sightings, turned_within_half
from perception_batch.track.smoothing import Moment, smooth

SECONDS, JERKINESS, SPEED_MPS = 0.1, 0.7, 8.0
FAR = np.zeros(2)
"""The vehicle."""


def seen_at(places: np.ndarray, sigma: float) -> Sightings:
    n = len(places)
    noise = np.tile(np.diag([sigma**2, (0.1 * sigma) ** 2]), (n, 1, 1))
    zero = np.zeros(n)
    return Sightings(places, polar(places, FAR), noise, np.zeros((n, 2, 2)), zero, zero + 1)


def run_filter(measured: list[np.ndarray | None], sigma: float) -> list[Moment]:
    """One track; None where it is not seen."""
    moments: list[Moment] = []
    beliefs = Beliefs.none()
    for k, place in enumerate(measured):
        rows = np.arange(len(beliefs.mean))
        beliefs = Beliefs(beliefs.mean.copy(), beliefs.covariance.copy())
        motion.predict(beliefs, SECONDS if k else 0.0, np.full((len(rows), 2), JERKINESS))
        none = np.zeros(0, np.int64)
        if place is None or not k:
            lesson = motion.update(beliefs, none, seen_at(np.zeros((0, 2)), sigma), FAR)
        else:
            lesson = motion.update(beliefs, np.array([0]), seen_at(place[None], sigma), FAR)
        if not k:
            assert place is not None
            beliefs = motion.begin(seen_at(place[None], sigma), FAR, np.array([SPEED_MPS]))
        moments.append(Moment(beliefs, lesson, SECONDS if k else 0.0, rows))
    return moments


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
            slope = jacobian(place[None], FAR)[0]
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
    told = list(smooth(run_filter(measured, sigma)))[::-1]
    states, covariance = solve_at_once(measured, sigma)
    for k, moment in enumerate(told):
        # The filter takes each sighting's slope at the predicted place, least squares at the measured one.
        np.testing.assert_allclose(moment.mean[0], states[k], atol=2e-3)
        np.testing.assert_allclose(
            moment.place_m2[0], covariance[4 * k : 4 * k + 2, 4 * k : 4 * k + 2], rtol=2e-2, atol=1e-6
        )


def test_the_last_moment_is_as_filtered() -> None:
    moments = run_filter([np.array([50.0 + k, 3.0]) for k in range(6)], 0.02)
    last = next(iter(smooth(moments)))
    np.testing.assert_array_equal(last.mean, moments[-1].beliefs.mean)
    np.testing.assert_allclose(last.place_m2, moments[-1].beliefs.covariance[:, :2, :2])


def test_hindsight_never_knows_less_than_the_filter() -> None:
    moments = run_filter([np.array([50.0 + k, 3.0]) for k in range(12)], 0.02)
    for moment, told in zip(moments[::-1], smooth(moments), strict=True):
        less = moment.beliefs.covariance[0, :2, :2] - told.place_m2[0]
        assert np.linalg.eigvalsh(less).min() > -1e-9
        assert np.linalg.eigvalsh(told.place_m2[0]).min() > 0


def test_rows_that_end_or_begin_do_not_touch_the_others() -> None:
    alone = run_filter([np.array([50.0 + k, 3.0]) for k in range(5)], 0.02)
    # The same track as row 1, after one that ends at moment 2 and before one that begins at moment 3.
    beside = []
    for k, moment in enumerate(alone):
        before, after = int(k < 2), int(k > 2)
        n = before + 1 + after

        def spread(values: np.ndarray, n: int = n, before: int = before) -> np.ndarray:
            out = np.ones((n, *values.shape[1:])) + np.arange(n).reshape(n, *[1] * (values.ndim - 1))
            out[before : before + len(values)] = values
            return out

        known = [before + 0] if k else []
        survivors = {0: [], 1: [0, 1], 2: [1], 3: [0], 4: [0, 1]}[k]
        lesson = moment.lesson
        part = motion.Lesson(
            *(
                spread(v)[: len(survivors)] if known else v
                for v in (lesson.keep, lesson.information, lesson.pull)
            )
        )
        beliefs = Beliefs(spread(moment.beliefs.mean), spread(moment.beliefs.covariance))
        beside.append(Moment(beliefs, part, moment.seconds, np.array(survivors, np.int64)))
    for k, (one, two) in enumerate(zip(smooth(alone), smooth(beside), strict=True)):
        row = int(len(alone) - 1 - k < 2)
        np.testing.assert_allclose(two.mean[row], one.mean[0])
        np.testing.assert_allclose(two.place_m2[row], one.place_m2[0])


def test_the_jacobian_is_that_of_polar() -> None:
    place, origin = np.array([[12.0, -7.0]]), np.array([2.0, 1.0])
    for axis in (0, 1):
        step = np.zeros((1, 2))
        step[0, axis] = 1e-5
        slope = (polar(place + step, origin) - polar(place - step, origin)) / 2e-5
        np.testing.assert_allclose(jacobian(place, origin)[0, :, axis], slope[0], rtol=1e-6)


def test_nothing_breaks_at_the_origin() -> None:
    assert np.isfinite(jacobian(np.zeros((1, 2)), np.zeros(2))).all()
    assert np.isfinite(polar(np.zeros((1, 2)), np.zeros(2))).all()
    assert len(sightings([], SE3.identity())) == 0


@pytest.mark.parametrize(("angle", "equal"), [(3.2, 3.2 - 2 * np.pi), (-3.2, 2 * np.pi - 3.2), (0.5, 0.5)])
def test_angles_turn_within_half(angle: float, equal: float) -> None:
    assert turned_within_half(np.array([angle]))[0] == pytest.approx(equal)
