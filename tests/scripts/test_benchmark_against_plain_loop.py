"""The comparison: its arithmetic on made-up figures, the plain loop's grouping, and once the whole thing."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec, ring, write_log

from perception_batch import plain_loop, process_cost

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("benchmark_against_plain_loop")


def measured(benchmark: Any, program: str, turn: int, wall_s: float, steady_s: float) -> Any:
    cpu_s = wall_s * 1.5
    return benchmark.Measured(program, turn, 100, wall_s, 90, steady_s, cpu_s, 800.0 + turn, 0.25, {})


def test_ratios_are_of_one_turn(benchmark: Any) -> None:
    rows = [
        measured(benchmark, "plain", 0, 10.0, 9.0),
        measured(benchmark, "informed", 0, 5.0, 4.5),
        measured(benchmark, "fp32", 0, 5.0, 3.0),
        measured(benchmark, "plain", 1, 40.0, 36.0),  # the machine was slow in this turn, for all
        measured(benchmark, "informed", 1, 30.0, 27.0),
        measured(benchmark, "fp32", 1, 20.0, 12.0),
        measured(benchmark, "plain", 2, 10.0, 9.0),
        measured(benchmark, "informed", 2, 10.0, 9.0),
        measured(benchmark, "fp32", 2, 8.0, 4.5),
    ]
    header, plain, informed, ours = benchmark.table(rows)
    assert header.split()[-4:] == ["/", "plain", "/", "informed"]
    assert plain.split()[:8] == [
        "plain",
        "10.0",
        "(2.5-10.0)",
        "10.0",
        "(2.5-10.0)",
        "150",
        "(150-600)",
        "802",
    ]
    assert informed.split()[-4:] == ["1.33", "(1.00-2.00)", "1.00", "(1.00-1.00)"]
    assert ours.split() == (
        [
            "ours",
            "fp32",
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
            "1.25",
            "(1.00-1.50)",
        ]
    )


def test_measure_sees_time_memory_and_output(tmp_path: Path) -> None:
    code = "x = bytearray(300_000_000); x[::4096] = bytes(len(x[::4096])); print('first'); print('last')"
    used = process_cost.measure([sys.executable, "-c", code], tmp_path)
    assert used.last_line == "last"
    assert 300 < used.peak_mb < 600
    assert used.cpu_s > 0
    assert used.wall_s > 0
    assert not used.other_cores < 0
    with pytest.raises(RuntimeError, match="ended with 5: oh dear"):
        process_cost.measure(
            [sys.executable, "-c", "import sys; sys.stderr.write('oh dear'); sys.exit(5)"], tmp_path
        )


def test_plain_timesteps(tmp_path: Path) -> None:
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
    words += ["--rows", "plain,informed,fp32", "--batch-size", "6", "--video", "yes", "--json", str(report)]
    assert benchmark.main(words) == 0
    shown = capsys.readouterr().out
    assert "ours fp32" in shown and "share of the bound" in shown
    text = report.read_text()
    assert not any(str(folder) in shown + text for folder in (recordings, weights.parent, tmp_path))
    (result,) = json.loads(text)["results"]
    assert (result["recording"], result["cameras"], result["images"], result["video"]) == (
        "nuscenes_n008",
        6,
        12,
        True,
    )
    assert [run["program"] for run in result["runs"]] == ["plain", "informed", "fp32"]
    assert {"fp32 / plain", "fp32 / informed"} <= set(result["ratios"])
    for run in result["runs"]:
        assert run["images"] == 12 and 0 < run["steady_s"] < run["wall_s"]
        assert run["images_per_s"] == pytest.approx(12 / run["wall_s"])
        assert 200 < run["peak_mb"] < 4000
    alone = result["stages"]["fp32"]
    assert alone["bound_per_s"] > 0 and len(alone["share_of_bound"]) == 1
    assert alone["core_ms"]["detect"] > alone["core_ms"]["fuse"]
    ours = result["runs"][2]["run"]
    assert ours["batch_size"] == 6 and {"decode", "detect", "encode"} <= set(ours["timing"]["stages"])
