"""A signal ends the program between two pieces of work; real signals, sent to this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from perception_batch.signals import Stopped, handled, held

BOTH = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_are_restored() -> object:
    """Whatever a test does, the process has its own handlers again, and nothing is pending."""
    before = [signal.getsignal(number) for number, _ in BOTH]
    yield
    assert [signal.getsignal(number) for number, _ in BOTH] == before
    with held():
        pass


@pytest.mark.parametrize(("number", "status"), BOTH)
def test_a_signal_becomes_stopped(number: signal.Signals, status: int) -> None:
    with pytest.raises(Stopped, match=f"stopped by {number.name}") as caught, handled():
        send(number)
        pytest.fail("went on")
    assert caught.value.exit_status == status
    assert not isinstance(caught.value, Exception)  # `except Exception` must not swallow it


@pytest.mark.parametrize(("number", "status"), BOTH)
def test_held_work_is_finished_first(number: signal.Signals, status: int) -> None:
    done = []
    with pytest.raises(Stopped) as caught, handled():
        with held():
            send(number)
            done.append("piece")
        done.append("next")
    assert done == ["piece"]
    assert caught.value.exit_status == status


def test_the_outermost_hold_decides() -> None:
    done = []
    with pytest.raises(Stopped), handled(), held():
        with held():
            send(signal.SIGTERM)
        done.append("after the inner")
    assert done == ["after the inner"]


def test_a_second_signal_does_not_wait() -> None:
    with pytest.raises(Stopped) as caught, handled(), held():
        send(signal.SIGTERM)
        send(signal.SIGINT)
        pytest.fail("went on")
    assert caught.value.exit_status in (130, 143)


def test_a_signal_between_two_pieces_comes_at_once() -> None:
    done = []
    with pytest.raises(Stopped), handled():
        for i in range(5):
            with held():
                done.append(i)
            if i == 2:
                send(signal.SIGINT)
    assert done == [0, 1, 2]


def test_an_error_in_held_work_passes() -> None:
    with pytest.raises(OSError, match="disk"), handled(), held():
        raise OSError("disk")


def test_an_error_with_a_signal_pending_is_told_as_the_cause() -> None:
    with pytest.raises(Stopped) as caught, handled(), held():
        send(signal.SIGTERM)
        raise OSError("disk")
    assert isinstance(caught.value.__context__, OSError)


def test_without_a_signal_nothing_happens() -> None:
    with handled(), held():
        pass
    with held():  # also where nobody installed the handlers: the API
        pass


def test_handlers_of_others_come_back() -> None:
    heard = []
    mine: Callable[[int, object], None] = lambda number, _: heard.append(number)  # noqa: E731
    before = signal.signal(signal.SIGTERM, mine)
    try:
        with handled():
            pass
        send(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_handler_that_python_does_not_know_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """`signal.signal` gives None for a handler that C code installed, and refuses it."""
    installed: list[tuple[int, object]] = []
    real = signal.signal

    def foreign(number: int, handler: object) -> None:
        if handler is None:
            raise TypeError("signal handler must be SIG_IGN, SIG_DFL, or a callable object")
        installed.append((number, handler))

    monkeypatch.setattr(signal, "signal", foreign)
    with handled():
        pass
    monkeypatch.setattr(signal, "signal", real)
    assert installed[-2:] == [(number, signal.SIG_DFL) for number, _ in BOTH]


def test_in_a_process_of_its_own() -> None:
    code = (
        "import os, signal, sys\n"
        "from perception_batch.signals import Stopped, handled, held\n"
        "try:\n"
        "    with handled():\n"
        "        with held():\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "            print('whole', flush=True)\n"
        "        print('more', flush=True)\n"
        "except Stopped as stop:\n"
        "    sys.exit(stop.exit_status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "whole\n", "")
