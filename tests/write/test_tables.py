"""Parquet tables: their rows, their bytes, and the way back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from write.drive_of_results import CAMERAS, FACTS, FIRST_NS, STEP_NS, drive

from perception_batch.errors import LogError
from perception_batch.geometry import SE3
from perception_batch.types import EgoPose, FrameRow, PictureQuality, TimestepResult, TrackSummary
from perception_batch.write import (
    ALL_TABLES,
    DriveFacts,
    EgoWriter,
    FramesWriter,
    ResultTableWriter,
    TracksWriter,
    WriterGroup,
    read_ego,
    read_facts,
    read_stored_timesteps,
    write_rig,
)
from perception_batch.write import table_file as table_file_module
from perception_batch.write import tables as tables_module
from perception_batch.write.schemas import FRAMES
from perception_batch.write.table_file import TIMESTEPS_PER_GROUP, TableFile

TABLES = ("detections", "timesteps", "objects", "observations")

# As contracts.md gives them, written out again: the promise must not follow the code.
PROMISED = {
    "detections": "drive timestep stamp_ns time_s camera frame_stamp_ns detection x1 y1 x2 y2 score class_id label",
    "objects": "drive timestep stamp_ns time_s object track_id class_id label score x_m y_m z_m odom_x_m odom_y_m "
    "odom_z_m vx_mps vy_mps vz_mps yaw_rad length_m width_m height_m cov_xx cov_xy cov_xz cov_yy cov_yz cov_zz "
    "ego_distance_m filled",
    "observations": "drive timestep time_s camera detection object track_id suppressed",
    "tracks": "drive track_id class_id label first_stamp_ns last_stamp_ns first_time_s last_time_s observed filled "
    "cameras mean_score min_distance_m",
    "frames": "drive camera frame_stamp_ns time_s log_ns timestep status reason width height encoding sharpness "
    "dark_share bright_share",
    "ego": "drive stamp_ns time_s frame_id x_m y_m z_m qx qy qz qw vx_mps vy_mps vz_mps source",
}


def write(directory: Path, results: list[TimestepResult], facts: DriveFacts = FACTS) -> None:
    openers = [lambda table=table: ResultTableWriter(directory, facts, table) for table in TABLES]
    with WriterGroup(openers) as group:
        for result in results:
            group.write(result)


def _write_ego(directory: Path, rows: list[EgoPose]) -> None:
    with EgoWriter(directory, FACTS) as file:
        file.write(rows)


def poses(n: int) -> list[EgoPose]:
    return [
        EgoPose(
            FIRST_NS + i * 10_000_000,
            "odom",
            SE3.from_quaternion([0, 0, 0.1 * i, 1], [i, -i, 0.5]),
            np.array([i * 1.0, 0, 0]) if i % 2 else np.full(3, np.nan),
            "tf",
        )
        for i in range(n)
    ]


def test_columns_are_the_promised_ones() -> None:
    for table in ALL_TABLES:
        if table.name in PROMISED:
            assert [c.name for c in table.columns] == PROMISED[table.name].split()
        schema = table.arrow()
        assert schema.metadata[b"schema"] == b"1"
        for field in schema:
            assert field.metadata[b"description"]
            if field.name.endswith("stamp_ns") or field.name == "log_ns":
                assert field.type == pa.int64()
                assert not field.nullable
            if field.name == "time_s":
                assert field.type == pa.float64()


def test_rows_against_a_loop(tmp_path: Path) -> None:
    results = drive(30)
    write(tmp_path, results)
    table = pq.read_table(tmp_path / "detections.parquet")
    expected = []
    for result in results:
        for camera in sorted(result.detections):
            boxes = result.detections[camera]
            expected += [
                {
                    "drive": "drive_1",
                    "timestep": result.index,
                    "stamp_ns": FIRST_NS + result.index * STEP_NS,
                    "time_s": result.index * STEP_NS / 1e9,
                    "camera": camera,
                    "frame_stamp_ns": result.frame_stamps_ns[camera],
                    "detection": i,
                    "x1": float(boxes.xyxy[i, 0]),
                    "y1": float(boxes.xyxy[i, 1]),
                    "x2": float(boxes.xyxy[i, 2]),
                    "y2": float(boxes.xyxy[i, 3]),
                    "score": float(boxes.score[i]),
                    "class_id": int(boxes.class_id[i]),
                    "label": {0: "person", 2: "car", 7: "truck", 11: "11"}[int(boxes.class_id[i])],
                }
                for i in range(len(boxes))
            ]
    assert table.to_pylist() == expected


def test_objects_and_observations(tmp_path: Path) -> None:
    results = drive(30)
    write(tmp_path, results)
    objects = pq.read_table(tmp_path / "objects.parquet").to_pylist()
    everything = [(r, i, o) for r in results for i, o in enumerate(r.fusion.objects)]
    assert len(objects) == len(everything) > 20
    for row, (result, number, item) in zip(objects, everything, strict=True):
        assert (row["timestep"], row["object"], row["label"]) == (result.index, number, "car")
        assert row["track_id"] is None
        assert row["vx_mps"] is None
        assert row["yaw_rad"] is None
        if not item.has_position:
            assert (
                row["x_m"]
                is row["cov_xy"]
                is row["length_m"]
                is row["ego_distance_m"]
                is row["odom_x_m"]
                is None
            )
            continue
        assert [row["x_m"], row["y_m"], row["z_m"]] == item.position_m.tolist()
        assert row["cov_yy"] == item.covariance_m2[1, 1]
        assert row["ego_distance_m"] == pytest.approx(float(np.linalg.norm(item.position_m[:2])))
        if result.ego is None:
            assert row["odom_x_m"] is None
        else:
            matrix = np.eye(4)
            matrix[:3, :3] = result.ego.odom_SE3_base.rotation
            matrix[:3, 3] = result.ego.odom_SE3_base.translation_m
            expected = (matrix @ [*item.position_m, 1])[:3]
            assert [row["odom_x_m"], row["odom_y_m"], row["odom_z_m"]] == pytest.approx(expected.tolist())
    seen = pq.read_table(tmp_path / "observations.parquet")
    boxes = pq.read_table(tmp_path / "detections.parquet")
    keys = ["timestep", "camera", "detection"]
    assert seen.select(keys).to_pylist() == boxes.select(keys).to_pylist()
    for row, score in zip(seen.to_pylist(), boxes["score"].to_pylist(), strict=True):
        assert row["suppressed"] == ("low_score" if score < 0.25 else None)
        assert (row["object"] is None) == (score < 0.25)


def test_pandas_reads_stamps_to_the_nanosecond(tmp_path: Path) -> None:
    write(tmp_path, drive(4))
    frame = pd.read_parquet(tmp_path / "detections.parquet")
    assert str(frame["stamp_ns"].dtype) == "int64"
    assert set(frame["stamp_ns"]) <= {FIRST_NS + i * STEP_NS for i in range(4)}
    assert str(frame["x1"].dtype) == "float32"


def test_a_drive_without_a_box(tmp_path: Path) -> None:
    results = drive(5, most=1)
    assert sum(len(b) for r in results for b in r.detections.values()) == 0
    write(tmp_path, results)
    assert pq.read_table(tmp_path / "detections.parquet").num_rows == 0
    assert [s.index for s in read_stored_timesteps(tmp_path)] == [0, 1, 2, 3, 4]


def test_row_groups_hold_fixed_timesteps(tmp_path: Path) -> None:
    write(tmp_path, drive(TIMESTEPS_PER_GROUP + 5, most=3))
    file = pq.ParquetFile(tmp_path / "timesteps.parquet")
    groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert groups == [TIMESTEPS_PER_GROUP * len(CAMERAS), 5 * len(CAMERAS)]
    file.close()


def test_bytes_do_not_depend_on_time_or_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, drive(40))
    for table in TABLES:
        one, other = ((tmp_path / name / f"{table}.parquet").read_bytes() for name in ("a", "b"))
        assert one == other


@given(cuts=st.lists(st.integers(1, 40), max_size=12))
@settings(max_examples=15, deadline=None)
def test_bytes_do_not_depend_on_the_calls(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    rows = [frame_row(i) for i in range(100)]
    directory = tmp_path_factory.mktemp("frames")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_file_module, "ROWS_PER_GROUP", 32)
        with FramesWriter(directory / "whole", FACTS) as whole:
            whole.write(rows)
        file = TableFile(directory / "cut", FRAMES)
        start = 0
        for cut in [*cuts, len(rows)]:
            if rows[start : start + cut]:
                file.add(file.batch(frames_columns_of(rows[start : start + cut])))
            start += cut
        file.close()
    same = [(directory / name / "frames.parquet").read_bytes() for name in ("whole", "cut")]
    assert same[0] == same[1]
    read = pq.ParquetFile(directory / "cut" / "frames.parquet")
    assert [read.metadata.row_group(i).num_rows for i in range(read.num_row_groups)] == [32, 32, 32, 4]
    read.close()


def frames_columns_of(rows: list[FrameRow]) -> dict[str, pa.Array]:
    from perception_batch.write.rows import frames_columns

    return frames_columns(FACTS, rows)


def frame_row(i: int) -> FrameRow:
    if i % 7 == 3:
        return FrameRow(
            "front", FIRST_NS + i, FIRST_NS + i + 5, -1, "unused", "out_of_tolerance", 0, 0, "unknown"
        )
    quality = PictureQuality(i / 2, 0.25, 1 / 3)
    return FrameRow("front", FIRST_NS + i, FIRST_NS + i + 5, i, "used", "", 640, 480, "jpeg", quality)


def test_frames_with_impossible_numbers_are_rows_all_the_same(tmp_path: Path) -> None:
    odd = FrameRow("c", (1 << 64) - 1, (1 << 64) - 1, -1, "unused", "bad_stamp", 1 << 33, 0, "jpeg")
    with FramesWriter(tmp_path, FACTS) as frames:
        frames.write([frame_row(0), odd, frame_row(3)])
    rows = pq.read_table(tmp_path / "frames.parquet").to_pylist()
    assert [row["reason"] for row in rows] == [None, "bad_stamp", "out_of_tolerance"]
    assert rows[1]["frame_stamp_ns"] == rows[1]["log_ns"] == (1 << 63) - 1
    assert rows[1]["width"] is rows[1]["height"] is None
    assert [[row[name] for name in ("sharpness", "dark_share", "bright_share")] for row in rows] == [
        [0.0, 0.25, float(np.float32(1 / 3))],
        [None] * 3,
        [None] * 3,
    ]
    assert rows[2]["timestep"] == -1


def test_a_drive_name_that_is_no_utf8(tmp_path: Path) -> None:
    facts = DriveFacts("caf\udce9", FIRST_NS, {}, "", False)
    write(tmp_path, drive(2), facts)
    assert set(pq.read_table(tmp_path / "timesteps.parquet")["drive"].to_pylist()) == {"caf\\udce9"}


def test_stored_timesteps_are_what_was_written(tmp_path: Path) -> None:
    results = drive(TIMESTEPS_PER_GROUP + 20)
    write(tmp_path, results)
    stored = list(read_stored_timesteps(tmp_path))
    assert len(stored) == len(results)
    for back, result in zip(stored, results, strict=True):
        assert (back.index, back.stamp_ns) == (result.index, result.stamp_ns)
        assert list(back.status.items()) == list(result.status.items())
        assert back.frame_stamps_ns == result.frame_stamps_ns
        assert back.image_hw == result.image_hw
        assert set(back.detections) == set(result.detections)
        for camera, boxes in result.detections.items():
            np.testing.assert_array_equal(back.detections[camera].xyxy, boxes.xyxy)
            np.testing.assert_array_equal(back.detections[camera].score, boxes.score)
            np.testing.assert_array_equal(back.detections[camera].class_id, boxes.class_id)
            assert back.detections[camera].xyxy.dtype == np.float32


def test_tables_made_again_from_the_stored_ones_are_equal_to_the_byte(tmp_path: Path) -> None:
    results = drive(50)
    write(tmp_path / "a", results)
    _write_ego(tmp_path / "a", poses(3))
    write_rig(tmp_path / "a", {"schema": 1, "base_frame": "base_link", "cameras": {}})
    facts = read_facts(tmp_path / "a")
    assert facts == FACTS
    again = [
        TimestepResult(
            s.index, s.stamp_ns, s.status, s.frame_stamps_ns, s.detections, r.fusion, r.ego, s.image_hw
        )
        for s, r in zip(read_stored_timesteps(tmp_path / "a"), results, strict=True)
    ]
    write(tmp_path / "b", again, facts)
    for table in TABLES:
        name = f"{table}.parquet"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("at_once", [1, 7])
def test_how_many_results_become_rows_together_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    results = drive(TIMESTEPS_PER_GROUP + 90)
    del results[20:150], results[100:103]
    write(tmp_path / "a", results)
    monkeypatch.setattr(tables_module, "_RESULTS_AT_ONCE", at_once)
    write(tmp_path / "b", results)
    for table in TABLES:
        name = f"{table}.parquet"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_positions_in_the_fixed_frame_are_those_of_each_object_alone(tmp_path: Path) -> None:
    results = drive(80, most=12)
    write(tmp_path, results)
    rows = iter(pq.read_table(tmp_path / "objects.parquet").to_pylist())
    for result in results:
        for item, row in zip(result.fusion.objects, rows, strict=False):
            got = [row[f"odom_{axis}_m"] for axis in "xyz"]
            if result.ego is None or not item.has_position:
                assert got == [None] * 3
            else:
                assert got == result.ego.odom_SE3_base.apply(item.position_m).tolist()  # to the bit
    assert next(rows, None) is None


def test_boxes_with_holes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, drive(5))
    path = tmp_path / "detections.parquet"
    table = pq.read_table(path)
    column = pa.array([None, *table["score"].to_pylist()[1:]], pa.float32())
    at = table.schema.get_field_index("score")
    pq.write_table(table.set_column(at, "score", column).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(LogError, match="null"):
        list(read_stored_timesteps(tmp_path))


def test_ego_poses_read_back(tmp_path: Path) -> None:
    _write_ego(tmp_path, poses(20))
    back = list(read_ego(tmp_path))
    assert [p.stamp_ns for p in back] == [p.stamp_ns for p in poses(20)]
    for one, other in zip(back, poses(20), strict=True):
        np.testing.assert_allclose(one.odom_SE3_base.rotation, other.odom_SE3_base.rotation, atol=1e-12)
        np.testing.assert_array_equal(one.odom_SE3_base.translation_m, other.odom_SE3_base.translation_m)
        np.testing.assert_array_equal(one.velocity_mps, other.velocity_mps)


def test_tracks_are_sorted_by_their_id(tmp_path: Path) -> None:
    rows = [
        TrackSummary(7, 2, "car", FIRST_NS + 5 * 10**9, FIRST_NS + 9 * 10**9, 30, 4, ("a", "b"), 0.5, 12.25),
        TrackSummary(3, 0, "person", FIRST_NS, FIRST_NS + 10**9, 3, 0, ("b",), 0.75, math.nan),
    ]
    with TracksWriter(tmp_path, FACTS) as writer:
        writer.write(rows[:1])
        writer.write(rows[1:])
    table = pq.read_table(tmp_path / "tracks.parquet")
    assert table.schema.names == PROMISED["tracks"].split()
    got = table.to_pylist()
    assert [row["track_id"] for row in got] == [3, 7]
    assert got[0]["min_distance_m"] is None
    assert (got[1]["cameras"], got[1]["observed"], got[1]["filled"]) == ("a,b", 30, 4)
    assert got[1]["last_time_s"] - got[1]["first_time_s"] == pytest.approx(4.0)


def test_no_tracks_are_an_empty_table(tmp_path: Path) -> None:
    with TracksWriter(tmp_path, FACTS):
        pass
    tracks = pq.read_table(tmp_path / "tracks.parquet")
    assert tracks.num_rows == 0
    assert tracks.schema.names == PROMISED["tracks"].split()


def test_tables_of_different_runs_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", drive(10, seed=1))
    write(tmp_path / "b", drive(10, seed=2))
    (tmp_path / "b" / "detections.parquet").replace(tmp_path / "a" / "detections.parquet")
    with pytest.raises(LogError, match="does not agree"):
        list(read_stored_timesteps(tmp_path / "a"))


def test_missing_cut_and_newer_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="is missing"):
        list(read_stored_timesteps(tmp_path))
    write(tmp_path, drive(5))
    path = tmp_path / "detections.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LogError, match=r"detections\.parquet"):
        list(read_stored_timesteps(tmp_path))
    path.write_bytes(whole)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"schema": "2"}), path)
    with pytest.raises(LogError, match="newer version"):
        list(read_stored_timesteps(tmp_path))
    pq.write_table(table.replace_schema_metadata({"schema": "1"}).drop_columns(["score"]), path)
    with pytest.raises(LogError, match="columns missing: score"):
        list(read_stored_timesteps(tmp_path))
