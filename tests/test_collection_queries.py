"""The questions of docs/nightly.md, asked of a real collection whose answers are known, by each of the three libraries."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch.config import load_config
from perception_batch.job import Job
from perception_batch.pipeline import run_drive

PAGE = Path(__file__).parent.parent / "docs" / "nightly.md"
DAY_NS = 86_400_000_000_000


def block(name: str, out: Path) -> dict[str, Any]:
    """What the page's code leaves."""
    text = re.search(rf"```python\n# {name}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert text is not None, name
    found: dict[str, Any] = {"OUT": str(out)}
    exec(compile(text[1], f"{PAGE.name}: {name}", "exec"), found)  # noqa: S102 - the page is ours
    return found


def put(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Other rows into a table that a run has written, by its own schema."""
    schema = pq.read_schema(path)
    like = pq.read_table(path).to_pylist()[0]
    nullable = {field.name: None for field in schema if field.nullable}
    pq.write_table(pa.Table.from_pylist([{**like, **nullable, **row} for row in rows], schema=schema), path)


def quality_of(drive: int, k: int) -> dict[str, float]:
    """In the second night c0 is blurred and c1 dark."""
    late = drive == 2
    return {
        "sharpness": 100.0 if late and k % 2 == 0 else 300.0 + k,
        "dark_share": 0.75 if late and k % 2 else 0.1,
        "bright_share": 0.0,
    }


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drives of two nights: people at 4 to 30 m, one car that comes near fast and one slowly."""
    folder = tmp_path_factory.mktemp("nights")
    config = load_config(None, ["detect.image_size=96", "render.video=false"])
    camera = CameraSpec("cam", size=(96, 64), draw=patches, encoding="png", broken=(2,))
    log = write_log(folder / "in", "mcap", [camera], frames=6)
    for number, name in enumerate(("d0", "d1", "d2")):
        done = run_drive(
            Job(name, (log,), folder / "out", config.model_copy()), open_with=PatchDetector
        ).directory
        person = {"drive": name, "label": "person", "filled": False}
        rows: list[Mapping[str, Any]] = [
            {
                **person,
                "timestep": k,
                "time_s": k / 10,
                "track_id": k % 2,
                "ego_distance_m": 4.0 + 8 * number + k,
            }
            for k in range(4)
        ]
        rows += [
            {**person, "timestep": 9, "time_s": 0.9, "track_id": 7, "ego_distance_m": 1.0, "filled": True}
        ]
        rows += [{**person, "timestep": 9, "time_s": 0.9, "track_id": None, "ego_distance_m": None}]
        for track, speed in ((20 + number, 10.0), (30 + number, 0.5)):
            rows += [
                {
                    **person,
                    "label": "car",
                    "timestep": k,
                    "time_s": k / 10,
                    "track_id": track,
                    "ego_distance_m": 15.0 - speed * k / 10,
                }
                for k in range(8)
            ]
        put(done / "objects.parquet", rows)
        frames = [
            {
                "drive": name,
                "camera": f"c{k % 2}",
                "frame_stamp_ns": 1_700_000_000_123_456_789 + (number == 2) * DAY_NS + k * 100_000_000,
                "status": "undecodable" if k < 3 else "used",
                **({} if k < 3 else quality_of(number, k)),
            }
            for k in range(10)
        ]
        put(done / "frames.parquet", frames)
    return folder / "out"


def test_pedestrians_within_10_m(out: Path) -> None:
    known = [("d0", 2, 4.0)]  # of d1 the nearest is at 12 m
    pytest.importorskip("duckdb")
    assert block("duckdb", out)["pedestrians"] == known
    table = block("pyarrow", out)["pedestrians"]
    assert [tuple(row.values()) for row in table.to_pylist()] == known
    assert [tuple(row) for row in block("pandas", out)["pedestrians"].itertuples()] == known


def test_near_misses(out: Path) -> None:
    pytest.importorskip("duckdb")
    found = block("duckdb", out)["near_misses"]
    assert [row[:2] for row in found] == [(f"d{n}", 20 + n) for n in range(3)]
    assert [row[2] for row in found] == pytest.approx([0.8] * 3)  # 8 m at 10 m/s
    series = block("pandas", out)["near_misses"]
    assert {(d, int(t)): s for (d, t), s in series.items()} == pytest.approx(
        {row[:2]: row[2] for row in found}
    )


def test_lost_frames_per_night(out: Path) -> None:
    pytest.importorskip("duckdb")
    first, second = date(2023, 11, 14), date(2023, 11, 15)
    assert block("duckdb", out)["lost"] == [
        (first, "c0", 10, 4),
        (first, "c1", 10, 2),
        (second, "c0", 5, 2),
        (second, "c1", 5, 1),
    ]
    counted = {tuple(row.values()) for row in block("pyarrow", out)["lost"].to_pylist()}
    assert counted == {(f"d{n}", camera, k) for n in range(3) for camera, k in (("c0", 2), ("c1", 1))}


def test_losses_of_a_collection(out: Path) -> None:
    absent = block("losses", out)["absent"]
    assert [row[0] for row in absent] == ["d0", "d1", "d2"]
    assert {row[2] for row in absent} == {1}  # the broken image


def test_dark_and_blurred_cameras_of_the_last_night(out: Path, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    known = [
        ("c0", pytest.approx(0.1, rel=1e-6), pytest.approx(100 / 306)),
        ("c1", 0.75, pytest.approx(1.0, abs=0.01)),
    ]
    assert block("duckdb", out)["poor"] == known
    for name in ("d0", "d1"):  # the first and a later one of an earlier version
        shutil.copytree(out, tmp_path / name)
        older = tmp_path / name / name / "frames.parquet"
        table = pq.read_table(older)
        pq.write_table(table.drop_columns(["sharpness", "dark_share", "bright_share"]), older)
        found = block("duckdb", tmp_path / name)
        assert found["poor"] == known
        assert found["lost"] == block("duckdb", out)["lost"]
