"""One drive through the whole chain: accounts, equality, faults, what an interrupted run leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pandas as pd
import pytest
from log_writer import write_log
from patch_detector import PatchDetector
from patch_runs import TABLES, cameras, job, watch_detectors, write_drive

from perception_batch import outputs, pipeline, shots
from perception_batch.job import Outcome
from perception_batch.objects import STEPS_AT_ONCE, ObjectMaker
from perception_batch.pipeline import run_drive
from perception_batch.sync import Synchronizer


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> list[PatchDetector]:
    return watch_detectors(monkeypatch)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_drive(tmp_path / "in")


def tables(directory: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(directory / f"{name}.parquet") for name in TABLES}


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "timesteps.jsonl").read_text().splitlines()]


def flow_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("flow-")]


def check_accounts(outcome: Outcome) -> None:
    counts = outcome.manifest.counts
    t = tables(outcome.directory)
    assert counts["frames_in_log"] == len(t["frames"])
    assert (
        counts["frames_in_log"]
        == counts["frames_used"] + counts["frames_unused"] + counts["frames_undecodable"]
    )
    assert dict(t["frames"].status.value_counts()) == {
        name: counts[f"frames_{name}"]
        for name in ("used", "unused", "undecodable")
        if counts[f"frames_{name}"]
    }
    assert not t["frames"].duplicated(["camera", "frame_stamp_ns", "log_ns"]).any()
    assert (t["frames"].query("status == 'unused'").timestep == -1).all()
    assert (t["frames"].query("status != 'unused'").timestep >= 0).all()


def test_every_frame_is_accounted_for_and_the_files_agree(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    outcome = run_drive(job(log, tmp_path / "out"))
    check_accounts(outcome)
    t, steps = tables(outcome.directory), lines(outcome.directory)
    assert outcome.manifest.status == "complete"
    counts = outcome.manifest.counts
    assert (counts["frames_in_log"], counts["frames_undecodable"], counts["timesteps"]) == (57, 2, 20)
    broken = t["frames"].query("status == 'undecodable'")
    assert list(broken.timestep) == [7, 15]
    assert set(broken.reason) == {"broken_png"}
    assert [s["index"] for s in steps] == list(range(20))
    status = [s["cameras"]["cam_left"]["status"] for s in steps]
    assert [i for i, s in enumerate(status) if s == "missing"] == [3, 4, 11]
    assert [i for i, s in enumerate(status) if s == "undecodable"] == [7, 15]
    loss = [x for x in outcome.manifest.losses if x["reason"] == "broken_png"]
    assert [(x["topic"], x["count"]) for x in loss] == [("/cam_left/image_raw/compressed", 2)]
    # joins: every line's detection is a row, every observation points to a detection and an object
    boxes = t["detections"].set_index(["timestep", "camera", "detection"])
    for step in steps:
        for name, camera in step["cameras"].items():
            for d in camera["detections"]:
                row = boxes.loc[(step["index"], name, d["detection"])]
                assert row.score == pytest.approx(d["score"], abs=1e-4)
                assert row.x1 == pytest.approx(d["box_px"][0], abs=0.01)
    assert len(t["observations"]) == len(t["detections"])
    seen = t["observations"].dropna(subset=["object"])
    observed = t["objects"].query("not filled")
    keys = set(zip(observed.timestep, observed.object, strict=True))
    assert set(zip(seen.timestep, seen.object.astype(int), strict=True)) == keys
    # where the left camera lost a frame, hindsight knows where its object was
    filled = t["objects"].query("filled")
    assert {3, 4, 11} & set(filled.timestep) <= set(filled.timestep) <= {3, 4, 7, 11, 15}
    assert set(filled.track_id) <= set(observed.track_id)
    assert sorted(t["tracks"].track_id) == sorted(set(t["objects"].track_id.dropna().astype(int)))
    assert counts["tracks"] == len(t["tracks"])
    with av.open(str(outcome.directory / "annotated.mp4")) as video:
        pts = [f.pts for f in video.decode(video=0)]
    assert pts == [round((s["stamp_ns"] - steps[0]["stamp_ns"]) * 9e-5) for s in steps]
    assert detectors[0].closed
    assert not flow_threads()
    assert not list(outcome.directory.glob("*.partial"))


def test_boxes_are_where_the_patches_were_drawn(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    t = tables(run_drive(job(log, tmp_path / "out")).directory)
    front = t["detections"].query("camera == 'cam_front' and label == 'car'")
    assert len(front) == 20
    for row in front.itertuples():
        left = 160 // 8 + (row.timestep * 3) % 80
        assert [row.x1, row.y1, row.x2, row.y2] == pytest.approx([left, 48, left + 26, 48 + 19], abs=2)


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        ((), {"threads": False}),
        (("decode.workers=1",), {}),
        (("decode.workers=5", "decode.queue_mb=0.05"), {}),
        (("detect.batch_size=1",), {}),
        (("detect.batch_size=16",), {}),
        (("detect.batch_size=5", "runs.segment_s=0.7"), {}),
    ],
)
def test_threads_batches_and_queues_do_not_change_a_byte(
    log: Path,
    tmp_path: Path,
    detectors: list[PatchDetector],
    overrides: tuple[str, ...],
    changes: dict[str, Any],
) -> None:
    whole = run_drive(job(log, tmp_path / "a")).directory
    other = run_drive(job(log, tmp_path / "b", *overrides, **changes)).directory
    for name in (*(f"{t}.parquet" for t in TABLES), "timesteps.jsonl", "rig.json"):
        assert (whole / name).read_bytes() == (other / name).read_bytes(), name


def test_batches_hold_one_shape_and_never_cross_a_segment(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    run_drive(job(log, tmp_path / "out", "detect.batch_size=8", "runs.segment_s=0.5"))
    # Four segments of five cycles. Of one shape 8, 9, 9, 9 images (ten less the lost ones), of the other five.
    assert sorted(detectors[0].batches) == sorted([8, 8, 1, 8, 1, 8, 1, 5, 5, 5, 5])


def _fail_after(n: int, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = [0]

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] > n:
            raise OSError(f"call {calls[0]} fails")
        return function(*args, **kwargs)

    return failing


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("n", [0, 9, 19])
@pytest.mark.parametrize("stage", ["read", "decode", "detect", "fuse", "draw", "write"])
def test_a_failing_stage_ends_the_drive_and_leaves_no_thread(
    log: Path,
    tmp_path: Path,
    detectors: list[PatchDetector],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    n: int,
    threads: bool,
) -> None:
    if stage == "read":
        monkeypatch.setattr(Synchronizer, "push", _fail_after(n, Synchronizer.push))
    elif stage == "decode":
        monkeypatch.setattr(shots, "decode_frame", _fail_after(n, shots.decode_frame))
    elif stage == "detect":
        monkeypatch.setattr(pipeline, "open_detector", lambda s: PatchDetector(s, fail_at=n))
    elif stage == "fuse":
        monkeypatch.setattr(ObjectMaker, "push", _fail_after(n // STEPS_AT_ONCE, ObjectMaker.push))
    elif stage == "draw":
        monkeypatch.setattr(outputs.Mosaic, "draw", _fail_after(n, outputs.Mosaic.draw))
    else:
        monkeypatch.setattr(
            outputs.ResultTableWriter, "write", _fail_after(n, outputs.ResultTableWriter.write)
        )
    work = job(log, tmp_path / "out", threads=threads)
    with pytest.raises(OSError, match=r"call \d+ fails|the device fell off the bus") as caught:
        run_drive(work)
    if threads and stage != "write":
        first = {"read": "read", "decode": "decode", "detect": "detect", "fuse": "fuse", "draw": "fuse"}[
            stage
        ]
        assert f"in stage {first!r}" in caught.value.__notes__
    assert not flow_threads()
    assert not list(work.directory.glob("*.partial"))
    manifest = json.loads((work.directory / "run.json").read_text())
    assert (manifest["status"], manifest["exit_status"]) == ("failed", 1)
    for name in ("detections", "frames"):
        pd.read_parquet(work.directory / f"{name}.parquet")  # what was whole can be read


class _Interrupting(pipeline.Progress):
    """Ctrl-C after some images."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, images: int) -> None:
        self.left -= images
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [0, 12, 30])
def test_ctrl_c_keeps_what_is_whole_and_the_next_run_is_complete(
    log: Path, tmp_path: Path, detectors: list[PatchDetector], after: int
) -> None:
    work = job(log, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run_drive(work, _Interrupting(after))
    assert not flow_threads()
    manifest = json.loads((work.directory / "run.json").read_text())
    assert (manifest["status"], manifest["exit_status"]) == ("unfinished", 130)
    c = manifest["counts"]
    assert c["frames_in_log"] == c["frames_used"] + c["frames_unused"] + c["frames_undecodable"]
    steps = lines(work.directory)
    assert len(steps) == c["timesteps"] > 0
    assert len(pd.read_parquet(work.directory / "frames.parquet")) == c["frames_in_log"]
    with av.open(str(work.directory / "annotated.mp4")) as video:
        assert 0 < sum(1 for _ in video.decode(video=0)) <= len(steps)
    again = run_drive(work)
    clean = run_drive(job(log, tmp_path / "clean"))
    assert again.action == "ran"
    for name in (*(f"{t}.parquet" for t in TABLES), "timesteps.jsonl"):
        assert (again.directory / name).read_bytes() == (clean.directory / name).read_bytes(), name


def test_a_camera_that_lost_too_much_makes_the_run_partial(
    log: Path, tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    outcome = run_drive(job(log, tmp_path / "out", "runs.loss_limit_percent=0.5"))
    assert (outcome.exit_status, outcome.manifest.status) == (3, "partial")
    assert any("cam_left lost 11.8 %" in note for note in outcome.notes)


def test_start_and_stop_cut_by_stamp(log: Path, tmp_path: Path, detectors: list[PatchDetector]) -> None:
    whole = run_drive(job(log, tmp_path / "whole"))
    first = whole.manifest.log["first_stamp_ns"]
    ways = [("0.5", "1.2"), (str(first + 500_000_000), str(first + 1_200_000_000))]
    parts = [run_drive(job(log, tmp_path / f"p{i}", start=a, stop=b)) for i, (a, b) in enumerate(ways)]
    frames = tables(parts[0].directory)["frames"]
    assert frames.equals(tables(parts[1].directory)["frames"])
    assert frames.frame_stamp_ns.between(first + 500_000_000, first + 1_200_000_000, inclusive="left").all()
    everything = tables(whole.directory)["frames"]
    inside = everything.frame_stamp_ns.between(first + 500_000_000, first + 1_200_000_000, inclusive="left")
    assert len(frames) == inside.sum()
    assert (frames.time_s >= 0.5).all()
    check_accounts(parts[0])


def test_one_upside_down_camera_gives_the_boxes_of_the_original_image(
    tmp_path: Path, detectors: list[PatchDetector]
) -> None:
    log = write_log(tmp_path / "in", "bag1", cameras(), frames=5)
    plain = tables(run_drive(job(log, tmp_path / "a")).directory)["detections"]
    turned = tables(run_drive(job(log, tmp_path / "b", "cameras.cam_front.rotate_deg=180")).directory)[
        "detections"
    ]
    columns = ["x1", "y1", "x2", "y2"]
    assert (plain[columns] - turned[columns]).abs().max().max() < 2


@pytest.mark.parametrize("container", ["mcap", "sqlite3", "bag1"])
def test_every_container_gives_the_same_tables(
    tmp_path: Path, detectors: list[PatchDetector], container: Any
) -> None:
    reference = run_drive(
        job(write_log(tmp_path / "m", "mcap", cameras(), frames=8), tmp_path / "a")
    ).directory
    log = write_log(tmp_path / "in", container, cameras(), frames=8)
    other = run_drive(job(log, tmp_path / "b")).directory
    for name in ("detections.parquet", "frames.parquet", "timesteps.jsonl"):
        assert (reference / name).read_bytes() == (other / name).read_bytes()


def test_ego_motion_moves_late_cameras(tmp_path: Path, detectors: list[PatchDetector]) -> None:
    """At 8 m/s a camera that fires 25 ms late stands 0.2 m further on; objects are told at the timestep."""
    still = write_log(tmp_path / "s", "mcap", cameras(), frames=6, name="still")
    driven = write_log(tmp_path / "d", "mcap", cameras(), frames=6, ego_speed_mps=8.0)
    alone = ("track.lag_s=0", "track.confirm=1", "track.confirm_score=0")
    a = tables(run_drive(job(still, tmp_path / "a", *alone)).directory)
    b = tables(run_drive(job(driven, tmp_path / "b", *alone)).directory)
    assert len(b["ego"]) > 20
    assert not len(a["ego"])
    offset = b["detections"].frame_stamp_ns - b["detections"].stamp_ns
    assert (offset / 1e6).abs().max() > 10
    # One timestep alone has no past and no hindsight: what differs is where its cameras stood.
    first = [t["objects"].query("timestep == 0 and not filled").set_index("object").x_m for t in (a, b)]
    assert len(first[0]) == len(first[1]) > 0
    assert 0.05 < (first[1] - first[0]).abs().max() < 0.3


def test_nothing_is_written_beside_the_log(log: Path, tmp_path: Path, detectors: list[PatchDetector]) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in log.parent.rglob("*"))
    run_drive(job(log, tmp_path / "out"))
    assert sorted((p, p.stat().st_mtime_ns) for p in log.parent.rglob("*")) == before
