"""A lock for file systems without locks: a file that its owner renews, and that counts for nothing when he does not.

On the owner's machine a lease dies with its process. On others it is taken for dead when it was not renewed for
`STALE_S`; both times compared are the file server's, so that the machines' clocks do not matter. An owner that slept for
longer than that (a stopped virtual machine) learns of it at the next `renew`, and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from perception_batch.atomic import disk_errors
from perception_batch.errors import LockedError, printable
from perception_batch.runs.run_record import json_object

STALE_S = 600.0
"""Ten times the longest time between two renewals."""
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that is held; a context manager that gives it back."""

    path: Path
    """Its file."""
    what: str
    """What it stands for."""
    token: str
    """Tells this lease from any other."""

    @classmethod
    def take(cls, path: Path, what: str, about: str) -> Lease:
        """Take the lease at `path`.

        Args:
            path: its file.
            what: what it stands for, for messages.
            about: a JSON object about the owner, for people.

        Raises:
            LockedError: another process holds it.
            WriteError: the disk is full or refuses.
        """
        owner = owner_facts()
        token = owner["token"]
        data = json.dumps(json.loads(about) | owner).encode()
        lease = cls(path, what, token)
        for _ in range(2):
            try:
                with disk_errors(path):
                    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                found = _read(path)
                if found is not None and not _is_dead(path, found):
                    break
                _put_aside(path, found)
                continue
            with os.fdopen(handle, "wb") as stream, disk_errors(path):
                stream.write(data)
                stream.flush()
                os.fsync(handle)
            return lease
        raise LockedError(
            f"{printable(what)}: another process holds {printable(path)}; it counts for nothing when it was not renewed "
            f"for {STALE_S:.0f} s"
        )

    def renew(self) -> None:
        """Tell the others that this process lives.

        Raises:
            LockedError: another process has taken the lease.
        """
        found = _read(self.path)
        if found is None or found.get("token") != self.token:
            raise LockedError(
                f"{printable(self.what)}: another process has taken {printable(self.path)}, because this one did not renew "
                f"it for {STALE_S:.0f} s"
            )
        with contextlib.suppress(OSError):  # a server that is away for a moment
            os.utime(self.path)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        found = _read(self.path)
        if found is not None and found.get("token") == self.token:
            with contextlib.suppress(OSError):
                self.path.unlink()


def lease_holder(path: Path) -> bytes | None:
    """What the owner of the lease at `path` says of himself; None where nobody holds it."""
    found = _read(path)
    return None if found is None or _is_dead(path, found) else json.dumps(found).encode()


def _read(path: Path) -> dict[str, Any] | None:
    """The contents of a lease; None where there is none, an empty object where it is no lease (half-written)."""
    try:
        with path.open("rb") as stream:
            return json_object(stream.read(_MOST_BYTES))
    except OSError:
        return None


def owner_facts() -> dict[str, Any]:
    """What a new lease says of this process, with a token of its own."""
    pid = os.getpid()
    token = os.urandom(16).hex()
    return {"token": token, "place": _place(), "pid": pid, "began": _began(pid), "host": platform.node()}


def owner_lives(found: Mapping[str, Any]) -> bool | None:
    """Whether the process that a lease names lives; None where only another machine knows."""
    pid, place = found.get("pid"), found.get("place")
    if place and place == _place() and type(pid) is int and 0 < pid < 1 << 31:
        return _began(pid) == found.get("began")
    return None


def _is_dead(path: Path, found: dict[str, Any]) -> bool:
    lives = owner_lives(found)
    return _age_s(path) > STALE_S if lives is None else not lives


def _age_s(path: Path) -> float:
    """Time since the last renewal by the file server's clock: that of a file made now; 0 where it cannot be told."""
    probe = path.with_name(f"{path.name}.{os.urandom(8).hex()}.probe")
    try:
        probe.write_bytes(b"now")
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _put_aside(path: Path, dead: dict[str, Any] | None) -> None:
    """Remove a dead lease, unless another process was quicker and the file is its new one by now."""
    aside = path.with_name(f"{path.name}.{os.urandom(8).hex()}.dead")
    try:
        path.rename(aside)
    except OSError:
        return
    moved = _read(aside)
    if moved is not None and dead is not None and moved.get("token") != dead.get("token"):
        with contextlib.suppress(OSError):
            os.link(
                aside, path
            )  # given back, unless a third one is there already; its owner learns of that by `renew`
    with contextlib.suppress(OSError):
        aside.unlink()


def _place() -> str:
    """Where a process number means one process: this machine since it was started, and this container.

    Empty where the system does not say.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in ticks since the start of the machine: its number alone may come again. Empty: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    after = stat.rpartition(")")[2].split()  # its name stands in brackets and may hold anything
    # Fields 3 (state) and 22 (start time) of proc(5); a zombie works on nothing.
    return "" if len(after) < 20 or after[0] in "ZX" else after[19]
