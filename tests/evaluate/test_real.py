"""Real runs with real weights against real truth: few objects, so sanity and no benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from perception_batch import load_config, run
from perception_batch.evaluate import EvaluateSettings, Report, evaluate
from perception_batch.evaluate.report import DetectionFigures, MergeFigures, PositionFigures, Skipped


def evaluated(
    recordings: Path, weights: Path, out: Path, drive: str, image_size: int, max_range_m: float = 40.0
) -> Report:
    if not weights.is_file():
        pytest.skip(f"no weights at {weights}")
    log = next(p for p in recordings.glob(f"{drive}*") if p.suffix != ".json")
    config = load_config(None, [f"detect.image_size={image_size}", "detect.device=cpu", "render.video=false"])
    done = run(log, out, model=weights, config=config)
    settings = EvaluateSettings(max_range_m=max_range_m)
    return evaluate(done.directory, recordings / f"{drive}.truth.json", settings)


@pytest.mark.real
def test_nuscenes_sample(recordings: Path, weights: Path, tmp_path: Path) -> None:
    report = evaluated(recordings, weights, tmp_path, "nuscenes_sample", 1280)
    assert report.matched == 1
    assert isinstance(report.positions, PositionFigures)
    assert report.positions.rows >= 6
    assert report.positions.range_error_median <= 0.20
    assert isinstance(report.merges, MergeFigures)  # a lorry that two cameras see
    assert report.merges.f1 == 1
    assert isinstance(report.detection, DetectionFigures)
    assert report.detection.ap50 > 0.1
    assert isinstance(report.sync, Skipped)


@pytest.mark.real
def test_ddad_where_the_road_climbs(recordings: Path, weights: Path, tmp_path: Path) -> None:
    report = evaluated(recordings, weights, tmp_path, "ddad_surround", 640, max_range_m=80)
    assert report.matched == 3
    assert isinstance(report.positions, PositionFigures)
    assert report.positions.rows >= 5
    assert report.positions.range_error_median <= 0.20
