"""A program for `test_ray_engine`: ``python ray_run.py IN OUT WORKERS [key=value]...`` runs a folder of drives by Ray.

A detector of coloured patches stands for a network; the drives' names say what goes wrong (`worker_detector`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from worker_detector import Faulty

from perception_batch import drives_wanted
from perception_batch.collection import RunRequest, drives_of, job_of
from perception_batch.collection_work import CollectionWork
from perception_batch.config import load_config
from perception_batch.ray_engine import work_by_ray
from perception_batch.signals import Stopped, handled

setattr(drives_wanted, "known_sha256", lambda _: "0" * 64)  # noqa: B010


def main(words: list[str]) -> int:
    """See the module; the exit status is that of `run`."""
    request = RunRequest(
        (Path(words[0]),), Path(words[1]), load_config(None, words[3:]), workers=int(words[2]), engine="ray"
    )
    try:
        with handled(), CollectionWork(request, lambda drive: job_of(request, drive)) as work:
            work_by_ray(work, drives_of(request), Faulty)
    except Stopped as stop:
        return stop.exit_status
    return work.tally.exit_status()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
