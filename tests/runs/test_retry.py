"""Errors that pass are waited for; others are not."""

from __future__ import annotations

import errno

import pytest

from perception_batch.errors import LogError, WriteError
from perception_batch.runs.retry import Backoff, is_transient, retried


class Flaky:
    """Fails with the errors given, then gives 42."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 42


def stale() -> OSError:
    return OSError(errno.ESTALE, "stale")


def test_it_waits_longer_each_time_and_goes_on() -> None:
    waits: list[float] = []
    heard: list[tuple[int, float]] = []
    flaky = Flaky(*(stale() for _ in range(4)))
    backoff = Backoff(retries=4, first_s=1, factor=3, most_s=10)
    got = retried(flaky, backoff, sleep=waits.append, on_retry=lambda _e, n, s: heard.append((n, s)))
    assert got == 42
    assert waits == [1, 3, 9, 10]
    assert heard == [(1, 1), (2, 3), (3, 9), (4, 10)]


def test_the_last_error_is_raised_as_it_is() -> None:
    last = stale()
    flaky = Flaky(stale(), stale(), last, stale())
    with pytest.raises(OSError, match="stale") as caught:
        retried(flaky, Backoff(retries=2), sleep=lambda _: None)
    assert caught.value is last
    assert flaky.calls == 3


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "gone"),
        OSError(errno.ENOSPC, "full"),
        LogError("a.bag", "empty"),
        ValueError("bug"),
        KeyboardInterrupt(),
    ],
)
def test_what_does_not_pass_is_not_tried_again(error: BaseException) -> None:
    flaky = Flaky(error)
    with pytest.raises(type(error)):
        retried(flaky, Backoff(), sleep=lambda _: None)
    assert flaky.calls == 1


def test_an_error_that_was_caused_by_one_that_passes_passes() -> None:
    error = WriteError("x")
    error.__cause__ = stale()
    assert is_transient(error)
    error.__cause__.__cause__ = error  # a circle ends
    assert is_transient(error)
    error.__cause__ = ValueError()
    assert not is_transient(error)


def test_waits_make_sense() -> None:
    assert Backoff().wait_s(10**6) == Backoff().most_s
    for wrong in ({"retries": -1}, {"first_s": -1.0}, {"factor": 0.5}):
        with pytest.raises(ValueError, match="waits are not negative"):
            Backoff(**wrong)
