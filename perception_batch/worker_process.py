"""A `drive_worker` as seen by the process that has started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from perception_batch.framed_pipe import Inbox, send

_BEGIN = (
    "import sys; sys.path[0] = {home!r}; from perception_batch.drive_worker import main; "
    "sys.exit(main({handle}, {parent}))"
)
GRACE_S = 20.0
"""How long a worker that was asked to stop may take: a segment lands in far less."""


class WorkerProcess:
    """A process of our own, with a pipe in either direction."""

    def __init__(self, index: int, setup: object, program: str = _BEGIN) -> None:
        """Start it.

        Args:
            index: its number.
            setup: what it is told first.
            program: what it runs; other ones are for tests.

        Raises:
            OSError: the system starts no more processes.
        """
        self.index = index
        home = str(Path(__file__).resolve().parent.parent)
        reading, writing = os.pipe()
        hearing, self._commands = os.pipe()
        try:
            text = program.format(home=home, handle=writing, parent=os.getpid())
            # A session of its own: Ctrl-C reaches it through us, once.
            self._process = subprocess.Popen(
                [sys.executable, "-c", text],
                stdin=hearing,
                stdout=subprocess.DEVNULL,
                pass_fds=[writing],
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            os.close(self._commands)
            raise
        finally:
            os.close(writing)
            os.close(hearing)
        self.handle = reading
        """Readable when something has happened."""
        self.inbox = Inbox(reading)
        self.pid = self._process.pid
        self.send(setup)

    def send(self, item: object) -> None:
        """Give it a command; where it has died, the end of its pipe tells."""
        with suppress(BrokenPipeError):
            send(self._commands, item)

    def release(self) -> None:
        """It is not needed any more, and ends by itself."""
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    def stop(self) -> None:
        """Ask it to stop at a whole segment."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def ended(self, within_s: float) -> int | None:
        """Wait for its end: its exit status, negative where a signal ended it; None: it lives."""
        try:
            return self._process.wait(max(0.0, within_s))
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> int:
        """End it at once if it lives, and all that it has started; its exit status as `ended`."""
        status = self.ended(0.0)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if status is None:
            status = self._process.wait()
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
        self.release()
        return status


def end_all(workers: Iterable[WorkerProcess], *, stop: bool) -> None:
    """End workers: those that are idle by themselves, all of them (`stop`) on request, and by force who does not."""
    listed = list(workers)
    try:
        for worker in listed:
            worker.release()
            if stop:
                worker.stop()
        end_s = time.monotonic() + GRACE_S
        for worker in listed:
            worker.ended(end_s - time.monotonic())
    finally:
        for worker in listed:
            worker.close()
