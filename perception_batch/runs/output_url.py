"""Where outputs go that are no folder of this machine: a URL that `fsspec` writes to, and the folder to work in meanwhile.

A drive is worked on in the scratch folder, and whole files go to the URL. The scratch folder is found again by
the URL, so that a second run on the same machine goes on where the first was stopped; nothing but time is lost without it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from perception_batch.errors import EXIT_RETRY, ConfigError, WriteError, printable, without_secrets
from perception_batch.runs.retry import Backoff
from perception_batch.runs.store_errors import one_line

if TYPE_CHECKING:
    from perception_batch.runs.url_files import UrlFiles

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_FLATTENED = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")  # what `Path` makes of a URL
_READ_ONLY = ("http", "https", "data", "github", "git", "zip", "tar", "libarchive", "reference")
_PACKAGES = {"smbclient": "smbprotocol", "google": "gcsfs", "azure": "adlfs", "botocore": "s3fs"}


@dataclass(frozen=True, slots=True)
class OutputUrl:
    """A URL for outputs. Its text may hold a password: print it by `str`, which leaves that out."""

    url: str = field(repr=False)
    """As it was given."""
    scratch: Path | None = None
    """Where folders to work in are made; None: the user's cache."""

    @classmethod
    def parse(cls, text: str, scratch: Path | None = None) -> OutputUrl | None:
        """The URL that `text` is; None where it is a path.

        Raises:
            ConfigError: a kind that cannot be written to.
        """
        if not _URL.match(text):
            return None
        scheme = text.partition("://")[0].lower()
        if scheme in _READ_ONLY:
            raise ConfigError(
                f"--out {printable(text)}: nothing can be written to {scheme}; give a folder or a URL such as s3://bucket/night"
            )
        if len(text) > 2000:
            raise ConfigError("--out is longer than 2000 characters")
        return cls(text.rstrip("/") if not text.endswith("://") else text, scratch)

    def __str__(self) -> str:
        return without_secrets(self.url)

    def below(self, *names: str) -> str:
        """The URL of something below, for people."""
        return "/".join((str(self).rstrip("/"), *names))

    def folder(self, cache: Path) -> Path:
        """The folder to work in, which stands for the URL; nothing is made here.

        Args:
            cache: the user's cache of this program.
        """
        text = str(self)
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", text.rpartition("/")[2])[:40].lstrip(".")
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        base = cache / "outputs" if self.scratch is None else self.scratch
        return base / (f"{name}-{digest}" if name else digest)

    def files(
        self,
        backoff: Backoff | None = None,
        on_retry: Callable[[BaseException, int, float], None] | None = None,
    ) -> UrlFiles:
        """The files behind the URL.

        Args:
            backoff: how often errors that pass are followed by another try.
            on_retry: hears of them, as for `retried`.

        Raises:
            ConfigError: a kind that no installed package knows.
            WriteError: it cannot be reached.
        """
        from perception_batch.runs.url_files import UrlFiles

        filesystem, root = _opened(self.url)
        return UrlFiles(filesystem, root, str(self), backoff or Backoff(), on_retry)


def refuse_url(path: PurePath | str, command: str) -> None:
    """Say of a command that works in folders what to do with a run at a URL.

    Raises:
        ConfigError: `path` is a URL.
    """
    text = str(path)
    if _FLATTENED.match(text):
        url = text if "://" in text else text.replace(":/", "://", 1)
        raise ConfigError(
            f'`{command}` works in folders, and {printable(url)} is a URL: copy the run first, python -c "import fsspec; '
            f"fs, path = fsspec.url_to_fs('{printable(url)}'); fs.get(path, 'copy', recursive=True)\", and give copy"
        )


def _opened(url: str) -> tuple[Any, str]:
    shown = printable(url)
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(
            f'{shown} is a URL: pip install "perception-batch[remote]" to write there'
        ) from None
    try:
        filesystem, root = url_to_fs(url)
    except ImportError as error:
        raise ConfigError(
            f"{shown}: this kind of URL needs a package: pip install {_package(error)}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{shown} cannot be opened: {printable(one_line(error))}") from None
    except (
        Exception
    ) as error:  # what a client of its kind raises where nobody answers, or where it is refused
        raise WriteError(
            f"{shown} cannot be opened: {printable(one_line(error))}", exit_status=EXIT_RETRY
        ) from None
    return filesystem, str(root)


def _package(error: ImportError) -> str:
    """What pip calls the package that an error misses."""
    cause = error.__cause__
    name = (error.name or (cause.name if isinstance(cause, ImportError) else None) or "fsspec").partition(
        "."
    )[0]
    return printable(_PACKAGES.get(name, name))
