"""Reading again after errors that pass: a network file system that is away for a moment, a disk that stalls."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

A = TypeVar("A")

TRANSIENT = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ENOTCONN,
        errno.EREMOTEIO,
        errno.ENOBUFS,
        errno.EMFILE,
        errno.ENFILE,
    }
)
"""Errors of the system after which the same may work a little later."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often, and after how long."""

    retries: int = 4
    """Tries after the first."""
    first_s: float = 2.0
    """Wait before the second try."""
    factor: float = 3.0
    """Each wait is so many times the one before."""
    most_s: float = 120.0
    """But not longer than this."""

    def __post_init__(self) -> None:
        if self.retries < 0 or self.first_s < 0 or self.factor < 1 or self.most_s < 0:
            raise ValueError(f"waits are not negative and do not shrink; got {self}")

    def wait_s(self, failures: int) -> float:
        """The wait after so many failures, from 1."""
        return min(self.most_s, self.first_s * self.factor ** min(failures - 1, 64))


def is_transient(error: BaseException) -> bool:
    """Whether the error, or what caused it, is one that passes."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, OSError) and found.errno in TRANSIENT:
            return True
        seen.add(id(found))
        found = found.__cause__
    return False


def retried(
    action: Callable[[], A],
    backoff: Backoff,
    *,
    on_retry: Callable[[BaseException, int, float], None] = lambda _error, _failures, _wait_s: None,
    sleep: Callable[[float], None] = time.sleep,
) -> A:
    """What `action` gives, tried again after errors that pass; the last one is raised as it is.

    Args:
        action: starts from its own last result on disk, so that a second try does only the rest.
        backoff: how often, and after how long.
        on_retry: hears of each error that is followed by a try, how many there were, and the wait in seconds.
        sleep: waits, seconds.
    """
    failures = 0
    while True:
        try:
            return action()
        except Exception as error:
            failures += 1
            if failures > backoff.retries or not is_transient(error):
                raise
            wait_s = backoff.wait_s(failures)
            on_retry(error, failures, wait_s)
        sleep(wait_s)
