"""`docs/formats.md` tells what the code does: every column, and what a row costs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from write.drive_of_results import FACTS, FIRST_NS

from perception_batch.errors import EXIT_NOTHING, EXIT_OK, EXIT_PARTIAL, EXIT_RETRY, EXIT_USAGE
from perception_batch.geometry import SE3
from perception_batch.types import (
    Detections,
    EgoPose,
    FrameRow,
    FusedObject,
    Fusion,
    Observation,
    PictureQuality,
    TimestepResult,
)
from perception_batch.write import (
    ALL_TABLES,
    EgoWriter,
    FramesWriter,
    JsonLinesWriter,
    Manifest,
    ResultTableWriter,
    WriterGroup,
)
from perception_batch.write.schemas import LENSES, LIDAR, MOUNTS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
NAMES = [f"cam_{n}" for n in ("back", "back_left", "back_right", "front", "front_left", "front_right")]


def rows_under(heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its head."""
    section = DOCUMENT.read_text().split(f" {heading}\n", 1)[1]
    section = re.split(r"\n#+ ", section, maxsplit=1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("table", (*ALL_TABLES, LIDAR, MOUNTS, LENSES), ids=lambda table: table.name)
def test_every_column_is_documented(table: object) -> None:
    from perception_batch.table_format import TableFormat

    assert isinstance(table, TableFormat)
    expected = [
        [f"`{c.name}`", c.type, c.unit, "yes" if c.nullable else "", c.meaning] for c in table.columns
    ]
    assert rows_under(table.file_name) == expected


def test_every_key_of_the_manifest_is_documented() -> None:
    named = {key for row in rows_under("run.json") for key in re.findall(r"`(\w+)`", row[0])}
    assert named == set(Manifest("d", "failed").to_dict())


def test_every_exit_status_is_documented() -> None:
    numbers = {int(n) for row in rows_under("Exit status") for n in row[0].split(",")}
    assert {EXIT_OK, EXIT_NOTHING, EXIT_USAGE, EXIT_PARTIAL, EXIT_RETRY, 130, 143} == numbers


def busy_timestep(index: int, rng: np.random.Generator) -> TimestepResult:
    """Six cameras with 20 boxes each, five of them objects: nothing in it repeats."""
    stamp_ns = FIRST_NS + index * 100_000_000 + int(rng.integers(0, 200_000))
    found, object_of, suppressed, objects = {}, {}, {}, []
    for name in NAMES:
        corner, size = rng.uniform(0, 1500, (20, 2)), rng.uniform(8, 250, (20, 2))
        score = np.sort(rng.uniform(0.05, 0.95, 20))[::-1].astype(np.float32)
        xyxy = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
        found[name] = Detections(xyxy, score, rng.choice(np.array([0, 2, 2, 7], np.int16), 20))
        object_of[name] = np.full(20, -1, np.int32)
        used = set(np.sort(rng.choice(12, 5, replace=False)).tolist())
        for row in sorted(used):
            object_of[name][row] = len(objects)
            root = rng.normal(size=(3, 3))
            objects.append(
                FusedObject(
                    2,
                    "car",
                    float(score[row]),
                    rng.uniform(-50, 50, 3),
                    root @ root.T,
                    np.array([4.61, 1.95, 1.7]),
                    "prior",
                    math.nan,
                    (Observation(name, row),),
                )
            )
        suppressed[name] = tuple("" if row in used else "low_score" for row in range(20))
    return TimestepResult(
        index,
        stamp_ns,
        dict.fromkeys(NAMES, "ok"),
        {name: stamp_ns + int(rng.integers(0, 40_000_000)) for name in NAMES},
        found,
        Fusion(tuple(objects), object_of, suppressed),  # type: ignore[arg-type]
        pose(index, rng),
        dict.fromkeys(NAMES, (900, 1600)),
    )


def picture(rng: np.random.Generator) -> PictureQuality:
    """Shares of 6400 pixels, as a picture of 1600x900 gives them."""
    dark, bright = rng.integers(0, 3200, 2) / 6400
    return PictureQuality(*np.array([rng.uniform(100, 1000), dark, bright], np.float32).tolist())


def pose(index: int, rng: np.random.Generator) -> EgoPose:
    angle, noise = index * 1e-4, rng.normal(size=2) * 0.01
    base = SE3.from_quaternion(
        [0, 0, math.sin(angle), math.cos(angle)], [index * 0.1 + noise[0], noise[1], 0.0]
    )
    return EgoPose(FIRST_NS + index * 10_000_000, "odom", base, np.full(3, np.nan), "tf")


def test_a_row_costs_what_the_document_says(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 512
    with WriterGroup(
        [
            *(
                lambda t=t: ResultTableWriter(tmp_path, FACTS, t)
                for t in ("detections", "timesteps", "objects", "observations")
            ),
            lambda: JsonLinesWriter(tmp_path / "plain", FACTS, "jsonl"),
            lambda: JsonLinesWriter(tmp_path, FACTS, "jsonl.zst"),
        ]
    ) as group, FramesWriter(tmp_path, FACTS) as frames:  # fmt: skip
        for index in range(n):
            result = busy_timestep(index, rng)
            group.write(result)
            frames.write(
                FrameRow(c, s, s + 15_000_000 + int(rng.integers(0, 3_000_000)), index, "used", "", 1600, 900, "jpeg", picture(rng))
                for c, s in result.frame_stamps_ns.items()
            )  # fmt: skip
    with EgoWriter(tmp_path, FACTS) as ego:
        ego.write([pose(i, rng) for i in range(10 * n)])
    rows = {
        "a box": 120 * n,
        "a camera and timestep": 6 * n,
        "a frame": 6 * n,
        "a pose": 10 * n,
        "an object": 30 * n,
    }
    documented = rows_under("What a drive-hour costs")
    assert len(documented) == 8
    for name, size, row, _ in documented:
        path = tmp_path / name.strip("`")
        if not path.exists():
            path = tmp_path / "plain" / name.strip("`")
        assert path.stat().st_size / rows[row] == pytest.approx(float(size), rel=1 / 3), name
