"""What is stored of no segment: lidar ranges and moving mounts come out of the log again, equal to the byte."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from log_writer import optical_quaternion
from patch_detector import PatchDetector
from test_fusion_bad_input import camera, nod, transforms
from test_fusion_bad_input import run as run_with_mounts
from test_lidar import clouds, settings, written

from perception_batch.job import Job, Outcome
from perception_batch.pipeline import run_drive

KEEP = ("runs.keep_segments=true", "runs.segment_s=0.4")


class Unused(PatchDetector):
    """Everything has landed."""

    def detect(self, *_: Any) -> Any:
        raise AssertionError("detected again")


def begin_again(done: Outcome, job: Job) -> None:
    """As a kill before the last step of a run leaves it; the next one gives the same tables from the segments alone."""
    before = {p.name: p.read_bytes() for p in done.directory.iterdir() if p.suffix in (".parquet", ".jsonl")}
    path = done.directory / "run.json"
    path.write_text(path.read_text().replace('"status": "complete"', '"status": "unfinished"'))
    run_drive(job, open_with=Unused)
    assert {name: (done.directory / name).read_bytes() for name in before} == before


def test_lidar(tmp_path: Path) -> None:
    log = written(tmp_path / "in", clouds("mcap"))
    job = Job("drive", (log,), tmp_path / "out", settings("fuse.lidar=auto", *KEEP))
    done = run_drive(job, open_with=PatchDetector)
    assert (done.directory / "lidar.parquet").exists()
    begin_again(done, job)


def test_moving_mounts(tmp_path: Path) -> None:
    spec = camera(tf=False, phase_ms=5.0)
    poses = [(10 * k - 20, (2.0, 0.0, 1.0), nod(math.radians(3 * math.sin(k / 7)))) for k in range(90)]
    edges = [("cab", spec.optical_frame, (0.5, 0.0, 1.0), optical_quaternion(0.0))]
    extra = transforms(poses, "base_link", "cab", "/tf")
    done = run_with_mounts(tmp_path, [spec], *KEEP, tf_edges=edges, extra=extra)
    assert (done.directory / "mounts.parquet").exists()
    config = settings(*KEEP)
    begin_again(done, Job("drive", (next((tmp_path / "in").iterdir()),), tmp_path / "out", config))
