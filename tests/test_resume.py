"""A run that was stopped goes on: nothing that landed is detected twice, and the tables are those of a whole run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches
from stops_after import StopsAfter

from perception_batch.config import load_config
from perception_batch.errors import LockedError, WriteError
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
from perception_batch.replay import fuse_again, redo, render_again
from perception_batch.runs import EventLog, SegmentStore, lock_path, locked, read_events

FRAMES = 40  # 4 s: four segments of 1 s
SETTINGS = ["detect.image_size=160", "render.width_px=320", "runs.segment_s=1", "runs.loss_limit_percent=50"]
NO_VIDEO = "render.video=false"


def tables(directory: Path) -> dict[str, bytes]:
    """Every table's bytes, and the lines."""
    names = sorted(p.name for p in directory.iterdir() if p.suffix in (".parquet", ".jsonl"))
    return {name: (directory / name).read_bytes() for name in (*names, "rig.json")}


def pictures(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as video:
        return [(f.pts, f.to_ndarray(format="rgb24").tobytes()) for f in video.decode(video=0)]


class Counting(PatchDetector):
    """Counts images over all instances."""

    images = 0

    def detect(self, images: Any, views: Any, keep_score: Any) -> Any:
        type(self).images += len(images)
        return super().detect(images, views, keep_score)


@pytest.fixture
def detector() -> type[Counting]:
    return type("Fresh", (Counting,), {"images": 0})


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cameras of two shapes, drops and broken images, driving, over four seconds."""
    common: dict[str, Any] = {"draw": patches, "encoding": "png"}
    cameras = [
        CameraSpec("front", size=(160, 96), **common),
        CameraSpec(
            "left", size=(160, 96), phase_ms=12, yaw_deg=90, drop=(3, 4, 19), broken=(7, 25), **common
        ),
        CameraSpec("wide", size=(128, 128), phase_ms=25, yaw_deg=-90, **common),
    ]
    return write_log(tmp_path_factory.mktemp("log"), "mcap", cameras, frames=FRAMES, ego_speed_mps=8.0)


def job(log: Path, out: Path, *overrides: str, **changes: Any) -> Job:
    return replace(Job("drive", (log,), out, load_config(None, [*SETTINGS, *overrides])), **changes)


def landed(directory: Path) -> list[str]:
    folder = directory / ".segments"
    return sorted(p.name for p in folder.glob("*.zip")) if folder.is_dir() else []


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("video", [True, False])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    log: Path, tmp_path: Path, detector: type[Counting], *, video: bool, threads: bool
) -> None:
    extra = () if video else (NO_VIDEO,)
    whole = run_drive(job(log, tmp_path / "whole", *extra), open_with=detector)
    images, detector.images = detector.images, 0
    journal = EventLog(tmp_path / "events.jsonl")
    for stop in (18, 26):
        work = job(log, tmp_path / "cut", *extra, threads=threads)
        with pytest.raises(KeyboardInterrupt):
            run_drive(work, StopsAfter(stop), open_with=detector, events=journal)
        assert json.loads((work.directory / "run.json").read_text())["status"] == "unfinished"
    first = landed(work.directory)
    assert first  # fusion looks 1 s back: timestep 26 is out when more than segment 0 has landed
    again = run_drive(job(log, tmp_path / "cut", *extra), open_with=detector, events=journal)
    assert again.manifest.status == "complete"
    assert tables(again.directory) == tables(whole.directory)
    assert again.manifest.counts == whole.manifest.counts
    assert again.manifest.losses == whole.manifest.losses
    assert again.manifest.sync == whole.manifest.sync
    if video:
        assert pictures(again.directory / "annotated.mp4") == pictures(whole.directory / "annotated.mp4")
    events = [event["segment"] for event in read_events(journal.path)]
    assert sorted(events) == sorted(set(events)) == [0, 1, 2, 3]
    assert landed(again.directory) == []
    assert not (again.directory / ".segments").exists()
    # Detected more than once is at most what had not landed when it was stopped.
    assert images <= detector.images < 2 * images


def test_what_has_landed_is_neither_decoded_nor_detected(
    log: Path, tmp_path: Path, detector: type[Counting]
) -> None:
    done = run_drive(job(log, tmp_path / "out", NO_VIDEO, "runs.keep_segments=true"), open_with=detector)
    assert len(landed(done.directory)) == 4
    (done.directory / "run.json").write_text(
        (done.directory / "run.json").read_text().replace('"status": "complete"', '"status": "unfinished"')
    )
    before, detector.images = tables(done.directory), 0
    again = run_drive(job(log, tmp_path / "out", NO_VIDEO), open_with=detector)
    assert detector.images == 0
    assert "decode" not in {n for n, s in again.manifest.timing["stages"].items() if s["items"]}
    assert tables(again.directory) == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "missing", "fewer"])
def test_a_segment_that_is_not_whole_is_made_again(
    log: Path, tmp_path: Path, detector: type[Counting], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run_drive(job(log, tmp_path / "whole", NO_VIDEO), open_with=detector)
    work = job(log, tmp_path / "out", NO_VIDEO)
    with pytest.raises(KeyboardInterrupt):
        run_drive(work, StopsAfter(26), open_with=detector)
    path = work.directory / ".segments" / "detect_00000.zip"
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
    elif damage == "other":
        path.write_bytes((path.parent / "detect_00001.zip").read_bytes())
    elif damage == "missing":
        path.unlink()
    else:  # whole, of this plan, and not what the log gives
        from perception_batch.runs import SegmentContent, read_plan
        from perception_batch.runs.segment_store import Made

        plan = read_plan(work.directory)
        assert plan is not None
        store = SegmentStore(work.directory, plan, Made("0" * 64, "patches", "fp32"))
        stored = store.read(0)
        assert stored is not None
        steps = stored.content.timesteps
        store.write(0, SegmentContent((*steps[:4], *steps[5:])))
    again = run_drive(work, open_with=detector)
    assert tables(again.directory) == tables(whole.directory)
    if damage != "missing":
        assert [r for r in caplog.records if "detect_00000.zip" in r.message], caplog.text


def test_overwrite_begins_anew(log: Path, tmp_path: Path, detector: type[Counting]) -> None:
    work = job(log, tmp_path / "out", NO_VIDEO)
    with pytest.raises(KeyboardInterrupt):
        run_drive(work, StopsAfter(26), open_with=detector)
    detector.images = 0
    run_drive(replace(work, overwrite=True), open_with=detector)
    assert detector.images == 3 * FRAMES - 3 - 2


def test_a_full_disk_while_a_segment_lands(
    log: Path, tmp_path: Path, detector: type[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SegmentStore.write
    full = True

    def refuse(self: SegmentStore, segment: int, *rest: Any) -> Path:
        if full and segment == 1:
            raise WriteError("the disk is full", exit_status=75)
        return write(self, segment, *rest)

    monkeypatch.setattr(SegmentStore, "write", refuse)
    work = job(log, tmp_path / "out", NO_VIDEO)
    with pytest.raises(WriteError, match="full") as caught:
        run_drive(work, open_with=detector)
    assert caught.value.exit_status == 75
    assert json.loads((work.directory / "run.json").read_text())["status"] == "failed"
    assert landed(work.directory) == ["detect_00000.zip"]
    full = False
    again = run_drive(work, open_with=detector)
    whole = run_drive(job(log, tmp_path / "whole", NO_VIDEO), open_with=detector)
    assert tables(again.directory) == tables(whole.directory)


def test_two_runs_on_one_output_exclude_each_other(
    log: Path, tmp_path: Path, detector: type[Counting]
) -> None:
    work = job(log, tmp_path / "out", NO_VIDEO)
    with locked(lock_path(tmp_path / "out", "drive"), "drive"), pytest.raises(LockedError) as caught:
        run_drive(work, open_with=detector)
    assert caught.value.exit_status == 75
    assert not work.directory.exists()
    done = run_drive(work, redo=redo, open_with=detector)
    with locked(lock_path(tmp_path / "out", "drive"), "drive"):
        with pytest.raises(LockedError):
            fuse_again(done.directory, ["detect.score=0.4"])
        with pytest.raises(LockedError):
            render_again(done.directory, ["render.width_px=480"])
        assert fuse_again(done.directory, ["detect.score=0.4"], out=tmp_path / "other").action == "redid"
    assert fuse_again(done.directory, ["detect.score=0.4"]).action == "redid"


def test_a_run_killed_in_its_first_moment_goes_on(
    log: Path, tmp_path: Path, detector: type[Counting]
) -> None:
    work = job(log, tmp_path / "out", NO_VIDEO)
    work.directory.mkdir(parents=True)
    (work.directory / "run.json.partial").write_bytes(b"{")
    assert run_drive(work, open_with=detector).manifest.status == "complete"
    assert not list(work.directory.glob("*.partial"))
