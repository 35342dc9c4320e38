"""One drive at a URL: what is there is fetched as far as it is needed, and what is finished here is put there.

The URL is the truth; the folder here is where the work is done. The order of puts keeps the promise of a run's folder (absent, whole,
or says that it is unfinished): ``run.json`` says ``unfinished`` before anything else is put or removed, and ``complete`` last of
all, then with size and MD5 of every file under ``files``.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from perception_batch.atomic import PARTIAL_SUFFIX, write_whole
from perception_batch.errors import WriteError, printable
from perception_batch.runs.run_record import FINISHED, MAX_BYTES, NAME, json_object
from perception_batch.runs.segment_file import MAX_BYTES as MOST_SEGMENT_BYTES
from perception_batch.runs.segment_store import FOLDER as SEGMENTS
from perception_batch.runs.segment_store import PLAN, is_segment
from perception_batch.runs.store_errors import StoreError
from perception_batch.runs.url_files import Checked, RemoteFile, UrlFiles

_LEFT_OVER = re.compile(rf"\.[0-9a-f]{{8}}{re.escape(PARTIAL_SUFFIX)}$")
_PLAN = f"{SEGMENTS}/{PLAN}"
_FINISHED_HERE = ".finished.json"
"""The ``run.json`` of a run that is whole here and on its way to the URL; what is not there yet must not look finished."""
_MOST_PLAN_BYTES = 16 << 20
_SLOWEST_BYTES_PER_S = 250e3
"""An upload that is slower than this may lose its lease."""
_log = logging.getLogger(__name__)


class DriveAtUrl:
    """The copy of one drive's folder behind a URL."""

    def __init__(self, files: UrlFiles, drive: str, directory: Path, *, keep_segments: bool = False) -> None:
        """Touch nothing.

        Args:
            files: behind the URL.
            drive: the drive's name.
            directory: its folder here.
            keep_segments: segments stay there when the drive is done.
        """
        self._files = files
        self._drive = drive
        self._directory = directory
        self._keep = keep_segments
        self._owned: dict[str, Checked | None] = {}
        self._pending: set[Path] = set()
        self.place = files.place(drive)
        """The drive's URL, for people."""
        self.begun = False
        """Whether anything was put."""

    # ------------------------------------------------------------------ from there

    def pull(self) -> None:
        """Make the folder here what a run at the URL would find: its ``run.json``, and the segments of one that goes on.

        Raises:
            WriteError: the store does not answer; what is there is no run.
        """
        remote = self._files.list(self._drive)
        data = self._files.read(self._name(NAME), MAX_BYTES) if NAME in remote else None
        if data is None:
            if any(not _LEFT_OVER.search(name) for name in remote):
                raise WriteError(
                    f"{printable(self.place)} exists and is no run of this program; choose another --out"
                )
            self._clear()
            return
        run = json_object(data)
        self._owned = dict(_owned(run))
        if _is_ahead(self._finished_here(), run):  # stopped while it was put there
            self.finish()
            return
        if run.get("status") not in FINISHED:
            if not run:
                self._clear()
            write_whole(self._directory / NAME, data)
            self._pull_segments(remote)
            return
        trusted = trusted_manifest(data, {name: file.size for name, file in remote.items()}, self.place)
        self._clear()
        if trusted != data:
            data = trusted
        elif not self._keep:  # of a run that was killed between its last two steps
            self._files.remove(self._name(name) for name in remote if name.startswith(f"{SEGMENTS}/"))
        write_whole(self._directory / NAME, data)

    def _pull_segments(self, remote: Mapping[str, RemoteFile]) -> None:
        """What has landed there and is not here; `SegmentStore` looks into each file."""
        if _PLAN not in remote:
            return
        plan = self._files.read(self._name(_PLAN), _MOST_PLAN_BYTES)
        here = self._directory / _PLAN
        if plan is not None and (not here.is_file() or here.read_bytes() != plan):
            shutil.rmtree(here.parent, ignore_errors=True)
            write_whole(here, plan)
        fetched = 0
        for name, file in remote.items():
            path = self._directory / name
            if not is_segment(name) or file.size > MOST_SEGMENT_BYTES:
                continue
            if not path.is_file() or path.stat().st_size != file.size:
                self._files.get(self._name(name), path)
                fetched += 1
        if fetched:
            _log.info("%s: %d segments fetched", printable(self.place), fetched)

    def fetch(self) -> None:
        """Bring the files of a finished run here, whole and as they were put.

        Raises:
            WriteError: one is missing or another by now; the store does not answer.
        """
        remote = self._files.list(self._drive)
        for name, wanted in self._owned.items():
            if name not in remote and not name.endswith(".parquet"):
                _log.warning("%s/%s is not there any more", printable(self.place), printable(name))
                continue
            try:
                self._files.get(self._name(name), self._directory / name, wanted)
            except StoreError as error:
                raise WriteError(
                    f"{error}; give --overwrite to make the drive again", exit_status=error.exit_status
                ) from None

    # ------------------------------------------------------------------ to there

    def begin(self) -> None:
        """Put what says that the run goes on: its ``run.json`` and plan; remove what an earlier run left.

        Call it when the folder here holds these, and no tables.

        Raises:
            WriteError: the store does not take it.
        """
        self.begun = True
        self._put_manifest()
        remote = self._files.list(self._drive)
        here = {f"{SEGMENTS}/{path.name}": path for path in self._files_of(SEGMENTS)}
        gone = [name for name in remote if name in self._owned or _LEFT_OVER.search(name)]
        gone += [name for name in remote if name.startswith(f"{SEGMENTS}/") and name not in here]
        self._files.remove(self._name(name) for name in set(gone))
        self._owned = {}
        for name, path in sorted(here.items()):
            if name == _PLAN or name not in remote or remote[name].size != path.stat().st_size:
                self._files.put(path, self._name(name))

    def land(self, path: Path) -> None:
        """Put a segment's file. One that does not get through for the moment is put with the next.

        Raises:
            WriteError: the store refuses, is full, or is gone.
        """
        self._pending.add(path)
        for waiting in sorted(self._pending):
            try:
                self._files.put(waiting, self._name(f"{SEGMENTS}/{waiting.name}"), once=True)
            except StoreError as error:
                if not error.passes:
                    raise
                _log.warning("%s (kept here, tried again with the next segment)", error)
                return
            self._pending.discard(waiting)

    def drop(self, path: Path) -> None:
        """Remove a segment's file there: half of one must not be taken for the whole.

        Raises:
            WriteError: the store does not answer, or refuses.
        """
        self._pending.discard(path)
        self._files.remove([self._name(f"{SEGMENTS}/{path.name}")])

    def finish(self) -> list[str]:
        """Put a run that is finished here, its ``run.json`` last, and remove what was needed here only to make it; its files.

        Raises:
            WriteError: the store does not take it. Everything stays here, and the next `pull` goes on.
        """
        self.begun = True
        run = self._finished_here()
        if not run:
            raise WriteError(
                f"{printable(self._directory)}: the run is not finished; start the same command again"
            )
        unfinished = run | {"status": "unfinished", "exit_status": None, "finished_utc": None}
        write_whole(self._directory / _FINISHED_HERE, _as_bytes(run))
        write_whole(self._directory / NAME, _as_bytes(unfinished))
        new = {path.relative_to(self._directory).as_posix(): path for path in self._results()}
        checked: dict[str, Checked | None] = {name: Checked.of(path) for name, path in new.items()}
        remote = self._files.list(self._drive)
        there = {
            name
            for name, facts in checked.items()
            if facts is not None
            and facts == self._owned.get(name)
            and name in remote
            and remote[name].size == facts.size
        }
        gone = (self._owned.keys() & remote.keys()) - new.keys()
        if gone or there != new.keys():
            claimed = {
                name: checked[name] if name in there else None for name in self._owned.keys() | new.keys()
            }
            self._put_manifest(unfinished, claimed)
            for name in sorted(new.keys() - there):
                self._files.put(new[name], self._name(name))
            self._files.remove(map(self._name, gone))
        self._owned = checked
        data = self._put_manifest(run)
        if not self._keep:
            self._files.remove(self._name(name) for name in remote if name.startswith(f"{SEGMENTS}/"))
            self._files.remove_folder(self._name(SEGMENTS))
        write_whole(self._directory / NAME, data)
        for path in self._directory.iterdir():
            if path.name != NAME:
                _remove(path)
        return sorted({PurePosixPath(name).parts[0] for name in new} | {NAME})

    def leave(self) -> None:
        """Put what ``run.json`` says of a run that did not finish, if the store lets us; no error comes out."""
        if self.begun and not self._finished_here():
            try:
                self._put_manifest(once=True)
            except (WriteError, OSError) as error:
                _log.info("%s", error)

    def upload_s(self) -> float:
        """How long it may take to put what is here."""
        try:
            size = sum(path.stat().st_size for path in self._results())
        except OSError:
            size = 0
        return size / _SLOWEST_BYTES_PER_S

    # ------------------------------------------------------------------ how

    def _finished_here(self) -> dict[str, Any]:
        """The ``run.json`` of a run that is whole here, and was not put yet; empty where there is none."""
        kept, run = _read(self._directory / _FINISHED_HERE), _read(self._directory / NAME)
        if run.get("status") in FINISHED and "files" not in run:
            return run
        return kept if kept.get("status") in FINISHED else {}

    def _put_manifest(
        self,
        run: Mapping[str, Any] | None = None,
        owned: Mapping[str, Checked | None] | None = None,
        *,
        once: bool = False,
    ) -> bytes:
        found = _read(self._directory / NAME) if run is None else run
        files = self._owned if owned is None else owned
        told = {name: None if facts is None else asdict(facts) for name, facts in sorted(files.items())}
        data = _as_bytes({**found, "files": told})
        self._files.write(self._name(NAME), data, once=once)
        return data

    def _results(self) -> list[Path]:
        """What a run leaves, but ``run.json``; folders of it in full."""
        found: list[Path] = []
        for path in sorted(self._directory.iterdir()):
            if path.name.startswith(".") or path.name == NAME or path.name.endswith(PARTIAL_SUFFIX):
                continue
            found += [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return found

    def _files_of(self, folder: str) -> Iterable[Path]:
        try:
            return [p for p in (self._directory / folder).iterdir() if not p.name.endswith(PARTIAL_SUFFIX)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _clear(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _name(self, name: str) -> str:
        return f"{self._drive}/{name}"


def trusted_manifest(data: bytes, sizes: Mapping[str, int], place: str) -> bytes:
    """A ``run.json``, which says ``unfinished`` where a file that it names has another size than was put.

    One that is not there any more is taken for removed on purpose, as in a folder.

    Args:
        data: the file.
        sizes: bytes of the drive's files, by name.
        place: the drive's URL, for the warning.
    """
    run = json_object(data)
    if run.get("status") not in FINISHED:
        return data
    for name, facts in _owned(run).items():
        if facts is not None and sizes.get(name, facts.size) != facts.size:
            _log.warning(
                "%s/%s is not what was put there; the drive is made again", printable(place), printable(name)
            )
            return _as_bytes(run | {"status": "unfinished"})
    return data


def put_segment(files: UrlFiles, drive: str, path: Path) -> str:
    """Put a segment's file that another process has asked for, and remove it here; its URL.

    Raises:
        WriteError: the store does not take it.
    """
    name = f"{drive}/{SEGMENTS}/{path.name}"
    files.put(path, name)
    path.unlink(missing_ok=True)
    return files.place(name)


def _is_ahead(mine: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether the folder here holds the whole run that the URL has not finished."""
    if not mine or there.get("status") != "unfinished":
        return False
    return all(_identity(mine).get(name) == value for name, value in _identity(there).items())


def _identity(run: Mapping[str, Any]) -> dict[str, Any]:
    log, model = run.get("log"), run.get("model")
    return {
        "log": log.get("fingerprint") if isinstance(log, dict) else None,
        "model": model.get("sha256") if isinstance(model, dict) else None,
        "config": run.get("config"),
        "selection": run.get("selection"),
    }


def _owned(run: Mapping[str, Any]) -> Mapping[str, Checked | None]:
    """Names of the files that the run has put there, each with what it was; a hostile ``run.json`` names none outside."""
    found = run.get("files")
    out: dict[str, Checked | None] = {}
    for name, facts in found.items() if isinstance(found, dict) else ():
        parts = PurePosixPath(name).parts
        safe = parts and not name.startswith("/") and "\\" not in name and "\0" not in name
        if not safe or any(part.startswith(".") for part in parts) or name == NAME:
            continue
        size, md5 = (facts.get("size"), facts.get("md5")) if isinstance(facts, dict) else (None, None)
        out[name] = Checked(size, md5) if type(size) is int and isinstance(md5, str) else None
    return out


def _read(path: Path) -> dict[str, Any]:
    try:
        return json_object(path.read_bytes())
    except OSError:
        return {}


def _as_bytes(run: Mapping[str, Any]) -> bytes:
    return (json.dumps(run, indent=1, allow_nan=False) + "\n").encode()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
