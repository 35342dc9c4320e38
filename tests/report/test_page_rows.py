"""Rows in the page: unpacked by a slow reader, they are the table again, to the steps that are told."""

from __future__ import annotations

import base64
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.report_run import write_run, write_table

from perception_batch.report import packing
from perception_batch.report.packing import Packed, pack
from perception_batch.report.run_files import RunFiles, read_run
from perception_batch.report.series import series_of

TYPES = {"Uint8Array": "<u1", "Uint16Array": "<u2", "Uint32Array": "<u4", "Float32Array": "<f4"}
ALONG = ("x", "y", "vx", "vy", "major", "minor")


def unpacked(packed: Packed) -> dict[str, list[float]]:
    """As `assets/rows.js` does it, one row at a time."""
    block = zlib.decompress(base64.b64decode(packed.rows), -15)
    columns: dict[str, list[float]] = {}
    for entry in packed.columns:
        kind = np.dtype(TYPES[entry["type"]])
        assert entry["offset"] % kind.itemsize == 0
        columns[entry["name"]] = np.frombuffer(block, kind, entry["length"], entry["offset"]).tolist()
    last: dict[float, int] = {}
    for row, track in enumerate(columns["track"]):
        before = last.get(track) if track else None
        last[track] = row
        for name in ALONG:
            value = int(columns[name][row]) + (int(columns[name][before]) if before is not None else 0)
            columns[name][row] = (value + 32768) % 65536 - 32768
    return columns


def packed_run(run: RunFiles) -> tuple[Packed, dict[str, list[float]]]:
    series = series_of(run)
    packed = pack(run, series, series.seconds)
    return packed, unpacked(packed)


def test_a_known_run_comes_back(tmp_path: Path) -> None:
    packed, rows = packed_run(read_run(write_run(tmp_path / "drive")))
    assert packed.track_ids == [7, 8]
    assert rows["count"] == [1, 1] + [2] * 13
    np.testing.assert_allclose(np.cumsum(rows["tick"]) / 90_000, np.arange(15) * 0.2)
    first = [row for row, track in enumerate(rows["track"]) if track == 1]
    np.testing.assert_allclose(
        [rows["x"][r] * packing.POSITION_STEP_M for r in first], 8.0 + 2 * np.arange(15)
    )
    assert all(rows["flags"][r] == packing.HAS_POSITION for r in first)
    assert rows["status"][15 + 4] == rows["status"][15 + 5] == 3
    assert rows["spread"][0] == 30
    assert rows["spread"][4] == 65535


OBJECT = st.tuples(
    st.integers(0, 4),  # timestep
    st.one_of(st.none(), st.integers(0, 3)),  # track
    st.one_of(st.none(), st.floats(-1000, 1000)),  # x
    st.floats(-1000, 1000),  # y
    st.one_of(st.none(), st.floats(-7, 7)),  # yaw
    st.floats(0, 30), st.floats(0, 30), st.floats(-1, 1),  # deviations, correlation
    st.booleans(),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(OBJECT, max_size=40))
def test_any_objects_come_back(
    tmp_path_factory: pytest.TempPathFactory, objects: list[tuple[float, ...]]
) -> None:
    directory = write_run(tmp_path_factory.mktemp("run") / "drive", steps=5, missing=(), video=False)
    objects = sorted(objects, key=lambda o: o[0])
    time, track, x, y, yaw, sx, sy, correlation, filled = ([o[k] for o in objects] for k in range(9))
    cov = {
        "cov_xx": [a * a for a in sx], "cov_yy": [b * b for b in sy],
        "cov_xy": [a * b * c for a, b, c in zip(sx, sy, correlation, strict=True)],
    }  # fmt: skip
    columns = {
        "timestep": time,
        "track_id": track,
        "x_m": x,
        "y_m": y,
        "yaw_rad": yaw,
        "filled": filled,
        "label": ["car"] * len(time),
    }
    write_table(directory, "objects", columns | cov)
    packed, rows = packed_run(read_run(directory))
    assert len(rows["x"]) == len(objects)
    for row in range(len(objects)):
        assert (packed.track_ids[int(rows["track"][row]) - 1] if rows["track"][row] else None) == track[row]
        flags = int(rows["flags"][row])
        assert bool(flags & packing.IS_FILLED) == filled[row]
        assert bool(flags & packing.HAS_POSITION) == (x[row] is not None)
        if x[row] is not None:
            assert rows["x"][row] * packing.POSITION_STEP_M == pytest.approx(x[row], abs=0.0251)
            assert rows["y"][row] * packing.POSITION_STEP_M == pytest.approx(y[row], abs=0.0251)
        if yaw[row] is None:
            assert rows["yaw"][row] == 255
        else:
            turn = (rows["yaw"][row] / 255 * math.tau - yaw[row] + math.pi) % math.tau - math.pi
            assert abs(turn) < 0.013
        matrix = np.array(
            [[cov["cov_xx"][row], cov["cov_xy"][row]], [cov["cov_xy"][row], cov["cov_yy"][row]]]
        )
        minor, major = np.sqrt(np.maximum(np.linalg.eigvalsh(matrix), 0))
        assert rows["major"][row] * packing.SIGMA_STEP_M == pytest.approx(major, abs=0.0101)
        assert rows["minor"][row] * packing.SIGMA_STEP_M == pytest.approx(minor, abs=0.0111)
        if major - minor > 0.5:
            angle = rows["turn"][row] / 255 * math.pi
            along = np.array([math.cos(angle), math.sin(angle)])
            assert along @ matrix @ along == pytest.approx(major**2, rel=0.01, abs=0.01)


def test_numbers_beyond_all_measure_are_clipped(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "drive", steps=5, video=False)
    columns = {"timestep": [0, 1, 2], "track_id": [1, 1, 1], "x_m": [1e308, -1e308, math.inf], "y_m": [0.0] * 3, "label": ["car"] * 3,
               "cov_xx": [1e308] * 3, "cov_xy": [0.0] * 3, "cov_yy": [1e308] * 3, "score": [2.0, 5.0, -1.0]}  # fmt: skip
    write_table(directory, "objects", columns)
    _, rows = packed_run(read_run(directory))
    assert rows["x"][:2] == [32767, -32767]
    assert rows["flags"][2] & packing.HAS_POSITION == 0


def test_long_drives_are_thinned_by_whole_timesteps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(write_run(tmp_path / "drive"))
    monkeypatch.setattr(packing, "MAX_OBJECT_ROWS", 10)
    packed, rows = packed_run(run)
    assert packed.every == 3
    assert [count for step, count in enumerate(rows["count"]) if step % 3] == [0] * 10
    assert [count for step, count in enumerate(rows["count"]) if step % 3 == 0] == [1, 2, 2, 2, 2]
