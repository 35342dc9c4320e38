"""What a run imports, and when: nothing that it does not need, and the heavy part beside the model's loading."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from log_writer import write_log
from patch_detector import PatchDetector
from patch_runs import cameras, job

from perception_batch.pipeline import run_drive
from perception_batch.start_up import import_numpy, many_imports, scheduled_as_batch

TESTS = Path(__file__).parent
UNNEEDED = {
    "IPython",
    "PIL",
    "fsspec",
    "matplotlib",
    "pandas",
    "pyarrow.compute",
    "ray",
    "requests",
    "rich",
    "scipy",
    "supervision",
    "tkinter",
    "torch",
    "trackers",
    "ultralytics",
    "upath",
}
"""What runs on some machines, for some logs, for other commands: each takes 0.03 to 2 s."""
OF_TRACKERS = {"PIL", "requests", "rich", "scipy", "supervision", "trackers"}
"""What tracks in the images of uncalibrated cameras bring with them."""


def imported_by(code: str, *words: object) -> set[str]:
    """Of `UNNEEDED` and ``av``, what a program of its own has imported at its end."""
    program = f"import sys\n{code}\nprint(sorted({UNNEEDED | {'av'}!r} & set(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    last = done.stdout.splitlines()[-1]
    return {name.strip("'") for name in last.strip("[]").split(", ") if name}


RUN = """
from perception_batch.cli import main
assert main(["run", *sys.argv[1:]]) == 0
"""
PATCHES = """
from patch_detector import PatchDetector
from perception_batch import detect
detect.open_detector = PatchDetector
"""
SMALL = ("--set", "detect.image_size=160", "--set", "render.width_px=320")


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_run_imports_no_more_than_it_needs(tmp_path: Path, calibrated: bool) -> None:
    several = [replace(camera, info=calibrated) for camera in cameras()]
    log = write_log(tmp_path / "in", cameras=several, frames=30, ego_speed_mps=5.0)
    words = (log, "--out", tmp_path / "out", *SMALL)
    found = imported_by(PATCHES + RUN, *words, "--no-video")
    assert "trackers" in found or calibrated
    brought = set() if calibrated else OF_TRACKERS
    assert found <= brought
    objects = (tmp_path / "out" / log.name / "objects.parquet").stat().st_size
    assert objects > 1000
    assert imported_by(PATCHES + RUN, *words, "--overwrite") - brought == {"av"}


@pytest.mark.real
@pytest.mark.parametrize("name", ["nuscenes_sample.bag", "nuscenes_n008"])
def test_a_run_by_an_exported_model_imports_no_more_than_it_needs(
    recordings: Path, weights: Path, tmp_path: Path, name: str
) -> None:
    words = (recordings / name, "--model", weights, "--set", "detect.backend=openvino", "--no-video", "--out")
    imported_by(RUN, *words, tmp_path / "first")  # exports, unless that was done before
    assert imported_by(RUN, *words, tmp_path / "out") <= (OF_TRACKERS if name == "nuscenes_n008" else set())


def test_what_draws_and_writes_is_not_imported_before_the_log_is_open() -> None:
    code = (
        "import sys\nfrom perception_batch import collection, pipeline, console\n"
        "later = {f'perception_batch.{name}' for name in ('chain', 'drive_run', 'fusion', 'render', 'track')}\n"
        "print(sorted((later | {'pyarrow'}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Watched(PatchDetector):
    """Notes in which thread it was asked for a view."""

    asked: list[str]

    def view(self, *args: Any, **more: Any) -> Any:
        self.asked.append(threading.current_thread().name)
        return super().view(*args, **more)


@pytest.mark.parametrize("threads", [True, False])
def test_the_detector_is_made_ready_beside_the_imports(tmp_path: Path, threads: bool) -> None:
    log = write_log(tmp_path / "in", cameras=cameras(), frames=4)
    opened: list[Watched] = []

    def open_watched(settings: Any) -> Watched:
        opened.append(Watched(settings))
        opened[-1].asked = []
        return opened[-1]

    work = job(log, tmp_path / "out", threads=threads)
    assert run_drive(work, open_with=open_watched).action == "ran"
    assert opened[0].asked[0] == ("flow-ready" if threads else "MainThread")
    assert run_drive(work, open_with=open_watched).action == "skipped"
    assert opened[1].asked == []  # of what is done already nothing is made ready
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flow-")]


def test_numpy_and_opencv_start_no_threads_and_the_environment_is_as_before() -> None:
    code = (
        "import os, sys\nfrom perception_batch.start_up import import_numpy\n"
        "import_numpy()\nassert not any('THREADS' in name for name in os.environ)\n"
        "assert {'numpy', 'cv2'} <= set(sys.modules)\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    env = {k: v for k, v in os.environ.items() if "THREADS" not in k}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "1"


def test_who_says_how_many_threads_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    import_numpy()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_the_garbage_collector_is_as_before() -> None:
    with many_imports():
        assert not gc.isenabled()
        with many_imports():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with many_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(("loaded", "kept"), [("", True), ("sys.modules['torch'] = sys", False)])
def test_at_the_end_nothing_is_collected_unless_pytorch_is_there(loaded: str, kept: bool) -> None:
    code = (
        "import atexit, gc, sys\nfrom perception_batch.start_up import leave_quickly\n"
        f"atexit.register(lambda: print(gc.get_freeze_count() > 0))\nleave_quickly()\n{loaded}\n"
        "assert not gc.get_freeze_count()"  # not before
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(kept)


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux has this policy")
def test_threads_begun_meanwhile_are_a_batch_jobs() -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(os.sched_getscheduler(0))

    def in_a_thread() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    with scheduled_as_batch():
        look()
        in_a_thread()
        with scheduled_as_batch():
            pass
        look()
    look()
    in_a_thread()
    assert seen == [os.SCHED_BATCH] * 3 + [os.SCHED_OTHER] * 2


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux has this policy")
def test_a_policy_that_was_given_stays() -> None:
    code = (
        "import os\nfrom perception_batch.start_up import scheduled_as_batch\n"
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        "with scheduled_as_batch():\n    print(os.sched_getscheduler(0) == os.SCHED_IDLE)\n"
        "print(os.sched_getscheduler(0) == os.SCHED_IDLE)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_a_refusal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    with scheduled_as_batch():
        pass
