#!/usr/bin/env python3
"""CPU time and memory of grouping stamps into timesteps, for every kind of anchor.

    python scripts/benchmark_sync.py [--stamps 1000000] [--cameras 8] [--anchors reference tightest grid trigger]

The drive is drawn: cameras at 10 Hz, staggered over 42 ms, with 5 ms of jitter and 5 % of the frames lost, and without
pixels. It is made and grouped as a stream, as a log is; the time of making it is measured by itself and taken off.

    CPU s      CPU time of this process for grouping
    us/stamp   the same for one frame
    peak MB    most memory (RSS) that the process has held so far, 10^6 bytes; it starts with Python's and numpy's own
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator

import numpy as np

from perception_batch.config import SyncConfig
from perception_batch.sync import Synchronizer, plan_sync, synchronize
from perception_batch.types import EncodedFrame, StillPayload, Trigger

PERIOD_NS = 100_000_000
START_NS = 1_700_000_000_000_000_000
CHUNK = 2000


def drive(stamps: int, cameras: int) -> Iterator[EncodedFrame | Trigger]:
    """Frames in log order, and a trigger before each cycle; `stamps` frames or a few less."""
    rng = np.random.default_rng(0)
    names = [f"camera_{i}" for i in range(cameras)]
    payload = StillPayload(b"")
    cycles = int(stamps / cameras / 0.95)
    phase = np.linspace(0, 42e6, cameras)
    for first in range(0, cycles, CHUNK):
        n = min(CHUNK, cycles - first)
        cycle_ns = START_NS + (first + np.arange(n, dtype=np.int64)) * PERIOD_NS
        jitter = np.clip(rng.standard_normal((n, cameras)), -3, 3) * 5e6
        at = (cycle_ns[:, None] + np.rint(phase + jitter).astype(np.int64)).ravel()
        camera = np.tile(np.arange(cameras), n)
        kept = rng.random(len(at)) >= 0.05
        at, camera = at[kept], camera[kept]
        order = np.argsort(at)
        due = cycle_ns.tolist()[::-1]
        for stamp_ns, i in zip(at[order].tolist(), camera[order].tolist(), strict=True):
            while due and due[-1] <= stamp_ns:
                yield Trigger(due[-1], due.pop())
            log_ns = stamp_ns + 15_000_000
            yield EncodedFrame(names[i], stamp_ns, log_ns, payload, "jpeg", 0, 1600, 900, stamp_ns)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--stamps", type=int, default=1_000_000)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--anchors", nargs="+", default=["reference", "tightest", "grid", "trigger"])
    options = parser.parse_args()
    clock = time.process_time()
    frames = sum(isinstance(item, EncodedFrame) for item in drive(options.stamps, options.cameras))
    making = time.process_time() - clock
    print(f"{frames} stamps of {options.cameras} cameras; making them takes {making:.2f} s of CPU")
    print(f"{'anchor':10} {'timesteps':>9} {'complete':>9} {'CPU s':>7} {'us/stamp':>8} {'peak MB':>8}")
    for anchor in options.anchors:
        settings = SyncConfig(anchor=anchor, trigger_topic="/trigger")
        samples: dict[str, list[tuple[int, int]]] = {f"camera_{i}": [] for i in range(options.cameras)}
        triggers = []
        for item in drive(min(options.stamps, 1000), options.cameras):
            if isinstance(item, Trigger):
                triggers.append((item.stamp_ns, item.log_ns))
            else:
                samples[item.camera].append((item.stamp_ns, item.log_ns))
        synchronizer = Synchronizer(plan_sync(samples, settings, triggers=triggers), settings)
        timesteps = complete = 0
        clock = time.process_time()
        for frame_set in synchronize(drive(options.stamps, options.cameras), synchronizer):
            timesteps += 1
            complete += len(frame_set.frames) == options.cameras
        spent = time.process_time() - clock - making
        peak_mb = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024)
            / 1e6
        )
        print(
            f"{anchor:10} {timesteps:9} {complete:9} {spent:7.2f} {spent / frames * 1e6:8.2f} {peak_mb:8.0f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
