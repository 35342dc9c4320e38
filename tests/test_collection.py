"""A night over many drives: only what is missing, a bad drive stops no other, and all of it is accounted for."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches
from patch_runs import watch_detectors

from perception_batch import collection, pipeline
from perception_batch.cli import main
from perception_batch.collection import RunRequest, drives_of, job_of
from perception_batch.collection_work import CollectionWork
from perception_batch.config import load_config
from perception_batch.job import open_drive
from perception_batch.runs import EVENTS, FOLDER, Drive, lock_path, locked, read_events
from perception_batch.watching import watch

QUICK = ["--no-video", "--set", "detect.image_size=96", "--set", "write.timesteps=none", "--model"]
Night = Callable[..., tuple[int, str, str]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[PatchDetector]:
    """The detectors that were opened."""
    monkeypatch.setattr("perception_batch.drives_wanted.known_sha256", lambda _: "0" * 64)
    return watch_detectors(monkeypatch)


@pytest.fixture
def night(capsys: pytest.CaptureFixture[str], tmp_path: Path, opened: list[PatchDetector]) -> Night:
    """Runs over ``in`` into ``out``: (status, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        place = [tmp_path / "in", "--out", tmp_path / "out", *QUICK, tmp_path / "weights.pt"]
        status = main(["run", *map(str, (*place, *words))])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def make_drive(folder: Path, name: str, frames: int = 4) -> Path:
    camera = CameraSpec("cam", size=(96, 64), draw=patches, encoding="png", info=False)
    return write_log(folder, "mcap", [camera], frames=frames, name=name)


def collection_of(folder: Path, n: int) -> list[Path]:
    """So many drives, each a file of its own, with other bytes."""
    first = make_drive(folder, "drive_000")
    source = next(first.glob("*.mcap")) if first.is_dir() else first
    made = []
    for number in range(n):
        path = folder / f"night_{number:03d}" / f"d{number:03d}.mcap"
        path.parent.mkdir(parents=True)
        shutil.copyfile(source, path)
        made.append(path)
    shutil.rmtree(first) if first.is_dir() else first.unlink()
    return made


def damage(paths: list[Path]) -> list[str]:
    """Each in another way; gives the drives' names."""
    ways: list[Callable[[Path], object]] = [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"these are not the bytes you are looking for"),
        lambda p: p.write_bytes(p.read_bytes()[:60]),
        lambda p: p.write_bytes(b"\0" * p.stat().st_size),
        lambda p: p.write_bytes(p.read_bytes()[len(p.read_bytes()) // 2 :]),
        lambda p: p.write_bytes(p.read_bytes()[:8] + b"\xff" * 400 + p.read_bytes()[408:800]),
        lambda p: p.write_bytes(b"#ROSBAG V2.0\n and then nothing"),
        lambda p: p.write_bytes(b"SQLite format 3\0" + b"\0" * 200),
        lambda p: p.write_bytes(p.read_bytes()[:200]),
        lambda p: p.write_bytes(b"\x89MCAP0\r\n\x89MCAP0\r\n"),
    ]
    for path, way in zip(paths, ways, strict=False):
        way(path)
    return [path.stem for path in paths[: len(ways)]]


def events(out: Path) -> list[dict[str, Any]]:
    return list(read_events(out / FOLDER / EVENTS))


def status_of(out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["status", str(out), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_drives_that_are_damaged_stop_no_other_and_are_accounted_for(
    night: Night, tmp_path: Path, opened: list[PatchDetector], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = collection_of(tmp_path / "in", 24)
    bad = damage(paths[3:13])
    status, _, err = night()
    assert status == 3
    lines = [line for line in err.splitlines() if line]
    assert [line.split(": ")[2] for line in lines if ": error: " in line] == bad
    found = status_of(tmp_path / "out", capsys)
    assert (found["counts"]["done"], found["counts"]["failed"]) == (14, 10)
    assert {d["drive"] for d in found["drives"] if d["state"] == "failed" and d["detail"]} == set(bad)
    assert len(opened) == 1  # one detector for all
    assert opened[0].closed
    failed = [e["drive"] for e in events(tmp_path / "out") if e["event"] == "drive_failed"]
    assert failed == bad
    # Again: only those that failed are tried.
    detected = len(opened[0].batches)
    status, out, _ = night()
    assert status == 3
    assert out.count("already there") == 14
    assert sum(len(d.batches) for d in opened) == detected


def test_what_is_finished_is_not_even_opened(
    night: Night, tmp_path: Path, opened: list[PatchDetector], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection_of(tmp_path / "in", 3)
    assert night()[0] == 0

    def fail(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("perception_batch.pipeline.open_drive", fail)
    status, out, err = night()
    assert (status, err) == (0, "")
    assert out.count("already there, nothing to do") == 3
    assert len(opened) == 1
    # A setting that detection rests on is seen from outside too, and refused when the log is looked at.
    monkeypatch.setattr("perception_batch.pipeline.open_drive", open_drive)
    status, _, err = night("--set", "detect.image_size=64")
    assert status == 2
    assert err.count("detect.image_size") == 3


def test_files_that_were_copied_anew_are_looked_at_once(night: Night, tmp_path: Path) -> None:
    """Their fingerprint from outside is that of their bytes; a moved drive is the same drive."""
    path = collection_of(tmp_path / "in", 1)[0]
    assert night()[0] == 0
    (tmp_path / "in" / "elsewhere").mkdir()
    path.rename(tmp_path / "in" / "elsewhere" / path.name)
    assert "already there" in night()[1]
    with (tmp_path / "in" / "elsewhere" / path.name).open("ab") as stream:
        stream.write(b"more")
    status, _, err = night()
    assert status == 2
    assert "the log" in err


def test_changed_settings_of_fusion_redo_fusion_alone(
    night: Night, tmp_path: Path, opened: list[PatchDetector]
) -> None:
    collection_of(tmp_path / "in", 2)
    assert night()[0] == 0
    batches = len(opened[0].batches)
    status, out, _ = night("--set", "detect.score=0.85")
    assert status == 0
    assert out.count("done again from stored detections") == 2
    assert sum(len(d.batches) for d in opened) == batches
    assert night("--set", "detect.score=0.85")[1].count("already there") == 2


def test_dry_run_since_and_overwrite(night: Night, tmp_path: Path, opened: list[PatchDetector]) -> None:
    import os

    paths = collection_of(tmp_path / "in", 3)
    status, out, _ = night("--dry-run")
    assert status == 0
    assert out.splitlines()[-1] == "3 drives: 3 run"
    assert not opened
    assert not (tmp_path / "out").exists()
    os.utime(paths[0], (1e9, 1e9))
    assert night("--since", "1h")[0] == 0
    assert not (tmp_path / "out" / "d000").exists()
    out = night("--dry-run")[1]
    assert "3 drives: 1 run, 2 skip" in out
    assert "by the speed of earlier runs" in out
    assert "2 replace" in night("--dry-run", "--overwrite")[1]
    assert night("--since", "yesterday")[0] == 2
    (tmp_path / "out" / "d001" / "run.json").write_text("{")
    status, _, err = night()
    assert status == 3
    assert "--overwrite" in err
    assert night("--overwrite")[0] == 0


def test_others_at_work_are_left_alone(night: Night, tmp_path: Path) -> None:
    collection_of(tmp_path / "in", 2)
    with locked(lock_path(tmp_path / "out", "d000"), "d000"):
        assert night()[0] == 0
        assert not (tmp_path / "out" / "d000").exists()
        shutil.rmtree(tmp_path / "in" / "night_001")
        status, _, err = night()
        assert status == 75
        assert "works on it" in err
    assert night()[0] == 0
    assert [e["drive"] for e in events(tmp_path / "out") if e["event"] == "drive_waiting"] == ["d000"] * 2


def test_a_command_after_each_drive_and_figures(night: Night, tmp_path: Path) -> None:
    paths = collection_of(tmp_path / "in", 3)
    paths[1].write_bytes(b"no log")
    told = tmp_path / "told.txt"
    script = tmp_path / "tell.py"
    script.write_text(f"import sys\nopen({str(told)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n")
    figures = tmp_path / "night.prom"
    command = f"{sys.executable} {script} {{drive}} {{status}} {{exit_status}} {{action}}"
    assert night("--on-done", command, "--prometheus", figures)[0] == 3
    assert told.read_text().splitlines() == [
        "d000 complete 0 ran",
        "d001 failed 1 failed",
        "d002 complete 0 ran",
    ]
    text = figures.read_text()
    assert 'perception_batch_drives{state="done"} 2' in text
    assert 'perception_batch_drives{state="failed"} 1' in text
    assert "perception_batch_last_run_exit_status 3" in text
    status, _, err = night("--on-done", "no-such-command-here")
    assert (status, "--on-done no-such-command-here ended with 127" in err) == (3, True)
    assert "hook_failed" in {e["event"] for e in events(tmp_path / "out")}
    assert night("--on-done", "'")[0] == 2


def test_errors_that_pass_are_tried_again(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    collection_of(tmp_path / "in", 1)
    (tmp_path / "out" / FOLDER).mkdir(parents=True)  # a lone drive keeps no events otherwise
    left = 2

    def away(job: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return open_drive(job)

    monkeypatch.setattr(pipeline, "open_drive", away)
    assert night("--set", "runs.retry_wait_s=0")[0] == 0
    assert [e["failures"] for e in events(tmp_path / "out") if e["event"] == "retry"] == [1, 2]
    shutil.rmtree(tmp_path / "out")
    left = 2
    assert night("--set", "runs.retry_wait_s=0", "--set", "runs.retries=1")[0] == 1


def test_watching_takes_drives_once_they_have_stopped_growing(
    tmp_path: Path, opened: list[PatchDetector]
) -> None:
    config = load_config(
        None, ["detect.image_size=96", "render.video=false", "runs.quiet_s=10", "runs.unclosed_s=60"]
    )
    (tmp_path / "in").mkdir()
    request = RunRequest((tmp_path / "in",), tmp_path / "out", config, watch=True)
    whole = make_drive(tmp_path / "made", "first")
    source = next(whole.glob("*.mcap")) if whole.is_dir() else whole
    data = source.read_bytes()
    now = 0.0
    out = tmp_path / "out"

    def at(seconds: float) -> None:
        """What happens in the world while the watch sleeps."""
        nonlocal now
        now += 5
        log = tmp_path / "in" / "first.mcap"
        if now == 10:
            log.write_bytes(data[:1000])
        elif now == 30:  # still being written: nothing may have begun
            assert not (out / "first").exists()
            log.write_bytes(data)
        elif now == 35:
            assert not (out / "first").exists()
        elif now == 50:
            assert json.loads((out / "first" / "run.json").read_text())["status"] == "complete"
            (tmp_path / "in" / "dead.mcap").write_bytes(data[:-40])
        elif now == 100:
            assert not (out / "dead").exists()  # never closed
        assert seconds == 2.5

    with CollectionWork(request, lambda drive: job_of(request, drive)) as work:
        status = watch(work, lambda: drives_of(request), clock=lambda: now, sleep=at, rounds=26)
    assert status == 0
    assert (out / "dead" / "run.json").exists()
    finished = [e["drive"] for e in events(out) if e["event"] == "drive_finished"]
    assert finished == ["first", "dead"]
    assert len(opened) == 1


def test_a_wrong_place_for_results(night: Night, tmp_path: Path) -> None:
    collection_of(tmp_path / "in", 1)
    (tmp_path / "out").write_text("")
    assert night()[0] == 2


def test_the_job_of_a_drive(tmp_path: Path) -> None:
    request = RunRequest((tmp_path,), tmp_path / "out", load_config(None, []), start="1", overwrite=True)
    job = collection.job_of(request, Drive("a", (tmp_path / "a.mcap",)))
    assert (job.drive, job.start, job.overwrite, job.content) == ("a", "1", True, None)


def test_one_drive_alone_leaves_its_folder_only(night: Night, tmp_path: Path) -> None:
    collection_of(tmp_path / "in", 1)
    assert night()[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["d000"]
    assert night()[0] == 0  # done before: told from the drive's own files
    shutil.rmtree(tmp_path / "in")
    collection_of(tmp_path / "in", 2)
    assert night()[0] == 0
    assert (tmp_path / "out" / FOLDER / EVENTS).is_file()
    assert night()[0] == 0
    assert (tmp_path / "out" / FOLDER / EVENTS).is_file()
