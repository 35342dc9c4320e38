"""SIGINT and SIGTERM end a run between two timesteps: never in the middle of a row group or a picture.

Signals belong to the process, so this is the one module with state of its own; only the command line
installs the handlers.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked the program to end; like `KeyboardInterrupt` it is no error."""

    def __init__(self, number: int) -> None:
        self.exit_status = 128 + number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class _State:
    holds = 0
    pending: int | None = None


def _on_signal(number: int, _frame: FrameType | None) -> None:
    if _State.holds and _State.pending is None:
        _State.pending = number  # a second signal does not wait
        return
    raise Stopped(number)


@contextmanager
def handled() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Stopped` inside the block; must be entered in the main thread."""
    previous = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not Python's


@contextmanager
def held() -> Iterator[None]:
    """Keep a signal that comes inside the block until its end."""
    _State.holds += 1
    try:
        yield
    finally:
        _State.holds -= 1
        if not _State.holds and _State.pending is not None:
            number, _State.pending = _State.pending, None
            raise Stopped(number)
