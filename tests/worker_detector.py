"""A detector for processes that tests start: its drives' names say what goes wrong."""

from __future__ import annotations

import ctypes
import gc
import time
from typing import Any

from patch_detector import PatchDetector

from perception_batch.job import Job


def _drives() -> list[str]:
    return [job.drive for job in gc.get_objects() if isinstance(job, Job)]


class Faulty(PatchDetector):
    """Reads from nowhere in a drive called ``fatal``, raises what nobody expects in ``raises``, is slow in ``slow...``."""

    def detect(self, images: Any, views: Any, keep_score: Any) -> Any:
        drive = _drives()[-1]
        if drive == "fatal":
            ctypes.string_at(0)
        if drive == "raises":
            raise RuntimeError("no such luck")
        if drive.startswith("slow"):
            time.sleep(0.25)
        return super().detect(images, views, keep_score)
