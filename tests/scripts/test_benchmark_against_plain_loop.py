"""The comparison: its arithmetic on made-up figures, the plain loop's grouping, and once the whole thing."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec, ring, write_log

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("benchmark_against_plain_loop")


@pytest.fixture
def plain_loop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("plain_loop")


def measured(benchmark: Any, program: str, turn: int, wall_s: float, steady_s: float) -> Any:
    used = benchmark.Process(wall_s, wall_s * 1.5, 800.0 + turn, 0.25, "")
    batch_size = "8" if program == "ours" else ""
    return benchmark.Measured.of(used, program, batch_size, turn, 100, 90, steady_s, {})


def test_ratios_are_of_one_turn(benchmark: Any) -> None:
    rows = [
        measured(benchmark, "plain", 0, 10.0, 9.0),
        measured(benchmark, "ours", 0, 5.0, 3.0),
        measured(benchmark, "plain", 1, 40.0, 36.0),  # the machine was slow in this turn, for both
        measured(benchmark, "ours", 1, 20.0, 12.0),
        measured(benchmark, "plain", 2, 10.0, 9.0),
        measured(benchmark, "ours", 2, 8.0, 4.5),
    ]
    header, plain, ours = benchmark.table(rows)
    assert header.split() == [
        "images/s",
        "steady",
        "CPU",
        "ms",
        "peak",
        "MB",
        "others",
        "ratio",
        "steady",
        "ratio",
    ]
    assert plain.split() == [
        "plain",
        "10.0",
        "(2.5-10.0)",
        "10.0",
        "(2.5-10.0)",
        "150",
        "(150-600)",
        "802",
        "0.25",
    ]
    assert ours.split() == (
        [
            "ours",
            "8",
            "12.5",
            "(5.0-20.0)",
            "20.0",
            "(7.5-30.0)",
            "120",
            "(75-300)",
            "802",
            "0.25",
            "2.00",
            "(1.25-2.00)",
            "3.00",
            "(2.00-3.00)",
        ]
    )


def test_a_log_of_one_timestep_has_no_steady_part(benchmark: Any) -> None:
    used = benchmark.Process(2.0, 2.0, 700.0, math.nan, "")
    rows = [
        benchmark.Measured.of(used, program, batch_size, 0, 6, steady, 0.0, {})
        for program, batch_size, steady in (("plain", "", 0), ("ours", "auto", 6))
    ]
    assert benchmark.table(rows)[2].split()[-3:] == ["1.00", "(1.00-1.00)", "-"]


def test_measure_sees_time_memory_and_output(benchmark: Any, tmp_path: Path) -> None:
    code = "x = bytearray(300_000_000); x[::4096] = bytes(len(x[::4096])); print('first'); print('last')"
    used = benchmark.measure([sys.executable, "-c", code], tmp_path)
    assert used.last_line == "last"
    assert 300 < used.peak_mb < 600
    assert used.cpu_s > 0
    assert used.wall_s > 0
    assert not used.other_cores < 0
    with pytest.raises(RuntimeError, match="ended with 5: oh dear"):
        benchmark.measure(
            [sys.executable, "-c", "import sys; sys.stderr.write('oh dear'); sys.exit(5)"], tmp_path
        )


def test_plain_timesteps(plain_loop: Any, tmp_path: Path) -> None:
    log = write_log(tmp_path, cameras=ring(3), frames=4)
    steps = list(plain_loop.timesteps(log))
    assert [len(images) for _, _, images in steps] == [3, 3, 3, 3]
    assert {image.shape for _, _, images in steps for image in images.values()} == {(48, 64, 3)}
    assert [n for _, n, _ in steps] == [3] * 4
    gap = [CameraSpec("a"), CameraSpec("b", phase_ms=10, drop=[1])]
    steps = list(plain_loop.timesteps(write_log(tmp_path, cameras=gap, frames=3, name="gap")))
    assert [sorted(topic[1] for topic in images) for _, _, images in steps] == [["a", "b"], ["a"], ["a", "b"]]


def test_wrong_words_are_one_line(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main([str(tmp_path / "absent"), "--model", "yolo11n.pt"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(SystemExit) as stop:
        benchmark.main([str(tmp_path), "--model", "yolo11n.pt", "--runs", "0"])
    assert stop.value.code == 2


@pytest.mark.real
def test_whole_comparison(
    benchmark: Any, tmp_path: Path, recordings: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    words = [str(recordings / "nuscenes_n008"), "--model", str(weights), "--images", "12", "--runs", "1"]
    assert benchmark.main([*words, "--batch-size", "6", "--video", "yes", "--json", str(report)]) == 0
    shown = capsys.readouterr().out
    assert "ours 6" in shown
    text = report.read_text()
    assert not any(str(folder) in shown + text for folder in (recordings, weights.parent, tmp_path))
    (result,) = json.loads(text)["results"]
    assert (result["recording"], result["cameras"], result["images"], result["video"]) == (
        "nuscenes_n008",
        6,
        12,
        True,
    )
    plain, ours = result["runs"]
    assert (plain["program"], plain["images"], plain["steady_images"]) == ("plain", 12, 6)
    assert (ours["program"], ours["images"], ours["batch_size"]) == ("ours", 12, "6")
    for run in (plain, ours):
        assert 0 < run["steady_s"] < run["wall_s"]
        assert run["images_per_s"] == pytest.approx(12 / run["wall_s"])
        assert 200 < run["peak_mb"] < 4000
    assert {"decode", "detect", "encode"} <= set(ours["timing"]["stages"])
