"""A lease on a drive at a URL, where no lock exists: an object that its owner renews, and that counts for nothing when he does not.

What it guarantees. Where the store can create an object only if it is not there (S3, Google, Azure, a disk), exactly one of
several that begin at once gets it. Elsewhere two that begin within the same moment may both go on until one of them renews: it then
finds the other's token and stops. A process that ended on this machine is known to have; one on another machine is taken for dead when
its lease is older than it allows by the store's own clock. An owner that was away for longer (a stopped virtual machine) stops at
its next renewal. What two of them landed meanwhile are whole files of equal contents: time is lost, never a result.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from perception_batch.errors import LockedError, WriteError, printable
from perception_batch.runs.lease import STALE_S, owner_facts, owner_lives
from perception_batch.runs.lock import Holder
from perception_batch.runs.run_record import FOLDER, json_object
from perception_batch.runs.url_files import UrlFiles

LEASES = f"{FOLDER}/leases"
_RENEWAL_S = 60.0
_MOST_ALLOWED_S = 6 * 3600.0
_MOST_BYTES = 4096


def lease_name(drive: str) -> str:
    """Where the lease of a drive is, below the URL."""
    return f"{LEASES}/{drive}.json"


@dataclass(slots=True)
class UrlLease:
    """A lease that is held; a context manager that gives it back."""

    files: UrlFiles
    """Behind the URL."""
    drive: str
    """What it stands for."""
    facts: dict[str, Any]
    """About its owner."""
    renewed_s: float
    """When it was renewed, by the monotonic clock."""

    @classmethod
    def take(cls, files: UrlFiles, drive: str) -> UrlLease:
        """Take the lease of a drive.

        Raises:
            LockedError: another process holds it.
            WriteError: the store does not answer, or refuses.
        """
        name = lease_name(drive)
        facts = asdict(Holder.me()) | owner_facts() | {"allowed_s": STALE_S}
        lease = cls(files, drive, facts, time.monotonic())
        for _ in range(2):
            found = read_lease(files, drive)
            if found is not None and found.get("token") != facts["token"]:
                if not _is_dead(files, drive, found):
                    raise _held(files, drive, found)
                again = read_lease(files, drive)
                if again is not None and again.get("token") == found.get("token"):
                    files.remove([name])
            if files.create(name, lease._data()) and lease._is_mine():
                return lease
        found = read_lease(files, drive)
        if (
            found is not None and found.get("token") == facts["token"]
        ):  # created by a try whose answer was lost
            return lease
        raise _held(files, drive, found or {})

    def renew(self, allowed_s: float = STALE_S, *, now: bool = False) -> None:
        """Tell the others that this process lives; cheap, and does something once a minute only.

        Args:
            allowed_s: how long nothing may be heard of it from now on.
            now: do it at once.

        Raises:
            LockedError: another process has taken the lease.
        """
        allowed_s = min(max(allowed_s, STALE_S), _MOST_ALLOWED_S)
        same = allowed_s == self.facts["allowed_s"]
        if same and not now and time.monotonic() - self.renewed_s < _RENEWAL_S:
            return
        files = self.files.impatient()
        try:
            found = read_lease(files, self.drive) or {}
        except WriteError:  # a store that is away for a moment
            return
        if found.get("token") != self.facts["token"]:
            raise LockedError(
                f"{printable(self.files.place(self.drive))}: {Holder.read(json.dumps(found).encode())} has taken "
                f"it over, because nothing was heard of this process for {self.facts['allowed_s']:.0f} s"
            )
        self.facts["allowed_s"] = allowed_s
        with suppress(WriteError):
            files.write(lease_name(self.drive), self._data())
            self.renewed_s = time.monotonic()

    def __enter__(self) -> UrlLease:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        files = self.files.impatient()
        try:
            if (read_lease(files, self.drive) or {}).get("token") == self.facts["token"]:
                files.remove([lease_name(self.drive)])
        except WriteError:  # it ends by itself
            return

    def _data(self) -> bytes:
        return json.dumps(self.facts | {"renewed_s": round(time.time(), 3)}).encode()

    def _is_mine(self) -> bool:
        found = read_lease(self.files, self.drive)
        return found is not None and found.get("token") == self.facts["token"]


def read_lease(files: UrlFiles, drive: str) -> dict[str, Any] | None:
    """What the owner of a drive's lease says of himself; None where there is none, empty where it is no lease.

    Raises:
        WriteError: the store does not answer, or refuses.
    """
    data = files.read(lease_name(drive), _MOST_BYTES)
    return None if data is None else json_object(data)


def holder_at_url(files: UrlFiles, drive: str) -> Holder | None:
    """Who works on a drive, as far as this machine can tell without writing anything.

    Raises:
        WriteError: the store does not answer, or refuses.
    """
    found = read_lease(files, drive)
    if not found:
        return None
    lives = owner_lives(found)
    if lives is None:
        modified_s = files.modified_s(lease_name(drive))
        lives = time.time() - (modified_s or _number(found, "renewed_s")) < _number(found, "allowed_s")
    return Holder.read(json.dumps(found).encode()) if lives else None


def _held(files: UrlFiles, drive: str, found: Mapping[str, Any]) -> LockedError:
    return LockedError(
        f"{printable(files.place(drive))}: {Holder.read(json.dumps(dict(found)).encode())} works on it; try again when "
        f"that has ended (where it was killed on another machine: {_number(found, 'allowed_s') or STALE_S:.0f} s after that)"
    )


def _is_dead(files: UrlFiles, drive: str, found: Mapping[str, Any]) -> bool:
    lives = owner_lives(found)
    return (
        _age_s(files, drive, found) > (_number(found, "allowed_s") or STALE_S) if lives is None else not lives
    )


def _age_s(files: UrlFiles, drive: str, found: Mapping[str, Any]) -> float:
    """Time since the last renewal by the store's clock: that of an object made now; where it has none, by this machine's."""
    renewed_s = files.modified_s(lease_name(drive))
    if renewed_s is None:
        return time.time() - _number(found, "renewed_s")
    probe = f"{LEASES}/{os.urandom(8).hex()}.probe"
    try:
        files.write(probe, b"now")
        now_s = files.modified_s(probe)
    finally:
        files.remove([probe])
    return 0.0 if now_s is None else now_s - renewed_s


def _number(found: Mapping[str, Any], name: str) -> float:
    value: Any = found.get(name)
    return float(value) if type(value) in (int, float) and 0 <= value < 1e12 else 0.0
