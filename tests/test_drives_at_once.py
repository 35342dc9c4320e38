"""Several drives at once, each in a process of its own: the tables of one at a time, whatever happens to a process."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch import collection, pipeline
from perception_batch.collection import RunRequest, drives_of, job_of
from perception_batch.collection_work import CollectionWork
from perception_batch.config import load_config
from perception_batch.drive_worker import Setup
from perception_batch.drives_at_once import work_at_once
from perception_batch.runs import EVENTS, FOLDER, read_events
from perception_batch.shared_machine import share_of_machine
from perception_batch.signals import Stopped, handled
from perception_batch.worker_process import WorkerProcess

SETTINGS = ["detect.image_size=96", "render.video=false", "runs.segment_s=1", "runs.keep_segments=true"]
_FAKE = (
    "import sys; sys.path[0] = {home!r}; sys.path.insert(1, "
    + repr(str(Path(__file__).parent))
    + "); import perception_batch.drive_worker as w; import worker_detector; w.open_detector = worker_detector.Faulty; "
    "sys.exit(w.main({handle}, {parent}))"
)


def start(index: int, setup: Setup) -> WorkerProcess:
    return WorkerProcess(index, setup, _FAKE)


def write_drives(folder: Path, names: dict[str, int]) -> None:
    camera = CameraSpec("cam", size=(96, 64), draw=patches, encoding="png", info=False)
    for name, frames in names.items():
        write_log(folder, "mcap", [camera], frames=frames, name=name)


def request_of(tmp_path: Path, out: str, *settings: str, **more: Any) -> RunRequest:
    config = load_config(None, [*SETTINGS, *settings])
    return RunRequest((tmp_path / "in",), tmp_path / out, config, **more)


def at_once(request: RunRequest, workers: int = 2) -> tuple[int, dict[str, str]]:
    with CollectionWork(request, lambda drive: job_of(request, drive)) as work:
        drives = drives_of(request)
        work.note_wanted(drives)
        fates = work_at_once(work, drives, workers, start)
    return work.tally.exit_status(), dict(fates)


def tables(directory: Path) -> dict[str, bytes]:
    names = [p for p in directory.iterdir() if p.suffix in (".parquet", ".jsonl")]
    return {path.name: path.read_bytes() for path in names}


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "open_detector", PatchDetector)
    monkeypatch.setattr("perception_batch.drives_wanted.known_sha256", lambda _: "0" * 64)


@pytest.mark.usefixtures("detector")
def test_two_at_once_leave_what_one_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables to the byte, events and figures; a drive that is damaged and one that kills its process stop no other."""
    write_drives(tmp_path / "in", {"a": 24, "b": 18, "c": 12, "fatal": 8, "raises": 7, "e": 5})
    (tmp_path / "in" / "bad.mcap").write_bytes(b"no log")
    told = tmp_path / "told.txt"
    script = tmp_path / "tell.py"
    script.write_text(f"import sys\nopen({str(told)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n")
    hook = (sys.executable, str(script), "{drive}", "{status}")
    figures = tmp_path / "night.prom"
    both = request_of(tmp_path, "both", on_done=hook, prometheus=figures)
    status, fates = at_once(both)
    assert status == 3
    bad = ("bad", "fatal", "raises")
    assert fates == {n: "failed" if n in bad else "done" for n in ("a", "b", "c", "e", *bad)}
    out, err = capsys.readouterr()
    assert {line.split(": ")[2] for line in err.splitlines() if ": error: " in line} == set(bad)
    assert "SIGSEGV" in err
    assert out.count("done\n") == 4
    assert sorted(told.read_text().splitlines()) == sorted(
        f"{n} {'failed' if n in bad else 'complete'}" for n in fates
    )
    text = figures.read_text()
    assert 'perception_batch_drives{state="done"} 4' in text
    assert 'perception_batch_drives{state="failed"} 3' in text
    seen = list(read_events(tmp_path / "both" / FOLDER / EVENTS))
    for name in fates:
        own = [e["event"] for e in seen if e.get("drive") == name and e["event"] != "segment_landed"]
        assert own == ["drive_started", "drive_failed" if name in bad else "drive_finished"], name
    assert {e["segment"] for e in seen if e.get("drive") == "a" and e["event"] == "segment_landed"} == {
        0,
        1,
        2,
    }
    assert len({e["pid"] for e in seen if e["event"] == "segment_landed"}) >= 2
    logs = tmp_path / "both" / FOLDER / "logs"
    assert "Fatal Python error: Segmentation fault" in (logs / "fatal.log").read_text()
    assert "no such luck" in (logs / "raises.log").read_text()
    assert "done" in (logs / "a.log").read_text()

    one = request_of(tmp_path, "one")
    with CollectionWork(one, lambda drive: job_of(one, drive)) as work:
        for drive in drives_of(one):
            if drive.name not in bad:
                assert work.work(drive, alone=False) == "done"
    for name in ("a", "b", "c", "e"):
        assert tables(tmp_path / "both" / name) == tables(tmp_path / "one" / name), name
        run = json.loads((tmp_path / "both" / name / "run.json").read_text())
        assert run["config"] == json.loads((tmp_path / "one" / name / "run.json").read_text())["config"]
    # Again: what is done is passed over, what failed is tried.
    assert at_once(request_of(tmp_path, "both"))[1]["a"] == "skipped"


@pytest.mark.usefixtures("detector")
def test_a_signal_stops_all_at_whole_segments(tmp_path: Path) -> None:
    write_drives(tmp_path / "in", {"slow_a": 60, "slow_b": 60})
    request = request_of(tmp_path, "out")
    journal = tmp_path / "out" / FOLDER / EVENTS
    pid = os.fork()
    if not pid:
        status = 98
        try:
            with handled():
                at_once(request)
        except Stopped as stop:
            status = stop.exit_status
        finally:
            os._exit(status)
    landed: set[str] = set()
    until = time.monotonic() + 60
    while len(landed) < 2 and time.monotonic() < until:
        time.sleep(0.05)
        if journal.exists():
            landed = {e["drive"] for e in read_events(journal) if e["event"] == "segment_landed"}
    assert landed == {"slow_a", "slow_b"}
    children = psutil.Process(pid).children(recursive=True)
    assert len(children) == 2
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
    assert not any(child.is_running() for child in children)
    for name in ("slow_a", "slow_b"):
        run = json.loads((tmp_path / "out" / name / "run.json").read_text())
        assert (run["status"], run["exit_status"]) == ("unfinished", 143)


@pytest.mark.usefixtures("detector")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    write_drives(tmp_path / "in", {"slow_a": 60, "slow_b": 60})
    request = request_of(tmp_path, "out")
    pid = os.fork()
    if not pid:
        at_once(request)
        os._exit(0)
    until = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("slow_*/run.json"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    children = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    gone, left = psutil.wait_procs(children, timeout=30)
    assert (len(gone), left) == (2, [])


@pytest.mark.usefixtures("detector")
def test_one_drive_to_do_needs_no_process(tmp_path: Path) -> None:
    write_drives(tmp_path / "in", {"a": 4, "b": 4})
    assert collection.run_all(request_of(tmp_path, "out")) == 0
    write_drives(tmp_path / "in", {"c": 4})

    def refuse(index: int, setup: Setup) -> WorkerProcess:
        raise AssertionError("started")

    request = request_of(tmp_path, "out")
    with CollectionWork(request, lambda drive: job_of(request, drive)) as work:
        assert work_at_once(work, drives_of(request), 4, refuse) == {
            "a": "skipped",
            "b": "skipped",
            "c": "done",
        }


@pytest.mark.usefixtures("detector")
def test_workers_of_one_drive_are_threads_that_decode(tmp_path: Path) -> None:
    write_drives(tmp_path / "in", {"a": 4})
    assert collection.run_all(request_of(tmp_path, "out", workers=3)) == 0
    assert json.loads((tmp_path / "out" / "a" / "run.json").read_text())["config"]["decode"]["workers"] == 3


def test_the_machine_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perception_batch.detect.cores.usable_cores", lambda: 16)
    settings = load_config(None, ["detect.device=cuda:0,cuda:1"]).detect
    shares = [share_of_machine(settings, k, 3) for k in range(3)]
    assert [share.device for share in shares] == ["cuda:0", "cuda:1", "cuda:0"]
    assert {(share.copies, share.threads) for share in shares} == {
        (2, 2)
    }  # 8 copies of 2 threads in one process
    own = load_config(None, ["detect.device=cpu", "detect.copies=5", "detect.threads=4"]).detect
    assert share_of_machine(own, 1, 3) == own
