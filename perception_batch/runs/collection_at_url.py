"""A whole collection at a URL, seen from here: which drives are finished, and how far the others are.

One listing tells what has changed since the last look; only the ``run.json`` of those drives are fetched, into the folder that
stands for the URL. So planning, the ledger and `status` work as for a folder.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perception_batch.atomic import write_whole
from perception_batch.errors import LockedError, LogError
from perception_batch.runs.drive_at_url import trusted_manifest
from perception_batch.runs.lock import Holder, locked
from perception_batch.runs.run_record import FOLDER, MAX_BYTES, NAME, json_object
from perception_batch.runs.segment_store import FOLDER as SEGMENTS
from perception_batch.runs.segment_store import PLAN, is_segment
from perception_batch.runs.segments import SegmentPlan
from perception_batch.runs.status import DriveStatus, collection_status, lock_path, segments_wanted
from perception_batch.runs.url_files import RemoteFile, UrlFiles
from perception_batch.runs.url_lease import holder_at_url, lease_name

SEEN = "at_url.json"
"""Which ``run.json`` were fetched: name to token. It may be removed."""
_MOST_NAME_BYTES = 240
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class CollectionAtUrl:
    """A look at the drives behind a URL."""

    files: UrlFiles
    """Behind the URL."""
    out: Path
    """The folder that stands for it."""
    listing: Mapping[str, RemoteFile] = field(default_factory=dict)
    """All that is there, since `refresh`."""

    def refresh(self) -> None:
        """Fetch what ``run.json`` say now, and forget here the drives that are not there any more.

        A drive on which another process of this machine works is left alone.

        Raises:
            WriteError: the store does not answer, or refuses; the disk here is full.
        """
        self.listing = self.files.list()
        there = {
            drive: file.token
            for name, file in self.listing.items()
            for drive, _, rest in [name.partition("/")]
            if rest == NAME and file.size <= MAX_BYTES and _is_folder_name(drive)
        }
        seen = self._seen()
        here = {path.name for path in self._folders()}
        stale = [
            drive
            for drive, token in there.items()
            if seen.get(drive) != token or not (self.out / drive / NAME).is_file()
        ]
        fetched = self.files.read_many(f"{drive}/{NAME}" for drive in stale)
        sizes: dict[str, dict[str, int]] = {}
        for name, file in self.listing.items():
            drive, _, rest = name.partition("/")
            sizes.setdefault(drive, {})[rest] = file.size
        for drive in there:
            mine = _bytes_of(self.out / drive / NAME)
            data = fetched.get(f"{drive}/{NAME}", mine)
            if data is not None:
                data = trusted_manifest(data, sizes[drive], self.files.place(drive))
                if data != mine:
                    self._change(drive, data)
        for drive in here - there.keys():
            self._change(drive, None)
        if seen != there:
            write_whole(self.out / FOLDER / SEEN, json.dumps(there).encode())
        if stale:
            _log.info("%d of %d drives fetched from the URL", len(stale), len(there))

    def refresh_drive(self, drive: str) -> None:
        """Fetch the ``run.json`` of one drive, which another machine has written.

        Raises:
            WriteError: the store does not answer, or refuses.
        """
        data = self.files.read(f"{drive}/{NAME}", MAX_BYTES)
        if data is not None:
            self._change(drive, data)

    def statuses(self, entries: Iterable[Any]) -> list[DriveStatus]:
        """As `collection_status`, with leases and segments as they are at the URL.

        Raises:
            WriteError: the store does not answer, or refuses.
        """
        segments: dict[str, int] = {}
        for name in self.listing:
            drive, _, rest = name.partition("/")
            if is_segment(rest):
                segments[drive] = segments.get(drive, 0) + 1

        def at_work(drive: str) -> Holder | None:
            return holder_at_url(self.files, drive) if lease_name(drive) in self.listing else None

        def landed(drive: str) -> tuple[int, int]:
            name = f"{drive}/{SEGMENTS}/{PLAN}"
            data = self.files.read(name) if name in self.listing else None
            plan = None
            if data is not None:
                with suppress(LogError):  # a plan that cannot be read is made anew by the next run
                    plan = SegmentPlan.from_json(data, Path(name))
            return segments.get(drive, 0), segments_wanted(plan)

        return collection_status(self.out, entries, at_work=at_work, landed=landed)

    def _change(self, drive: str, data: bytes | None) -> None:
        """Take over a drive's ``run.json``; None: there is none."""
        directory = self.out / drive
        try:
            with locked(lock_path(self.out, drive), str(directory)):
                if data is None:
                    shutil.rmtree(directory, ignore_errors=True)
                else:
                    write_whole(directory / NAME, data)
        except LockedError:
            return

    def _folders(self) -> list[Path]:
        try:
            return [path for path in self.out.iterdir() if path.is_dir() and not path.name.startswith(".")]
        except FileNotFoundError:
            return []

    def _seen(self) -> dict[str, Any]:
        try:
            return json_object((self.out / FOLDER / SEEN).read_bytes())
        except OSError:
            return {}


def _is_folder_name(drive: str) -> bool:
    """Whether a name at the URL can be a drive's here."""
    return (
        bool(drive)
        and not drive.startswith(".")
        and "\0" not in drive
        and len(drive.encode(errors="replace")) <= _MOST_NAME_BYTES
    )


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
