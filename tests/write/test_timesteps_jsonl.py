"""`timesteps.jsonl` has the contract's shape."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from write.drive_of_results import CAMERAS, FACTS, FIRST_NS, STEP_NS, drive

from perception_batch.errors import LogError
from perception_batch.write import JsonLinesWriter, WriterGroup, read_timesteps


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
