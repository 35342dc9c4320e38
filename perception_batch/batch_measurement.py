"""One measurement of the benchmark, in a process of its own: ``python -m perception_batch.batch_measurement IN OUT``.

A fresh process holds no memory and no threads of a measurement before it. IN holds a `Request`, OUT gets the figures, or
``{"error": ...}``; both are JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.config import DetectConfig, RunConfig, parse_config
from perception_batch.detect import Detector, DetectorInfo, batch_size_key, open_detector
from perception_batch.energy import EnergyMeter
from perception_batch.errors import LogError, PerceptionBatchError
from perception_batch.flow import closed
from perception_batch.geometry import DetectorView
from perception_batch.job import Job, Progress, open_drive
from perception_batch.pipeline import run_drive
from perception_batch.prepared_frames import boxes_of, prepared_frames
from perception_batch.read import log_path
from perception_batch.shared_machine import decode_workers
from perception_batch.shots import ReadyShot
from perception_batch.stage_costs import measure_stages
from perception_batch.stages import Profile, Threads
from perception_batch.types import Detections

POOL_IMAGES = 32
"""Prepared images that the device is given again and again when it is measured alone."""
ALONE_IMAGES = 64
"""... and how many of them: at most twice the pool, at least two batches for each copy of the detector."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure."""

    paths: tuple[str, ...]
    """The log of one drive."""
    config: dict[str, Any]
    """All settings."""
    cameras: tuple[str, ...] | None
    """Only these."""
    stop: str | None
    """First time not used any more."""
    what: str
    """``open`` the model only, ``run``, ``run+decode``: also how fast decoding is alone, or what its ``stages`` cost."""


@dataclass(slots=True)
class TimedDetector:
    """A detector that notes when each batch went in and came out."""

    inner: Detector
    spans_s: list[tuple[float, float]] = field(default_factory=list)
    """Start and end of each call, by the process' clock; copies share it."""

    @property
    def info(self) -> DetectorInfo:
        """Of the detector."""
        return self.inner.info

    def view(
        self,
        image_hw: tuple[int, int],
        *,
        image_size: int | None = None,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
    ) -> DetectorView:
        """Of the detector."""
        return self.inner.view(image_hw, image_size=image_size, roi_px=roi_px, rotate_deg=rotate_deg)

    def detect(
        self, images: npt.NDArray[np.uint8], views: Sequence[DetectorView], keep_score: Sequence[float]
    ) -> list[Detections]:
        """Of the detector, timed."""
        start = time.perf_counter()
        found = self.inner.detect(images, views, keep_score)
        self.spans_s.append((start, time.perf_counter()))
        return found

    def use_batch_size(self, batch_size: int) -> None:
        """Of the detector."""
        self.inner.use_batch_size(batch_size)

    def copy(self) -> TimedDetector:
        """A copy that notes into the same list."""
        return TimedDetector(self.inner.copy(), self.spans_s)

    def close(self) -> None:
        """Free the device."""
        self.inner.close()


def measure(request: Request) -> dict[str, Any]:
    """The figures that were asked for.

    Raises:
        PerceptionBatchError: the log, the settings or the model.
    """
    config = parse_config(request.config, "benchmark")
    job = Job(
        "benchmark", tuple(map(log_path, request.paths)), Path(), config, request.cameras, stop=request.stop
    )
    if request.what == "open":
        detector = open_detector(config.detect)
        try:
            return _opened(detector.info)
        finally:
            detector.close()
    if request.what == "stages":
        return {"stages_core_ms": measure_stages(job)}
    figures = _end_to_end(job)
    return figures | _alone(job, decoding=request.what == "run+decode")


def _opened(info: DetectorInfo) -> dict[str, Any]:
    return {
        "backend": info.backend,
        "precision": info.precision,
        "device": info.device,
        "batch_size": info.batch_size,
        "copies": info.copies,
    }


class _AtStart(Progress):
    """Begins to count energy where the chain begins."""

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter = meter

    def start(self, drive: str, images: int) -> None:
        """All is loaded."""
        super().start(drive, images)
        self._meter.start()


def _end_to_end(job: Job) -> dict[str, Any]:
    timed: list[TimedDetector] = []
    meter = EnergyMeter()

    def open_timed(settings: DetectConfig) -> Detector:
        timed.append(TimedDetector(open_detector(settings)))
        return timed[-1]

    with tempfile.TemporaryDirectory(prefix="perception-batch-") as folder:
        own = Job(job.drive, job.paths, Path(folder), job.config, job.cameras, stop=job.stop)
        outcome = run_drive(own, _AtStart(meter), open_with=open_timed)
        energy = meter.used()
    timing, images = outcome.manifest.timing, int(outcome.manifest.counts["frames_used"])
    if not images:
        raise LogError(job.paths[0], "has no frame that can be decoded in the part that is measured")
    work_s = max(float(timing["wall_s"]) - float(timing["startup_s"]), 1e-3)
    spans = timed[0].spans_s
    latency_ms = [1e3 * (stop - start) for start, stop in spans]
    shapes = [(int(h), int(w)) for h, w in outcome.manifest.model["input_hw"]]
    return _opened(timed[0].info) | {
        "batch_size_key": batch_size_key(timed[0].info, shapes),
        "images": images,
        "images_per_s": images / work_s,
        "startup_s": float(timing["startup_s"]),
        "device_busy": min(1.0, covered_s(spans) / work_s),
        "batch_p50_ms": float(np.percentile(latency_ms, 50)),
        "batch_p95_ms": float(np.percentile(latency_ms, 95)),
        "peak_host_mb": peak_host_mb(),
        "peak_cuda_mb": peak_cuda_mb(),
        "cpu_j_per_1000": None if energy.cpu_j is None else 1e3 * energy.cpu_j / images,
        "gpu_j_per_1000": None if energy.gpu_j is None else 1e3 * energy.gpu_j / images,
        "energy_absent": energy.absent,
    }


def _alone(job: Job, *, decoding: bool) -> dict[str, Any]:
    """Images a second of the device with its images ready and, with `decoding`, of all before it without a device."""
    config = job.config
    # No segment may cut a batch short: the same images come again and again.
    config = config.model_copy(update={"runs": config.runs.model_copy(update={"segment_s": 1e12})})
    out: dict[str, Any] = {}
    detectors: list[Detector] = [open_detector(config.detect)]
    threads = Threads(True, decode_workers(config), Profile())
    try:
        detectors += [detectors[0].copy() for _ in range(detectors[0].info.copies - 1)]
        pool: list[ReadyShot] = []
        with open_drive(job) as opened:
            source = prepared_frames(opened, config, detectors[0], threads)
            start, count = time.perf_counter(), 0
            with closed(source):
                for ready in source:
                    count += 1
                    if ready.view is not None and len(pool) < POOL_IMAGES:
                        pool.append(ready)
                    if not decoding and len(pool) == POOL_IMAGES:
                        break
            if decoding:
                out["decode_alone_per_s"] = count / max(time.perf_counter() - start, 1e-6)
                out["decode_workers"] = threads.workers
        out["device_alone_per_s"] = _device_alone(pool, detectors, config, threads)
    finally:
        for detector in detectors:
            detector.close()
    return out


def _device_alone(
    pool: list[ReadyShot], detectors: Sequence[Detector], config: RunConfig, threads: Threads
) -> float:
    size = detectors[0].info.batch_size * len(detectors)
    count = -(-max(min(ALONE_IMAGES, 2 * len(pool)), 2 * size) // size) * size

    def take(number: int) -> Iterator[ReadyShot]:
        return itertools.islice(itertools.cycle(pool), number)

    for warm in (True, False):
        start = time.perf_counter()
        for _ in boxes_of(take(size if warm else count), detectors, config, threads):
            pass
    return count / max(time.perf_counter() - start, 1e-6)


def covered_s(spans_s: Sequence[tuple[float, float]]) -> float:
    """Length of the union of intervals, s."""
    total, end = 0.0, -float("inf")
    for start, stop in sorted(spans_s):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def peak_host_mb() -> float:
    """The most resident memory that this process has held, 10^6 bytes."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):  # proc(5); unlike ru_maxrss it owes nothing to the parent
                return int(line.split()[1]) * 1024 / 1e6
    except (OSError, ValueError):
        pass
    import resource

    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    )


def peak_cuda_mb() -> float | None:
    """The most memory that PyTorch held on CUDA devices, 10^6 bytes; None where it used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return float(sum(torch.cuda.max_memory_reserved(index) for index in devices)) / 1e6


def main(source: str, target: str) -> int:
    """Read a request, measure, write the figures."""
    data = json.loads(Path(source).read_text(encoding="utf-8"))
    data["paths"] = tuple(data["paths"])
    data["cameras"] = None if data["cameras"] is None else tuple(data["cameras"])
    try:
        found = measure(Request(**data))
    except PerceptionBatchError as error:
        found = {"error": str(error), "kind": type(error).__name__}
    Path(target).write_text(json.dumps(found), encoding="utf-8")
    return 0


def to_json(request: Request) -> str:
    """As `main` reads it."""
    return json.dumps(asdict(request))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
