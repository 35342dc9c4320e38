"""`export`, and a run from what it made without PyTorch and Ultralytics: promise 6 of the contracts."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from log_writer import CameraSpec, write_log
from patch_detector import patches

from perception_batch import export_command
from perception_batch.config import DetectConfig, load_config
from perception_batch.detect import open_detector
from perception_batch.detect.export_cache import find_cached
from perception_batch.detect.facts import open_exported
from perception_batch.detect.openvino_backend import openvino_core
from perception_batch.detect.quantize import take_frames
from perception_batch.errors import ConfigError, LogError, ModelError, WriteError

Make = Callable[[str], Path]

WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "ultralytics", "openvino_telemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from perception_batch import load_config, run

config = load_config(None, ["detect.image_size=160", "detect.keep_score=0.06", "render.video=false", "detect.device=cpu"])
done = run(sys.argv[1], sys.argv[2], model=sys.argv[3], config=config)
loaded = [name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision", "ultralytics")]
print(done.manifest.model["backend"], done.detections.num_rows, loaded)
"""


def export(*words: str) -> int:
    parser = argparse.ArgumentParser()
    export_command.add_arguments(parser)
    return export_command.run_command(parser.parse_args(words))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras of two sizes, 12 cycles, a broken image."""
    common = {"draw": patches, "encoding": "png"}
    specs = [
        CameraSpec("cam_front", size=(160, 96), broken=(2,), **common),
        CameraSpec("cam_left", size=(128, 128), phase_ms=12, yaw_deg=90, **common),
    ]
    return write_log(tmp_path_factory.mktemp("in"), "mcap", specs, frames=12)


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_a_run_needs_neither_torch_nor_ultralytics(
    make_weights: Make, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    weights = make_weights("yolo11n.yaml")
    assert export(str(weights), "--backend", backend, "--out", str(tmp_path / "model")) == 0
    shown = capsys.readouterr().out
    assert f"yolo11n.pt for {backend} in fp32" in shown
    assert "use it: perception-batch run LOG" in shown
    for model in (tmp_path / "model", weights):  # weights too, once the cache has their export
        if model == weights:
            open_detector(DetectConfig(model=str(weights), backend=backend, device="cpu")).close()
            if backend == "onnx":
                continue  # `auto` prefers the other
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                WITHOUT,
                str(log),
                str(tmp_path / f"out_{model.name}"),
                str(model),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        name, count, loaded = done.stdout.splitlines()[-1].split(" ", 2)
        assert (name, loaded) == (backend, "[]")
        assert int(count) > 20


INT8 = """
import json, os, signal, sys
import numpy as np
from perception_batch.cli import main
from perception_batch.config import DetectConfig
from perception_batch.detect import open_detector
from perception_batch.signals import Stopped, handled

weights, log = sys.argv[1:]
words = ["--backend", "openvino", "--precision", "int8", "--image-size", "160", "--json"]
assert main(["export", weights, *words, "--calibrate", log]) == 0
detector = open_detector(DetectConfig(model=weights, precision="int8", device="cpu", image_size=160))
view = detector.view((96, 160))
detector.detect(np.zeros((1, *view.input_hw, 3), np.uint8), [view], [0.25])
stopped = ""
try:
    with handled():
        os.kill(os.getpid(), signal.SIGINT)
except Stopped as stop:
    stopped = str(stop)
info = detector.info
print(json.dumps([info.backend, info.precision, str(info.path), stopped]))
detector.close()
"""


def test_int8_is_calibrated_on_the_users_frames(make_weights: Make, log: Path) -> None:
    """In a process of its own: INT8 may use the CPU's tile registers, and then a signal no longer fits onto the small
    stack that pytest's faulthandler sets aside for handlers (seen as a crash of a later test that sends one)."""
    pytest.importorskip("nncf")
    weights = make_weights("yolo11n.yaml")
    done = subprocess.run(
        [sys.executable, "-c", INT8, str(weights), str(log)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *shown, last = done.stdout.strip().splitlines()
    report = json.loads("\n".join(shown))
    facts = open_exported(Path(report["model"])).facts
    assert (facts.precision, facts.calibration["frames"]) == ("int8", 23)
    assert facts.calibration["found_again"] <= facts.calibration["boxes_fp32"]
    assert "nncf" in facts.versions
    backend, precision, path, stopped = json.loads(last)
    assert (backend, precision, stopped) == ("openvino", "int8", "stopped by SIGINT")
    assert Path(path).parent == Path(report["model"])
    assert Path(path).with_suffix(".bin").stat().st_size < 4e6  # fp32: 10 MB
    ranges = activation_ranges(Path(path))
    assert len(ranges) > 50
    assert all(low == 0 or low == pytest.approx(-high * 128 / 127) for low, high in ranges)
    beside = Path(path).with_suffix(".json")
    for change, stays in (
        ({}, True),
        ({"nncf": "0.1"}, True),
        ({"recipe": 1}, False),
        ({"recipe": None}, False),
    ):
        said = json.loads(beside.read_text())
        of = "versions" if "nncf" in change else "calibration"
        beside.write_text(json.dumps({**said, of: {**said[of], **change}}))
        found = find_cached(weights, facts.sha256, "openvino", "int8", 160)
        assert (found is not None) == stays, change


def activation_ranges(path: Path) -> list[tuple[float, float]]:
    """What is quantised while a model runs: the least and the most that a layer's numbers, or a channel's, are taken for."""
    found: list[tuple[float, float]] = []
    for node in openvino_core().read_model(path).get_ops():
        source = node.input_value(0).get_node().get_type_name() if node.get_input_size() else ""
        if node.get_type_name() == "FakeQuantize" and source != "Constant":
            low, high = (node.input_value(i).get_node().get_data() for i in (1, 2))
            found += zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)
    return found


def test_calibration_frames_are_spread_over_cameras_and_drive(make_weights: Make, log: Path) -> None:
    weights = make_weights("yolo11n.yaml")
    facts = open_exported(
        open_detector(DetectConfig(model=str(weights), backend="onnx", device="cpu")).info.path.parent
    ).facts
    config = load_config(None, ["detect.image_size=160", "cameras.cam_left.roi_px=[0, 0, 64, 128]"])
    frames = list(export_command.calibration_frames([log], config, facts, 8))
    assert len(frames) == 8
    assert sorted({frame.shape for frame in frames}) == [(96, 160, 3), (160, 96, 3)]
    few = take_frames(iter(frames), 5)
    assert len(few) == 5
    with pytest.raises(ModelError, match="no frame to calibrate on"):
        take_frames(iter(()))


def test_what_cannot_be_exported_is_said(make_weights: Make, tmp_path: Path) -> None:
    weights = str(make_weights("yolo11n.yaml"))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("")
    for words, error, text in (
        (("--backend", "onnx", "--precision", "int8", "--calibrate", "x"), ConfigError, "openvino only"),
        (("--backend", "openvino", "--precision", "int8"), ConfigError, "--calibrate LOG"),
        (("--backend", "openvino", "--calibrate", "x"), ConfigError, "--calibrate is for --precision int8"),
        (("--backend", "onnx", "--out", str(folder)), WriteError, "holds other things"),
        (("--backend", "onnx", "--set", "detect.nothing=1"), ConfigError, "nothing"),
        (
            ("--backend", "openvino", "--precision", "int8", "--calibrate", str(tmp_path / "no.bag")),
            LogError,
            "no such file",
        ),
    ):
        with pytest.raises(error, match=text):
            export(weights, *words)
    with pytest.raises(ModelError, match="no weights"):
        export(str(tmp_path / "absent.pt"), "--backend", "onnx")
    with pytest.raises(ModelError, match="only detection models"):
        export(str(make_weights("yolo11n-seg.yaml")), "--backend", "onnx")
    with pytest.raises(SystemExit):
        export(weights, "--backend", "onnx", "--frames", "0")
