"""Memory does not grow with the length of a drive."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from log_writer import CameraSpec, write_log

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
