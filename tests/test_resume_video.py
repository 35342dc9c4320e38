"""A run that was stopped while its video was drawn draws the rest only, and ends with the same video, packet by packet."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches
from stops_after import StopsAfter

from perception_batch.config import load_config
from perception_batch.errors import WriteError
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
from perception_batch.render import Mosaic
from perception_batch.replay import redo, render_again
from perception_batch.types import Detections
from perception_batch.write import video_join

FRAMES = 45  # 4.5 s: five segments of 1 s
SETTINGS = [
    "detect.image_size=160",
    "render.width_px=320",
    "render.per_camera=true",
    "runs.segment_s=1",
    "runs.loss_limit_percent=50",
]
Packet = tuple[int, int, int, bool, bytes]


class Restless(PatchDetector):
    """Another device: its scores are a little lower."""

    def detect(self, images: Any, views: Any, keep_score: Any) -> list[Detections]:
        found = super().detect(images, views, keep_score)
        return [Detections(b.xyxy, (b.score * 0.999).astype(np.float32), b.class_id) for b in found]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras with drops and broken images, driving, so that the bird's-eye view has trails."""
    common: dict[str, Any] = {"draw": patches, "encoding": "png"}
    cameras = [
        CameraSpec("front", size=(160, 96), **common),
        CameraSpec(
            "left", size=(160, 96), phase_ms=12, yaw_deg=90, drop=(3, 4, 19), broken=(7, 25), **common
        ),
    ]
    return write_log(tmp_path_factory.mktemp("log"), "mcap", cameras, frames=FRAMES, ego_speed_mps=8.0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Indices of the timesteps whose pictures are drawn."""
    seen: list[int] = []
    draw = Mosaic.draw

    def watched(self: Mosaic, tiles: Any, result: Any) -> Any:
        seen.append(result.index)
        return draw(self, tiles, result)

    monkeypatch.setattr(Mosaic, "draw", watched)
    return seen


def job(log: Path, out: Path, *overrides: str, **changes: Any) -> Job:
    return Job("drive", (log,), out, load_config(None, [*SETTINGS, *overrides]), **changes)


def stopped(work: Job, after: int, **options: Any) -> Path:
    with pytest.raises(KeyboardInterrupt):
        run_drive(work, StopsAfter(after), **{"open_with": PatchDetector, **options})
    return work.directory


def packets(path: Path) -> list[Packet]:
    with av.open(str(path)) as video:
        found = [p for p in video.demux(video=0) if p.size]
        return [(p.pts or 0, p.dts or 0, p.duration or 0, p.is_keyframe, bytes(p)) for p in found]


def videos(directory: Path) -> dict[str, list[Packet]]:
    paths = [directory / "annotated.mp4", *sorted((directory / "annotated_cameras").iterdir())]
    assert len(paths) == 3
    return {path.name: packets(path) for path in paths}


def pictures(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as video:
        return [(f.pts or 0, f.to_ndarray(format="rgb24").tobytes()) for f in video.decode(video=0)]


def parts(directory: Path) -> list[str]:
    return sorted(p.stem for p in (directory / ".video_parts").glob("*.json"))


@pytest.fixture(scope="module")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not stopped."""
    work = job(log, tmp_path_factory.mktemp("whole"))
    return run_drive(work, open_with=PatchDetector).directory


def steps(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "timesteps.jsonl").read_text().splitlines()]


def test_a_whole_run(whole: Path) -> None:
    found = packets(whole / "annotated.mp4")
    assert len(found) == len(steps(whole)) == len(pictures(whole / "annotated.mp4"))
    assert sum(key for _, _, _, key, _ in found) == 5  # one a segment
    assert not (whole / ".video_parts").exists()


@pytest.mark.parametrize("threads", [True, False])
def test_only_what_is_missing_is_drawn(
    log: Path, tmp_path: Path, whole: Path, drawn: list[int], *, threads: bool
) -> None:
    work = job(log, tmp_path, threads=threads)
    stopped(work, 15)
    directory = stopped(work, 36)
    landed = parts(directory)
    assert landed == ["part_00000", "part_00001", "part_00002"]
    drawn.clear()
    done = run_drive(work, open_with=PatchDetector)
    assert drawn == list(range(30, len(steps(whole))))
    assert videos(done.directory) == videos(whole)
    assert pictures(done.directory / "annotated.mp4") == pictures(whole / "annotated.mp4")
    assert not (done.directory / ".video_parts").exists()
    # Nor decoded: of the images whose boxes are stored, only those that are drawn.
    assert done.manifest.timing["stages"]["decode"]["items"] < 2 * (FRAMES - 29)


def test_a_run_that_was_killed_before_its_last_word_draws_nothing(
    log: Path, tmp_path: Path, whole: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    work = job(log, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(video_join, "_copy", full)
        with pytest.raises(WriteError, match="disk is full") as caught:
            run_drive(work, open_with=PatchDetector)
    assert caught.value.exit_status == 75
    assert json.loads((work.directory / "run.json").read_text())["status"] == "failed"
    assert not list(work.directory.glob("annotated*"))
    drawn.clear()
    done = run_drive(work, open_with=PatchDetector)
    assert drawn == []
    assert videos(done.directory) == videos(whole)


@pytest.mark.parametrize("override", ["render.crf=30", "detect.score=0.6", "render.bird_eye_range_m=30"])
def test_other_settings_draw_all(log: Path, tmp_path: Path, drawn: list[int], override: str) -> None:
    stopped(job(log, tmp_path / "cut"), 36)
    drawn.clear()
    done = run_drive(job(log, tmp_path / "cut", override), open_with=PatchDetector)
    assert len(drawn) == len(steps(done.directory))
    other = run_drive(job(log, tmp_path / "other", override), open_with=PatchDetector)
    assert videos(done.directory) == videos(other.directory)


def test_a_device_that_finds_otherwise(
    log: Path, tmp_path: Path, drawn: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    work = job(log, tmp_path)
    stopped(work, 36)
    for segment in (2, 3):  # lost, and found a little otherwise now
        (work.directory / ".segments" / f"detect_{segment:05d}.zip").unlink(missing_ok=True)
    drawn.clear()
    done = run_drive(work, open_with=Restless)
    assert "part_00002.json: was drawn from other results" in caplog.text
    assert sorted(drawn) == list(range(20, len(steps(done.directory))))  # each once: segment 2 at the end
    found = videos(done.directory)
    assert len(found["annotated.mp4"]) == len(steps(done.directory))
    render_again(done.directory, [])
    assert videos(done.directory) == found


def test_render_that_was_stopped_goes_on(log: Path, tmp_path: Path, whole: Path, drawn: list[int]) -> None:
    done = run_drive(job(log, tmp_path), open_with=PatchDetector)
    before = videos(done.directory)
    with pytest.raises(KeyboardInterrupt):
        render_again(done.directory, ["render.crf=30"], progress=StopsAfter(36))
    assert videos(done.directory) == before == videos(whole)
    assert len(parts(done.directory)) == 3
    drawn.clear()
    render_again(done.directory, ["render.crf=30"])
    assert drawn == list(range(30, len(steps(whole))))
    assert not (done.directory / ".video_parts").exists()
    with pytest.raises(KeyboardInterrupt):
        render_again(done.directory, [], progress=StopsAfter(36))
    drawn.clear()
    redone = run_drive(job(log, tmp_path), redo=redo, open_with=PatchDetector)  # other settings again
    assert redone.action == "redid"
    assert len(drawn) == len(steps(whole))
    assert videos(redone.directory) == before
    with pytest.raises(KeyboardInterrupt):
        render_again(done.directory, ["render.crf=31"], progress=StopsAfter(36))
    assert run_drive(job(log, tmp_path), redo=redo, open_with=PatchDetector).action == "skipped"
    assert not (done.directory / ".video_parts").exists()


def test_parts_go_with_the_video(log: Path, tmp_path: Path, drawn: list[int]) -> None:
    work = job(log, tmp_path)
    directory = stopped(work, 36)
    drawn.clear()
    run_drive(job(log, tmp_path, overwrite=True), open_with=PatchDetector)
    assert len(drawn) == len(steps(directory))
    stopped(job(log, tmp_path / "no"), 36)
    done = run_drive(job(log, tmp_path / "no", "render.video=false"), open_with=PatchDetector)
    assert not [*done.directory.glob("annotated*"), *done.directory.glob(".video_parts")]
