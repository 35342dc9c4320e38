"""A detector for actors that share nothing: in every process but the driver's, the user's cache is a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path

from patch_detector import PatchDetector

DRIVER, CACHES = "LONE_DRIVER", "LONE_CACHES"
if os.environ.get(DRIVER, str(os.getpid())) != str(os.getpid()):
    os.environ["XDG_CACHE_HOME"] = str(Path(os.environ[CACHES]) / str(os.getpid()))


class Alone(PatchDetector):
    """Of a machine of its own."""
