"""Where weights are found, and how those that Ultralytics publishes are fetched."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from perception_batch.errors import ModelError, printable

if TYPE_CHECKING:
    from perception_batch.config import DetectConfig

logger = logging.getLogger(__name__)

EXPORTED = frozenset({".xml", ".onnx", ".engine"})
"""Endings of exported models."""

# A child process asks, so that a name server that never answers costs these seconds and no more.
_CONNECTION_TIMEOUT_S = 5.0
_ASK_HOST = "import urllib.request as u; u.urlopen('https://github.com', timeout=4).close()"


def cache_dir() -> Path:
    """Where this package keeps files of its own, by the XDG convention; nothing is made here."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "perception_batch"


def find_weights(model: str) -> Path:
    """The weights, or the exported model, that `detect.model` names: a file, or a folder with a model in it.

    Looks at the path as given, then in ``data/models`` below the working directory, then in the cache. A plain
    name that Ultralytics publishes, such as ``yolo11n.pt``, is downloaded by Ultralytics into the cache where
    there is a connection.

    Raises:
        ModelError: there is no such file.
    """
    found, looked = look_for_weights(model)
    if found is not None:
        return found
    plain = looked[0].name == model
    if plain and model.endswith(".pt") and (fetched := _download(model, cache_dir() / "models")) is not None:
        return fetched
    places = ", ".join(printable(path) for path in looked)
    hint = "give the path of a weights file (detect.model or --model)"
    if plain:
        hint += "; names that Ultralytics publishes, such as yolo11n.pt, are downloaded where there is a connection"
    raise ModelError(f"no weights {printable(model)!r}: looked at {places}; {hint}")


def look_for_weights(model: str) -> tuple[Path | None, list[Path]]:
    """The weights that are on this machine, None where they are not, and where they were looked for."""
    given = Path(model)
    with suppress(RuntimeError):  # `~name` of a user that does not exist
        given = given.expanduser()
    looked = [given]
    if not given.is_absolute():
        looked += [Path("data/models") / given, cache_dir() / "models" / given]
    for path in looked:
        try:
            if path.is_file() or (path.is_dir() and _holds_model(path)):
                return path, looked
        except (OSError, ValueError):  # a name that no file can have
            continue
    return None, looked


def _holds_model(folder: Path) -> bool:
    return any(path.suffix.lower() in EXPORTED for path in folder.iterdir())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex.

    Raises:
        ModelError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{printable(path)}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _connected() -> bool:
    with suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_HOST],
            timeout=_CONNECTION_TIMEOUT_S,
            capture_output=True,
            check=False,
        )
        return asked.returncode == 0
    return False


def _download(name: str, folder: Path) -> Path | None:
    """`name` fetched by Ultralytics into `folder`; None where it is not published or cannot be had."""
    from perception_batch.detect.ultralytics_import import is_published, ultralytics_download

    try:
        if not is_published(name) or not _connected():
            return None
    except ModelError:  # without Ultralytics nothing is downloaded
        return None
    target = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A download that breaks off must not stay under the name: fetched beside it, then renamed.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as beside:
            part = Path(beside) / name
            logger.info("downloading %s from Ultralytics into %s", name, folder)
            ultralytics_download(part)
            part.replace(target)
    except Exception as error:
        logger.warning("downloading %s failed: %s", name, " ".join(str(error).split()))
        return None
    return target


def pinned_sha256(settings: DetectConfig, path: Path) -> str:
    """SHA-256 of weights, checked against ``detect.sha256`` where that is set.

    Raises:
        ModelError: the file cannot be read, or has another SHA-256 than pinned.
    """
    sha256 = sha256_of(path)
    if settings.sha256 is not None and settings.sha256.strip().lower() != sha256:
        raise ModelError(
            f"{printable(path)} has SHA-256 {sha256}, detect.sha256 pins {printable(settings.sha256)}: "
            "not the weights that were meant"
        )
    return sha256
