"""The built-in drive: drawn by the simulator on first use, then kept in the user's cache.

Twenty seconds in a town: a van overtakes and waits beside, at a red light; people walk over the crossing and hide
each other and a cyclist; a lorry passes from camera to camera; then a turn to the right. One camera starts late, and
all of them lose a picture now and then.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perception_batch import __version__
from perception_batch.errors import WriteError, printable

if TYPE_CHECKING:
    from perception_batch.simulate.settings import SimulateSettings

NAME = "built_in_drive"
LOG = "drive.bag"
TRUTH = "truth"
SEED = 6
"""Chosen for what is to be seen; no drive that trained or checked the model has this seed."""


@dataclass(frozen=True, slots=True)
class BuiltInDrive:
    """Where it lies."""

    folder: Path
    """Holds the log and the truth."""
    drawn: bool
    """It was not there before."""

    @property
    def log(self) -> Path:
        """A ROS 1 bag."""
        return self.folder / LOG

    @property
    def truth(self) -> Path:
        """What `perception-batch evaluate` takes."""
        return self.folder / TRUTH


def drive_settings() -> SimulateSettings:
    """Six cameras of 640x400 at 5 Hz over 20 s: 600 pictures, less those that are lost."""
    from perception_batch.simulate.settings import Faults, SimulateSettings

    return SimulateSettings(
        duration_s=20,
        rate_hz=5,
        size_px=(640, 400),
        seed=SEED,
        container="bag",
        faults=Faults(
            stagger_ms=40, log_jitter_ms=3, drop=0.02, drop_burst=2, late_start_s={"cam_back_left": 1.0}
        ),
    )


def built_in_drive(
    out: Path,
    settings: SimulateSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BuiltInDrive:
    """The drive from the user's cache; drawn where it is not there, into `out` where the cache takes no files.

    Args:
        out: folder of the demo.
        settings: what to draw; default: `drive_settings`.
        progress: called with the cycles drawn and their number.

    Raises:
        WriteError: it can be drawn neither into the cache nor into `out`.
    """
    wanted = settings or drive_settings()
    key = hashlib.sha256(json.dumps([__version__, wanted.to_dict()], sort_keys=True).encode()).hexdigest()[
        :16
    ]
    places = [root / f"drive-{key}" for root in (*_cache(), out)]
    for place in places:
        if _is_whole(place):
            return BuiltInDrive(place, drawn=False)
    for i, place in enumerate(places):
        try:
            _draw(place, wanted, progress)
        except WriteError:
            if i == len(places) - 1:
                raise
            continue
        return BuiltInDrive(place, drawn=True)
    raise WriteError(f"{printable(out)}: no place for the drive")  # unreachable: `out` is always a place


def _cache() -> tuple[Path, ...]:
    """The cache's folder; nothing where the user has no home."""
    from perception_batch.detect.weights import cache_dir

    with suppress(RuntimeError):
        return (cache_dir() / "demo",)
    return ()


def _is_whole(folder: Path) -> bool:
    return (folder / LOG).is_file() and (folder / TRUTH / "meta.json").is_file()


def _draw(folder: Path, settings: SimulateSettings, progress: Callable[[int, int], None] | None) -> None:
    """Draw beside the place, under a name of this process, and rename: two demos at a time do not meet."""
    from perception_batch.simulate.drive import simulate

    fresh = folder.with_name(f"{folder.name}-{os.getpid()}")
    try:
        simulate(fresh, settings, progress)
        if folder.exists() and not _is_whole(folder):  # someone has cleared a part of it away
            shutil.rmtree(folder)
        try:
            fresh.rename(folder)
        except OSError as error:
            if not _is_whole(folder):  # else another process was quicker, with the same bytes
                raise WriteError(f"{printable(folder)}: cannot write here ({error.strerror})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
