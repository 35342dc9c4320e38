"""kill -9 at 25 random moments: tables and video are those of an uninterrupted run, and nothing that landed is made again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
from log_writer import CameraSpec, write_log
from patch_detector import patches

KILLS = 25


def pictures(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as video:
        return [(f.pts, f.to_ndarray(format="rgb24").tobytes()) for f in video.decode(video=0)]


def test_a_run_that_is_killed_again_and_again(tmp_path: Path) -> None:
    cameras = [
        CameraSpec("a", size=(160, 96), draw=patches, encoding="png", drop=(3, 40), broken=(7, 55)),
        CameraSpec("b", size=(128, 128), draw=patches, encoding="png", phase_ms=12, yaw_deg=90),
    ]
    log = write_log(tmp_path / "in", "mcap", cameras, frames=70, ego_speed_mps=8.0)
    done = subprocess.run(
        [sys.executable, "-c", _START, str(log), str(tmp_path), str(KILLS), "5"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["faults"] == []
    assert seen["killed"] == KILLS
    assert seen["finished"] >= 1
    states = {state for state, *_ in seen["stages"]}
    assert "unfinished" in states
    assert len({segments for _, segments, *_ in seen["stages"]}) >= 2  # before and after segments
    assert len({parts for *_, parts in seen["stages"]}) >= 2  # before and after parts of the video
    assert len(seen["render"]) == KILLS // 5 + 1
    whole, out = (tmp_path / name / log.stem for name in ("whole", "out"))
    assert pictures(out / "annotated.mp4") == pictures(whole / "annotated.mp4")
    assert not (out / ".segments").exists()
    assert not (out / ".video_parts").exists()
    assert not list(out.rglob("*.partial"))


_START = (
    "import sys; sys.path.insert(0, '.'); import runpy; runpy.run_path('killed_runs.py', run_name='__main__')"
)
