"""The pictures' quality in a run's ``frames.parquet``: what it is, that nothing but the pictures decides it, and runs without it."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches
from patch_runs import job
from stops_after import StopsAfter

from perception_batch.api import load_run
from perception_batch.cli import main
from perception_batch.decode import picture_quality
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
from perception_batch.replay import fuse_again, render_again
from perception_batch.runs.segment_content import segment_key
from perception_batch.runs.segment_tables import content_of_tables, tables_of
from perception_batch.types import Image

COLUMNS = ("sharpness", "dark_share", "bright_share")
FRAMES = 16
NO_VIDEO = "render.video=false"


def foggy(camera: CameraSpec, index: int) -> Image:
    """Ever more blurred."""
    return np.asarray(cv2.GaussianBlur(patches(camera, index), (0, 0), 0.5 + index / 4), np.uint8)


def dusk(camera: CameraSpec, index: int) -> Image:
    """Ever darker."""
    return (patches(camera, index) * (1 - index / FRAMES)).astype(np.uint8)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clear, a blurred and a dark camera, with lost, broken and doubled pictures."""
    common: dict[str, Any] = {"size": (160, 96), "encoding": "png"}
    cameras = [
        CameraSpec("clear", draw=patches, broken=(3,), **common),
        CameraSpec("dusk", draw=dusk, phase_ms=12, drop=(5,), **common),
        CameraSpec(
            "foggy", draw=foggy, phase_ms=25, rate_hz=20, **common
        ),  # every second picture is not used
    ]
    return write_log(tmp_path_factory.mktemp("log"), "mcap", cameras, frames=FRAMES, ego_speed_mps=8.0)


def rows(directory: Path) -> list[dict[str, Any]]:
    return pq.read_table(directory / "frames.parquet").to_pylist()


def done(work: Job, **options: Any) -> Path:
    return run_drive(work, open_with=PatchDetector, **options).directory


@pytest.fixture(scope="module")
def run(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return done(job(log, tmp_path_factory.mktemp("run"), "runs.segment_s=0.5"))


def test_a_used_picture_has_its_quality_and_no_other_frame_has(log: Path, run: Path) -> None:
    draw = {"clear": patches, "dusk": dusk, "foggy": foggy}
    seen = dict.fromkeys(draw, 0)
    kinds = set()
    for row in rows(run):
        name, values = row["camera"], [row[column] for column in COLUMNS]
        kinds.add(row["status"])
        if row["status"] != "used":
            assert values == [None] * 3
            continue
        assert values.count(None) == 0
        spec = CameraSpec(name, size=(160, 96), phase_ms={"clear": 0, "dusk": 12, "foggy": 25}[name])
        spec = replace(spec, rate_hz=20.0 if name == "foggy" else 10.0)
        (index,) = [k for k in range(2 * FRAMES) if spec.stamp_ns(k) == row["frame_stamp_ns"]]
        image = draw[name](spec, index)
        expected = picture_quality(image, image.shape[:2])
        assert values == [expected.sharpness, expected.dark_share, expected.bright_share]
        seen[name] += 1
    assert kinds == {"used", "unused", "undecodable"}
    assert all(seen.values())
    table = pq.read_table(run / "frames.parquet")
    assert table.schema.names[-3:] == list(COLUMNS)
    assert all(table.schema.field(name).type == pa.float32() for name in COLUMNS)


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (("detect.batch_size=1",), {}),
        (("detect.batch_size=7", NO_VIDEO), {"threads": False}),
        (("decode.workers=3", "detect.image_size=96"), {}),
        (("cameras.foggy.roi_px=[32,0,160,96]", "cameras.dusk.rotate_deg=180", NO_VIDEO), {}),
        (("decode.reduced=true", "detect.tiles=2x1", NO_VIDEO), {}),
    ],
)
def test_nothing_but_the_picture_decides_it(
    log: Path, run: Path, tmp_path: Path, overrides: Sequence[str], changes: dict[str, Any]
) -> None:
    other = done(job(log, tmp_path, *overrides, **changes))
    assert (other / "frames.parquet").read_bytes() == (run / "frames.parquet").read_bytes()


def test_a_held_picture_stands_once_with_its_quality(log: Path, tmp_path: Path) -> None:
    directory = done(job(log, tmp_path, "sync.policy=hold", NO_VIDEO))
    used = [row for row in rows(directory) if row["status"] == "used"]
    assert len({(row["camera"], row["frame_stamp_ns"]) for row in used}) == len(used)
    assert all(row["sharpness"] is not None for row in used)


@pytest.mark.parametrize("video", [True, False])
def test_a_run_that_was_stopped_has_what_its_segments_kept(
    log: Path, run: Path, tmp_path: Path, *, video: bool
) -> None:
    work = job(log, tmp_path, "runs.segment_s=0.5", *(() if video else (NO_VIDEO,)))
    with pytest.raises(KeyboardInterrupt):
        run_drive(work, StopsAfter(4), open_with=PatchDetector)
    assert list(work.directory.glob(".segments/*.zip"))
    assert (done(work) / "frames.parquet").read_bytes() == (run / "frames.parquet").read_bytes()


def test_segments_of_an_earlier_version_are_made_again(
    log: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    work = job(log, tmp_path, "runs.segment_s=0.5", NO_VIDEO)
    with monkeypatch.context() as earlier, pytest.raises(KeyboardInterrupt):
        earlier.setattr(
            "perception_batch.runs.segment_store.segment_key",
            lambda *a, **k: replace(segment_key(*a, **k), schema=1),
        )
        run_drive(work, StopsAfter(4), open_with=PatchDetector)
    assert list(work.directory.glob(".segments/*.zip"))
    assert (done(work) / "frames.parquet").read_bytes() == (run / "frames.parquet").read_bytes()
    assert "foreign: made with another schema; made again" in caplog.text


def without_quality(directory: Path) -> None:
    """A run as versions before these columns left it."""
    path = directory / "frames.parquet"
    pq.write_table(pq.read_table(path).drop_columns(list(COLUMNS)), path)


def test_all_that_reads_a_run_reads_one_without_these_columns(
    log: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old" / "drive", tmp_path / "new" / "drive"
    shutil.copytree(run, old)
    shutil.copytree(run, new)
    without_quality(old)
    stored = (old / "frames.parquet").read_bytes()
    assert load_run(old).frames.num_rows == load_run(new).frames.num_rows
    truth = {"frames": [{"stamp_ns": rows(new)[0]["frame_stamp_ns"], "objects": []}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    said = []
    for directory in (old, new):
        assert main(["status", str(directory.parent)]) == 0
        assert main(["compare", str(directory), str(run), "--json"]) == 0
        assert main(["evaluate", str(directory), "--truth", str(tmp_path / "truth.json")]) == 0
        assert main(["report", str(directory)]) == 0
        labels = [
            "labels",
            str(directory),
            "--out",
            str(tmp_path / directory.parent.name / "set"),
            "--format",
            "yolo",
        ]
        assert main(labels) == 0
        said.append(capsys.readouterr().out.replace(directory.parent.name, "X"))
    assert said[0] == said[1]
    pages = [(d / "report.html").read_text() for d in (old, new)]
    assert ["sharpness, 5" in page for page in pages] == [False, True]
    fuse_again(old, ["detect.score=0.5"])
    render_again(old, ["render.width_px=320"])
    assert (old / "frames.parquet").read_bytes() == stored  # what was not measured is not made up


def test_fuse_and_render_keep_them(run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "drive"
    shutil.copytree(run, kept)
    fuse_again(kept, ["detect.score=0.5"])
    render_again(kept, ["render.width_px=320"])
    fuse_again(kept, ["detect.score=0.6"], out=tmp_path / "again")
    for directory in (kept, tmp_path / "again"):
        assert (directory / "frames.parquet").read_bytes() == (run / "frames.parquet").read_bytes()


def test_a_segment_with_half_a_quality_is_damaged(log: Path, tmp_path: Path) -> None:
    work = job(log, tmp_path, "runs.segment_s=0.5", "runs.keep_segments=true", NO_VIDEO)
    path = sorted(done(work).glob(".segments/*.zip"))[0]
    with zipfile.ZipFile(path) as archive:
        tables = {
            name: pq.read_table(pa.BufferReader(archive.read(f"{name}.parquet")))
            for name in ("shots", "boxes", "frames", "poses", "losses")
        }
    content = content_of_tables(tables)
    assert tables_of(content)["shots"].equals(tables["shots"])
    shots = tables["shots"]
    place = shots.schema.get_field_index("dark_share")
    for bad in (None, 2.0, float("nan")):
        values = shots.column("dark_share").to_pylist()
        values[next(i for i, v in enumerate(values) if v is not None)] = bad
        changed = shots.set_column(place, shots.schema.field(place), pa.array(values, pa.float32()))
        with pytest.raises(ValueError, match=r"known in part|shares of 0\.\.1"):
            content_of_tables({**tables, "shots": changed})
