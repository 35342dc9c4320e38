"""Compiled models kept in the user's cache, because compiling costs a second and reading one back a tenth of it.

A file is the SHA-256 of what follows, and what OpenVINO exports. Its name holds a hash of all that decides over it:
the model's files, the input's size, how it is run, OpenVINO, the processor and this package's rewrites.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from perception_batch.detect.weights import cache_dir
from perception_batch.errors import printable

logger = logging.getLogger(__name__)

REWRITES = 2
"""Of `openvino_graph`: another number is another compiled model."""
MOST_FILES = 24
"""The oldest beyond these go; each has the size of the model."""
_ENDING = ".compiled"
_HASH_BYTES = 32


def compiled_file(
    identity: str, input_hw: tuple[int, int], config: Mapping[str, Any], openvino_version: str, device: str
) -> Path:
    """Where a compiled model lies, whether there is one or not.

    Args:
        identity: of the model's files, such as their hashes.
        input_hw: height and width of its input, px.
        config: what it is compiled with.
        openvino_version: as the library says it.
        device: the processor's name.
    """
    limits = {key: value for key, value in os.environ.items() if key.endswith("_MAX_CPU_ISA")}
    decides = [
        REWRITES,
        identity,
        input_hw,
        dict(config),
        openvino_version,
        device,
        processor_flags(),
        limits,
    ]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
    return cache_dir() / "compiled" / f"{key[:40]}{_ENDING}"


def processor_flags() -> tuple[str, ...]:
    """What the processor can do, by Linux's names; empty where that does not tell."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            return next((tuple(line.split()[2:]) for line in file if line.startswith("flags")), ())
    except OSError:
        return ()


def load(file: Path) -> bytes | None:
    """The bytes to import; None where there are none, or not those that were written."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    body = data[_HASH_BYTES:]
    if not body or hashlib.sha256(body).digest() != data[:_HASH_BYTES]:
        return None
    with suppress(OSError):
        os.utime(file)  # the oldest go first
    return body


def keep(file: Path, body: bytes) -> None:
    """Write the bytes, whole or not at all. A cache that cannot be written costs time only."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".compiled-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(hashlib.sha256(body).digest())
                stream.write(body)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _drop_oldest(file.parent)
    except OSError as error:
        logger.debug("%s is not kept: %s", printable(file), error)


def _drop_oldest(folder: Path) -> None:
    found = []
    for path in folder.glob(f"*{_ENDING}"):
        with suppress(OSError):  # another process was faster
            found.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(found)[:-MOST_FILES]:
        path.unlink(missing_ok=True)
