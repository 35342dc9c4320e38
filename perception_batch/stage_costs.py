"""What each stage of a run costs by itself, and how fast the machine's cores could be at best.

Stages that share cores cannot be faster together than ``1000 * cores / sum of their core-milliseconds an image``. The
costs are those of a run without threads on one core, so that no stage slows another down.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from perception_batch import flow
from perception_batch.errors import LogError
from perception_batch.job import Job

REST = ("fuse", "write")
"""What comes after the boxes and is no video: fusing, following, tables."""
VIDEO = ("draw", "encode")
"""What a run without video does not do."""


@dataclass(frozen=True, slots=True)
class StageCosts:
    """Core-milliseconds an image."""

    core_ms: Mapping[str, float]
    """By stage."""
    cores: int
    """That the run they are compared with may use."""

    @property
    def sum_ms(self) -> float:
        """Of all stages."""
        return sum(self.core_ms.values())

    @property
    def bound_per_s(self) -> float:
        """Images a second that the cores could do if none of them ever waited."""
        return 1e3 * self.cores / self.sum_ms if self.sum_ms > 0 else 0.0

    def share(self, images_per_s: float) -> float:
        """How much of the bound a run reached, 0..1."""
        return images_per_s / self.bound_per_s if self.bound_per_s else 0.0

    def part(self, names: tuple[str, ...]) -> float:
        """Share of some stages in all work, 0..1."""
        return sum(self.core_ms.get(name, 0.0) for name in names) / self.sum_ms if self.sum_ms else 0.0

    def in_words(self) -> str:
        """One line, without what a run reached."""
        each = ", ".join(f"{name} {value:.2f}" for name, value in self.core_ms.items() if value >= 0.005)
        return (
            f"stages alone, core-ms an image: {each}: {self.sum_ms:.1f}; {self.cores} cores could do "
            f"{self.bound_per_s:.1f} images/s; fuse + track + tables {self.part(REST):.1%} of the work, "
            f"draw + encode {self.part(VIDEO):.1%}"
        )


def measure_stages(job: Job) -> dict[str, float]:
    """Core-milliseconds an image of each stage, in a run of the job without threads, into a temporary folder.

    For a process of its own: it is bound to one core from now on, and its stages' clock tells CPU time.

    Raises:
        PerceptionBatchError: the log, the settings or the model.
    """
    from perception_batch.pipeline import run_drive
    from perception_batch.start_up import import_ahead

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import_ahead()  # as a run does at its start; here it would fall to the first timestep
    flow.StageTime.clock = time.process_time
    with tempfile.TemporaryDirectory(prefix="perception-batch-") as folder:
        manifest = run_drive(replace(job, out=Path(folder), threads=False)).manifest
    images = int(manifest.counts["frames_used"])
    if not images:
        raise LogError(job.paths[0], "has no frame that can be decoded in the part that is measured")
    stages = manifest.timing["stages"].items()
    return {name: 1e3 * float(stage["busy_s"]) / images for name, stage in stages}
