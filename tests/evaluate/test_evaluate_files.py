"""Runs and truth as files, and the command over them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from evaluate.made import T0, Box, write_run, write_truth_json

from perception_batch.errors import LogError, PerceptionBatchError
from perception_batch.evaluate import evaluate
from perception_batch.evaluate.command import add_arguments, run_command
from perception_batch.evaluate.report import (
    DetectionFigures,
    MergeFigures,
    PositionFigures,
    Skipped,
    TrackFigures,
)

A, B = (10.0, 10.0, 90.0, 70.0), (300.0, 10.0, 380.0, 70.0)
STEP = 100_000_000


def truth_object(**over: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "label": "Car",
        "center_base_link_m": [10.0, 2.0, 0.8],
        "boxes2d": {"a": list(A), "b": list(B)},
        **over,
    }


def fused(**over: Any) -> dict[str, Any]:
    return {
        "object": 0,
        "track_id": 4,
        "label": "car",
        "x_m": 10.5,
        "y_m": 2.1,
        "z_m": 0.8,
        "cov_xx": 1.0,
        "cov_xy": 0.0,
        "cov_yy": 1.0,
        "filled": False,
        **over,
    }


def made_run(path: Path, **over: Any) -> Path:
    boxes = [Box("a", A, object=0), Box("b", B, "truck", 0.8, object=0)]
    return write_run(path, [(T0 + i * STEP, boxes, [fused(**over)]) for i in range(3)])


def made_truth(path: Path, **over: Any) -> Path:
    return write_truth_json(path, [(T0 + i * STEP, [truth_object(**over)]) for i in range(3)])


def command(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run_command(parser.parse_args([str(word) for word in words]))


def test_a_good_run(tmp_path: Path) -> None:
    report = evaluate(made_run(tmp_path / "drive"), made_truth(tmp_path / "t.json"))
    assert (report.timesteps, report.matched, report.drive) == (3, 3, "drive")
    assert isinstance(report.detection, DetectionFigures)
    # The truck box of camera b is not a car's: half of the car's boxes are found.
    assert report.detection.classes[0].recall50 == pytest.approx(0.5)
    assert isinstance(report.merges, MergeFigures)
    assert (report.merges.right_pairs, report.merges.f1) == (3, 1)
    assert isinstance(report.positions, PositionFigures)
    assert report.positions.rows == 3
    assert report.positions.coverage_95 == 1
    assert isinstance(report.tracks, TrackFigures)
    assert report.tracks.idf1 == 1
    assert isinstance(report.sync, Skipped)


def test_table_and_json_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, truth = made_run(tmp_path / "drive"), made_truth(tmp_path / "t.json")
    assert command(run, "--truth", truth) == 0
    text = capsys.readouterr().out
    assert command(run, "--truth", truth, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert "IDF1 1.000" in text
    assert data["tracks"]["idf1"] == 1
    assert f"AP50  AP50-95" in text  # noqa: F541
    assert data["detection"]["classes"][0]["label"] == "car"
    assert data["sync"]["skipped"] in text
    assert "3 of 3 timesteps" in text


def test_limits_are_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, truth = made_run(tmp_path / "drive"), made_truth(tmp_path / "t.json")
    assert command(run, "--truth", truth, "--max-range-m", "5", "--min-height-px", "200") == 0
    text = capsys.readouterr().out
    assert text.count("skipped:") == 5
    for wrong in (
        ("--max-range-m", "-1"),
        ("--min-visible", "2"),
        ("--seed", "-3"),
        ("--min-height-px", "nan"),
    ):
        with pytest.raises(SystemExit):
            command(run, "--truth", truth, *wrong)


def test_no_calibration_no_tracks_no_detections(tmp_path: Path) -> None:
    truth = made_truth(tmp_path / "t.json")
    blind = made_run(tmp_path / "blind", x_m=None, y_m=None, z_m=None, cov_xx=None, cov_xy=None, cov_yy=None)
    report = evaluate(blind, truth)
    assert report.positions == Skipped("the run has no positions: its cameras are not calibrated")
    assert isinstance(report.tracks, TrackFigures)
    assert report.tracks.space == "image"
    assert evaluate(made_run(tmp_path / "untracked", track_id=None), truth).tracks == Skipped(
        "the objects of the run carry no track_id"
    )
    report = evaluate(write_run(tmp_path / "empty", [(T0, [], [])]), truth)
    assert isinstance(report.detection, DetectionFigures)
    assert report.detection.ap50 == 0
    assert isinstance(report.positions, Skipped)
    json.dumps(report.to_dict(), allow_nan=False)


def test_truth_without_boxes_or_positions(tmp_path: Path) -> None:
    run = made_run(tmp_path / "drive")
    report = evaluate(run, made_truth(tmp_path / "flat.json", center_base_link_m=None))
    assert report.positions == Skipped("the truth has no 3-D positions")
    report = evaluate(run, made_truth(tmp_path / "bare.json", boxes2d={}))
    assert isinstance(report.detection, Skipped)


def test_labels_without_a_class_are_named_and_ignored(tmp_path: Path) -> None:
    report = evaluate(
        made_run(tmp_path / "drive"), made_truth(tmp_path / "t.json", label="hover\x1b[31mboard")
    )
    assert report.ignored_labels == {"hover\\x1b[31mboard": 1}
    assert isinstance(report.detection, Skipped)


WRONG_TRUTH = {
    "not json": "{",
    "not an object": "[]",
    "no frames": '{"frames": []}',
    "frames no list": '{"frames": 3}',
    "frame no object": '{"frames": [3]}',
    "stamp a float": '{"frames": [{"stamp_ns": 1.5, "objects": []}]}',
    "no stamp": '{"frames": [{"objects": []}]}',
    "no objects": '{"frames": [{"stamp_ns": 1}]}',
    "twice the stamp": '{"frames": [{"stamp_ns": 1, "objects": []}, {"stamp_ns": 1, "objects": []}]}',
    "object without id": '{"frames": [{"stamp_ns": 1, "objects": [{"label": "car"}]}]}',
    "label a number": '{"frames": [{"stamp_ns": 1, "objects": [{"id": 1, "label": 5}]}]}',
    "twice the id": '{"frames": [{"stamp_ns": 1, "objects": [{"id": 1, "label": "a"}, {"id": 1, "label": "a"}]}]}',
    "centre of two": '{"frames": [{"stamp_ns": 1, "objects": [{"id": 1, "label": "a", "center_base_link_m": [1, 2]}]}]}',
    "centre NaN": '{"frames": [{"stamp_ns": 1, "objects": [{"id": 1, "label": "a", "center_base_link_m": [NaN, 2, 3]}]}]}',
    "box text": '{"frames": [{"stamp_ns": 1, "objects": [{"id": 1, "label": "a", "boxes2d": {"a": "x"}}]}]}',
    "box empty": '{"frames": [{"stamp_ns": 1, "objects": [{"id": 1, "label": "a", "boxes2d": {"a": [5, 5, 5, 9]}}]}]}',
    "boxes a list": '{"frames": [{"stamp_ns": 1, "objects": [{"id": 1, "label": "a", "boxes2d": [1]}]}]}',
    "deep": "[" * 100_000,
    "another drive": '{"frames": [{"stamp_ns": 1, "objects": []}]}',
}


@pytest.mark.parametrize("name", WRONG_TRUTH)
def test_wrong_truth_is_one_clear_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(WRONG_TRUTH[name])
    with pytest.raises(LogError, match=r"truth\.json: "):
        evaluate(made_run(tmp_path / "drive"), path)


def test_wrong_paths_are_one_clear_error(tmp_path: Path) -> None:
    run, truth = made_run(tmp_path / "out" / "drive"), made_truth(tmp_path / "t.json")
    with pytest.raises(LogError, match="no run here"):
        evaluate(tmp_path / "nothing", truth)
    with pytest.raises(LogError, match="it holds drive"):
        evaluate(tmp_path / "out", truth)
    with pytest.raises(LogError, match="no such truth"):
        evaluate(run, tmp_path / "nothing.json")
    with pytest.raises(LogError, match="is no truth folder"):
        evaluate(run, tmp_path)
    unfinished = write_run(tmp_path / "half", [(T0, [], [])], status="unfinished")
    with pytest.raises(LogError, match="the run is unfinished"):
        evaluate(unfinished, truth)


def test_damaged_runs_are_one_clear_error(tmp_path: Path) -> None:
    truth = made_truth(tmp_path / "t.json")
    for number, name in enumerate(("timesteps", "detections", "observations", "objects")):
        for kind in ("missing", "cut"):
            run = made_run(tmp_path / f"{kind}{number}")
            file = run / f"{name}.parquet"
            if kind == "missing":
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[:-20])
            with pytest.raises(LogError, match=name):
                evaluate(run, truth)
    run = made_run(tmp_path / "other")
    other = write_run(tmp_path / "other2", [(T0, [Box("a", A)], [])])
    (run / "observations.parquet").write_bytes((other / "observations.parquet").read_bytes())
    with pytest.raises(LogError, match="does not agree"):
        evaluate(run, truth)
    (run / "run.json").write_text("{")
    with pytest.raises(LogError, match="is damaged"):
        evaluate(run, truth)
    (run / "run.json").write_text('{"status": "complete"}')
    with pytest.raises(PerceptionBatchError, match="no settings"):
        evaluate(run, truth)
