"""`detect.batch_size: auto` in a run: recorded, and taken again by what resumes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch import batch_choice
from perception_batch.config import load_config
from perception_batch.detect import batch_size_key, remember_batch_size
from perception_batch.job import Job
from perception_batch.pipeline import run_drive


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_log(tmp_path / "in", "mcap", [CameraSpec("cam", size=(160, 96), draw=patches)], frames=6)


def run(log: Path, out: Path, device: str = "cpu", **changes: Any) -> dict[str, Any]:
    def open_with(settings: Any) -> PatchDetector:
        detector = PatchDetector(settings)
        detector.info = replace(detector.info, device=device)
        return detector

    config = load_config(None, ["detect.image_size=160", "render.video=false"])
    done = run_drive(Job("drive", (log,), out, config, **changes), open_with=open_with)
    manifest: dict[str, Any] = json.loads((done.directory / "run.json").read_text())
    return manifest


def test_on_a_cpu_nothing_is_measured(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_choice, "measure_batch_size", None)
    assert run(log, tmp_path / "a")["batch_size"] == 4  # what the detector was opened with


def test_a_benchmark_of_this_machine_decides(log: Path, tmp_path: Path) -> None:
    info = PatchDetector(load_config(None, []).detect).info
    remember_batch_size(batch_size_key(info, [(96, 160)]), 3, {3: 9.0, 8: 9.1}, "benchmark")
    assert run(log, tmp_path / "a")["batch_size"] == 3
    (tmp_path / "cache" / "perception_batch" / "batch_sizes.json").unlink()
    assert run(log, tmp_path / "b")["batch_size"] == 4


def test_on_cuda_it_is_measured_once(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def measure(detector: Any, input_hw: tuple[int, int]) -> dict[int, float]:
        asked.append(input_hw)
        detector.use_batch_size(64)
        return {4: 50.0, 8: 98.0, 16: 100.0}

    monkeypatch.setattr(batch_choice, "measure_batch_size", measure)
    assert run(log, tmp_path / "a", "cuda:0")["batch_size"] == 8
    assert run(log, tmp_path / "b", "cuda:0")["batch_size"] == 8
    assert asked == [(96, 160)]
    monkeypatch.setattr(batch_choice, "measure_batch_size", lambda *_: {})
    (tmp_path / "cache" / "perception_batch" / "batch_sizes.json").unlink()
    assert run(log, tmp_path / "c", "cuda:0")["batch_size"] == 4  # nothing could be measured


def test_what_resumes_a_run_takes_its_size(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_choice, "measure_batch_size", lambda *_: {8: 100.0})
    run(log, tmp_path, "cuda:0")
    path = tmp_path / "drive" / "run.json"
    stored = json.loads(path.read_text()) | {"status": "unfinished", "batch_size": 5}
    path.write_text(json.dumps(stored))
    assert run(log, tmp_path, "cuda:0")["batch_size"] == 5
    path.write_text(json.dumps(stored))
    assert run(log, tmp_path, "cpu")["batch_size"] == 4  # another device: its own
    path.write_text(json.dumps(stored | {"device": "cuda:0"}))
    assert run(log, tmp_path, "cuda:0", overwrite=True)["batch_size"] == 8  # made anew


def test_a_size_that_the_engine_does_not_take_is_left(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: PatchDetector, batch_size: int) -> None:
        raise ValueError("batches of 1 to 4 images are possible")

    monkeypatch.setattr(PatchDetector, "use_batch_size", refuse)
    info = PatchDetector(load_config(None, []).detect).info
    remember_batch_size(batch_size_key(info, [(96, 160)]), 64, {64: 9.0}, "benchmark")
    assert run(log, tmp_path)["batch_size"] == 4
