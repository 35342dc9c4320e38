"""Two runs on one output exclude each other, by a lock that dies with its process.

The kernel's own lock (`flock`) is held by an open file and ends with the process, however it ends. Where a file system
has none, a lease stands in for it, see `lease`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from perception_batch.atomic import disk_errors
from perception_batch.errors import LockedError, printable
from perception_batch.runs.lease import Lease, lease_holder

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}
_TRIES, _WAIT_S = 4, 0.05
"""`holder` touches the lock for microseconds; a run must not fail because someone asked."""
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """Who works on an output, as written by himself; for people only."""

    host: str
    """Name of the machine."""
    pid: int
    """Process."""
    since_utc: str
    """When it began, ISO 8601."""

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        return cls(platform.node(), os.getpid(), time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()))

    @classmethod
    def read(cls, data: bytes) -> Holder:
        """From what stands in the file; whatever it is."""
        try:
            found: Any = json.loads(data)
            return cls(str(found["host"])[:200], int(found["pid"]), str(found["since_utc"])[:40])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return cls("unknown", 0, "")

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.host)}" + (
            f", since {printable(self.since_utc)}" if self.since_utc else ""
        )


@dataclass(frozen=True, slots=True)
class OutputLock:
    """A lock that is held."""

    path: Path
    """The lock's file. It stays: a file that is removed could be locked twice."""
    kind: str
    """``flock``, or ``lease`` on a file system without locks."""
    _lease: Lease | None = None

    def renew(self) -> None:
        """Tell the others that this process lives; cheap, call it at least once a minute. Does nothing for a `flock`.

        Raises:
            LockedError: another process has taken the lease, because this one did not renew it for too long.
        """
        if self._lease is not None:
            self._lease.renew()


@contextlib.contextmanager
def locked(path: Path, what: str, flock: Callable[[int, int], None] = fcntl.flock) -> Iterator[OutputLock]:
    """Hold the lock of an output for a ``with`` block; it is also released when the process dies.

    Args:
        path: the lock's file; its folder is made.
        what: what it stands for, for the message.
        flock: the kernel's, or in tests one that refuses.

    Raises:
        LockedError: another process holds it (exit status 75).
        WriteError: the disk is full or refuses.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    with stream:
        state = _try(stream, flock)
        if state == "none":
            with Lease.take(path.with_suffix(".lease"), what, json.dumps(asdict(Holder.me()))) as lease:
                yield OutputLock(path, "lease", lease)
            return
        if state == "taken":
            stream.seek(0)
            raise LockedError(
                f"{printable(what)}: {Holder.read(stream.read(_MOST_BYTES))} works on it; try again when that has ended"
            )
        with disk_errors(path):
            stream.truncate(0)
            stream.write(json.dumps(asdict(Holder.me())).encode())
            stream.flush()
        yield OutputLock(path, "flock")


def _try(stream: BinaryIO, flock: Callable[[int, int], None]) -> Literal["held", "taken", "none"]:
    """Try to take the kernel's lock; ``none`` where the file system has no locks."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_WAIT_S)
        try:
            flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return "none"
            if error.errno not in _TAKEN:
                raise
        else:
            return "held"
    return "taken"


def holder(path: Path) -> Holder | None:
    """Who holds the lock at `path` now; None where nobody does."""
    lease = lease_holder(path.with_suffix(".lease"))
    if lease is not None:
        return Holder.read(lease)
    try:
        stream = path.open("rb")
    except OSError:
        return None
    with stream:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return Holder.read(stream.read(_MOST_BYTES)) if error.errno in _TAKEN else None
    return None
