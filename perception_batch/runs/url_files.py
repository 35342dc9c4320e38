"""Files behind a URL: put whole and compared with what was sent, or not at all.

An object store shows an object once all of it is there. Where a file system has renames instead (a disk, SFTP, SMB, HDFS), a
file is sent under another name and renamed. After that its size is asked for, and its MD5 where the store tells it.
Errors that may pass are followed by another try, after a wait.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from perception_batch.atomic import PARTIAL_SUFFIX, disk_errors, put_in_place
from perception_batch.errors import PerceptionBatchError, WriteError, printable
from perception_batch.runs.retry import Backoff, is_transient, retried
from perception_batch.runs.store_errors import is_permanent, one_line, store_error

A = TypeVar("A")

_OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "r2", "memory"}
)
"""Their clients may have a method that moves, by copying; what is put there is whole or absent anyway."""
_BLOCK = 1 << 20
_SMALL_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as a listing has it."""

    size: int
    """Bytes."""
    token: str
    """Another one tells that the file has changed."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was put, or is wanted."""

    size: int
    """Bytes."""
    md5: str
    """Of them, as hexadecimal digits; it tells damage, not malice."""

    @classmethod
    def of(cls, path: Path) -> Checked:
        """Of a file on this machine.

        Raises:
            OSError: it cannot be read.
        """
        found = hashlib.md5(usedforsecurity=False)
        size = 0
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
                size += len(block)
        return cls(size, found.hexdigest())


class UrlFiles:
    """Files below one URL, by name; every call may be made from any thread."""

    def __init__(
        self,
        filesystem: Any,
        root: str,
        shown: str,
        backoff: Backoff,
        on_retry: Callable[[BaseException, int, float], None] | None = None,
    ) -> None:
        """Touch nothing.

        Args:
            filesystem: of `fsspec`.
            root: the folder, as the file system calls it.
            shown: the URL, for people.
            backoff: how often errors that may pass are followed by another try.
            on_retry: hears of them, as for `retried`.
        """
        self._fs = filesystem
        self._root = root.rstrip("/")
        self.shown = shown
        self._backoff = backoff
        self._on_retry = on_retry or (lambda _error, _failures, _wait_s: None)
        self._renames = _renames(filesystem)

    def impatient(self) -> UrlFiles:
        """The same files, where nothing is tried again."""
        return UrlFiles(self._fs, self._root, self.shown, Backoff(retries=0))

    def place(self, name: str) -> str:
        """The URL of a file or folder, for people."""
        return f"{self.shown.rstrip('/')}/{name}"

    # ------------------------------------------------------------------ looking

    def list(self, below: str = "") -> dict[str, RemoteFile]:
        """All files below a folder, by their names from there, in one or few requests; empty where there is none.

        Raises:
            WriteError: the store does not answer, or refuses.
        """
        place = self._path(below) if below else self._root or "/"

        def look() -> Mapping[str, Mapping[str, Any]]:
            self._fs.invalidate_cache()  # others write there too
            try:
                found: Mapping[str, Mapping[str, Any]] = self._fs.find(place, detail=True)
            except FileNotFoundError:
                return {}
            return found

        start = place.strip("/")
        out = {}
        for path, info in self._tried("list", below, look).items():
            name = path.strip("/")
            if not name.startswith(start) or info.get("type", "file") != "file":
                continue
            name = name[len(start) :].strip("/")
            if name:
                out[name] = RemoteFile(int(info.get("size") or 0), _token(info))
        return out

    def read(self, name: str, most_bytes: int = _SMALL_BYTES) -> bytes | None:
        """A small file; None where there is none.

        Raises:
            WriteError: the store does not answer, or refuses; the file is larger.
        """

        def read() -> bytes | None:
            path = self._path(name)
            self._fs.invalidate_cache()
            try:
                size = self._fs.info(path).get("size")
                if size is not None and size > most_bytes:
                    raise WriteError(f"{self._shown(name)}: {size} bytes, at most {most_bytes} are read")
                return bytes(self._fs.cat_file(path))
            except FileNotFoundError:
                return None

        return self._tried("read", name, read)

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Small files, at once where the store can; those that are not there are left out.

        Raises:
            WriteError: the store does not answer, or refuses.
        """
        wanted = sorted(names)
        plain = [name for name in wanted if not set(name) & set("*?[")]  # others are patterns to `cat`
        found: dict[str, bytes] = {}
        if len(plain) > 1:
            paths = {self._path(name).strip("/"): name for name in plain}

            def read() -> Mapping[str, Any]:
                many: Mapping[str, Any] = self._fs.cat(
                    [self._path(name) for name in plain], on_error="return"
                )
                return many

            for path, data in self._tried("read", plain[0], read).items():
                if isinstance(data, bytes) and (name := paths.get(path.strip("/"))) is not None:
                    found[name] = data
        for name in wanted:
            if name not in found and (one := self.read(name)) is not None:
                found[name] = one
        return found

    def modified_s(self, name: str) -> float | None:
        """When a file was last written, by the store's clock, seconds since 1970; None where it does not say."""
        with suppress(Exception):  # some have no times at all, and each says so in its own way
            self._fs.invalidate_cache()
            return float(self._fs.modified(self._path(name)).timestamp())
        return None

    # ------------------------------------------------------------------ writing

    def write(self, name: str, data: bytes, *, once: bool = False) -> None:
        """Write a small file in one piece.

        Args:
            name: which.
            data: what.
            once: do not try again.

        Raises:
            WriteError: the store does not take it.
        """

        def write() -> None:
            path = self._path(name)
            if not self._renames:
                self._fs.pipe_file(path, data)
                return
            aside = self._aside(path)
            self._fs.pipe_file(aside, data)
            self._move(aside, path)

        self._tried("write", name, write, once=once)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file that is not there; false where it is. Exact where the store knows how; see `UrlLease`.

        Raises:
            WriteError: the store does not take it.
        """

        def create() -> bool:
            path = self._path(name)
            self._make_parent(path)
            try:
                if self._renames and "file" in _schemes(self._fs):
                    with Path(path).open("xb") as stream:
                        stream.write(data)
                else:
                    self._fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError):  # clients that do not know `mode`
                if self._fs.exists(path):
                    return False
                self._fs.pipe_file(path, data)
            return True

        return self._tried("write", name, create)

    def put(self, local: Path, name: str, *, once: bool = False) -> Checked:
        """Send a file whole, and compare what has arrived.

        Args:
            local: the file.
            name: where to.
            once: do not try again.

        Raises:
            OSError: the file here cannot be read.
            WriteError: the store does not take it; `passes` of the error tells whether it may later.
        """
        checked = Checked.of(local)

        def put() -> None:
            path = self._path(name)
            sent = self._aside(path) if self._renames else path
            self._fs.put_file(str(local), sent)
            self._fs.invalidate_cache()
            info = self._fs.info(sent)
            if info.get("size") != checked.size:
                raise OSError(errno.EIO, f"{info.get('size')} of {checked.size} bytes have arrived")
            told = _md5(info)
            if told is not None and told != checked.md5 and not self._is_equal(sent, checked):
                raise OSError(errno.EIO, "other bytes have arrived than were sent")
            if sent != path:
                self._move(sent, path)

        self._tried("write", name, put, once=once)
        return checked

    def get(self, name: str, local: Path, wanted: Checked | None = None) -> None:
        """Fetch a file; it appears whole.

        Raises:
            WriteError: the store does not answer, the file is not there or not the one that is wanted; the disk is full.
        """
        partial = local.with_name(f"{local.name}.{os.urandom(4).hex()}{PARTIAL_SUFFIX}")
        with disk_errors(local):
            local.parent.mkdir(parents=True, exist_ok=True)

        def get() -> None:
            try:
                self._fs.get_file(self._path(name), str(partial))
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of this machine
                    with disk_errors(local):
                        raise
                raise
            if wanted is not None and Checked.of(partial) != wanted:
                raise OSError(errno.EIO, "is not what was put there")

        try:
            self._tried("read", name, get)
            put_in_place(partial, local)
        finally:
            with suppress(OSError):
                partial.unlink()

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are passed over.

        Raises:
            WriteError: the store does not answer, or refuses.
        """
        for name in sorted(names):

            def remove(path: str = self._path(name)) -> None:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(path)

            self._tried("remove", name, remove)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder where the store has folders; no error comes out."""
        if self._renames:
            with suppress(Exception):
                self._fs.rmdir(self._path(name))

    # ------------------------------------------------------------------ how

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _shown(self, name: str) -> str:
        return printable(self.place(name) if name else self.shown)

    def _aside(self, path: str) -> str:
        self._make_parent(path)
        return f"{path}.{os.urandom(4).hex()}{PARTIAL_SUFFIX}"

    def _make_parent(self, path: str) -> None:
        if self._renames:  # an object store has no folders, and would make a bucket
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _move(self, aside: str, path: str) -> None:
        try:
            self._fs.mv(aside, path)
        except FileExistsError:  # SMB does not rename over a file
            self._fs.rm_file(path)
            self._fs.mv(aside, path)
        self._fs.invalidate_cache()

    def _is_equal(self, path: str, checked: Checked) -> bool:
        """Whether a file is what was sent: an ETag is an MD5 of nothing where a store encrypts."""
        found = hashlib.md5(usedforsecurity=False)
        with self._fs.open(path, "rb") as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
        return found.hexdigest() == checked.md5

    def _tried(self, verb: str, name: str, action: Callable[[], A], *, once: bool = False) -> A:
        def attempt() -> A:
            try:
                return action()
            except Exception as error:
                if is_permanent(error) or is_transient(error):
                    raise
                raise OSError(errno.EIO, one_line(error)) from error

        try:
            return retried(attempt, Backoff(retries=0) if once else self._backoff, on_retry=self._on_retry)
        except PerceptionBatchError:
            raise
        except Exception as error:
            raise store_error(f"cannot {verb} {self._shown(name)}", error) from None


def _schemes(filesystem: Any) -> tuple[str, ...]:
    found = getattr(filesystem, "protocol", ())
    return (found,) if isinstance(found, str) else tuple(found)


def _renames(filesystem: Any) -> bool:
    """Whether files are sent under another name: there is a rename, and this is no object store."""
    from fsspec.asyn import AsyncFileSystem  # type: ignore[import-untyped]
    from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]

    if _OBJECT_STORES & set(_schemes(filesystem)):
        return False
    plain = (AbstractFileSystem, AsyncFileSystem)
    own = [kind for kind in type(filesystem).__mro__ if kind not in plain]
    return any(name in vars(kind) for kind in own for name in ("mv", "mv_file", "_mv_file", "rename"))


def _token(info: Mapping[str, Any]) -> str:
    """What tells that a listed file has changed."""
    return hashlib.sha256(json.dumps(sorted(info.items()), default=str).encode()).hexdigest()


def _md5(info: Mapping[str, Any]) -> str | None:
    """The MD5 that a store tells of a file; None where it tells none.

    S3's `ETag` of a file sent in one piece is its MD5 (unless it is encrypted with a key of its own: then the bytes are read
    back); Google's `md5Hash` and Azure's `content_md5` are base64.
    """
    tag = info.get("ETag")
    if isinstance(tag, str) and len(tag.strip('"')) == 32:
        return tag.strip('"').lower()
    content = info.get("content_settings")
    told = info.get("md5Hash") or info.get("content_md5") or getattr(content, "content_md5", None)
    if isinstance(content, Mapping):
        told = told or content.get("content_md5")
    if isinstance(told, (bytes, bytearray)) and len(told) == 16:
        return bytes(told).hex()
    if isinstance(told, str):
        with suppress(ValueError, binascii.Error):
            found = base64.b64decode(told, validate=True)
            return found.hex() if len(found) == 16 else None
    return None
