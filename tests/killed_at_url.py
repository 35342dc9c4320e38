"""A program for `at_url/test_several_at_url`: kills a run to a URL at random moments, and goes on with an empty folder each time.

``python killed_at_url.py LOG WORK URL IMAGES KILLS SEED``: IMAGES can be decoded. What it saw is printed as JSON.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from forked_child import start
from patch_detector import PatchDetector
from url_stores import SETTINGS

from perception_batch import console, drive_output, drive_run, drives_wanted, pipeline, replay
from perception_batch.collection import RunRequest, run_all
from perception_batch.config import load_config
from perception_batch.runs import OutputUrl

BROKEN = 1
"""Images of the log that cannot be decoded: segments count them, the detector does not see them."""
IMPORTED = (console, drive_run, replay)  # before the first fork, as all that a run needs


class Noting(PatchDetector):
    """Notes how many images it is given, in a file that outlives its process."""

    notes = ""

    def detect(self, images: Any, views: Any, keep_score: Any) -> Any:
        time.sleep(0.02)
        with Path(Noting.notes).open("a") as stream:
            stream.write(f"{len(images)}\n")
        return super().detect(images, views, keep_score)


setattr(pipeline, "open_detector", Noting)  # noqa: B010
setattr(drives_wanted, "known_sha256", lambda _: "0" * 64)  # noqa: B010


def run(log: Path, url: str, scratch: Path) -> int:
    """The command `run`."""
    place = OutputUrl.parse(url, scratch)
    out = drive_output.local_out(place) if place is not None else scratch
    return run_all(RunRequest((log,), out, load_config(None, SETTINGS), url=place))


def look(url: str, drive: str) -> tuple[dict[str, int], str]:
    """Images of the segments that have landed, by name, and what ``run.json`` says."""
    reading, writing = os.pipe()
    if os.fork() == 0:  # a child, so that no client of the store is there when the next one is forked
        found: dict[str, int] = {}
        place = OutputUrl.parse(url)
        files = place.files() if place is not None else None
        data = files.read(f"{drive}/run.json") if files is not None else None
        for name in files.list(drive) if files is not None else ():
            if name.endswith(".zip") and files is not None:
                archive = zipfile.ZipFile(io.BytesIO(files.read(f"{drive}/{name}") or b""))
                found[name] = json.loads(archive.read("key.json"))["facts"]["images"]
        state = json.loads(data)["status"] if data else "nothing"
        os.write(writing, json.dumps([found, state]).encode())
        os._exit(0)
    os.wait()
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        landed, state = json.loads(stream.read())
    return landed, state


def main(log: Path, work: Path, url: str, total: int, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many times; see the module."""
    rng = random.Random(seed)
    if url.startswith("s3"):
        importlib.import_module("s3fs")  # once, and no client of it before the forks
    work.mkdir()
    Noting.notes = str(work / "notes")

    def detected() -> int:
        path = Path(Noting.notes)
        return sum(map(int, path.read_text().split())) if path.exists() else 0

    seen: dict[str, Any] = {"killed": 0, "faults": [], "landed": []}
    while True:
        shutil.rmtree(work / "s", ignore_errors=True)
        Path(Noting.notes).unlink(missing_ok=True)
        before, state = look(url, log.stem)
        pid = start(lambda: run(log, url, work / "s"))
        if seen["killed"] < kills:
            missing = total - sum(before.values())
            enough, until_s = rng.randint(1, max(1, missing - 2)), time.perf_counter() + 30
            while missing > 4 and detected() < enough and time.perf_counter() < until_s:
                time.sleep(0.005)  # by progress, not by time: machines differ
            time.sleep(rng.uniform(0.0, 0.2 if missing > 4 else 1.5))
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        after, state = look(url, log.stem)
        if os.WIFSIGNALED(status):
            seen["killed"] += 1
            seen["landed"].append(len(after))
        most = total - sum(before.values())
        if detected() > most + BROKEN:
            seen["faults"].append(f"{detected()} images were detected, {most} were missing")
        if not os.WIFSIGNALED(status):
            if status or state != "complete":
                seen["faults"].append(f"ended with {status} and {state}")
                return seen
            if not most <= detected() <= most + BROKEN:
                seen["faults"].append(f"{detected()} images were detected, {most} were missing, to the end")
            return seen


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:7]))
    sys.stdout.write(json.dumps(found) + "\n")
