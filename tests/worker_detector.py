"""A detector for processes that tests start: its drives' names say what goes wrong."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import time
from typing import Any

from patch_detector import PatchDetector

from perception_batch.job import Job


def _jobs() -> list[Job]:
    return [job for job in gc.get_objects() if isinstance(job, Job)]


class Faulty(PatchDetector):
    """What a drive's name says.

    ``fatal`` reads from nowhere, ``raises`` raises what nobody expects, ``slow...`` is slow, ``dies_once`` kills its process the first time.
    """

    def detect(self, images: Any, views: Any, keep_score: Any) -> Any:
        job = _jobs()[-1]
        drive = job.drive
        if drive == "fatal":
            ctypes.string_at(0)
        if drive == "raises":
            raise RuntimeError("no such luck")
        if drive == "dies_once" and not (mark := job.out / ".died").exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if drive.startswith("slow"):
            time.sleep(0.25)
        return super().detect(images, views, keep_score)
