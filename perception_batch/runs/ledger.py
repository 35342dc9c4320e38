"""What exists of a collection, as an index: ``OUT/.perception_batch/ledger.sqlite3``.

The drives' own files are the truth. The ledger saves reading them in full, remembers how fast earlier runs were and
which drives were asked for, and is made anew from the files wherever it is missing, damaged or older than they are.
Where SQLite cannot work (no locks, no room, a read-only place), it lives in memory for this run, and `notes` says so.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from perception_batch.errors import printable
from perception_batch.runs.run_record import FOLDER, RunRecord, drive_folders, read_record
from perception_batch.runs.stage_hashes import StageHashes

NAME = "ledger.sqlite3"
_VERSION = 1
_BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One drive of a collection."""

    drive: str
    """Its name."""
    paths: tuple[str, ...] = ()
    """Where its log lay when it was last asked for; empty where it never was since the ledger was made."""
    record: RunRecord | None = None
    """What its ``run.json`` says; None without one."""
    content: str = ""
    """`Content.fingerprint` with which this program has last found the log to be that of the record."""
    size_bytes: int = 0
    """Bytes of the log's files."""
    message: str = ""
    """Why it failed; empty where it did not."""


class Ledger:
    """The index of one OUT; a context manager. Every call is a transaction of its own: a kill loses nothing before it."""

    def __init__(self, out: Path, *, keep: bool = True) -> None:
        """Open the ledger of `out`, make it where there is none, and bring it up to the files.

        Args:
            out: what was given to `run --out`.
            keep: false: nothing is written, to look only.

        Raises:
            OSError: OUT cannot be listed.
        """
        self.path = out / FOLDER / NAME
        self.notes: list[str] = []
        """What the user should know, one line each."""
        self._out = out
        self._entries: dict[str, Entry] = {}
        self._base: sqlite3.Connection | None = None
        if keep:
            self._attempt(self._open)
        elif self.path.exists():
            self._look()
        self.refresh()

    # ------------------------------------------------------------------ what is there

    def entries(self) -> list[Entry]:
        """All drives, by name."""
        return [self._entries[name] for name in sorted(self._entries)]

    def get(self, drive: str) -> Entry:
        """One drive; an empty entry where it is not known."""
        return self._entries.get(drive, Entry(drive))

    def refresh(self, only: str | None = None) -> None:
        """Look at every drive's ``run.json`` (or only that of one) and take over what has changed.

        Raises:
            OSError: OUT cannot be listed, or a file cannot be read.
        """
        folders = drive_folders(self._out) if only is None else [self._out / only]
        seen: dict[str, RunRecord | None] = {
            path.name: read_record(path, self.get(path.name).record) for path in folders
        }
        changed = []
        names = self._entries.keys() | seen.keys() if only is None else {only}
        for name in sorted(names):
            before, record = self.get(name), seen.get(name)
            if record == before.record:
                continue
            same_log = record is not None and before.record is not None and record.log == before.record.log
            content, size = ("", 0) if record is None else (record.content, record.size_bytes)
            if not content and same_log:
                content = before.content
            message = before.message if record is not None and record.status == "failed" else ""
            changed.append(
                replace(
                    before,
                    record=record,
                    content=content,
                    size_bytes=size or before.size_bytes,
                    message=message,
                )
            )
        self.put(*changed)

    # ------------------------------------------------------------------ what changes

    def put(self, *entries: Entry) -> None:
        """Write drives, in one transaction."""
        gone = [e.drive for e in entries if e.record is None and not e.paths and not e.message]
        kept = [e for e in entries if e.drive not in gone]
        self._entries.update((e.drive, e) for e in kept)
        for name in gone:
            self._entries.pop(name, None)
        if not entries:
            return

        def write(base: sqlite3.Connection) -> None:
            with base:
                base.executemany("DELETE FROM drive WHERE name = ?", [(_key(name),) for name in gone])
                base.executemany(
                    "INSERT OR REPLACE INTO drive VALUES (?, ?)", [(_key(e.drive), _to_text(e)) for e in kept]
                )

        self._with_base(write)

    def close(self) -> None:
        """Release the file."""
        if self._base is not None:
            base, self._base = self._base, None
            base.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ the file

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do it; a damaged file is put aside and made anew, once; a place that refuses is done without."""
        try:
            action()
        except sqlite3.OperationalError as error:  # locked, read-only, full, or no locks there
            self._give_up(error)
        except (sqlite3.DatabaseError, _Damaged) as error:
            try:
                self._put_aside(error)
                action()
            except (sqlite3.Error, OSError) as again:
                self._give_up(again)
        except OSError as error:
            self._give_up(error)

    def _look(self) -> None:
        """Take over what the file holds, and change nothing."""
        try:
            base = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
            try:
                _check_version(base.execute("PRAGMA user_version").fetchone()[0])
                self._entries = _read_entries(base.execute("SELECT name, entry FROM drive"))
            finally:
                base.close()
        except (sqlite3.Error, _Damaged) as error:
            self._give_up(error)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        existed = self.path.exists()
        base = sqlite3.connect(self.path, timeout=_BUSY_S)
        try:
            # The rollback journal, not WAL: that needs shared memory, which network file systems have not. Nothing is
            # flushed: a kill does no harm without, and after a power cut all entries are read at the next start anyway,
            # compared with the drives' files, and made anew where they are damaged.
            base.execute("PRAGMA synchronous = OFF")
            version = base.execute("PRAGMA user_version").fetchone()[0]
            if existed:
                _check_version(version)
            if version < _VERSION:
                with base:
                    base.execute("DROP TABLE IF EXISTS drive")
                    base.execute(
                        "CREATE TABLE drive (name TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID"
                    )
                    base.execute(f"PRAGMA user_version = {_VERSION}")
            self._entries = _read_entries(base.execute("SELECT name, entry FROM drive"))
        except BaseException:
            base.close()
            raise
        self._base = base

    def _with_base(self, action: Callable[[sqlite3.Connection], None]) -> None:
        if self._base is None:
            return
        try:
            action(self._base)
        except sqlite3.Error as error:
            self._give_up(error)

    def _put_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{NAME}.damaged")
        self.notes.append(
            f"{printable(self.path)}: {printable(error)}; it was put aside as {aside.name} and made anew from the drives' files"
        )
        self.path.replace(aside)
        for ending in ("-journal", "-wal", "-shm"):
            self.path.with_name(NAME + ending).unlink(missing_ok=True)

    def _give_up(self, error: Exception) -> None:
        self.close()
        self.notes.append(
            f"{printable(self.path)}: {printable(error)}; without it, from the drives' own files alone"
        )


class _Damaged(Exception):
    """The file is a database and no ledger of ours."""


def _check_version(version: int) -> None:
    if version > _VERSION:
        raise _Damaged(f"version {version} is of a newer program")


def _key(name: str) -> str:
    """A name as SQLite takes it; a folder's may hold bytes that are no text."""
    return json.dumps(name)


def _to_text(entry: Entry) -> str:
    return json.dumps(asdict(entry), ensure_ascii=True, allow_nan=False)


def _read_entries(rows: Iterable[tuple[Any, Any]]) -> dict[str, Entry]:
    out = {}
    for name, text in rows:
        try:
            data = json.loads(text)
            record = data.pop("record")
            if record is not None:
                hashes = record.pop("hashes")
                record = RunRecord(hashes=None if hashes is None else StageHashes(**hashes), **record)
            entry = Entry(record=record, **{**data, "paths": tuple(map(str, data["paths"]))})
            valid = _key(entry.drive) == name and all(
                isinstance(getattr(entry, item.name), str) for item in fields(Entry) if item.type == "str"
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _Damaged(f"the entry of {name!r} is none: {error}") from None
        if not valid:
            raise _Damaged(f"the entry of {name!r} is another's")
        out[entry.drive] = entry
    return out
