"""A program for `at_url/test_several_at_url`: ``python ray_at_url.py IN URL CACHES [key=value]...`` runs drives by Ray, no folder shared."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import lone_worker

from perception_batch import drive_output, drives_wanted
from perception_batch.collection import RunRequest, drives_of, job_of
from perception_batch.collection_work import CollectionWork
from perception_batch.config import load_config
from perception_batch.ray_engine import work_by_ray
from perception_batch.runs import OutputUrl
from perception_batch.signals import handled

setattr(drives_wanted, "known_sha256", lambda _: "0" * 64)  # noqa: B010


def main(words: list[str]) -> int:
    """See the module; the exit status is that of `run`."""
    os.environ[lone_worker.DRIVER], os.environ[lone_worker.CACHES] = str(os.getpid()), words[2]
    os.environ["XDG_CACHE_HOME"] = str(Path(words[2]) / "driver")
    url = OutputUrl.parse(words[1])
    assert url is not None
    settings = load_config(None, words[3:])
    request = RunRequest(
        (Path(words[0]),), drive_output.local_out(url), settings, url=url, workers=2, engine="ray"
    )
    with handled(), CollectionWork(request, lambda drive: job_of(request, drive)) as work:
        work_by_ray(work, drives_of(request), lone_worker.Alone)
        found = [entry.record.status for entry in work.ledger.entries() if entry.record is not None]
    sys.stdout.write(f"ledger: {found}\n")
    return work.tally.exit_status()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
