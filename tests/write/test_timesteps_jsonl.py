"""`timesteps.jsonl` has the contract's shape."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from write.drive_of_results import CAMERAS, FACTS, FIRST_NS, STEP_NS, drive
from write.json_oracle import timestep_dict

from perception_batch.errors import LogError
from perception_batch.types import FusedObject, TimestepResult
from perception_batch.write import DriveFacts, JsonLinesWriter, WriterGroup, read_timesteps
from perception_batch.write.timestep_line import LineMaker, _rounded, _scale


def lines(directory: Path, n: int = 20, form: Any = "jsonl") -> list[dict[str, Any]]:
    with WriterGroup([lambda: JsonLinesWriter(directory, FACTS, form)]) as group:
        for result in drive(n):
            group.write(result)
    return list(read_timesteps(group.paths[0]))


def test_the_contracts_shape(tmp_path: Path) -> None:
    read = lines(tmp_path)
    results = drive(20)
    for line, result in zip(read, results, strict=True):
        assert list(line) == [
            "index",
            "stamp_ns",
            "time_s",
            *(["ego"] if result.ego else []),
            "cameras",
            "objects",
        ]
        assert line["stamp_ns"] == FIRST_NS + result.index * STEP_NS  # an int, to the nanosecond
        assert line["time_s"] == result.index * STEP_NS / 1e9
        assert list(line["cameras"]) == list(CAMERAS)
        for camera, entry in line["cameras"].items():
            assert entry["status"] == result.status[camera]
            if camera in result.frame_stamps_ns:
                assert entry["offset_ns"] == entry["stamp_ns"] - line["stamp_ns"]
            else:
                assert set(entry) == {"status", "detections"}
            for found in entry["detections"]:
                assert list(found) == ["detection", "box_px", "score", "class_id", "label", "object"]
                boxes = result.detections[camera]
                assert found["score"] >= 0.25
                np.testing.assert_allclose(found["box_px"], boxes.xyxy[found["detection"]], atol=0.00501)
                assert [camera, found["detection"]] in line["objects"][found["object"]]["observations"]
        for number, (entry, item) in enumerate(zip(line["objects"], result.fusion.objects, strict=True)):
            assert entry["object"] == number
            assert entry["filled"] is False
            assert "track_id" not in entry  # no value, no field
            assert "velocity_mps" not in entry
            assert ("position_m" in entry) == ("covariance_m2" in entry) == item.has_position
            if item.has_position:
                np.testing.assert_allclose(entry["position_m"], item.position_m, atol=0.000501)
                assert entry["size_source"] == "prior"


def test_numbers_are_short_and_never_nan(tmp_path: Path) -> None:
    lines(tmp_path)
    text = (tmp_path / "timesteps.jsonl").read_text()
    assert "NaN" not in text
    assert "-0.0," not in text
    for line in text.splitlines():
        for entry in json.loads(line, parse_float=str)["cameras"].values():
            for found in entry["detections"]:
                assert all(len(v.partition(".")[2]) <= 2 for v in found["box_px"])
                assert len(found["score"].partition(".")[2]) <= 4


def test_tracks_and_velocity_appear_when_known(tmp_path: Path) -> None:
    result = next(r for r in drive(5) if r.fusion.objects)
    item = dataclasses.replace(
        result.fusion.objects[0], track_id=7, velocity_mps=np.array([3.14159, -0.0001, 0.0]), yaw_rad=0.1
    )
    fusion = dataclasses.replace(result.fusion, objects=(item, *result.fusion.objects[1:]))
    writer = JsonLinesWriter(tmp_path, dataclasses.replace(FACTS, has_ego=False), "jsonl")
    writer.write(dataclasses.replace(result, fusion=fusion))
    writer.close()
    (line,) = read_timesteps(writer.path)
    entry = line["objects"][0]
    assert entry["track_id"] == 7
    assert entry["velocity_mps"] == [3.142, 0.0, 0.0]
    assert entry["velocity_frame"] == "relative"
    assert entry["yaw_rad"] == 0.1


def test_compressed_lines_are_the_same_and_replace_the_others(tmp_path: Path) -> None:
    plain = lines(tmp_path)
    assert lines(tmp_path, form="jsonl.zst") == plain
    assert [p.name for p in tmp_path.iterdir()] == ["timesteps.jsonl.zst"]


def test_damaged_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "timesteps.jsonl"
    path.write_text('{"index": 0}\n{"index"')
    reader = read_timesteps(path)
    assert next(reader) == {"index": 0}
    with pytest.raises(LogError, match="line 2"):
        next(reader)


# ---------------------------------------------------------------------- made of pieces, as json.dumps would

DIGITS = (2, 3, 4, 6)
HALVES = st.builds(
    lambda whole, digits: (whole + 0.5) / 10**digits, st.integers(-(10**9), 10**9), st.sampled_from(DIGITS)
)


def as_json(facts: DriveFacts, result: TimestepResult) -> str:
    return json.dumps(timestep_dict(facts, result), allow_nan=False, separators=(", ", ": "))


@given(values=st.lists(st.one_of(st.floats(), HALVES, st.floats(-100, 100)), min_size=1, max_size=30))
@example(
    values=[0.0005, -0.0, -1e-9, 2.5e-7, 1.0005, 2.675, 1e300, 1e22, 4503599627370497.5, math.inf, math.nan]
)
def test_many_numbers_are_rounded_as_each_alone(values: list[float]) -> None:
    table = np.repeat(np.array(values)[:, None], len(DIGITS), axis=1)
    for row, value in zip(_rounded(table, _scale(*DIGITS)), values, strict=True):
        for got, digits in zip(row, DIGITS, strict=True):
            expected = round(value, digits) + 0.0
            assert repr(got) == repr(expected)


def dressed(result: TimestepResult, item: FusedObject, number: int) -> FusedObject:
    """An object with all that may be known, of which each lacks something else."""
    rng = np.random.default_rng(result.index * 100 + number)
    nan = float("nan")
    some = rng.normal(0, 3, (3, 3))
    return dataclasses.replace(
        item,
        track_id=-1 if number % 4 == 0 else 10**number,
        label=("car", 'a "b" \\ \u00e9 \x07', "person")[number % 3],
        position_m=np.array([-0.0, -1e-9, nan])
        if number % 5 == 1
        else rng.normal(0, 30, 3).round(number % 5),
        covariance_m2=np.full((3, 3), nan) if number % 5 == 2 else some @ some.T * 10.0 ** -(number % 9),
        size_lwh_m=np.full(3, nan) if number % 5 == 3 else np.array([4.61, 1.95, 1.7]),
        velocity_mps=np.full(3, nan) if number % 5 == 4 else rng.normal(0, 1e-3, 3),
        yaw_rad=nan if number % 3 == 0 else -0.0 if number % 3 == 1 else math.pi,
        filled=number % 2 == 0,
    )


@pytest.mark.parametrize("base_frame", ["base_link", ""])
@pytest.mark.parametrize("has_ego", [True, False])
def test_lines_are_what_json_makes_of_the_same_objects(base_frame: str, *, has_ego: bool) -> None:
    facts = dataclasses.replace(
        FACTS, base_frame=base_frame, has_ego=has_ego, labels={0: 'per"son', 2: "\u8eca"}
    )
    maker = LineMaker(facts)
    for result in drive(60, most=12):
        objects = tuple(dressed(result, item, k) for k, item in enumerate(result.fusion.objects))
        for fusion in (
            dataclasses.replace(result.fusion, objects=objects),
            dataclasses.replace(result.fusion, objects=objects, object_of={}, suppressed={}),
        ):
            some = dataclasses.replace(result, fusion=fusion)
            assert maker.line(some) == as_json(facts, some)


def test_a_number_that_json_does_not_know_is_refused(tmp_path: Path) -> None:
    result = next(r for r in drive(10) if r.fusion.objects and r.ego is not None)
    camera = next(c for c, boxes in result.detections.items() if "" in result.fusion.suppressed[c])
    result.detections[camera].xyxy[result.fusion.suppressed[camera].index(""), 2] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        LineMaker(FACTS).line(result)
    with pytest.raises(ValueError, match="JSON"):
        as_json(FACTS, result)
    worst = dataclasses.replace(result.fusion.objects[0], score=float("nan"))
    fusion = dataclasses.replace(result.fusion, objects=(worst,))
    with pytest.raises(ValueError, match="not finite"):
        LineMaker(FACTS).line(dataclasses.replace(result, detections={}, fusion=fusion))
