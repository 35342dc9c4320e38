"""Segments by themselves, in any order and process, and by Ray: the tables are those of one run in one process."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import yaml
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch.cli import build_parser, main
from perception_batch.config import load_config
from perception_batch.devices import KeptDetector
from perception_batch.errors import LogError
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
from perception_batch.runs import EVENTS, FOLDER, read_events
from perception_batch.segment_work import detect_segment, prepare_drive

SETTINGS = ["detect.image_size=96", "render.video=false", "runs.segment_s=1", "runs.loss_limit_percent=50"]


def cameras() -> list[CameraSpec]:
    common: dict[str, Any] = {"draw": patches, "encoding": "png"}
    return [
        CameraSpec("front", size=(96, 64), **common),
        CameraSpec("left", size=(96, 64), phase_ms=12, yaw_deg=90, drop=(3, 4, 19), broken=(7, 25), **common),
        CameraSpec("wide", size=(64, 64), phase_ms=25, yaw_deg=-90, **common),
    ]


def tables(directory: Path) -> dict[str, bytes]:
    names = [p for p in directory.iterdir() if p.suffix in (".parquet", ".jsonl")]
    return {path.name: path.read_bytes() for path in names}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"), "mcap", cameras(), frames=40, ego_speed_mps=8.0)


@pytest.mark.parametrize(
    "setting", ["sync.rate_hz=4", "sync.policy=hold", "detect.tiles=2x1", "runs.segment_s=0.7"]
)
@pytest.mark.parametrize("threads", [True, False])
def test_segments_by_themselves_make_the_drive(
    log: Path, tmp_path: Path, setting: str, *, threads: bool
) -> None:
    config = load_config(None, [*SETTINGS, setting])
    whole = run_drive(Job("d", (log,), tmp_path / "whole", config), open_with=PatchDetector)
    job = Job("d", (log,), tmp_path / "parts", config)
    detector = PatchDetector(config.detect)
    with KeptDetector(config.detect, lambda _: detector) as kept:
        prepared = prepare_drive(job, kept)
        assert json.loads((job.directory / "run.json").read_text())["status"] == "unfinished"
        assert len(prepared.missing) >= 4
        for segment in reversed(prepared.missing):
            landed = detect_segment(prepared, segment, kept, threads=threads)
            assert Path(landed.path).is_file()
        detect_segment(prepared, prepared.missing[1], kept, threads=threads)  # twice does no harm
        assert prepare_drive(job, kept).missing == ()
        detector.batches.clear()
        done = run_drive(prepared.job, kept=kept)
    assert not detector.batches, "the run had to detect again"
    assert tables(done.directory) == tables(whole.directory)
    assert done.manifest.counts == whole.manifest.counts
    assert done.manifest.losses == whole.manifest.losses


def test_what_cannot_be_cut_is_left_to_the_run(log: Path, tmp_path: Path) -> None:
    for setting in ("sync.every=2", "sync.min_distance_m=1"):
        config = load_config(None, [*SETTINGS, setting])
        with KeptDetector(config.detect, PatchDetector) as kept:
            prepared = prepare_drive(Job("d", (log,), tmp_path, config), kept)
        assert (prepared.plan, prepared.missing) == ("", ())
    assert not (tmp_path / "d").exists()


def test_another_log_at_the_same_place_is_refused(log: Path, tmp_path: Path) -> None:
    config = load_config(None, SETTINGS)
    other = write_log(tmp_path / "other", "mcap", cameras(), frames=30, ego_speed_mps=8.0)
    with KeptDetector(config.detect, PatchDetector) as kept:
        prepared = prepare_drive(Job("d", (log,), tmp_path / "out", config), kept)
        with pytest.raises(LogError, match="another log"):
            detect_segment(replace(prepared, job=replace(prepared.job, paths=(other,))), 0, kept)


def test_overwriting_keeps_what_lands_from_now_on(log: Path, tmp_path: Path) -> None:
    config = load_config(None, SETTINGS)
    job = Job("d", (log,), tmp_path, config)
    run_drive(job, open_with=PatchDetector)
    before = tables(job.directory)
    detector = PatchDetector(config.detect)
    with KeptDetector(config.detect, lambda _: detector) as kept:
        assert prepare_drive(job, kept).plan == ""  # finished
        prepared = prepare_drive(replace(job, overwrite=True), kept)
        for segment in prepared.missing:
            detect_segment(prepared, segment, kept)
        images = sum(detector.batches)
        run_drive(prepared.job, kept=kept)
    assert images == sum(detector.batches) > 0
    assert tables(job.directory) == before


# ---------------------------------------------------------------------- by Ray


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts `ray_run.py` over ``in``; it does not outlive the test."""
    pytest.importorskip("ray")
    begun: list[subprocess.Popen[str]] = []
    program = Path(__file__).with_name("ray_run.py")

    def run() -> subprocess.Popen[str]:
        words = [str(program), str(tmp_path / "in"), str(tmp_path / "out"), "2", *SETTINGS]
        home = str(Path(main.__code__.co_filename).parent.parent)
        around = {**os.environ, "PYTHONPATH": os.pathsep.join([home, str(program.parent)])}
        pipe = subprocess.PIPE
        begun.append(
            subprocess.Popen([sys.executable, *words], stdout=pipe, stderr=pipe, text=True, env=around)
        )
        return begun[-1]

    yield run
    for process in begun:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def wait_for(journal: Path, count: int, event: str = "segment_landed") -> list[dict[str, Any]]:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        found = [e for e in read_events(journal) if e["event"] == event] if journal.exists() else []
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError("no segment landed in time")


def test_ray_leaves_the_tables_of_one_process_though_workers_are_killed(
    tmp_path: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    for name, frames in {"slow_a": 45, "dies_once": 22, "raises": 5, "fatal": 5}.items():
        write_log(tmp_path / "in", "mcap", cameras(), frames=frames, name=name, ego_speed_mps=8.0)
    (tmp_path / "in" / "bad.mcap").write_bytes(b"no log")
    journal = tmp_path / "out" / FOLDER / EVENTS
    running = start()
    own = psutil.Process(running.pid)
    first = wait_for(journal, 1)[0]
    os.kill(int(first["worker"].rpartition(":")[2]), signal.SIGKILL)
    commands = []
    for process in own.children(recursive=True):
        with suppress(psutil.Error):  # the killed one, on its way out
            commands.append(" ".join(process.cmdline()))
    _out, err = running.communicate(timeout=300)
    assert running.returncode == 3, err
    assert "Traceback" not in err
    seen = list(read_events(journal))
    ends = {e["drive"]: e["event"] for e in seen if e["event"] in ("drive_finished", "drive_failed")}
    good = dict.fromkeys(("slow_a", "dies_once"), "drive_finished")
    assert ends == good | dict.fromkeys(("bad", "raises", "fatal"), "drive_failed")
    assert [e for e in seen if e["event"] == "retry" and e["drive"] == "dies_once"]
    landed = [(e["drive"], e["segment"]) for e in seen if e["event"] == "segment_landed"]
    assert len(set(landed)) == len(landed) == 5 + 3
    assert len({e["worker"] for e in seen if e["event"] == "segment_landed"}) >= 2
    pages = [
        command for command in commands if "dashboard/dashboard.py" in command
    ]  # Ray starts it in any case
    assert all("--disable-frontend" in command for command in pages)
    for name in good:
        log = next((tmp_path / "in").glob(f"{name}*"))
        alone = run_drive(
            Job(name, (log,), tmp_path / "alone", load_config(None, SETTINGS)), open_with=PatchDetector
        )
        assert tables(tmp_path / "out" / name) == tables(alone.directory)
        assert not (tmp_path / "out" / name / ".segments").exists()
    assert "no such luck" in (tmp_path / "out" / FOLDER / "logs" / "raises.log").read_text()


def test_a_signal_stops_ray_and_all_that_it_has_started(
    tmp_path: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    write_log(tmp_path / "in", "mcap", cameras(), frames=90, name="slow_a")
    write_log(tmp_path / "in", "mcap", cameras(), frames=90, name="slow_b")
    running = start()
    wait_for(tmp_path / "out" / FOLDER / EVENTS, 1)
    processes = psutil.Process(running.pid).children(recursive=True)
    running.terminate()
    err = running.communicate(timeout=60)[1]
    assert running.returncode == 143, err
    _, left = psutil.wait_procs(processes, timeout=30)
    assert left == []
    states = [json.loads(p.read_text())["status"] for p in (tmp_path / "out").glob("*/run.json")]
    assert set(states) == {"unfinished"}
    # What landed counts: the same command by the local engine goes on.
    assert list((tmp_path / "out").glob("*/.segments/detect_*.zip"))


def test_the_example_job_is_a_command_of_ours() -> None:
    path = Path(__file__).parent.parent / "configs" / "ray_job.example.yaml"
    job = yaml.safe_load(path.read_text())
    program, *words = shlex.split(job["spec"]["entrypoint"])
    parsed = build_parser().parse_args(words)
    assert (program, parsed.command, parsed.engine) == ("perception-batch", "run", "ray")
    mounts = [
        job["spec"]["rayClusterSpec"]["headGroupSpec"],
        *job["spec"]["rayClusterSpec"]["workerGroupSpecs"],
    ]
    paths = {
        m["mountPath"] for g in mounts for c in g["template"]["spec"]["containers"] for m in c["volumeMounts"]
    }
    assert paths == {"/srv"}
    assert all(Path(str(place)).is_relative_to("/srv") for place in (*parsed.log, parsed.out, parsed.model))


def test_without_ray_it_is_said_how_to_get_it(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert main(["run", str(log), "--out", str(tmp_path), "--engine", "ray"]) == 2
    assert "perception_batch[ray]" in capsys.readouterr().err
