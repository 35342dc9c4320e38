"""The loops that a user would write (`plain_loop`) as rows of the benchmark, each in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception_batch.config import RunConfig
from perception_batch.energy import EnergyMeter
from perception_batch.process_cost import measure

_MODULE = [sys.executable, "-m", "perception_batch.plain_loop"]


@dataclass(frozen=True, slots=True)
class Loop:
    """One of them, ready to be measured again and again."""

    name: str
    """``plain``, ``informed`` or ``informed-fp32``."""
    model: str
    """What `YOLO` opens; empty where that could not be made."""
    paths: tuple[str, ...]
    """The log of one drive."""
    images: int
    """About so many from the start of the log; 0: all."""
    image_size: int
    """Long side of the network's input, px."""
    video: bool
    """Whether it also draws and encodes."""
    error: str = ""
    """Why it cannot be measured."""

    def measure(self) -> dict[str, Any]:
        """Figures as `batch_measurement` gives them, or ``error``. Steady: without imports, loading, the first timestep."""
        if self.error:
            return {"error": self.error}
        command = [*_MODULE, *self.paths, "--model", self.model, "--images", str(self.images)]
        command += ["--image-size", str(self.image_size)]
        command += [] if self.video else ["--no-video"]
        command += ["--fp32"] if self.name == "informed-fp32" else []
        meter = EnergyMeter()
        with tempfile.TemporaryDirectory(prefix="perception-batch-") as folder:
            try:
                meter.start()
                used = measure([*command, "--out", folder], Path(folder))
                energy = meter.used()
                said = json.loads(used.last_line)
            except (RuntimeError, OSError, ValueError) as error:
                return {"error": _last_words(error)}
        if not said["steady_images"]:
            return {
                "error": "it found too few images: it reads sensor_msgs/CompressedImage of logs that rosbags opens"
            }
        steady_s = max(float(said["steady_s"]), 1e-6)
        images_per_s = said["steady_images"] / steady_s
        out = {
            "backend": f"{self.name} loop",
            "precision": "",
            "device": "",
            "batch_size": 0,
            "copies": 1,
            "images": said["images"],
            "images_per_s": images_per_s,
            "startup_s": used.wall_s - steady_s,
            "peak_host_mb": used.peak_mb,
        }
        for key, joules in (("cpu_j_per_1000", energy.cpu_j), ("gpu_j_per_1000", energy.gpu_j)):
            out[key] = None if joules is None else 1e3 * joules / said["images"]
        return out


@contextmanager
def prepared_loops(
    names: Sequence[str], paths: tuple[Path, ...], config: RunConfig, images: int
) -> Iterator[tuple[Loop, ...]]:
    """The loops of these names; Ultralytics' export, which the informed ones run, lies in a temporary folder meanwhile."""
    weights = config.detect.model
    with tempfile.TemporaryDirectory(prefix="perception-batch-") as folder:
        exported, wrong, failed = "", "", ""
        if Path(weights).suffix != ".pt":
            wrong = "the loops run the weights themselves: give their .pt as the model"
        elif any(name.startswith("informed") for name in names):
            try:
                command = [*_MODULE, "--export", weights, str(Path(folder) / "informed")]
                exported = measure(command, Path(folder)).last_line
            except (RuntimeError, OSError) as error:
                failed = f"Ultralytics' OpenVINO export failed: {_last_words(error)}"
        yield tuple(
            Loop(
                name,
                weights if name == "plain" else exported,
                tuple(map(str, paths)),
                images,
                config.detect.image_size,
                config.render.video,
                wrong or (failed if name != "plain" else ""),
            )
            for name in names
        )


def _last_words(error: Exception) -> str:
    """Of a program's complaint the last line, which names the error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
