"""`benchmark`: what is recommended and written where, and one real sweep."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perception_batch import batch_sweep
from perception_batch.apply_settings import apply_settings
from perception_batch.batch_measurement import Request, covered_s
from perception_batch.batch_sweep import Spread, SweepRow, Variant, recommend
from perception_batch.cli import main
from perception_batch.config import load_config
from perception_batch.detect import known_batch_size
from perception_batch.errors import ConfigError
from perception_batch.loop_rows import prepared_loops


def row(
    batch: int, rate: float, *, backend: str = "torch", image_size: int = 640, error: str = ""
) -> SweepRow:
    figures = {} if error else {"images_per_s": Spread.of([rate])}
    return SweepRow(Variant(backend, image_size, "auto", batch), {}, 10, figures, error)


@pytest.mark.parametrize(
    ("rows", "backend", "batch"),
    [
        ([row(1, 50.0), row(4, 97.0), row(8, 100.0)], "torch", 4),
        ([row(1, 50.0), row(4, 96.9), row(8, 100.0)], "torch", 8),
        ([row(1, 50.0), row(4, 99.0), row(4, 100.0, backend="onnx")], "onnx", 4),
        ([row(1, 10.0), row(1, 90.0, image_size=320)], "torch", 1),
        ([row(1, 10.0), row(4, 0.0, error="no memory left")], "torch", 1),
    ],
)
def test_the_smallest_batch_near_the_best_is_recommended(
    rows: list[SweepRow], backend: str, batch: int
) -> None:
    chosen = recommend(rows)
    assert (chosen.backend, chosen.batch_size, chosen.image_size) == (backend, batch, 640)


def test_time_that_batches_cover_counts_once() -> None:
    assert covered_s([]) == 0
    assert covered_s([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.6)]) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "detect:\n  batch_size: 8\n"),
        ("# mine\nsync:\n  every: 2\n", "# mine\nsync:\n  every: 2\ndetect:\n  batch_size: 8\n"),
        (
            "detect:  # the network\n    batch_size: auto  # or so\n    score: 0.3\nsync: {every: 2}\n",
            "detect:  # the network\n    batch_size: 8  # or so\n    score: 0.3\nsync: {every: 2}\n",
        ),
        ("detect:\n    score: 0.3\n", "detect:\n    batch_size: 8\n    score: 0.3\n"),
    ],
)
def test_a_setting_is_written_and_the_rest_stays(tmp_path: Path, before: str | None, after: str) -> None:
    path = tmp_path / "mine.yaml"
    if before is not None:
        path.write_text(before)
    apply_settings(path, {"detect": {"batch_size": 8}})
    assert path.read_text() == after
    assert load_config(path).detect.batch_size == 8


def test_a_file_that_cannot_be_changed_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text in ("detect: {score: 0.3}\n", "detect:\n  bogus: 1\n"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            apply_settings(path, {"detect": {"batch_size": 8}})
        assert path.read_text() == text


def measured(request: Request) -> dict[str, Any]:
    """What a device would say that takes no batch of 16, and is at its best with 4 or 8."""
    batch = request.config["detect"]["batch_size"]
    used = {"backend": "torch", "precision": "fp16", "device": "cuda:0", "batch_size": batch, "copies": 1}
    used["batch_size_key"] = "this machine"
    if request.what == "open":
        return used
    if batch == 16:
        return {"error": "cuda:0 has no\x1bmemory left"}
    rate = {1: 30.0, 4: 98.0, 8: 100.0}[batch]
    figures = {"images": 12, "images_per_s": rate, "startup_s": 1.0, "device_busy": rate / 400}
    figures |= {"batch_p50_ms": 5.0, "batch_p95_ms": 6.0, "peak_host_mb": 300.0, "peak_cuda_mb": 90.0 * batch}
    figures |= {"device_alone_per_s": 400.0}
    if request.what == "run+decode":
        figures |= {"decode_alone_per_s": 100.0, "decode_workers": 2}
    return used | figures


@pytest.fixture
def log(tmp_path: Path) -> Path:
    from log_writer import CameraSpec, write_log

    cameras = [CameraSpec("cam", size=(64, 64), encoding="png")]
    return write_log(tmp_path / "in", "mcap", cameras, frames=12)


def test_a_sweep_goes_on_past_what_fails_and_says_what_limits(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch_sweep, "in_own_process", measured)
    out, config = tmp_path / "out", tmp_path / "mine.yaml"
    words = ["benchmark", str(log), "--batch-sizes", "1,4,8,16", "--repeats", "2", "--out", str(out)]
    assert main([*words, "--apply", str(config)]) == 0
    text = capsys.readouterr().out
    assert "detect.batch_size=4" in text and "98.0 (98.0-98.0)" in text
    assert "batch 16: cuda:0 has no\\x1bmemory left" in text
    assert "decoding is the limit" in text and "about 8 cores" in text
    assert load_config(config).detect.batch_size == 4
    report = json.loads((out / "benchmark.json").read_text())
    assert report["recommended"]["batch_size"] == 4 and report["apply"] == {"detect": {"batch_size": 4}}
    assert known_batch_size("this machine") == 4  # what `auto` takes from now on
    assert (out / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    with (out / "benchmark.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["batch_size"] for r in rows] == ["1", "4", "8", "16"]
    assert [r["decode_alone_per_s"] for r in rows] == ["100.0", "100.0", "100.0", ""]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err


class MadeLoop:
    """A loop that does 20 images a second, or fails."""

    def __init__(self, name: str) -> None:
        self.name = name

    def measure(self) -> dict[str, Any]:
        if self.name == "informed":
            return {"error": "no\x1bexport"}
        used = {"backend": "plain loop", "precision": "", "device": "", "batch_size": 0, "copies": 1}
        return used | {"images": 12, "images_per_s": 20.0, "startup_s": 3.0, "peak_host_mb": 900.0}


def test_loops_stages_and_prices_stand_beside_the_rows(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_cpu(request: Request) -> dict[str, Any]:
        if request.what == "stages":
            assert request.config["detect"]["batch_size"] == 4  # of what is recommended
            return {"stages_core_ms": {"detect": 9.0, "fuse": 1.0}}
        found = measured(request) | {"device": "cpu"}
        return found if request.what == "open" else found | {"cpu_j_per_1000": 1500.0, "energy_absent": ""}

    @contextmanager
    def made(names: tuple[str, ...], *_: Any) -> Iterator[tuple[MadeLoop, ...]]:
        yield tuple(map(MadeLoop, names))

    monkeypatch.setattr(batch_sweep, "in_own_process", on_cpu)
    monkeypatch.setattr(batch_sweep, "prepared_loops", made)
    monkeypatch.setattr(batch_sweep, "usable_cores", lambda: 1)
    monkeypatch.setattr("perception_batch.detect.openvino_backend.has_bf16", lambda: False)
    out = tmp_path / "out"
    words = ["benchmark", str(log), "--batch-sizes", "1,4,8", "--repeats", "2", "--out", str(out)]
    assert main([*words, "--loops", "--stages", "--euro-per-hour", "0.36"]) == 0
    text = capsys.readouterr().out
    assert "the recommended variant is 4.90 (4.90-4.90) times the plain loop" in text
    assert "informed loop, 640 px, batch 1: no\\x1bexport" in text
    assert "1 cores could do 100.0 images/s" in text and "reached 98% of that" in text
    assert text.count("0.00500") == 1 and text.count("0.00102") == 1  # euro: the loop's, and ours at batch 4
    assert text.count("1.50") == 3
    report = json.loads((out / "benchmark.json").read_text())
    assert [row["variant"]["backend"] for row in report["loops"]] == ["plain loop", "informed loop"]
    assert report["stages"] == {"core_ms": {"detect": 9.0, "fuse": 1.0}, "cores": 1}
    with (out / "benchmark.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["backend"] for r in rows] == ["torch"] * 3 + ["plain loop", "informed loop"]
    assert rows[3]["images_per_s"] == "20.0" and rows[4]["error"]


@pytest.mark.parametrize(
    ("model", "log_name", "says"),
    [("model.xml", "absent", "their .pt"), ("absent.pt", "absent", "rror"), ("absent.pt", "in", "")],
)
def test_a_loop_that_cannot_run_says_why(log: Path, model: str, log_name: str, says: str) -> None:
    config = load_config(None, [f"detect.model={model}"])
    with prepared_loops(("plain",), (log.parent / log_name,), config, 4) as (loop,):
        found = loop.measure()
    assert set(found) == {"error"} and says in found["error"] and "\n" not in found["error"]


def test_a_model_that_never_works_is_one_line(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmark", str(log), "--model", str(tmp_path / "absent.pt"), "--out", str(tmp_path / "out")]
    assert main([*words, "--batch-sizes", "1"]) == 2
    said = capsys.readouterr()
    assert "absent.pt" in said.err and said.err.count("\n") == 1 and not said.out
    for wrong in (["--batch-sizes", "0"], ["--backends", "fast"], ["--repeats", "0"]):
        assert main([*words, *wrong]) == 2


@pytest.mark.real
def test_a_real_sweep_fits_together(
    recordings: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "benchmark",
        str(recordings / "kitti_0926"),
        "--model",
        str(weights),
        "--device",
        "cpu",
        "--json",
    ]
    words += ["--batch-sizes", "2", "--backends", "torch", "--images", "10", "--repeats", "1", "--no-video"]
    words += ["--image-sizes", "320"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    (found,) = json.loads(capsys.readouterr().out)["rows"]
    figures = {name: spread["median"] for name, spread in found["figures"].items()}
    assert 8 <= found["images"] <= 12
    assert found["used"]["backend"] == "torch" and found["used"]["batch_size"] == 2
    assert figures["images_per_s"] > 0 and figures["device_alone_per_s"] > 0
    assert figures["decode_alone_per_s"] > 0
    assert 0 < figures["device_busy"] <= 1
    assert 0 < figures["batch_p50_ms"] <= figures["batch_p95_ms"]
    assert 50 < figures["peak_host_mb"] < 20_000 and "peak_cuda_mb" not in figures


@pytest.mark.real
def test_a_real_loop_gives_the_figures_of_a_row(recordings: Path, weights: Path) -> None:
    config = load_config(None, [f"detect.model={weights}", "detect.image_size=320", "render.video=false"])
    with prepared_loops(("plain",), (recordings / "nuscenes_n008",), config, 18) as (loop,):
        found = loop.measure()
    assert found["backend"] == "plain loop" and found["images"] == 18
    assert found["images_per_s"] > 0 and found["startup_s"] > 0.5
    assert 200 < found["peak_host_mb"] < 5000
