"""Two runs on one output exclude each other; a dead one holds nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perception_batch.errors import EXIT_RETRY, LockedError, WriteError
from perception_batch.runs import lease as lease_module
from perception_batch.runs.lease import Lease, lease_holder
from perception_batch.runs.lock import holder, locked

HOLD = """
import errno, fcntl, os, sys, time
from pathlib import Path
from perception_batch.runs.lock import locked
def refuses(handle, operation):
    raise OSError(errno.ENOLCK, "no locks here")
flock = refuses if sys.argv[2] == "lease" else fcntl.flock
with locked(Path(sys.argv[1]), "out/drive", flock) as lock:
    print(lock.kind, flush=True)
    time.sleep(60)
"""


def refuses(handle: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "no locks here")


@contextmanager
def another(path: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path), kind], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{kind}\n".encode()
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["flock", "lease"])
def test_a_second_run_is_told_who_works_and_a_killed_one_holds_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "locks" / "a.lock"
    options = {"flock": refuses} if kind == "lease" else {}
    assert holder(path) is None
    with another(path, kind) as process:
        found = holder(path)
        assert found is not None
        assert found.pid == process.pid
        with pytest.raises(LockedError, match="out/drive") as caught, locked(path, "out/drive", **options):
            pass
        assert caught.value.exit_status == EXIT_RETRY
        if kind == "flock":
            assert f"process {process.pid} on" in str(caught.value)
        process.send_signal(signal.SIGKILL)
    assert holder(path) is None
    with locked(path, "out/drive", **options) as lock:
        assert lock.kind == kind
        lock.renew()
        mine = holder(path)
        assert mine is not None
        assert mine.pid == os.getpid()
        with pytest.raises(LockedError), locked(path, "again", **options):
            pass
    assert holder(path) is None
    assert not list(path.parent.glob("*.probe")) + list(path.parent.glob("*.dead"))


def test_asking_does_not_make_a_run_fail(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with locked(path, "x"):
        pass
    for _ in range(20):
        assert holder(path) is None
        with locked(path, "x"):
            assert holder(path) is not None


def test_a_lock_file_with_anything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_bytes(b'{"pid": "\x1b[2J"' + bytes(9999))
    with locked(path, "x"):
        pass
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_place_that_refuses_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with (
        pytest.raises((WriteError, NotADirectoryError, FileExistsError)),
        locked(tmp_path / "f" / "a.lock", "x"),
    ):
        pass

    def broken(handle: int, operation: int) -> None:
        raise OSError(errno.EIO, "disk")

    with pytest.raises(OSError, match="disk"), locked(tmp_path / "a.lock", "x", broken):
        pass


def foreign(path: Path, age_s: float = 0.0) -> None:
    path.write_text(
        json.dumps({"token": "theirs", "place": "other machine", "pid": 1, "host": "h", "since_utc": ""})
    )
    at = path.stat().st_mtime - age_s
    os.utime(path, (at, at))


def test_a_lease_of_another_machine_counts_until_it_is_not_renewed(tmp_path: Path) -> None:
    path = tmp_path / "a.lease"
    foreign(path, lease_module.STALE_S - 60)
    assert lease_holder(path) is not None
    with pytest.raises(LockedError, match="not renewed"):
        Lease.take(path, "x", "{}")
    foreign(path, lease_module.STALE_S + 60)
    assert lease_holder(path) is None
    with Lease.take(path, "x", "{}"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_who_slept_learns_that_he_lost_it_and_takes_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / "a.lease"
    with Lease.take(path, "x", "{}") as lease:
        foreign(path)
        with pytest.raises(LockedError, match="has taken"):
            lease.renew()
    assert json.loads(path.read_text())["token"] == "theirs"  # noqa: S105 - what tells leases apart
    path.unlink()
    with pytest.raises(LockedError, match="has taken"):
        lease.renew()


def test_a_process_number_that_came_again_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / "a.lease"
    with Lease.take(path, "x", "{}"):
        data = json.loads(path.read_text())
        path.write_text(json.dumps({**data, "began": "1"}))
        assert lease_holder(path) is None
    path.write_text(json.dumps({**data, "pid": 1 << 40}))
    assert lease_holder(path) is not None  # a number that is none: age decides


def test_two_that_find_a_dead_lease_do_not_both_get_it(tmp_path: Path) -> None:
    """The slower one has judged it dead before the quicker one put his own in its place."""
    path = tmp_path / "a.lease"
    dead = {"token": "dead"}
    with Lease.take(path, "x", "{}") as quicker:
        lease_module._put_aside(path, dead)
        quicker.renew()
        with pytest.raises(LockedError):
            Lease.take(path, "x", "{}")
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_was_cut_while_it_was_written_goes_by_its_age(tmp_path: Path) -> None:
    path = tmp_path / "a.lease"
    path.write_text("{")
    assert lease_holder(path) is not None
    os.utime(path, (1, 1))
    with Lease.take(path, "x", "{}"):
        pass
