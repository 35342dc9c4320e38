"""A program for `test_killed_runs`: kills a run at random moments, again and again, and starts it again each time.

``python killed_runs.py LOG WORK KILLS SEED``: a process that has imported everything forks one child a run, through the
command's own functions (ledger, events, lock), and kills it with SIGKILL. Then it does the same to `render` over the finished
run, a fifth as often. What it saw is printed as JSON.
"""

from __future__ import annotations

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

import av
import pyarrow.parquet as pq
from forked_child import start
from patch_detector import PatchDetector

from perception_batch import console, drive_run, drives_wanted, pipeline, replay
from perception_batch.collection import RunRequest, run_all
from perception_batch.config import load_config
from perception_batch.runs import EVENTS, FOLDER, read_events

IMPORTED = (console, drive_run, replay)  # before the first fork, as all that a run needs
SETTINGS = ["detect.image_size=160", "render.width_px=320", "runs.segment_s=2", "runs.loss_limit_percent=50"]
setattr(pipeline, "open_detector", PatchDetector)  # noqa: B010
setattr(drives_wanted, "known_sha256", lambda _: "0" * 64)  # noqa: B010


def run(log: Path, out: Path) -> int:
    """The command `run`."""
    return run_all(RunRequest((log,), out, load_config(None, SETTINGS)))


def render(directory: Path) -> int:
    """The command `render`."""
    return replay.render_again(directory, ["render.crf=30"]).exit_status


def landed(directory: Path) -> dict[str, int]:
    """Segments and parts of the video that are there, and when they came."""
    found = [*directory.glob(".segments/*.zip"), *directory.glob(".video_parts/*.json")]
    return {path.name: path.stat().st_mtime_ns for path in found}


def packets(path: Path) -> list[tuple[int | None, bytes]]:
    """The times and bytes of a video's packets."""
    with av.open(str(path)) as video:
        return [(packet.pts, bytes(packet)) for packet in video.demux(video=0)]


def half_written(directory: Path) -> list[str]:
    """Files under their final names that are not whole."""
    bad = []
    for path in sorted(directory.rglob("*")):
        try:
            if path.suffix == ".parquet":
                pq.read_table(path)
            elif path.suffix == ".zip":
                assert zipfile.ZipFile(path).testzip() is None
            elif path.suffix == ".json":
                json.loads(path.read_bytes())
            elif path.suffix == ".mp4":
                assert len(packets(path)) > 1
        except Exception as error:
            bad.append(f"{path.name}: {error}")
    return bad


def contents(directory: Path) -> dict[str, bytes]:
    """All results but the manifest and the video."""
    names = [
        p for p in sorted(directory.iterdir()) if p.suffix in (".parquet", ".jsonl") or p.name == "rig.json"
    ]
    return {path.name: path.read_bytes() for path in names}


def main(log: Path, work: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many times; see the module."""
    rng = random.Random(seed)
    whole, out = work / "whole", work / "out"
    began = time.perf_counter()
    assert os.waitpid(start(lambda: run(log, whole)), 0)[1] == 0
    length_s = time.perf_counter() - began
    expected, film = contents(whole / log.stem), packets(whole / log.stem / "annotated.mp4")
    seen: dict[str, Any] = {"killed": 0, "finished": 0, "faults": [], "stages": [], "length_s": length_s}
    faults: list[str] = seen["faults"]
    directory = out / log.stem
    while True:
        before = landed(directory)
        pid = start(lambda: run(log, out))
        enough = seen["killed"] >= kills
        if not enough:
            time.sleep(rng.uniform(0.0, 0.9 * length_s))
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        after = landed(directory)
        faults += [f"{n} was made twice" for n, t in before.items() if after.get(n, t) != t]
        faults += half_written(out)
        manifest = directory / "run.json"
        state = json.loads(manifest.read_bytes())["status"] if manifest.exists() else "nothing"
        if os.WIFSIGNALED(status):
            seen["killed"] += 1
            partials = sorted(p.suffixes[0] for p in directory.glob("*.partial"))
            parts = sum(name.startswith("part_") for name in after)
            seen["stages"].append((state, len(after) - parts, len(partials), parts))
        elif status or state != "complete":
            faults.append(f"ended with {status} and {state}")
        if state == "complete":
            seen["finished"] += 1
            if contents(directory) != expected:
                faults.append("the tables are not those of a run that was not killed")
            if packets(directory / "annotated.mp4") != film:
                faults.append("the video is not that of a run that was not killed")
            journal = out / FOLDER / EVENTS  # a drive that was done at once leaves none
            events = list(read_events(journal)) if journal.exists() else []
            times = [event["segment"] for event in events if event["event"] == "segment_landed"]
            if len(set(times)) != len(times):
                faults.append(f"segments that landed twice: {times}")
            if enough:
                break
            shutil.rmtree(out)
        elif enough:
            return seen
    seen["render"] = kill_renders(whole / log.stem, directory, kills // 5, rng, faults)
    return seen


def kill_renders(
    whole: Path, directory: Path, kills: int, rng: random.Random, faults: list[str]
) -> list[int]:
    """Kill `render` over two equal runs, the second only; gives the parts that were there at each kill."""
    began = time.perf_counter()
    assert os.waitpid(start(lambda: render(whole)), 0)[1] == 0
    length_s = time.perf_counter() - began
    old, new = packets(directory / "annotated.mp4"), packets(whole / "annotated.mp4")
    seen: list[int] = []
    for number in range(kills + 1):
        before = landed(directory)
        pid = start(lambda: render(directory))
        if number < kills:
            time.sleep(rng.uniform(0.2, 1.0) * length_s)
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        after = landed(directory)
        seen.append(len(after))
        faults += [f"{n} was drawn twice" for n, t in before.items() if after.get(n, t) != t]
        faults += half_written(directory)
        if packets(directory / "annotated.mp4") not in (old, new):
            faults.append("a video that is neither the one before nor the one after")
        if not os.WIFSIGNALED(status) and status:
            faults.append(f"render ended with {status}")
    if packets(directory / "annotated.mp4") != new:
        faults.append("the video is not that of a `render` that was not killed")
    return seen


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.write(json.dumps(found) + "\n")
