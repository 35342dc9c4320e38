"""A small truth folder by hand: two cameras that look the same way, cars in a row, faults on demand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.geometry import SE3
from perception_batch.simulate.truth_tables import TABLES
from perception_batch.table_format import TableFormat

T0 = 1_700_000_000_000_000_000
STEP = 100_000_000
STAGGER = {"a": 0, "b": 30_000_000}
HW = (600, 960)
LOOKS_AHEAD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
SPEED_MPS = 10.0
Rows = dict[str, list[dict[str, Any]]]


def rig() -> Rig:
    lens = Intrinsics("pinhole", HW[1], HW[0], 600, 600, 479.5, 299.5)
    cameras = {
        name: Camera(name, lens, SE3(LOOKS_AHEAD, np.array([1.0, y, 1.5])), "made")
        for name, y in (("a", 0.5), ("b", -0.5))
    }
    return Rig("base_link", cameras, {})


def box_of(number: int) -> tuple[float, float, float, float]:
    return (100.0 * number, 200.0, 100.0 * number + 60, 250.0)


def rows_of(cycles: int = 4, cars: int = 3) -> Rows:
    """Cars 1..n; the last one is wholly hidden in camera b."""
    rows: Rows = {table.name: [] for table in TABLES}
    for cycle in range(cycles):
        cycle_ns = T0 + cycle * STEP
        head = {"cycle": cycle, "cycle_ns": cycle_ns, "time_s": cycle * 0.1}
        rows["ego"].append({**head, "x_m": SPEED_MPS * cycle * 0.1, "qw": 1.0, "vx_mps": SPEED_MPS})
        for car in range(1, cars + 1):
            # Standing cars: they come nearer.
            x = 15.0 + 5 * car - SPEED_MPS * cycle * 0.1
            rows["objects"].append(
                {**head, "object_id": car, "label": "car", "x_m": x, "y_m": 2.0, "z_m": 0.8}
            )
        for camera, stagger in STAGGER.items():
            stamp = cycle_ns + stagger
            rows["timesteps"].append(
                {
                    **head,
                    "camera": camera,
                    "belongs": True,
                    "status": "ok",
                    "stamp_ns": stamp,
                    "true_ns": stamp,
                    "log_ns": stamp,
                    "messages": 1,
                }
            )
            for car in range(1, cars + 1):
                corners = dict(zip(("x1", "y1", "x2", "y2"), box_of(car), strict=True))
                hidden = camera == "b" and car == cars
                rows["boxes"].append(
                    {
                        **head,
                        "camera": camera,
                        "stamp_ns": stamp,
                        "true_ns": stamp,
                        "object_id": car,
                        "label": "car",
                        **{f"amodal_{k}": v for k, v in corners.items()},
                        **{f"visible_{k}": None if hidden else v for k, v in corners.items()},
                        "visible_fraction": 0.0 if hidden else 1.0,
                    }
                )
    return rows


def write_folder(folder: Path, rows: Rows, change: Callable[[Rows], None] | None = None) -> Path:
    if change is not None:
        change(rows)
    folder.mkdir(parents=True)
    for table in TABLES:
        pq.write_table(_table(table, rows[table.name]), folder / table.file_name)
    (folder / "meta.json").write_text(
        json.dumps({"schema": 1, "cameras": ["a", "b"], "rig": rig().to_dict()})
    )
    return folder


def _table(table: TableFormat, rows: list[dict[str, Any]]) -> pa.Table:
    schema = table.arrow()
    zero: dict[str, Any] = {
        c.name: None if c.nullable else ("" if c.type == "string" else 0) for c in table.columns
    }
    return pa.Table.from_pylist([{**zero, **row} for row in rows], schema=schema)
