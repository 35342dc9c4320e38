"""Stores behind URLs for tests: one in memory that does what it is told to, and S3 as a small server."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

WRITES = ("put_file", "pipe_file")
SETTINGS = [
    "detect.image_size=96",
    "render.video=false",
    "runs.segment_s=0.5",
    "runs.loss_limit_percent=50",
    "runs.retry_wait_s=0.001",
]
"""Of small runs to them."""


class ShakyStore(MemoryFileSystem):  # type: ignore[misc]
    """``shaky://``: an object store without rename, lock or checksums, that fails as `fault` says."""

    protocol = "shaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    calls: ClassVar[list[tuple[str, str]]] = []
    fault: ClassVar[Callable[[str, str], None]] = lambda _op, _path: None

    @classmethod
    def reset(cls) -> None:
        """As new."""
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.calls.clear()
        cls.fault = lambda _op, _path: None

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = str(path).replace("shaky://", "/", 1).strip("/")
        return f"/{text}" if text else ""

    def _called(self, op: str, path: str) -> None:
        self.calls.append((op, str(path)))
        type(self).fault(op, str(path))

    def find(self, path: str, *words: Any, **options: Any) -> Any:
        self._called("find", path)
        return super().find(path, *words, **options)

    def cat_file(self, path: str, *words: Any, **options: Any) -> Any:
        self._called("cat_file", path)
        return super().cat_file(path, *words, **options)

    def get_file(self, path: str, *words: Any, **options: Any) -> Any:
        self._called("get_file", path)
        return super().get_file(path, *words, **options)

    def put_file(self, local: str, path: str, *words: Any, **options: Any) -> Any:
        try:
            self._called("put_file", path)
        except EOFError as half:  # half of it has arrived; without words nobody is told
            super().pipe_file(path, Path(local).read_bytes()[: Path(local).stat().st_size // 2])
            if half.args:
                raise OSError("connection lost") from None
            return None
        return super().put_file(local, path, *words, **options)

    def pipe_file(self, path: str, *words: Any, **options: Any) -> Any:
        self._called("pipe_file", path)
        return super().pipe_file(path, *words, **options)

    def rm_file(self, path: str) -> Any:
        self._called("rm_file", path)
        return super().rm_file(path)

    def cp_file(self, *_words: Any, **_options: Any) -> Any:
        raise NotImplementedError("this store moves and copies nothing")


fsspec.register_implementation("shaky", ShakyStore, clobber=True)


def at_random(seed: int, share: float) -> Callable[[str, str], None]:
    """A fault that comes at random, in any call: lost connections, half-sent files, silence."""
    rng = random.Random(seed)

    def fault(op: str, _path: str) -> None:
        if rng.random() >= share:
            return
        kind = rng.choice(
            [TimeoutError("no answer"), ConnectionResetError(104, "reset"), RuntimeError("503")]
        )
        if op == "put_file" and rng.random() < 0.5:
            raise EOFError(*(["loud"] if rng.random() < 0.5 else []))
        raise kind

    return fault


def always(error: Exception, *ops: str, after: int = 0, inside: str = "") -> Callable[[str, str], None]:
    """A fault that stays, from the call `after` on, in calls `ops` whose path contains `inside`."""
    seen = 0

    def fault(op: str, path: str) -> None:
        nonlocal seen
        if op in ops and inside in path:
            seen += 1
            if seen > after:
                raise error

    return fault
