"""Runs against the truth folder of a simulated drive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate.made import CAR, CLASSES, Box, write_run
from simulate.truth_rows import STAGGER, STEP, T0, Rows, box_of, rows_of, write_folder

from perception_batch.errors import LogError
from perception_batch.evaluate import evaluate
from perception_batch.evaluate.report import MergeFigures, PositionFigures, SyncFigures, TrackFigures
from perception_batch.evaluate.truth import read_truth


def test_what_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "out" / "truth", rows_of())
    truth = read_truth(tmp_path / "out", CLASSES)  # the folder that holds it will do
    assert truth.knows_pictures
    assert [f.stamp_ns for f in truth.frames] == [T0 + i * STEP for i in range(4)]
    assert truth.object_names == ("1", "2", "3")
    assert truth.frames[1].center_m.tolist() == [[19, 2, 0.8], [24, 2, 0.8], [29, 2, 0.8]]
    assert [(p.frame, p.camera, p.stamp_ns) for p in truth.pictures] == [
        (i, c, T0 + i * STEP + STAGGER[c]) for i in range(4) for c in "ab"
    ]
    a, b = truth.pictures[:2]
    assert a.box_px.tolist() == [list(box_of(k)) for k in (1, 2, 3)]
    assert b.ids.tolist() == [0, 1]  # the third is wholly hidden
    assert (a.classes == CAR).all()


def a_run(path: Path, frame_stamps: list[dict[str, int]]) -> Path:
    """A run that found everything, at the stamp of camera a, from pictures with these stamps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    steps: list[tuple[int, list[Box], list[dict[str, Any]]]] = []
    for stamps in frame_stamps:
        stamp = stamps.get("a", min(stamps.values()))
        boxes = [
            Box(c, box_of(k), score=0.9 - 0.1 * k, object=k)
            for c in stamps
            for k in ((1, 2, 3) if c == "a" else (1, 2))
        ]
        objects = [
            {
                "object": k,
                "track_id": 10 + k,
                "label": "car",
                "x_m": 15.0 + 5 * k - 10 * (stamp - T0) / 1e9,
                "y_m": 2.0,
                "z_m": 0.8,
                "cov_xx": 0.1,
                "cov_xy": 0.0,
                "cov_yy": 0.1,
                "filled": False,
            }
            for k in (1, 2, 3)
        ]
        steps.append((stamp, boxes, objects))
    write_run(path, steps)
    table = pq.read_table(path / "timesteps.parquet")
    rows = [
        {**row, "offset_ns": frame_stamps[row["timestep"]][row["camera"]] - row["stamp_ns"]}
        for row in table.to_pylist()
        if row["camera"] in frame_stamps[row["timestep"]]
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path / "timesteps.parquet")
    return path


def together(cycle: int) -> dict[str, int]:
    return {c: T0 + cycle * STEP + s for c, s in STAGGER.items()}


def test_a_perfect_run(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "truth", rows_of())
    report = evaluate(a_run(tmp_path / "run", [together(i) for i in range(4)]), folder)
    assert isinstance(report.sync, SyncFigures)
    assert (report.sync.exact, report.sync.timesteps, report.sync.true_sets_made) == (4, 4, 4)
    assert isinstance(report.merges, MergeFigures)
    assert (report.merges.true_pairs, report.merges.f1) == (8, 1)
    assert isinstance(report.positions, PositionFigures)
    assert report.positions.range_error_largest < 1e-9
    assert report.positions.coverage_95 == 1
    assert isinstance(report.tracks, TrackFigures)
    assert (report.tracks.idf1, report.tracks.mota) == (1, 1)


def test_positions_are_those_of_the_timesteps_stamp(tmp_path: Path) -> None:
    """A timestep that takes camera b's stamp, 30 ms after the cycle: the cars are 0.3 m nearer by then."""
    folder = write_folder(tmp_path / "truth", rows_of())
    report = evaluate(a_run(tmp_path / "run", [{"b": together(i)["b"]} for i in range(3)]), folder)
    assert isinstance(report.positions, PositionFigures)
    assert report.positions.position_error_p95_m < 1e-9


def test_frames_of_two_cycles_in_one_timestep(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "truth", rows_of())
    mixed = {"a": together(1)["a"], "b": together(2)["b"]}
    report = evaluate(a_run(tmp_path / "run", [together(0), mixed, {"a": together(3)["a"]}]), folder)
    assert isinstance(report.sync, SyncFigures)
    assert (report.sync.exact, report.sync.mixed, report.sync.short) == (1, 1, 1)


def test_a_camera_whose_clock_is_wrong_is_known_by_its_own_stamps(tmp_path: Path) -> None:
    def late_clock(rows: Rows) -> None:
        for row in [*rows["timesteps"], *rows["boxes"]]:
            if row["camera"] == "b":
                row["stamp_ns"] += 10 * STEP

    folder = write_folder(tmp_path / "truth", rows_of(), late_clock)
    stamps = [{"a": together(i)["a"], "b": together(i)["b"] + 10 * STEP} for i in range(4)]
    report = evaluate(a_run(tmp_path / "run", stamps), folder)
    assert isinstance(report.sync, SyncFigures)
    assert report.sync.exact == 4
    # One that groups by the wrong stamps finds nothing of what belongs together.
    report = evaluate(a_run(tmp_path / "other", [together(i) for i in range(4)]), folder)
    assert isinstance(report.sync, SyncFigures)
    assert (report.sync.exact, report.sync.unknown) == (0, 4)


def test_a_frozen_picture_belongs_to_no_set(tmp_path: Path) -> None:
    def freeze(rows: Rows) -> None:
        rows["timesteps"][3].update(belongs=False, status="frozen", true_ns=T0)

    folder = write_folder(tmp_path / "truth", rows_of(), freeze)
    report = evaluate(a_run(tmp_path / "run", [together(i) for i in range(4)]), folder)
    assert isinstance(report.sync, SyncFigures)
    assert (report.sync.exact, report.sync.mixed) == (3, 1)
    assert report.matched == 4


def test_a_dropped_picture_is_in_no_set_and_cannot_be_found(tmp_path: Path) -> None:
    def drop(rows: Rows) -> None:
        rows["timesteps"][3].update(belongs=False, status="dropped", messages=0, log_ns=0)
        rows["boxes"] = [r for r in rows["boxes"] if (r["cycle"], r["camera"]) != (1, "b")]

    folder = write_folder(tmp_path / "truth", rows_of(), drop)
    assert len(read_truth(folder, CLASSES).pictures) == 7
    stamps = [together(0), {"a": together(1)["a"]}, together(2), together(3)]
    report = evaluate(a_run(tmp_path / "run", stamps), folder)
    assert isinstance(report.sync, SyncFigures)
    assert report.sync.exact == 4


def test_damaged_truth_is_one_clear_error(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", [together(i) for i in range(4)])
    for name in ("timesteps", "objects", "boxes"):
        folder = write_folder(tmp_path / name, rows_of())
        (folder / f"{name}.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(LogError, match=rf"{name}\.parquet: "):
            evaluate(run, folder)

    def reverse(rows: Rows) -> None:
        rows["boxes"].reverse()

    with pytest.raises(LogError, match="out of order"):
        evaluate(run, write_folder(tmp_path / "reversed", rows_of(), reverse))

    def empty(rows: Rows) -> None:
        for table in rows.values():
            table.clear()

    with pytest.raises(LogError, match="has no rows"):
        evaluate(run, write_folder(tmp_path / "nothing", rows_of(), empty))


def test_stamps_keep_their_nanoseconds(tmp_path: Path) -> None:
    def odd(rows: Rows) -> None:
        for row in rows["timesteps"]:
            row["stamp_ns"] += 7

    truth = read_truth(write_folder(tmp_path / "truth", rows_of(), odd), CLASSES)
    assert {p.stamp_ns % 1000 for p in truth.pictures} == {7}
    assert np.array([f.stamp_ns for f in truth.frames]).dtype == np.int64
