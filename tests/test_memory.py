"""Memory does not grow with the length of a drive."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector

from perception_batch.config import load_config
from perception_batch.job import Job
from perception_batch.pipeline import run_drive

_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from patch_detector import PatchDetector
from perception_batch.config import load_config
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
config = load_config(None, ["detect.image_size=160", "decode.queue_mb=8"])
class Light(PatchDetector):
    def copy(self):
        return self
run_drive(Job("drive", (Path(sys.argv[2]),), Path(sys.argv[3]), config), open_with=Light)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_drive_ten_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    peaks_mb = []
    for frames in (40, 400):
        log = write_log(tmp_path / f"in{frames}", "mcap", [CameraSpec("cam", size=(320, 192))], frames=frames)
        words = [
            sys.executable,
            "-c",
            _RUN,
            str(Path(__file__).parent),
            str(log),
            str(tmp_path / f"out{frames}"),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
        assert found is not None, done.stdout
        peaks_mb.append(int(found[1]) * 1024 / 1e6)
    assert peaks_mb[1] - peaks_mb[0] < 64, peaks_mb


def test_queues_hold_no_more_bytes_than_they_may(tmp_path: Path) -> None:
    """With a slow detector the images before it pile up, to the bound and no further."""
    bound_mb = 1.0

    class Slow(PatchDetector):
        def copy(self) -> Slow:
            return self

        def detect(self, *arguments: Any) -> Any:
            time.sleep(0.02)
            return super().detect(*arguments)

    config = load_config(None, ["detect.image_size=320", f"decode.queue_mb={bound_mb}", "render.video=false"])
    log = write_log(tmp_path / "in", "mcap", [CameraSpec("cam", size=(320, 192))], frames=60)
    outcome = run_drive(Job("drive", (log,), tmp_path / "out", config), open_with=Slow)
    peaks_mb = {name: wait["peak_bytes"] / 1e6 for name, wait in outcome.manifest.timing["waits"].items()}
    assert max(peaks_mb.values()) <= 1.1 * bound_mb, peaks_mb
    assert peaks_mb["decode"] > 0.7 * bound_mb, peaks_mb
