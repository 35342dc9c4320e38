"""A finished run again: skipped, fused or drawn anew, refused by name; what is not ours is left alone."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from patch_detector import PatchDetector
from patch_runs import job, watch_detectors, write_drive

from perception_batch.errors import ConfigError, WriteError
from perception_batch.pipeline import run_drive
from perception_batch.replay import fuse_again, redo, render_again

DERIVED = ("objects.parquet", "observations.parquet", "tracks.parquet", "timesteps.jsonl", "rig.json")


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> list[PatchDetector]:
    return watch_detectors(monkeypatch)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_drive(tmp_path / "in")


def test_the_same_run_again_does_nothing(log: Path, tmp_path: Path, detectors: list[PatchDetector]) -> None:
    first = run_drive(job(log, tmp_path / "out"))
    stamp = (first.directory / "detections.parquet").stat().st_mtime_ns
    second = run_drive(job(log, tmp_path / "out", "decode.workers=1"), redo=redo)
    assert (second.action, second.exit_status) == ("skipped", 0)
    assert (first.directory / "detections.parquet").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "override",
    ["detect.score=0.85", "detect.classes=[person]", "fuse.box_sigma_px=9", "ontology.car.size_lwh_m=[9,3,4]",
     "cameras.cam_front.mask=[[[0,0],[160,0],[160,96],[0,96]]]", "fuse.ground_z_m=-0.4"],
)  # fmt: skip
def test_changed_fusion_settings_redo_fusion_as_a_whole_run_would(
    log: Path, tmp_path: Path, detectors: list[PatchDetector], override: str
) -> None:
    before = run_drive(job(log, tmp_path / "out"))
    kept = {n: (before.directory / n).read_bytes() for n in ("detections.parquet", "frames.parquet")}
    plain = {n: (before.directory / n).read_bytes() for n in DERIVED}
    again = run_drive(job(log, tmp_path / "out", override), redo=redo)
    clean = run_drive(job(log, tmp_path / "clean", override))
    assert again.action == "redid"
    assert again.manifest.counts == clean.manifest.counts
    for name, data in kept.items():
        assert (again.directory / name).read_bytes() == data, f"{name} was rewritten"
    for name in DERIVED:
        assert (again.directory / name).read_bytes() == (clean.directory / name).read_bytes(), name
    assert any((again.directory / n).read_bytes() != plain[n] for n in DERIVED), "the setting did nothing"
    pictures = [_pictures(d / "annotated.mp4") for d in (again.directory, clean.directory)]
    assert pictures[0] == pictures[1]


def _pictures(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as video:
        return [(f.pts, f.to_ndarray(format="yuv420p").tobytes()) for f in video.decode(video=0)]


def test_fuse_into_another_folder_leaves_the_run_alone(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    run = run_drive(job(log, tmp_path / "out")).directory
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    fuse_again(run, ["detect.score=0.85"], out=tmp_path / "fused")
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before
    clean = run_drive(job(log, tmp_path / "clean", "detect.score=0.85")).directory
    for name in DERIVED:
        assert (tmp_path / "fused" / name).read_bytes() == (clean / name).read_bytes(), name


def test_fuse_and_render_refuse_what_they_cannot_change(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    run = run_drive(job(log, tmp_path / "out")).directory
    with pytest.raises(ConfigError, match=r"cannot change detect\.image_size"):
        fuse_again(run, ["detect.image_size=320"])
    with pytest.raises(ConfigError, match="below keep_score"):
        fuse_again(run, ["detect.score=0.01"])
    with pytest.raises(ConfigError, match=r"cannot change detect\.score"):
        render_again(run, ["detect.score=0.5"])


def test_render_again_draws_other_pictures_at_the_same_times(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    run = run_drive(job(log, tmp_path / "out")).directory
    first = _pictures(run / "annotated.mp4")
    render_again(run, [])
    assert _pictures(run / "annotated.mp4") == first
    render_again(run, ["render.width_px=320"])
    smaller = _pictures(run / "annotated.mp4")
    assert [pts for pts, _ in smaller] == [pts for pts, _ in first]
    assert len(smaller[0][1]) < len(first[0][1])
    moved = log.parent.parent / "moved"
    moved.mkdir()
    log.rename(moved / log.name)
    with pytest.raises(Exception, match="--log-root"):
        render_again(run, [])
    render_again(run, [], log_root=moved)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("detect.image_size=96", "detect.image_size"),
        ("sync.tolerance_ms=10", "sync.tolerance_ms"),
        ("detect.keep_score=0.1", "detect.keep_score"),
        ("cameras.cam_front.rotate_deg=180", "cameras.cam_front.rotate_deg"),
        ("read.clock=log", "read.clock"),
    ],
)
def test_changed_detection_settings_are_refused_by_name(
    log: Path, tmp_path: Path, detectors: list[PatchDetector], override: str, named: str
) -> None:
    run_drive(job(log, tmp_path / "out"))
    with pytest.raises(WriteError, match=named.replace(".", r"\.")) as caught:
        run_drive(job(log, tmp_path / "out", override), redo=redo)
    assert caught.value.exit_status == 2
    assert run_drive(job(log, tmp_path / "out", override, overwrite=True), redo=redo).action == "ran"


def test_a_folder_that_is_no_run_is_left_alone(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    theirs = tmp_path / "out" / "drive"
    theirs.mkdir(parents=True)
    (theirs / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(WriteError, match="is no run"):
            run_drive(job(log, tmp_path / "out", overwrite=overwrite))
    assert (theirs / "thesis.tex").read_text() == "years of work"


def test_overwrite_keeps_files_that_are_not_ours(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    run = run_drive(job(log, tmp_path / "out")).directory
    (run / "notes.txt").write_text("mine")
    run_drive(job(log, tmp_path / "out", overwrite=True))
    assert (run / "notes.txt").read_text() == "mine"
